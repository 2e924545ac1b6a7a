"""T7: which single number of a kind of layer tells families apart, and which does not?

From one number, the effect of each seed against the baseline's run of the same seed, the family is guessed:
that with the nearest mean, over the other seeds. The balanced accuracy is the mean over families of the share
of their seeds that are guessed. Chance is what shuffling the families within each seed gives, which keeps
what runs of one seed share. The best of many numbers is good by chance too, so its p is that of the best
number of each shuffle.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from rmtjax.errors import InputError
from rmtjax.statistics.doses import by_family
from rmtjax.statistics.fit import most_seeded
from rmtjax.statistics.intervals import mean_interval
from rmtjax.statistics.study_table import NULL, RUN, Samples, noise, samples
from rmtjax.statistics.verdicts import CANNOT_TELL, YES
from rmtjax.statistics.wording import Answer, capital, with_interval

STAGES = ("update", "after")
SHUFFLES = 499
_LEAST_SEEDS = 3


class Separation(NamedTuple):
    """How well single numbers tell families apart.

    Attributes:
      table: a row per number, the best first: group, metric, accuracy, low, high (balanced accuracy with its
        95 % t interval over seeds), p (of this number alone) and p_best (of the best number of a shuffle).
      chance: one over the number of families; shuffled: 95 % of shuffles lie below this, for the best number.
      nested: balanced accuracy where the best number is chosen without the seed that is guessed: (value, low,
        high), which choosing does not flatter.
      families, left_out: those compared, and those with fewer than three seeds that the baseline has too.
      seeds: how many.
    """

    table: pd.DataFrame
    chance: float
    shuffled: float
    nested: tuple[float, float, float]
    families: tuple[str, ...]
    left_out: tuple[str, ...]
    seeds: int


def separate(
    table: pd.DataFrame | Samples,
    stage: str,
    leave_out: Sequence[str] = (),
    *,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Separation:
    """Of each number of the kinds of layer (not the head), how well it tells families apart.

    Of each family the arm with the most seeds counts, at the seeds that its baseline has too.

    Args:
      table: as `study_table` says.
      stage: "update" or "after": of which weights.
      leave_out: families that are not compared, such as placebos; null arms never are.
      shuffles, seed: of families within each seed.

    Raises:
      InputError: fewer than two such families, or no number that is known in all their runs.
    """
    found = samples(table)
    arms = {
        name: most_seeded(found, doses)
        for name, doses in by_family(found).items()
        if name != NULL and name not in leave_out
    }
    enough = {name: arm for name, arm in arms.items() if len(_seeds(found, arm)) >= _LEAST_SEEDS}
    if len(enough) < 2:
        raise InputError(
            f"{len(enough)} families have three seeds or more that their baseline has too: to tell families "
            "apart takes two"
        )
    keep = _numbers(found, list(enough.values()), stage)
    seeds = np.unique(np.concatenate([_seeds(found, arm) for arm in enough.values()]))
    effects = np.zeros((len(seeds), len(enough), int(keep.sum())))
    has = np.zeros((len(seeds), len(enough)), bool)
    for place, arm in enumerate(enough.values()):
        base = str(found.arms.loc[arm, "baseline"])
        own = _seeds(found, arm)
        rows = np.isin(seeds, own)
        runs, others = (found.values[name][np.isin(found.seeds[name], own)][:, keep] for name in (arm, base))
        effects[rows, place], has[rows, place] = (runs - others) / noise(found, base)[keep], True
    guessed = guesses(effects, has)
    accuracy = _balanced(guessed, has)
    rng = np.random.default_rng(seed)
    drawn = np.stack([_balanced(guesses(shuffled(effects, has, rng), has), has) for _ in range(shuffles)])
    best = drawn.max(1)
    p, p_best = ((1 + (x >= accuracy - 1e-9).sum(0)) / (1 + shuffles) for x in (drawn, best[:, None]))
    # Without a seed the others are guessed from means that lack it too.
    without = np.stack(
        [
            _balanced(guesses(*_but(effects, has, row)), _but(effects, has, row)[1])
            for row in range(len(seeds))
        ]
    )
    chosen = guessed[np.arange(len(seeds)), :, without.argmax(1)]
    out = pd.DataFrame(
        {
            "group": found.columns.get_level_values("group")[keep],
            "metric": found.columns.get_level_values("metric")[keep],
            "accuracy": accuracy,
            "low": mean_interval(_by_seed(guessed, has)).low,
            "high": mean_interval(_by_seed(guessed, has)).high,
            "p": p,
            "p_best": p_best,
        }
    ).sort_values("accuracy", ascending=False, kind="stable", ignore_index=True)
    ends = mean_interval(_by_seed(chosen[:, :, None], has)[:, 0])
    nested = (float(_balanced(chosen[:, :, None], has)[0]), float(ends.low), float(ends.high))
    return Separation(
        out,
        1 / len(enough),
        float(np.quantile(best, 0.95)),
        nested,
        tuple(enough),
        tuple(name for name in arms if name not in enough),
        len(seeds),
    )


def _seeds(found: Samples, arm: str) -> Int[np.ndarray, " n"]:
    return np.intersect1d(found.seeds[arm], found.seeds[str(found.arms.loc[arm, "baseline"])])


def _numbers(found: Samples, arms: Sequence[str], stage: str) -> Bool[np.ndarray, " K"]:
    """Numbers of this stage of the kinds of layer, known in all runs, with noise."""
    group = found.columns.get_level_values("group")
    keep = np.array([str(name).startswith(f"{stage}/") for name in found.columns.get_level_values("metric")])
    kinds = ~group.isin([RUN, "backbone", "head"])
    keep &= np.asarray(kinds if kinds.any() else group == "backbone")
    for name in {*arms, *found.arms.loc[list(arms), "baseline"]}:
        keep &= np.isfinite(found.values[name]).all(0)
    for base in set(found.arms.loc[list(arms), "baseline"]):
        keep &= np.isfinite(noise(found, str(base)))
    if not keep.any():
        raise InputError(f"no number of stage {stage!r} is known, with noise, in every run")
    return keep


def guesses(effects: Float[np.ndarray, "S F K"], has: Bool[np.ndarray, "S F"]) -> Bool[np.ndarray, "S F K"]:
    """Whether each run's family has the nearest mean, in each number; means are over the other seeds.

    Runs that are not there (`has`) count nowhere. Of families that are equally near the first is guessed.
    """
    known = np.where(has[:, :, None], effects, 0.0)
    count = (has.sum(0) - has)[:, :, None]  # of the other seeds
    means = (known.sum(0) - known) / np.maximum(count, 1)
    apart = np.abs(known[:, :, None] - means[:, None])
    apart = np.where(count[:, None] > 0, apart, np.inf)
    own = np.arange(has.shape[1])[:, None]
    out: np.ndarray = (apart.argmin(2) == own) & has[:, :, None]
    return out


def shuffled(
    effects: Float[np.ndarray, "S F K"], has: Bool[np.ndarray, "S F"], rng: np.random.Generator
) -> Float[np.ndarray, "S F K"]:
    """With the families of each seed shuffled among those that have it."""
    out = effects.copy()
    for row, there in enumerate(has):
        places = np.flatnonzero(there)
        out[row, places] = effects[row, rng.permutation(places)]
    return out


def _but(
    effects: Float[np.ndarray, "S F K"], has: Bool[np.ndarray, "S F"], row: int
) -> tuple[np.ndarray, np.ndarray]:
    return np.delete(effects, row, 0), np.delete(has, row, 0)


def _balanced(guessed: Bool[np.ndarray, "S F K"], has: Bool[np.ndarray, "S F"]) -> Float[np.ndarray, " K"]:
    """Mean over families of the share of their runs that are guessed."""
    out: np.ndarray = (guessed.sum(0) / np.maximum(has.sum(0), 1)[:, None]).mean(0)
    return out


def _by_seed(guessed: Bool[np.ndarray, "S F K"], has: Bool[np.ndarray, "S F"]) -> Float[np.ndarray, "S K"]:
    """What each seed adds to the balanced accuracy, times the number of seeds: their mean is it."""
    weight = len(has) / np.maximum(has.sum(0), 1) / has.shape[1]
    out: np.ndarray = (guessed * weight[:, None]).sum(1)
    return out


def separation_answer(found: Separation, stage: str) -> Answer:
    """T7 of one stage: "yes" if the best number is above chance with p < .05, corrected for the choice.

    value is the nested accuracy, control one over the number of families.
    """
    best = found.table.iloc[0]
    verdict = YES if best["p_best"] < 0.05 else CANNOT_TELL
    of = {"update": "of the update", "after": "of the weights after training"}[stage]
    lead = {
        YES: f"{capital(_number(best))} {of} tells {len(found.families)} families apart best",
        CANNOT_TELL: f"It cannot be told whether any single number {of} tells {len(found.families)} families "
        f"apart; {_number(best)} comes first",
    }[verdict]
    equal = int((found.table["accuracy"][1:] >= best["low"]).sum())
    above = found.table[found.table["p_best"] < 0.05]
    nothing = found.table[found.table["p"] >= 0.05]
    listed = ", ".join(_number(row) for _, row in nothing.head(12).iterrows())
    more = f" and {len(nothing) - 12} more" if len(nothing) > 12 else ""
    not_above = f": {listed}{more}" if len(nothing) else ""
    without = f"; without {', '.join(found.left_out)}, which have too few seeds" if found.left_out else ""
    sentence = (
        f"{lead}: its balanced accuracy is {with_interval(best['accuracy'], best['low'], best['high'])} "
        f"({found.seeds} seeds, p = {best['p_best']:.3f} corrected for the choice), where chance is "
        f"{found.chance:.2f} and the best of {len(found.table)} shuffled numbers stays below "
        f"{found.shuffled:.2f} in 95 %; chosen without the seed that is guessed it is "
        f"{with_interval(*found.nested)}; {equal} others lie within its interval, {len(above)} are above "
        f"chance, and {len(nothing)} are not even without the correction{not_above}{without}."
    )
    low = float(found.chance)
    return Answer("T7", stage, verdict, sentence, *found.nested, low, np.nan, float(found.shuffled))


def _number(row: "pd.Series[str]") -> str:
    return f"{str(row['metric']).split('/')[-1].replace('_', ' ')} of {row['group']}"
