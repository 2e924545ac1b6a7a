"""Means over seeds with t intervals, shares with Wilson's, the jackknife over seeds."""

from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Int, Shaped

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


def jackknife_strata(has: Shaped[np.ndarray, "A R"]) -> Int[np.ndarray, " R"]:
    """Of each seed, for `jackknife_variance`: seeds that the same arms have make a stratum.

    Where runs were lost, nearly every seed has a pattern of its own, and alone in a stratum it would add
    nothing to the variance. So those are one stratum together; if there is one such seed, it is in the
    largest other one. That errs on the wide side.

    Args:
      has: whether an arm (row) has a seed (column).
    """
    _, stratum, sizes = np.unique(has, axis=1, return_inverse=True, return_counts=True)
    stratum = stratum.ravel()
    small = sizes[stratum] == 1
    if small.sum() == 1:
        small |= stratum == np.argmax(sizes)
    out: np.ndarray = np.where(small, len(sizes), stratum)
    return out


def jackknife_variance(without: Float[np.ndarray, " R"], stratum: Int[np.ndarray, " R"]) -> float:
    """Of a number, from its values without each seed: (n - 1) / n Σ (x - mean)² of each stratum, added up.

    The stratified jackknife (Wolter 2007, "Introduction to Variance Estimation", section 4.5).

    Args:
      without: the number without each seed, in its own unit.
      stratum: of each seed.
    """
    out = 0.0
    for place in np.unique(stratum):
        part = without[stratum == place]
        out += (len(part) - 1) / len(part) * float(np.square(part - part.mean()).sum())
    return out
