"""T6: how much of an arm's effect on the weights is its effect on the fit?

An arm that fits its training examples less well has also trained less far, and weights that have trained
less far differ. What that alone would do is known from a placebo, training for more or fewer steps: between
its doses and the baseline, in straight lines along the training loss, lies the effect p of training to the
loss that the arm reached. Of the arm's effect e the share 1 - |e - p|² / |e|² is explained by it: 1 if the
arm did just that, 0 if it moved the weights elsewhere by as much, below 0 if training to this loss would have
led away from where the arm went. The same is asked at the norm of the update that the arm reached. Squared
lengths are free of noise (`products`), and intervals are by the jackknife over seeds, which counts the noise
of the loss as well.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from rmtjax.errors import InputError
from rmtjax.statistics.directions import LEAST_RELIABILITY, PRIMARY, blocks
from rmtjax.statistics.doses import by_family
from rmtjax.statistics.effect_similarity import numbers_known
from rmtjax.statistics.products import Estimate, Products, products_of_effects
from rmtjax.statistics.study_table import NULL, RUN, Samples, is_paired, noise, place_of_run, samples
from rmtjax.statistics.verdicts import CANNOT_TELL, NO, YES
from rmtjax.statistics.wording import Answer, capital, with_interval, words

LOSS, NORM = "training_loss", "update_norm"  # metrics of the run; the verdict is by the first
MOST = 0.5  # of the squared effect
_LEAST_SEEDS = 4  # three without one of them


class Fit(NamedTuple):
    """A row of T6: an arm, a block of numbers, and what of the fit is held equal.

    Attributes:
      family, arm, block, numbers: whose effect, on which numbers, and how many.
      by: "training_loss" or "update_norm".
      change, reach_low, reach_high: of this metric by the arm, and the least and the greatest by the placebo
        (0 among them), means over seeds.
      effect, effect_low, effect_high: root mean square of the arm's effect without noise, in standard
        deviations of seed noise; below 0 where its square is.
      share, share_low, share_high: of the squared effect, explained.
      left, left_low, left_high: root mean square of what is left, in the same unit.
      reason: why there is no share; "" where there is one.
    """

    family: str
    arm: str
    block: str
    numbers: int
    by: str
    change: float
    reach_low: float
    reach_high: float
    effect: float
    effect_low: float
    effect_high: float
    share: float
    share_low: float
    share_high: float
    left: float
    left_low: float
    left_high: float
    reason: str


def most_seeded(found: Samples, arms: Sequence[str]) -> str:
    """The arm of a family with the most seeds; of several the one in the middle of the doses."""
    most = max(len(found.seeds[arm]) for arm in arms)
    tied = [arm for arm in arms if len(found.seeds[arm]) == most]
    return tied[len(tied) // 2]


def fit_rows(
    table: pd.DataFrame | Samples, progress: str | None, sources: Mapping[str, str | Sequence[str]]
) -> list[Fit]:
    """Rows of T6: families by the two primary blocks of numbers by training loss and norm of the update.

    Of each family the arm with the most seeds counts, if it has four or more.

    Args:
      table: as `study_table` says.
      progress: the placebo that is training for longer; families that share a source with it are further
        doses of it, such as training for a shorter time.
      sources: by the name of a family, what it shares with others.

    Raises:
      InputError: no such family, no training loss nor norm of the update, or a dose of the placebo or a
        baseline with fewer than four seeds.
    """
    found = samples(table)
    families = {name: arms for name, arms in by_family(found).items() if name != NULL}
    if progress is None or progress not in families:
        raise InputError(f"progress={progress!r} is no family of the table: it has {', '.join(families)}")
    run = {metric for group, metric in found.columns if group == RUN}
    metrics = [name for name in (LOSS, NORM) if name in run]
    if not metrics:
        raise InputError(f"no run has {LOSS!r} or {NORM!r}: measure the runs again to have them")
    steps = [name for name in families if name == progress or _share(name, progress, sources)]
    axis = [arm for name in steps for arm in families[name]]
    chosen = {name: most_seeded(found, arms) for name, arms in families.items() if name not in steps}
    chosen = {name: arm for name, arm in chosen.items() if len(found.seeds[arm]) >= _LEAST_SEEDS}
    rows = []
    for block, names in blocks(found, None).items():
        if block not in PRIMARY:
            continue
        arms = [*axis, *chosen.values()]
        keep = numbers_known(found, {progress: arms}, None, names)
        for name in {*arms, *found.arms.loc[arms, "baseline"]}:
            if len(found.seeds[name]) < _LEAST_SEEDS:
                raise InputError(
                    f"arm {name!r} has {len(found.seeds[name])} seeds: what of an effect is the fit takes "
                    f"{_LEAST_SEEDS}"
                )
        products = products_of_effects(found, arms, keep)
        left_out = [None, *products.ids.tolist()]
        for by in metrics:
            place = place_of_run(found, by)
            changes = np.array([[_change(found, arm, place, seed) for arm in arms] for seed in left_out])
            rows += [
                _row(found, products, family, place, block, by, changes, len(axis))
                for place, family in enumerate(chosen, len(axis))
            ]
    return rows


def _share(one: str, other: str, sources: Mapping[str, str | Sequence[str]]) -> bool:
    """Whether two families have a source in common."""
    of = [sources.get(name, ()) for name in (one, other)]
    first, second = ({names} if isinstance(names, str) else set(names) for names in of)
    return bool(first & second)


def _change(found: Samples, arm: str, place: int, without: int | None) -> float:
    """Of a metric of the run by an arm: the mean over its seeds but one, in pairs where the baseline has
    them.
    """
    base = str(found.arms.loc[arm, "baseline"])
    seeds, others = found.seeds[arm], found.seeds[base]
    rows = np.isin(others, seeds) if is_paired(seeds, others) else np.full(len(others), True)
    runs = found.values[arm][seeds != without, place]
    return float(runs.mean() - found.values[base][rows & (others != without), place].mean())


def _row(
    found: Samples,
    products: Products,
    family: str,
    place: int,
    block: str,
    by: str,
    changes: Float[np.ndarray, "R A"],
    axis: int,
) -> Fit:
    """The first `axis` arms of the products are the placebo's doses; the arm is at `place`."""
    arm = products.arms[place]
    ends = np.append(changes[0, :axis], 0.0)
    unit = float(noise(found, str(found.arms.loc[arm, "baseline"]))[place_of_run(found, by)])
    change = float(changes[0, place])
    square = products.grams[:, place, place]
    row = Fit(
        family,
        arm,
        block,
        products.numbers,
        by,
        change,
        float(ends.min()),
        float(ends.max()),
        *_rms(products.estimate(square / products.numbers)),
        *[np.nan] * 6,
        "",
    )
    if not products.reliability()[place] >= LEAST_RELIABILITY:
        return row._replace(
            reason=f"the effect is mostly noise (reliability {products.reliability()[place]:.2f})"
        )
    if not np.isfinite(changes).all():
        return row._replace(reason=f"some run has no {words(by)}")
    if not ends.min() - unit <= change <= ends.max() + unit:
        return row._replace(
            reason=f"its {words(by)} changes by {change:.3g}, and the placebo reaches {ends.min():.3g} to "
            f"{ends.max():.3g} only"
        )
    weights = np.zeros((len(changes), len(products.arms)))
    weights[:, place] = 1.0
    weights[:, :axis] = -np.stack([_between(x[:axis], float(x[place])) for x in changes])
    left = np.einsum("ra,rab,rb->r", weights, products.grams, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = products.estimate(1 - left / np.where(square > 0, square, np.nan))
    return row._replace(
        **dict(zip(("share", "share_low", "share_high"), share, strict=True)),
        **dict(
            zip(
                ("left", "left_low", "left_high"),
                _rms(products.estimate(left / products.numbers)),
                strict=True,
            )
        ),
        reason="" if np.isfinite(share.low) else "the effect is mostly noise without one of its seeds",
    )


def _between(changes: Float[np.ndarray, " P"], point: float) -> Float[np.ndarray, " P"]:
    """Weights of the placebo's doses where its change is `point`, in straight lines between doses and the
    baseline, in the order of their changes; beyond the last one that of the last.
    """
    x = np.append(changes, 0.0)
    order = np.argsort(x, kind="stable")
    corners = np.eye(len(x))[order]
    return np.array([np.interp(point, x[order], corner) for corner in corners.T])[:-1]


def _rms(square: Estimate) -> list[float]:
    return [float(np.sign(end) * np.sqrt(abs(end))) for end in square]


def fit_answers(rows: Sequence[Fit], family: str, progress: str) -> list[Answer]:
    """T6 of one family: the verdict of both primary blocks at equal training loss, then a row for each.

    "yes": more than half of the squared effect is what training to the same loss does, by the interval, in
    both blocks; "no": less than half is, in both.
    """
    own = [row for row in rows if row.family == family]
    each = [_answer(row, progress) for row in own]
    primary = [
        answer for row, answer in zip(own, each, strict=True) if row.by == LOSS and row.block in PRIMARY
    ]
    if len(primary) < 2:
        lacking = f"It cannot be told: no run has {LOSS!r} beside both primary blocks of numbers."
        return [Answer("T6", "primary", CANNOT_TELL, lacking, *[np.nan] * 6), *each]
    agree = len({row.verdict for row in primary}) == 1
    verdict = primary[0].verdict if agree else CANNOT_TELL
    lead = "" if agree else "It cannot be told, since the two blocks of numbers do not agree. "
    told = " ".join(f"In {row.block}: {row.sentence}" for row in primary)
    return [primary[0]._replace(block="primary", verdict=verdict, sentence=lead + told), *each]


def fit_verdict(row: Fit) -> str:
    """Whether more than half of the squared effect is explained ("yes"), or less ("no"), by the interval."""
    if row.reason:
        return CANNOT_TELL
    return YES if row.share_low > MOST else NO if row.share_high < MOST else CANNOT_TELL


def _answer(row: Fit, progress: str) -> Answer:
    verdict = fit_verdict(row)
    of = words(row.by)
    lead = {
        YES: f"Most of the effect of {row.family} is that on the {of}",
        NO: f"Less than half of the effect of {row.family} is that on the {of}",
        CANNOT_TELL: f"It cannot be told how much of the effect of {row.family} is that on the {of}",
    }[verdict]
    effect = with_interval(row.effect, row.effect_low, row.effect_high)
    told = (
        row.reason
        if row.reason
        else f"training ({progress} and its like) to the same {of}, a change of {row.change:.3g}, explains "
        f"{with_interval(row.share, row.share_low, row.share_high)} of its squared effect and leaves a "
        f"root mean square of {with_interval(row.left, row.left_low, row.left_high)}"
    )
    sentence = (
        f"{capital(lead)}: {told}; the root mean square of the whole effect of arm {row.arm} is {effect} "
        f"standard deviations of seed noise over {row.numbers} numbers."
    )
    block = f"{row.block}, equal {of}"
    value = (row.share, row.share_low, row.share_high)
    return Answer("T6", block, verdict, sentence, *value, MOST, np.nan, np.nan)
