"""T2: how far the effects of two arms lie apart, over all numbers at once, against a margin.

The difference of two arms is a vector over numbers in units of seed noise. Its size is the root mean square
over the numbers, of which the noise is taken off: the products of differences of two different seeds have the
squared true difference as their mean (see `products`). The arms are the same in the root mean square if the
upper end of the size's interval is below the margin of one standard deviation, and no number is seen to
differ by more than that by itself. That is a claim about all numbers together and not about each: a few that
differ by more are lost in the mean, and with few seeds are not seen. How many numbers are shown to lie within
the margin, each by itself, is therefore said beside it. The arms are not the same if some number differs by
more than the margin, with an interval that holds for all numbers at once.

The root mean square was chosen over the greatest difference. With 20 seeds the noise of each difference is a
quarter of the margin, and the greatest of 115 such numbers is .7 of it where there is no difference at all:
"same" could not be reached. The mean of squares pools the numbers, and reaches it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float

from rmtjax.errors import InputError
from rmtjax.statistics.contrasts import independent, paired
from rmtjax.statistics.intervals import jackknife_variance
from rmtjax.statistics.products import Estimate
from rmtjax.statistics.study_table import ROUNDING, Samples, commonest_share, deviations, noise, same_seeds
from rmtjax.statistics.verdicts import CANNOT_TELL, NO, YES

MARGIN = 1.0
LEVEL = 0.95
_RESAMPLES = 1000
_LEAST_SEEDS = 3
_MOST_EQUAL = 0.5  # of the baseline's runs


class Distance(NamedTuple):
    """How far two arms lie apart.

    Attributes:
      verdict: "yes" (the root mean square is within the margin), "no" (some number is beyond it) or "cannot
        tell".
      size: root mean square of the differences, without noise, in standard deviations of seed noise. Its ends
        are each of a one-sided interval of 95 %.
      numbers: how many; seeds: of each arm.
      unknown: how many numbers are left out since some run lacks them; same: how many since they are the same
        in half of the baseline's runs or more, as some counts are.
      turned: columns of those among the latter of which the two arms have different medians.
      beyond: columns of the numbers whose interval lies outside the margin.
      within: how many numbers are shown to lie within the margin, each by a test of its own at 5 %.
      greatest: column of the number that is the furthest from 0 in units of its error.
      difference: of that number, with its interval that holds for all numbers at once.
    """

    verdict: str
    size: Estimate
    numbers: int
    seeds: tuple[int, int]
    unknown: int
    same: int
    turned: tuple[int, ...]
    beyond: tuple[int, ...]
    within: int
    greatest: int
    difference: Estimate


def distance_of_arms(
    found: Samples,
    arm: str,
    other: str,
    keep: Bool[np.ndarray, " K"],
    *,
    margin: float = MARGIN,
    seed: int = 0,
) -> Distance:
    """Distance of two arms, paired by the seeds that both have, or of independent groups if these are few.

    The interval of each number is that of its difference less the margin times the estimated noise; the
    errors of both count. The factor that makes the intervals hold for all numbers at once is the 95 %
    quantile of the greatest of the numbers' |t| when seeds are drawn with replacement, so that what the
    numbers have in common is kept, or Bonferroni's where that is smaller. For the verdict it is that of the
    greatest excess over the margin, with the runs that make the unit drawn too. The degrees of freedom are
    those of the arm with the fewest seeds, or of the unit if it has fewer.

    Left out are numbers not known in all runs, and those that are the same, up to rounding, in half of the
    baseline's runs or more, as some counts are: a single run decides their unit. Where one of the latter has
    different medians in the two arms, there is no "yes".

    Args:
      found: the study.
      keep: which numbers.
      seed: of the resamples.

    Raises:
      InputError: fewer than three seeds of an arm or of the baseline, or no number is left.
    """
    base = str(found.arms.loc[arm, "baseline"])
    unit = noise(found, base)
    both = same_seeds(found, arm, other)
    if both and len(both[0]) < _LEAST_SEEDS:
        both = None  # what a pair or two of seeds have in common only makes independent groups too careful
    x, y = both or (found.values[arm], found.values[other])
    known = keep & np.isfinite(np.concatenate([x, y, found.values[base]])).all(0)
    same = known & ((commonest_share(found.values[base]) >= _MOST_EQUAL) | ~np.isfinite(unit))
    medians = np.median(x, axis=0), np.median(y, axis=0)
    differ = np.abs(medians[0] - medians[1]) > ROUNDING * np.maximum(*np.abs(medians))
    turned = np.flatnonzero(same & differ)
    unknown, keep = int((keep & ~known).sum()), known & ~same
    if len(found.values[base]) < _LEAST_SEEDS:
        raise InputError(
            f"the baseline {base!r} has {len(found.values[base])} seeds: the noise, in which arms are "
            f"compared, takes {_LEAST_SEEDS}"
        )
    if min(len(x), len(y)) < _LEAST_SEEDS or not keep.any():
        what = "fewer than three seeds"
        if not keep.any():
            what = "no number that is known in all runs"
        if same.any() and not keep.any():
            what = "no number that is not the same in half of the baseline's runs or more"
        raise InputError(f"arms {arm!r} and {other!r} have {what}: there is nothing to compare")
    parts = [x[:, keep] - y[:, keep]] if both else [x[:, keep], -y[:, keep]]
    parts = [part / unit[keep] for part in parts]
    of_unit, freedom = deviations(found, base)
    size = _size(parts, freedom, margin)
    found_difference = paired(parts[0]) if both else independent(parts[0], -parts[1])
    mean, error = found_difference.effect, found_difference.error
    of_seeds = min(*(len(part) - 1 for part in parts), freedom)
    rng = np.random.default_rng(seed)
    factor = _greatest(parts, of_seeds, rng)
    # The margin is a multiple of the noise, which is estimated as well; with its error 1 / sqrt(2 freedom).
    excess = (np.abs(mean) - margin) / np.sqrt(error**2 + margin**2 / (2 * freedom))
    beyond = excess > _greatest(parts, of_seeds, rng, of_unit[:, keep], margin)
    alone = excess > scipy.stats.t.ppf((1 + LEVEL) / 2, of_seeds)
    within = excess < -scipy.stats.t.ppf(LEVEL, of_seeds)
    columns = np.flatnonzero(keep)
    furthest = int(np.divide(np.abs(mean), error, out=np.zeros_like(mean), where=error > ROUNDING).argmax())
    half = factor * error[furthest]
    is_same = size.high < margin and not alone.any() and not len(turned)
    return Distance(
        NO if beyond.any() else YES if is_same else CANNOT_TELL,
        size,
        int(keep.sum()),
        (len(x), len(y)),
        unknown,
        int(same.sum()),
        tuple(int(column) for column in turned),
        tuple(int(column) for column in columns[beyond]),
        int(within.sum()),
        int(columns[furthest]),
        Estimate(float(mean[furthest]), float(mean[furthest] - half), float(mean[furthest] + half)),
    )


def _size(parts: list[Float[np.ndarray, "_ K"]], freedom: int, margin: float) -> Estimate:
    """Root of the mean squared difference, without noise; ends by the jackknife over the seeds of each part.

    The noise, in which differences are measured, is estimated as well, with so many degrees of freedom. Its
    error is added as if all numbers shared it, as those that are one number in many layers do.

    The upper end is the greater of two. One is the root of the upper end of the mean square. Where
    differences lie along noise that the numbers share, the error of the square falls with the square itself,
    so that what comes out small seems known well. The other does not fall so. It starts from the root with
    the noise along the differences left in, and adds the error of their length, noise and all, and that of
    the unit at the margin.
    """
    square, length = _mean_square(parts), _length(parts)
    of_square = _jackknife(parts, _mean_square) + 2 * square**2 / freedom
    error, of_unit = _jackknife(parts, _length), max(length, margin) ** 2 / (2 * freedom)
    t = float(scipy.stats.t.ppf(LEVEL, min(*(len(part) - 1 for part in parts), freedom)))
    half = t * of_square**0.5
    value, low, high = (max(x, 0.0) ** 0.5 for x in (square, square - half, square + half))
    along = (max(square, 0.0) + error) ** 0.5
    return Estimate(value, low, max(high, along + t * (error + of_unit) ** 0.5))


def _jackknife(
    parts: list[Float[np.ndarray, "_ K"]], number: Callable[[list[Float[np.ndarray, "_ K"]]], float]
) -> float:
    """Variance of a number by the jackknife over the seeds of each part."""
    variance = 0.0
    for i, part in enumerate(parts):
        without = np.array(
            [number([*parts[:i], np.delete(part, seed, 0), *parts[i + 1 :]]) for seed in range(len(part))]
        )
        variance += jackknife_variance(without, np.full(len(part), len(part)))
    return variance


def _length(parts: list[Float[np.ndarray, "_ K"]]) -> float:
    """Root of the mean over numbers of the squared sum of the parts' means, noise and all."""
    return float(np.square(np.sum([part.mean(0) for part in parts], axis=0)).mean() ** 0.5)


