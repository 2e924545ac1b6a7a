"""T5: does the diversity of real examples, by itself, move the weights, and in whose direction?

A family that varies diversity alone has doses with signs: below 0 its training set is less diverse than the
baseline's, above 0 more. So its effects count per unit of more diversity, and those of doses below 0 are
turned. The question has two parts.

Does it move the weights at all? Each dose is tested against no effect by Dempster's test (1958, "A high
dimensional two sample significance test"): the squared length of the mean effect over that of the seeds'
noise has an F distribution, with as many degrees of freedom as the noise has dimensions, which the baseline's
seeds show. It needs no inverse of a covariance, so five seeds of twenty numbers suffice.

In whose direction? The cosine with each of the families asked about, against the floor, the rivals and the
placebos as in T1 (`directions`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Bool, Float

from rmtjax.errors import InputError
from rmtjax.statistics.corrections import holm
from rmtjax.statistics.directions import (
    LEAST_AGREEMENT,
    LEAST_SEEDS,
    NEITHER,
    PLACEBO,
    PRIMARY,
    Cast,
    Cosines,
    Likeness,
    blocks,
    cosines_of,
    floor_of,
    level_of_placebos,
    verdict_of,
)
from rmtjax.statistics.doses import by_family
from rmtjax.statistics.effect_similarity import numbers_known
from rmtjax.statistics.products import Estimate, products_of_effects
from rmtjax.statistics.study_table import NULL, Samples, is_paired, noise, samples
from rmtjax.statistics.verdicts import CANNOT_TELL, NO, YES
from rmtjax.statistics.wording import Answer, capital, with_interval

A_PLACEBO, NONE = "a placebo", "none"
MARGIN = 1.0  # root mean square, in standard deviations of seed noise; that of T2
ASKED_LEVEL = 1 - 0.05 / 3  # of the floor: three families are asked about
UNKNOWN = Estimate(np.nan, np.nan, np.nan)


class Moves(NamedTuple):
    """Whether a family moves one block of numbers.

    Attributes:
      verdict, reason: "yes", "no" or "cannot tell", and why.
      doses: a row per dose: arm, dose, seeds, rms, low, high (root mean square of the effect over the
        numbers, without noise, in standard deviations of seed noise, 95 %; below 0 where the square is), p
        (of no effect) and p_holm (over the doses).
      nulls: the same of the null arms.
      size: root mean square over all doses and numbers, without noise, with its interval: that of the
        clearest dose would be flattered by the choice.
      numbers: how many.
    """

    verdict: str
    reason: str
    doses: pd.DataFrame
    nulls: pd.DataFrame
    size: Estimate
    numbers: int


class Direction(NamedTuple):
    """In whose direction a family moves one block of numbers.

    Attributes:
      verdict, reason: the name of a family that was asked about, "a placebo", "none" or "cannot tell".
      cosines: with each family that was asked about.
      placebo, placebo_cosine: that with the greatest cosine by its size; "" where none has a direction.
      left_out: placebos without a direction here.
      floor: what unrelated directions exceed in one of sixty cases.
      dimensions: in which effects lie; NaN where the families are too few to tell, and the floor that of
        three.
    """

    verdict: str
    reason: str
    cosines: dict[str, Estimate]
    placebo: str
    placebo_cosine: Estimate
    left_out: Sequence[str]
    floor: float
    dimensions: float


def alone_answers(table: pd.DataFrame | Samples, family: str, cast: Cast) -> list[Answer]:
    """T5 of one family: of each part the verdict of both primary blocks, then a row for each block.

    Args:
      table: as `study_table` says.
      family: varies diversity alone, with signed doses.
      cast: the families of T1; the direction is compared with those of diversity, dropout and decay.

    Raises:
      InputError: no such family, a dose of 0, no arm with three seeds, or no number that is known.
    """
    found = samples(table)
    known = by_family(found)
    if family not in known:
        raise InputError(f"alone={family!r} is no family of the table: it has {', '.join(known)}")
    for arm in known[family]:
        if found.arms.loc[arm, "dose"] == 0:
            raise InputError(
                f"arm {arm!r} of {family!r} has dose 0: give it one below 0 if it is less diverse than its "
                "baseline, and above 0 if it is more"
            )
    chosen = {block: names for block, names in blocks(found, None).items() if block in PRIMARY}
    moved = {block: moves(found, family, names) for block, names in chosen.items()}
    turned = {block: direction(found, family, cast, names) for block, names in chosen.items()}
    return [
        *_together(f"{family}, moves", [_moves_answer(family, block, row) for block, row in moved.items()]),
        *_together(
            f"{family}, direction",
            [_direction_answer(family, block, row, cast) for block, row in turned.items()],
        ),
    ]


def moves(found: Samples, family: str, metrics: Sequence[str]) -> Moves:
    """Whether a dose of the family has an effect on these metrics of the kinds of layer, against seed noise.

    "yes": some dose has p < .05 after Holm's correction over the doses. "no": none has, and all are shown to
    be below one standard deviation of seed noise in the root mean square. A null arm that passes the same
    test makes it "cannot tell".

    Raises:
      InputError: no arm with three seeds, or no number that is known in all runs.
    """
    families = by_family(found)
    arms = [arm for arm in families[family] if _seeds(found, arm) >= LEAST_SEEDS]
    if not arms:
        raise InputError(f"no dose of {family!r} has three seeds beside three of its baseline")
    keep = numbers_known(found, {family: arms}, None, metrics)
    doses = _tested(found, arms, keep)
    usable = [arm for arm in families.get(NULL, []) if np.isfinite(found.values[arm][:, keep]).all()]
    nulls = _tested(found, [arm for arm in usable if _seeds(found, arm) >= LEAST_SEEDS], keep)
    clearest = doses.loc[doses["p"].idxmin()]
    if (nulls["p_holm"] < 0.05).any():
        verdict, reason = CANNOT_TELL, f"the null arm {nulls.loc[nulls['p'].idxmin(), 'arm']} has one too"
    elif clearest["p_holm"] < 0.05:
        verdict, reason = YES, f"arm {clearest['arm']} has an effect"
    elif (doses["high"] < MARGIN).all():
        verdict = NO
        reason = f"no dose has a clear effect, and each is less than {MARGIN:g} standard deviation"
    else:
        verdict, reason = CANNOT_TELL, "no dose has a clear effect, and some may have a large one"
    return Moves(verdict, reason, doses, nulls, _rms(found, arms, keep), int(keep.sum()))


def _seeds(found: Samples, arm: str) -> int:
    """Of the arm or of its baseline, whichever has fewer."""
    return min(len(found.seeds[name]) for name in (arm, str(found.arms.loc[arm, "baseline"])))


def _rms(found: Samples, arms: Sequence[str], keep: Bool[np.ndarray, " K"]) -> Estimate:
    """Root mean square of the arms' effects without noise; below 0 where its square is."""
    products = products_of_effects(found, arms, keep)
    squares = np.diagonal(products.grams, axis1=1, axis2=2).mean(1) / products.numbers
    return Estimate(*(float(np.sign(end) * np.sqrt(abs(end))) for end in products.estimate(squares)))


