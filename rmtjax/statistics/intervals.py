"""Means over seeds with t intervals, shares with Wilson's, the jackknife over seeds."""

from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float, Int, Shaped

LEVEL = 0.95
_LEAST_ALIKE = 4  # seeds


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


def smallest_arms(has: Shaped[np.ndarray, "A R"]) -> Int[np.ndarray, " R"]:
    """Of each seed, for `jackknife_variance`: how many seeds the smallest arm has that has this one.

    Args:
      has: whether an arm (row) has a seed (column); each seed is in some arm.
    """
    out: np.ndarray = np.where(has, has.sum(1, keepdims=True), has.shape[1]).min(0)
    return out


def jackknife_variance(without: Float[np.ndarray, " R"], sizes: Int[np.ndarray, " R"]) -> float:
    """Of a number, from its values without each seed: Σ (n - 1) / n (x - mean)², with n from `sizes`.

    The mean is that of the seeds of one size: leaving out a seed of a small arm may change the number to one
    side. Sizes that fewer than four seeds have count as one, or as the commonest if these are few too. With
    one size it is the jackknife's variance (Efron and Stein 1981). Strata of the seeds that the same arms
    have would be many and small where runs were lost, and the intervals without width.

    Args:
      without: the number without each seed, in its own unit.
      sizes: of each seed, from `smallest_arms`.
    """
    kinds, kind, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    few = counts[kind] < _LEAST_ALIKE
    kind[few] = len(kinds) if few.sum() >= _LEAST_ALIKE else counts.argmax()
    means = np.array([without[kind == one].mean() for one in kind])
    return float(((sizes - 1) / sizes * np.square(without - means)).sum())
