"""Texts as a model read them, for a page."""

from collections.abc import Mapping, Sequence

import numpy as np

from rmtjax.report.tables import table, text_cell

_HEADS = {"real": "text", "augmented": "as augmented", "synthetic": "synthetic text"}


def are_texts(samples: Mapping[str, np.ndarray]) -> bool:
    """Whether samples.npz holds texts, not images."""
    return any(np.asarray(samples[name]).dtype.kind == "U" for name in _HEADS if name in samples)


def samples_tables(samples: Mapping[str, np.ndarray], classes: Sequence[str]) -> str:
    """The texts of samples.npz with their classes; real ones beside what augmentation made of them."""
    parts = []
    for caption, columns in (("Real texts", ("real", "augmented")), ("Synthetic texts", ("synthetic",))):
        there = [name for name in columns if name in samples]
        if not there:
            continue
        labels = samples.get(f"{there[0]}_label", np.zeros(0, np.int32))
        names = [classes[k] if 0 <= k < len(classes) else str(k) for k in labels.tolist()]
        texts = zip(names, *(samples[name].tolist() for name in there), strict=True)
        rows = [[text_cell(value) for value in row] for row in texts]
        parts.append(table(caption, ["class", *(_HEADS[name] for name in there)], rows, left=3))
    return "\n".join(parts)