def _tested(found: Samples, arms: Sequence[str], keep: Bool[np.ndarray, " K"]) -> pd.DataFrame:
    rows = []
    for arm in arms:
        size, p = _rms(found, [arm], keep), no_effect_p(found, arm, keep)
        rows.append((arm, float(found.arms.loc[arm, "dose"]), len(found.seeds[arm]), *size, p))
    out = pd.DataFrame(rows, columns=["arm", "dose", "seeds", "rms", "low", "high", "p"])
    return out.assign(p_holm=holm(out["p"].to_numpy(np.float64)))


def no_effect_p(found: Samples, arm: str, keep: Bool[np.ndarray, " K"]) -> float:
    """p of Dempster's test that the arm has the means of its baseline in all of these numbers.

    In pairs where the baseline has the arm's seeds, else as two groups.
    """
    base = str(found.arms.loc[arm, "baseline"])
    unit = noise(found, base)[keep]
    runs, others = (found.values[name][:, keep] / unit for name in (arm, base))
    dimensions = noise_dimensions(others)
    if is_paired(found.seeds[arm], found.seeds[base]):
        groups = [runs - others[np.isin(found.seeds[base], found.seeds[arm])]]
        effect = groups[0].mean(0)
    else:
        groups = [runs, others]
        effect = runs.mean(0) - others.mean(0)
    freedom = sum(len(group) - 1 for group in groups)
    within = sum(np.square(group - group.mean(0)).sum() for group in groups) / freedom
    error = within * sum(1 / len(group) for group in groups)
    return float(scipy.stats.f.sf((effect @ effect) / error, dimensions, freedom * dimensions))