def _mean_square(parts: list[Float[np.ndarray, "_ K"]]) -> float:
    """Mean over numbers of the squared sum of the parts' means, without what noise adds to it."""
    whole = np.sum([part.mean(0) for part in parts], axis=0)
    bias = sum(part.var(0, ddof=1) / len(part) for part in parts)
    return float((np.square(whole) - bias).mean())


def _greatest(
    parts: list[Float[np.ndarray, "_ K"]],
    freedom: int,
    rng: np.random.Generator,
    unit: Float[np.ndarray, "m K"] | None = None,
    margin: float = 0.0,
) -> float:
    """The 95 % quantile of the greatest |t| over the numbers, where the true differences are 0.

    With the deviations of which the unit is made, it is that of the greatest excess over the margin, where
    all true differences are at it. Of few such deviations that has no bound: a unit may be much too small.
    Numbers of which the parts have no spread, as where all pairs differ by the same, take no part.
    """
    spread = np.sum([part.std(0) for part in parts], axis=0) > ROUNDING
    if not spread.any():
        return np.inf
    parts = [part[:, spread] for part in parts]
    unit = unit[:, spread] if unit is not None else None
    shift, variance = 0.0, 0.0
    for part in parts:
        means, squares = _resampled(part, rng)
        shift, variance = shift + means, variance + squares / (len(part) - 1)
    excess = np.abs(shift)
    if unit is not None:
        n = len(unit)
        squares = np.maximum(_resampled(unit, rng)[1], 0.0) * n / (n - 1) / unit.var(0, ddof=1)
        excess = excess - margin * (np.sqrt(squares) - 1)
        variance = variance + margin**2 * squares / (2 * (n - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = excess / np.sqrt(variance)
    if unit is not None:
        # "higher", since between a number and infinity there is none.
        return float(np.quantile(np.nan_to_num(t, posinf=np.inf).max(1), LEVEL, method="higher"))
    drawn = float(np.quantile(np.nan_to_num(t, posinf=0.0).max(1), LEVEL))
    # Of few seeds many resamples hold one seed throughout and have no spread; Bonferroni's factor holds too.
    return min(drawn, float(scipy.stats.t.ppf(1 - (1 - LEVEL) / 2 / parts[0].shape[1], freedom)))


def _resampled(
    part: Float[np.ndarray, "n K"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "r K"], Float[np.ndarray, "r K"]]:
    """Means, and mean squares about them, when seeds are drawn with replacement; of centred runs."""
    n = len(part)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES).astype(float)
    centred = part - part.mean(0)
    means = counts @ centred / n
    return means, counts @ np.square(centred) / n - np.square(means)
