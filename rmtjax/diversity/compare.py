"""Sets compared at equal size, and the rows of diversity.json."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from rmtjax.diversity.coverage import coverage, expected_coverage
from rmtjax.diversity.vendi import vendi_interval, vendi_of_isotropic

Examples = Float[jax.Array | np.ndarray, "_ ..."]


def at_equal_n(sets: Mapping[str, Examples], *, seed: int, n: int | None = None) -> dict[str, np.ndarray]:
    """Each set cut to the same number of examples, drawn without replacement, in their old order.

    Sets of the same length keep the same rows, so that sets paired by row (real and augmented) stay paired.

    Args:
      sets: arrays [n_i, ...] by name.
      seed: of the draw.
      n: examples of each; None: as many as the smallest set has.

    Raises:
      ValueError: a set has fewer than n examples.
    """
    n = min(len(examples) for examples in sets.values()) if n is None else n
    equal = {}
    for name, examples in sets.items():
        if len(examples) < n:
            raise ValueError(
                f"set {name!r} has {len(examples)} examples, fewer than n={n}: choose a smaller n"
            )
        rows = np.sort(np.random.default_rng(seed).permutation(len(examples))[:n])
        equal[name] = np.asarray(examples)[rows]
    return equal


def diversity_rows(
    sets: Mapping[str, Examples],
    reference: Examples | None,
    *,
    space: str,
    k: int = 3,
    q: float | int = 1.0,
    seed: int = 0,
    n: int | None = None,
) -> list[dict[str, Any]]:
    """Rows `{"set", "space", "metric", "value", "low", "high", "null", "n"}`: Vendi score and coverage at equal n.

    Args:
      sets: examples by name, e.g. "real", "augmented", "synthetic", "mixed": images (flattened here; for pixel
        space) or features (for feature space). Cut to equal n by `at_equal_n`.
      reference: examples that coverage is measured against, e.g. the test set, whole; None: no coverage rows.
      space: what the numbers are, "pixel" or "feature"; only noted in the rows.
      k: neighbour whose distance is the radius of a ball of coverage.
      q: order of the Vendi score.
      seed: of `at_equal_n`.
      n: examples of each set; None: as many as the smallest has.

    Returns:
      Null of "vendi_score": isotropic noise of the same n and d (an upper end, that says how far the score could
      go). Null of "coverage": samples of the reference's own law, at these sizes.
    """
    rows = []

    def add(name: str, metric: str, estimate: tuple[float, float, float], null: float, n: int) -> None:
        value, low, high = estimate
        row = {"set": name, "space": space, "metric": metric, "value": value, "low": low, "high": high}
        rows.append({**row, "null": null, "n": n})

    for name, examples in at_equal_n(sets, seed=seed, n=n).items():
        features = _flat(examples)
        size, d = features.shape
        add(name, "vendi_score", vendi_interval(features, q), vendi_of_isotropic(size, d, q), size)
        if reference is not None:
            null = expected_coverage(len(reference), size, k)
            add(name, "coverage", coverage(_flat(reference), features, k), null, size)
    return rows


def _flat(examples: Examples) -> Float[np.ndarray, "n d"]:
    return np.asarray(examples).reshape(len(examples), math.prod(examples.shape[1:]))
