"""Filters: a judge must see its class in a sample, and a sample must not copy a training image."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from rmtjax import data, diversity
from rmtjax.generate import judge, quality, text_quality, word_rows

NAMES = ("least_confidence", "least_distance")

Accept = Callable[[Shaped[np.ndarray, "n ..."], Int[np.ndarray, " n"]], Bool[np.ndarray, " n"]]


def accept_images(
    confidence: float, distance: float, splits: data.Splits, seed: int, mesh: jax.sharding.Mesh
) -> Accept:
    """`accept(images, labels)`, by two filters.

    Args:
      confidence: the least probability that a judge gives an image's label; 0: no judge.
      distance: the least distance to the nearest training image, in units of the median of validation
        images; 0: none.

    The judge is fitted to the training split alone: what is known of the test set must not choose what is
    trained on.
    """
    known = quality.flat(splits.train.inputs()) if distance else None
    least = 0.0
    if known is not None:
        unseen = quality.flat(splits.validation.inputs())
        least = distance * float(np.median(diversity.nearest_distances(unseen, known)))
    judged = judge.fit(splits.train, seed, mesh) if confidence else None

    def accept(images: Float[np.ndarray, "n ..."], labels: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        keep = np.ones(len(images), bool)
        if judged is not None:
            keep &= judged.probabilities(images)[np.arange(len(images)), labels] >= confidence
        if known is not None:
            keep &= diversity.nearest_distances(quality.flat(images), known) >= least
        return keep

    return accept


def accept_texts(
    confidence: float, distance: float, splits: data.Splits, seed: int, mesh: jax.sharding.Mesh
) -> Accept:
    """`accept(rows, labels)`, by the judge alone, which is fitted to the training split."""
    train = splits.train
    words = train.tokens.words
    judged = text_quality.fit_judge(word_rows.of_source(train), train.labels, len(train.classes))
    return lambda rows, labels: (
        judged(word_rows.strings(rows, words))[np.arange(len(rows)), labels] >= confidence
    )