def noise_dimensions(runs: Float[np.ndarray, "n K"]) -> float:
    """(Σ λ)² / Σ λ² of the eigenvalues of the noise's covariance, as estimated from runs of one arm.

    From few runs that is too small: its reciprocal is too large by about one over the degrees of freedom.
    So the test errs on the safe side, where an unbiased estimate of Σ λ² would let it reject too often.
    """
    centred = runs - runs.mean(0)
    inner = centred @ centred.T
    return float(np.trace(inner) ** 2 / np.square(inner).sum())


def direction(found: Samples, family: str, cast: Cast, metrics: Sequence[str]) -> Direction:
    """In whose direction the family moves these metrics, per unit of more diversity: see the module."""
    asked = cast[:3]
    cosines = cosines_of(found, metrics, family, asked, cast.placebos)
    estimates = {name: cosines.effects.estimate(values) for name, values in cosines.others.items()}
    floor = floor_of(cosines.dimensions.value, ASKED_LEVEL)
    verdict, reason = _verdict(cosines, estimates, cast, family, floor)
    placebos = {name: cosines.effects.estimate(values) for name, values in cosines.placebos.items()}
    nearest = max(placebos, key=lambda name: abs(placebos[name].value), default="")
    return Direction(
        verdict,
        reason,
        estimates,
        nearest,
        placebos.get(nearest, UNKNOWN),
        cosines.left_out,
        floor,
        cosines.dimensions.value,
    )


def _verdict(
    cosines: Cosines, estimates: Mapping[str, Estimate], cast: Cast, family: str, floor: float
) -> tuple[str, str]:
    """T1's rule for the nearest of the families and the one that is the least clearly further."""
    if cosines.weak:
        name, value = next(iter(cosines.weak.items()))
        if np.isnan(value):
            return CANNOT_TELL, f"no dose of {name} has three seeds"
        return (
            CANNOT_TELL,
            f"no dose of {name} has an effect that is more than noise (reliability {value:.2f})",
        )
    apart = min(cosines.agreements, key=lambda name: cosines.agreements[name])
    if not cosines.agreements[apart] >= LEAST_AGREEMENT:
        value = cosines.agreements[apart]
        turned = ", those below 0 turned," if apart == family else ""
        return (
            CANNOT_TELL,
            f"the doses of {apart}{turned} disagree (the mean cosine between them is {value:.2f})",
        )
    if not all(np.isfinite(one.low) for one in estimates.values()):
        return CANNOT_TELL, "an effect is mostly noise without one of its seeds"
    estimate = cosines.effects.estimate
    nearest = max(estimates, key=lambda name: estimates[name].value)
    contrasts = {
        name: estimate(cosines.others[nearest] - values)
        for name, values in cosines.others.items()
        if name != nearest
    }
    second = min(contrasts, key=lambda name: contrasts[name].low)
    sizes = {name: np.sign(values[0]) * values for name, values in cosines.placebos.items()}
    margins = {name: estimate(cosines.others[nearest] - size) for name, size in sizes.items()}
    greatest = max(sizes, key=lambda name: sizes[name][0], default="")
    rival = min(margins, key=lambda name: np.nan_to_num(margins[name].low, nan=-np.inf), default="")
    # All others together are the rival, so that "neither" says that all cosines are low.
    others = Estimate(*np.max([estimates[name] for name in contrasts], axis=0))
    of_greatest = estimate(cosines.placebos[greatest]) if greatest else UNKNOWN
    known: dict[str, object] = {
        **_named("dropout", estimates[nearest]),
        **_named("decay", others),
        **_named("contrast", contrasts[second]),
        "placebo": greatest,
        "placebo_cosine": of_greatest.value,
        "placebo_low": of_greatest.low,
        "placebo_high": of_greatest.high,
        "placebo_margin_low": margins.get(greatest, UNKNOWN).low,
        "placebo_margin_high": margins.get(greatest, UNKNOWN).high,
        "rival": rival,
        **_named("margin", margins.get(rival, UNKNOWN)),
        "floor": floor,
        "placebo_floor": floor_of(cosines.dimensions.value, level_of_placebos(len(sizes))),
    }
    row = Likeness(**dict.fromkeys(Likeness._fields, np.nan) | known)  # the rule reads no others
    verdict, reason = verdict_of(row, Cast(family, nearest, second, cast.placebos))
    if verdict == NEITHER:
        return NONE, "all three cosines are below 0.3"
    return {YES: nearest, NO: CANNOT_TELL, PLACEBO: A_PLACEBO}.get(verdict, verdict), reason


