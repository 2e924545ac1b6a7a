"""What is said of a set that people bring, which can be used but may not be meant so."""

from collections.abc import Mapping

import numpy as np
from absl import logging

from rmtjax.data.sources import Source

_SHOWN = 3  # names in a message


def say(parts: Mapping[str, Source]) -> None:
    """Warns of classes whose names differ only in capitals or spaces, and of classes without examples.

    Args:
      parts: of one set, with the same classes.
    """
    whole = next(iter(parts.values()))
    first: dict[str, str] = {}
    for name in whole.classes:
        other = first.setdefault("".join(name.casefold().split()), name)
        if other is not name:
            logging.warning(
                "%s has the classes %r and %r: if they are one, give them one name", whole.name, other, name
            )
    counts = sum(np.bincount(part.labels, minlength=len(whole.classes)) for part in parts.values())
    if empty := [name for name, count in zip(whole.classes, counts, strict=True) if not count]:
        logging.warning(
            "%s has %d classes without examples (%s): a model gets an output for each",
            whole.name, len(empty), _some(empty),
        )  # fmt: skip


def say_shared(splits: Mapping[str, Source]) -> None:
    """Warns of examples that stand in two splits. Splits that are not in memory are not compared."""
    rows = {
        name: {row.tobytes() for row in split.examples}
        for name, split in splits.items()
        if split.examples is not None
    }
    names = list(rows)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if number := sum(row.tobytes() in rows[one] for row in splits[other].examples):
                logging.warning(
                    "%s: %d of %d examples of the %s split are also in the %s split: scores on them say "
                    "little, so remove them from one",
                    splits[one].name, number, splits[other].num_examples, other, one,
                )  # fmt: skip


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
