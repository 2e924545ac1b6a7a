"""Inner products between the effects of arms, free of what noise and a common baseline add to them.

The effect of an arm is a vector over numbers, in units of seed noise. The plain inner product of two
estimated effects is too large: they subtract the same baseline runs, and runs of one seed share its
initialisation. Runs of different seeds share nothing. So the products of runs of one seed are left out: the
product of two effects is the mean of d_s . e_t over all s != t, where d_s is what seed s says of the one
effect and e_t what seed t says of the other. It is unbiased, also for an effect with itself, and so is the
mean over all ways to split the seeds into halves, of which it is the limit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int

from rmtjax.errors import InputError
from rmtjax.statistics.intervals import LEVEL, jackknife_variance, smallest_arms
from rmtjax.statistics.study_table import Samples, arms_of_noise, is_paired, noise


class Estimate(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class Products(NamedTuple):
    """Inner products between effects.

    Attributes:
      arms: their names.
      grams: `[1 + R, A, A]`: of all seeds, then without each seed in turn.
      lengths: squared lengths of the estimated effects, noise and all, of all seeds.
      ids: the seeds that are left out in turn, those that make the units among them.
      sizes: of the smallest arm that has each seed.
      seeds: of the arm with the fewest.
      numbers: length of the vectors.
    """

    arms: tuple[str, ...]
    grams: Float[np.ndarray, "R A A"]
    lengths: Float[np.ndarray, " A"]
    ids: Int[np.ndarray, " R"]
    sizes: Int[np.ndarray, " R"]
    seeds: int
    numbers: int

    def reliability(self) -> Float[np.ndarray, " A"]:
        """Share of each estimated effect's squared length that is no noise; below 0 by chance."""
        out: np.ndarray = np.diagonal(self.grams[0]) / np.where(self.lengths > 0, self.lengths, np.nan)
        return out

    def without(self, axis: int) -> "Products":
        """Of what is left of the effects when the direction of one of them is projected out."""
        along = self.grams[:, :, axis]
        return self._replace(
            grams=self.grams - along[:, :, None] * along[:, None, :] / along[:, axis, None, None]
        )

    def cosines(
        self, one: Float[np.ndarray, "P A"], other: Float[np.ndarray, "Q A"]
    ) -> Float[np.ndarray, "R P Q"]:
        """Cosines between weighted sums of effects; NaN where a squared length is not above 0."""
        sums = [weights @ self.grams for weights in (one, other)]
        squares = [(product * weights).sum(-1) for product, weights in zip(sums, (one, other), strict=True)]
        lengths = [np.sqrt(np.where(square > 0, square, np.nan)) for square in squares]
        out: np.ndarray = sums[0] @ other.T / (lengths[0][:, :, None] * lengths[1][:, None, :])
        return out

    def estimate(self, values: Float[np.ndarray, " R"]) -> Estimate:
        """The first value, with an interval by the jackknife over seeds from the others.

        With Student's t of the smallest arm. Without an interval where a seed cannot be spared.
        """
        value, others = float(values[0]), values[1:]
        if not np.isfinite(values).all():
            return Estimate(value, np.nan, np.nan)
        half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, self.seeds - 1)) * self.variance(others) ** 0.5
        return Estimate(value, value - half, value + half)

    def variance(self, others: Float[np.ndarray, " R"]) -> float:
        """The jackknife's, of a number whose values without each seed are given."""
        return jackknife_variance(others, self.sizes)


def products_of_effects(found: Samples, arms: Sequence[str], keep: Bool[np.ndarray, " K"]) -> Products:
    """Inner products between the effects of arms against their baselines.

    The unit of each number is the noise of the arm's baseline. It is estimated anew without each seed, so
    that intervals count its error. With great effects and few seeds that is most of what is uncertain: how
    much each number weighs in a product is then known less well than the effects are.

    Args:
      found: the study.
      arms: names.
      keep: the numbers that make the vectors, known in all runs.

    Raises:
      InputError: an arm or its baseline has fewer than three seeds.
    """
    bases = [str(base) for base in found.arms.loc[list(arms), "baseline"]]
    units = {base: noise(found, base)[keep] for base in set(bases)}
    parts = [_runs(found, name, base, keep, units[base]) for name, base in zip(arms, bases, strict=True)]
    for name, part in zip(arms, parts, strict=True):
        if min(len(seeds) for _, seeds in part) < 3:
            raise InputError(
                f"arm {name!r} or its baseline has fewer than three seeds: likeness needs three of each"
            )
    rows = [run for part in parts for run in part]
    base_of_row = [base for base, part in zip(bases, parts, strict=True) for _ in part]
    # Of a paired arm there are no runs of the baseline by themselves, but they make its unit.
    makes_unit = sorted({name for base in units for name in arms_of_noise(found, base)})
    used = [seeds for _, seeds in rows] + [found.seeds[name] for name in makes_unit]
    ids = np.unique(np.concatenate(used))
    values = np.zeros((len(rows), len(ids), int(keep.sum())))
    has = np.array([np.isin(ids, seeds) for seeds in used])
    for row, (runs, _) in enumerate(rows):
        values[row, has[row]] = runs
    # An arm that is paired is a row of differences; another is its runs less those of its baseline.
    signs = np.zeros((len(parts), len(rows)))
    row = 0
    for arm, part in enumerate(parts):
        signs[arm, row : row + len(part)] = (1.0, -1.0)[: len(part)]
        row += len(part)
    present = has[: len(rows)].astype(np.float64)
    grams = [signs @ _means_of_products(values, present) @ signs.T]
    for place, seed in enumerate(ids):
        anew = {base: unit / noise(found, base, without=int(seed))[keep] for base, unit in units.items()}
        left, there = values * np.stack([anew[base] for base in base_of_row])[:, None], present.copy()
        left[:, place], there[:, place] = 0.0, 0.0
        grams.append(signs @ _means_of_products(left, there) @ signs.T)
    effects = signs @ (values.sum(1) / present.sum(1)[:, None])
    return Products(
        tuple(arms),
        np.stack(grams),
        np.square(effects).sum(1),
        ids,
        smallest_arms(has),
        min(len(seeds) for _, seeds in rows),
        int(keep.sum()),
    )


def _means_of_products(
    values: Float[np.ndarray, "rows R K"], has: Float[np.ndarray, "rows R"]
) -> Float[np.ndarray, "rows rows"]:
    """Means of the products of runs of two rows over all pairs of different seeds; 0 where a seed is not."""
    total, flat = values.sum(1), values.reshape(len(values), -1)
    pairs = np.outer(has.sum(1), has.sum(1)) - has @ has.T
    out: np.ndarray = (total @ total.T - flat @ flat.T) / pairs
    return out


def _runs(
    found: Samples, name: str, base: str, keep: Bool[np.ndarray, " K"], unit: Float[np.ndarray, " k"]
) -> list[tuple[Float[np.ndarray, "_ k"], Int[np.ndarray, " _"]]]:
    """What each seed says of an arm's effect: differences where it is paired, else runs and baseline runs."""
    centre = found.values[base][:, keep].mean(0)
    seeds, others = found.seeds[name], found.seeds[base]
    runs, baseline = ((found.values[arm][:, keep] - centre) / unit for arm in (name, base))
    if is_paired(seeds, others):
        return [(runs - baseline[np.isin(others, seeds)], seeds)]
    return [(runs, seeds), (baseline, others)]
