"""Means over seeds with t intervals, shares with Wilson's, the jackknife over seeds."""

from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Shaped

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean with the ends of its interval: numbers, or arrays of one shape."""

    mean: Float[np.ndarray, "..."] | float
    low: Float[np.ndarray, "..."] | float
    high: Float[np.ndarray, "..."] | float


def mean_interval(values: Float[np.ndarray, "n ..."], level: float = LEVEL) -> Interval:
    """Mean over the first axis with its interval by Student's t: mean ± t s / √n.

    Args:
      values: a row per seed. Values that are not finite are left out.
      level: of the interval.

    Returns numbers for a vector, else arrays of the shape of a row. The ends are NaN where there are fewer
    than two finite values, the mean where there is none.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    n = known.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(known, values, 0.0).sum(0) / n
        variance = np.square(np.where(known, values - mean, 0.0)).sum(0) / (n - 1)
        half = scipy.stats.t.ppf((1 + level) / 2, n - 1) * np.sqrt(variance) / np.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def share_interval(count: int, n: int, level: float = LEVEL) -> Interval:
    """The share `count` / `n` with Wilson's interval.

    >>> [round(float(end), 3) for end in share_interval(5, 100)]
    [0.05, 0.022, 0.112]
    """
    ends = scipy.stats.binomtest(count, n).proportion_ci(level, method="wilson")
    return Interval(count / n, ends.low, ends.high)


def jackknife_weights(has: Shaped[np.ndarray, "A R"]) -> Float[np.ndarray, " R"]:
    """Of each seed, for `jackknife_variance`: (n - 1) / n, where n seeds are in the smallest arm that has it.

    Seeds are not cut into strata by the arms that have them. Where runs were lost these would be many and
    small, and what the seeds of each have in common would be lost.

    Args:
      has: whether an arm (row) has a seed (column); each seed is in some arm.
    """
    sizes = has.sum(1, keepdims=True)
    smallest = np.where(has, sizes, has.shape[1]).min(0)
    out: np.ndarray = (smallest - 1) / smallest
    return out


def jackknife_variance(without: Float[np.ndarray, " R"], weights: Float[np.ndarray, " R"]) -> float:
    """Of a number, from its values without each seed: the weighted sum of their squared deviations.

    With the weights (n - 1) / n of n seeds that all arms share it is the jackknife's (Efron and Stein 1981).

    Args:
      without: the number without each seed, in its own unit.
      weights: of each seed, from `jackknife_weights`.
    """
    return float((weights * np.square(without - without.mean())).sum())
