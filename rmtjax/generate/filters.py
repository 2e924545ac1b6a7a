"""Which samples are kept: those that a judge takes for their class, and that are no copies of training images."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from rmtjax import data, diversity
from rmtjax.generate import judge, quality

NAMES = ("least_confidence", "least_distance")

Accept = Callable[[Float[np.ndarray, "n ..."], Int[np.ndarray, " n"]], Bool[np.ndarray, " n"]]


def make(config: ConfigDict, splits: data.Splits, mesh: jax.sharding.Mesh) -> Accept | None:
    """`accept(images, labels)` of a config's filters; None where there are none.

    The judge is fitted to the training split alone: what is known of the test set must not choose what is trained on.
    """
    confidence, distance = config.synthetic.least_confidence, config.synthetic.least_distance
    if not confidence and not distance:
        return None
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