def _named(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _together(block: str, each: Sequence[Answer]) -> list[Answer]:
    """That of both primary blocks where they agree, else "cannot tell"; then one for each."""
    rows = [row._replace(block=f"{block}: {row.block}") for row in each]
    if len(each) < 2:
        return rows
    agree = len({row.verdict for row in each}) == 1
    verdict = each[0].verdict if agree else CANNOT_TELL
    told = " ".join(f"In {row.block}: {row.sentence}" for row in each)
    lead = "" if agree else "It cannot be told, since the weights after training and the update disagree. "
    return [each[0]._replace(block=block, verdict=verdict, sentence=lead + told), *rows]


def _moves_answer(family: str, block: str, row: Moves) -> Answer:
    lead = {
        YES: f"{capital(family)} by itself moves the weights",
        NO: f"{capital(family)} by itself does not move the weights by as much as seed noise does",
        CANNOT_TELL: f"It cannot be told whether {family} by itself moves the weights",
    }[row.verdict]
    clearest = row.doses.loc[row.doses["p"].idxmin()]
    of_clearest = (float(clearest["rms"]), float(clearest["low"]), float(clearest["high"]))
    control = (np.nan, np.nan, np.nan)
    beside = "there is no null arm to compare with"
    if len(row.nulls):
        null = row.nulls.loc[row.nulls["seeds"].idxmax()]
        control = (float(null["rms"]), float(null["low"]), float(null["high"]))
        beside = f"that of the null arm {null['arm']} is {with_interval(*control)} (p = {null['p']:.3f})"
    sentence = (
        f"{lead}, since {row.reason}: over {len(row.doses)} doses and {row.numbers} numbers the root mean "
        f"square of the effects, without noise, is {with_interval(*row.size)} standard deviations of seed "
        f"noise; arm {clearest['arm']} has the clearest, {with_interval(*of_clearest)} (p = "
        f"{clearest['p']:.2g}, {clearest['p_holm']:.2g} after Holm, {int(clearest['seeds'])} seeds); "
        f"{beside}."
    )
    return Answer("T5", block, row.verdict, sentence, *row.size, *control)


def _direction_answer(family: str, block: str, row: Direction, cast: Cast) -> Answer:
    lead = {
        A_PLACEBO: f"More diversity by {family} moves the weights in the direction of a placebo, or of one "
        "of the three, which is not told apart",
        NONE: f"More diversity by {family} moves the weights in the direction of none of the three",
        CANNOT_TELL: f"It cannot be told in whose direction more diversity by {family} moves the weights",
    }.get(row.verdict, f"More diversity by {family} moves the weights in the direction of {row.verdict}")
    with_each = ", ".join(f"{name} {with_interval(*one)}" for name, one in row.cosines.items())
    beside = (
        f"of the placebos {row.placebo} has the greatest by its size, {with_interval(*row.placebo_cosine)}"
        if row.placebo
        else "no placebo can be compared"
    )
    if row.left_out:
        beside += f" (without {', '.join(row.left_out)}, which have no direction here)"
    sentence = (
        f"{lead}, since {row.reason}; cosines per unit of more diversity: {with_each}; {beside}; unrelated "
        f"directions exceed {row.floor:.2f} in 1.7 % of cases."
    )
    value = row.cosines[cast.diversity]
    return Answer("T5", block, row.verdict, sentence, *value, *row.placebo_cosine)
