"""Which samples are kept: those that a judge takes for their class, and that are no copies of training images."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from ml_collections import ConfigDict

from rmtjax import data, diversity
from rmtjax.generate import judge, quality, text_quality, texts

NAMES = ("least_confidence", "least_distance")

Accept = Callable[[Shaped[np.ndarray, "n ..."], Int[np.ndarray, " n"]], Bool[np.ndarray, " n"]]


def make(config: ConfigDict, splits: data.Splits, mesh: jax.sharding.Mesh) -> Accept | None:
    """`accept(samples, labels)` of a config's filters; None where there are none.

    The judge is fitted to the training split alone: what is known of the test set must not choose what is trained on.
    """
    confidence, distance = config.synthetic.least_confidence, config.synthetic.least_distance
    if not confidence and not distance:
        return None
    if splits.train.text is not None:
        return _of_texts(splits.train, confidence)
    known = quality.flat(splits.train.images()) if distance else None
    least = 0.0
    if known is not None:
        unseen = quality.flat(splits.validation.images())
        least = distance * float(np.median(diversity.nearest_distances(unseen, known)))
    judged = judge.fit(splits.train, config.seed, mesh) if confidence else None

    def accept(images: Float[np.ndarray, "n ..."], labels: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        keep = np.ones(len(images), bool)
        if judged is not None:
            keep &= judged.probabilities(images)[np.arange(len(images)), labels] >= confidence
        if known is not None:
            keep &= diversity.nearest_distances(quality.flat(images), known) >= least
        return keep

    return accept


def _of_texts(train: data.Source, confidence: float) -> Accept:
    assert train.text is not None
    words = train.text.words
    judged = text_quality.fit_judge(texts.of_source(train), train.labels, len(train.classes))
    return lambda rows, labels: judged(texts.strings(rows, words))[np.arange(len(rows)), labels] >= confidence
