"""The questions about data diversity, each answered by the numbers in one sentence.

"cannot tell" is an answer too. `QUESTIONS` has their words.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool

from rmtjax.errors import InputError
from rmtjax.statistics.alone import alone_answers
from rmtjax.statistics.directions import (
    LEAST_COSINE,
    MATCHED_BY,
    NEITHER,
    PLACEBO,
    PLAIN,
    PRIMARY,
    Cast,
    Likeness,
    likeness_rows,
)
from rmtjax.statistics.distance import Distance, distance_of_arms
from rmtjax.statistics.doses import by_family, matched
from rmtjax.statistics.fit import fit_answers, fit_rows
from rmtjax.statistics.outcomes import interior_optimum, rank_agreement
from rmtjax.statistics.separation import STAGES, separate, separation_answer
from rmtjax.statistics.study_table import NULL, RUN, Samples, samples
from rmtjax.statistics.verdicts import CANNOT_TELL, NO, YES
from rmtjax.statistics.wording import Answer as Answer
from rmtjax.statistics.wording import capital as _capital
from rmtjax.statistics.wording import with_interval as _with_interval
from rmtjax.statistics.wording import words as _words

QUESTIONS = {
    "T1": "Does diversity change the weights like dropout, and not like weight decay or a placebo?",
    "T2": "Is its effect the same as dropout's, to within one standard deviation of seed noise in the root "
    "mean square?",
    "T3": "Is there a best share of synthetic data between none and all?",
    "T4": "Does a measure of diversity rank families by their accuracy out of distribution?",
    "T5": "Does the diversity of real examples, by itself, move the weights, and in whose direction?",
    "T6": "How much of an arm's effect on the weights is its effect on the fit?",
    "T7": "Which single number of a kind of layer tells the families apart, and which does not?",
}


class Roles(NamedTuple):
    """Which families of a study stand for what, by their names in the table.

    Attributes:
      diversity, dropout, decay: families of T1 and T2.
      synthetic: families whose doses are shares of synthetic data, for T3; with a baseline of share 0.
      same_dose: an arm of `diversity` and one of `dropout`, to be tested for equivalence; None: the arm of
        each with the most seeds.
      placebos: families that change how the model is trained and nothing that the questions are about, such
        as the learning rate. T1 says "like dropout" only of what is more like dropout than like any of them.
      progress: the placebo that is training for longer; a row of T1 has its direction projected out.
      scales: by a metric's name, the power of the weights' scale that it grows with (None: in no power), for
        T1's blocks of scale and of shape; None: there are no such blocks.
      sources: by the name of a family, what it shares with others: a generator, or a knob that they turn; or
        several such things. T4 counts families that share one as one family, since what they share moves them
        together.
      measures: metrics of group "run" for T4; None: all measures of diversity that the table has.
      outcome: metric of group "run" that diversity is meant to improve.
      alone: families that vary the diversity of real examples and nothing else, for T5. Their doses have
        signs: below 0 is less diverse than the baseline, above 0 more.
    """

    diversity: str
    dropout: str
    decay: str
    synthetic: Sequence[str] = ()
    same_dose: tuple[str, str] | None = None
    placebos: Sequence[str] = ()
    progress: str | None = None
    scales: Mapping[str, int | None] | None = None
    sources: Mapping[str, str | Sequence[str]] = MappingProxyType({})
    measures: Sequence[str] | None = None
    outcome: str = "ood_accuracy"
    alone: Sequence[str] = ()


def answers(table: pd.DataFrame, roles: Roles) -> pd.DataFrame:
    """T1 to T7: of T1 the verdict of both primary rows, then a row per block of numbers and choice of doses;
    of T3 one per family of shares and outcome, of T4 one per outcome; of T5 those of each family of
    `roles.alone`, of T6, where `roles.progress` is there, those of `roles.diversity`, of T7 one for the
    update and one for the weights after training.

    T1's verdict is that of its two primary rows where they agree, else "cannot tell". What the table cannot
    answer gets "cannot tell" with the reason.

    Args:
      table: as `study_table` says.
      roles: which families stand for what.

    Returns columns as `Answer`'s.

    Raises:
      InputError: a family or arm that the table does not have.
    """
    found = samples(table)
    known = by_family(found)
    for role in ("diversity", "dropout", "decay"):
        name = getattr(roles, role)
        if name not in known:
            raise InputError(f"{role}={name!r} is no family of the table: it has {', '.join(known)}")
    run = {metric for group, metric in found.columns if group == RUN}
    outcomes = [None, "accuracy"] if {"accuracy", roles.outcome} <= run else [None]
    rows = [
        *_guarded("T1", lambda: _likeness_answers(likeness(found, roles), roles)),
        *_guarded("T2", lambda: [sameness(found, roles)]),
    ]
    # Beside the outcome stands the accuracy in distribution, which may explain it.
    for family, of in itertools.product(roles.synthetic, [roles.outcome, *filter(None, outcomes)]):
        rows += _guarded("T3", functools.partial(_only, best_share, found, family, of))
    for given in outcomes:
        rows += _guarded("T4", functools.partial(_only, ranking, found, roles, given))
    for family in roles.alone:
        rows += _guarded("T5", functools.partial(alone_answers, found, family, _cast(roles)))
    if roles.progress is not None:
        rows += _guarded("T6", functools.partial(_fit, found, roles, roles.progress))
    for stage in STAGES:
        rows += _guarded("T7", functools.partial(_only, _separation, found, roles, stage))
    return pd.DataFrame(rows, columns=Answer._fields)


def likeness(table: pd.DataFrame | Samples, roles: Roles) -> list[Likeness]:
    """T1: a row per block of numbers and choice of doses, the primary ones first."""
    return likeness_rows(table, _cast(roles), roles.scales)


def _cast(roles: Roles) -> Cast:
    return Cast(roles.diversity, roles.dropout, roles.decay, roles.placebos, roles.progress)


def _fit(found: Samples, roles: Roles, progress: str) -> list[Answer]:
    return fit_answers(fit_rows(found, progress, roles.sources), roles.diversity, progress)


def _separation(found: Samples, roles: Roles, stage: str) -> Answer:
    return separation_answer(separate(found, stage, roles.placebos), stage)


def separations(table: pd.DataFrame | Samples, roles: Roles) -> pd.DataFrame:
    """T7: how well each number of a kind of layer tells families apart, placebos not among them.

    Columns: stage ("update", then "after"), and those of `Separation.table`.

    Raises:
      InputError: too few families, or no number that is known in all their runs.
    """
    found = samples(table)
    each = [separate(found, stage, roles.placebos).table.assign(stage=stage) for stage in STAGES]
    out = pd.concat(each, ignore_index=True)
    return out[["stage", *out.columns.drop("stage")]]


def _likeness_answers(rows: Sequence[Likeness], roles: Roles) -> list[Answer]:
    """That of the primary rows together, then one per row."""
    each = [_likeness_answer(row, roles) for row in rows]
    primary = [row for row in rows if row.block in PRIMARY and row.condition == PLAIN]
    if len(primary) < 2:
        return each
    agree = len({row.verdict for row in primary}) == 1
    verdict = primary[0].verdict if agree else CANNOT_TELL
    told = [f"In {row.block}: {row.verdict}, since {row.reason}; {_numbers(row, roles)}." for row in primary]
    together = each[0]._replace(
        block="primary", verdict=verdict, sentence=" ".join([f"{_lead(verdict, roles, primary)}.", *told])
    )
    return [together, *each]


def _likeness_answer(row: Likeness, roles: Roles) -> Answer:
    title = f"{row.block}, {row.condition}"
    sentence = f"{_lead(row.verdict, roles, [row])}, since {row.reason}. In {title}: {_numbers(row, roles)}."
    value = (row.dropout, row.dropout_low, row.dropout_high)
    control = (row.placebo_cosine, row.placebo_low, row.placebo_high)
    return Answer("T1", title, row.verdict, sentence, *value, *control)


def _lead(verdict: str, roles: Roles, rows: Sequence[Likeness]) -> str:
    of = _capital(roles.diversity)
    if verdict == PLACEBO and all(row.placebo_margin_high < 0 for row in rows):
        names = " or ".join(dict.fromkeys(row.placebo for row in rows))
        return f"{of} changes the weights like a placebo, {names}, and less like dropout or weight decay"
    return {
        YES: f"{of} changes the weights like dropout and not like weight decay",
        NO: f"{of} changes the weights like weight decay and not like dropout",
        PLACEBO: f"It cannot be told whether {roles.diversity} changes the weights like dropout or decay, "
        "or like a placebo",
        NEITHER: f"{of} changes the weights like neither dropout nor weight decay",
        CANNOT_TELL: f"It cannot be told whether {roles.diversity} changes the weights like dropout",
    }[verdict]


def _numbers(row: Likeness, roles: Roles) -> str:
    missing = ""
    if row.few_seeds:
        missing += f"; {row.few_seeds} do not count, with fewer than three seeds or such a baseline"
    if row.lacking:
        missing += f"; {row.lacking} numbers are left out, which some runs lack, {row.lacking_in} the most"
    if not np.isfinite(row.dropout + row.decay):
        return f"{row.numbers} numbers{missing}"
    beside = (
        f"of the placebos {row.placebo} has the greatest by its size, "
        f"{_with_interval(row.placebo_cosine, row.placebo_low, row.placebo_high)}"
        if row.placebo
        else "no placebo of the design can be compared"
        if roles.placebos
        else "the design has no placebo families, so that training longer may do the same"
    )
    if row.left_out:
        beside += f" (without {row.left_out}, which have no direction here)"
    beside += missing
    room = (
        f"unrelated directions in {row.dimensions:.1f} dimensions exceed {row.floor:.2f} in "
        f"{'2.5 %' if row.floor > LEAST_COSINE else 'at most 2.5 %'} of cases"
        if np.isfinite(row.dimensions)
        else f"the families are too few to tell in how many dimensions effects lie, and in as few as 3 "
        f"unrelated ones exceed {row.floor:.2f} in 2.5 % of cases"
    )
    return (
        f"of {row.numbers} numbers the cosine of its effects with dropout's is "
        f"{_with_interval(row.dropout, row.dropout_low, row.dropout_high)} and with weight decay's "
        f"{_with_interval(row.decay, row.decay_low, row.decay_high)}, a difference of "
        f"{_with_interval(row.contrast, row.contrast_low, row.contrast_high)}; {beside}; {room}"
    )


def sameness(table: pd.DataFrame | Samples, roles: Roles) -> Answer:
    """T2, of an arm of diversity and one of dropout: see `distance_of_arms`."""
    found = samples(table)
    families = by_family(found)
    pair = roles.same_dose or (
        max(families[roles.diversity], key=lambda n: len(found.seeds[n])),
        max(families[roles.dropout], key=lambda n: len(found.seeds[n])),
    )
    for name in pair:
        if name not in found.values:
            raise InputError(f"no arm {name!r} to compare: the table has {', '.join(found.values)}")
    group = found.columns.get_level_values("group")
    # "backbone" is the mean of kinds of layers that are there themselves.
    layers = np.asarray(~group.isin([RUN, "backbone"]))
    layers = layers if layers.any() else np.asarray(group != RUN)
    apart = distance_of_arms(found, *pair, layers)
    control, beside = _null_distance(found, families.get(NULL, []), layers)
    within = "to within one standard deviation of seed noise in the root mean square over all numbers"
    lead = {
        YES: f"Arm {pair[0]} has the same effect as {pair[1]}, {within}",
        NO: f"Arm {pair[0]} does not have the same effect as {pair[1]}, since some numbers of the layers "
        "differ by more than one standard deviation of seed noise",
        CANNOT_TELL: f"It cannot be told whether arm {pair[0]} has the same effect as {pair[1]}, {within}",
    }[apart.verdict]
    where, metric = found.columns[apart.greatest]
    seeds = " and ".join(map(str, dict.fromkeys(apart.seeds)))
    sentence = (
        f"{lead}: the root mean square of the differences of {apart.numbers} numbers of the layers"
        f"{_left_out(found, apart)}, without "
        f"noise, is {_with_interval(*apart.size)} standard deviations ({seeds} seeds); {apart.within} are "
        f"shown to differ by less than one, each by a test of its own, and {len(apart.beyond)} by more, "
        f"with intervals that hold for all at once; the clearest difference is "
        f"{_with_interval(*apart.difference)} ({metric} of {where}); {beside}{_at_equal(found, roles)}."
    )
    return Answer("T2", "", apart.verdict, sentence, *apart.size, *control)


def _null_distance(
    found: Samples, nulls: Sequence[str], layers: Bool[np.ndarray, " K"]
) -> tuple[tuple[float, float, float], str]:
    """The distance of the null arm with the most seeds from its baseline, of those that can be compared."""
    for name in sorted(nulls, key=lambda n: -len(found.seeds[n])):
        try:
            null = distance_of_arms(found, name, str(found.arms.loc[name, "baseline"]), layers)
        except InputError:  # too few seeds, or numbers
            continue
        return tuple(null.size), (
            f"for the null arm {name} against its baseline it is {_with_interval(*null.size)}, and "
            f"{len(null.beyond)} numbers are beyond the margin"
        )
    return (np.nan, np.nan, np.nan), "there is no null arm to compare with"


def _left_out(found: Samples, apart: Distance) -> str:
    """What T2's sentence says of numbers that are left out."""
    parts = [f"{apart.unknown} that some run lacks"] if apart.unknown else []
    parts += [f"{apart.same} that are the same in half of the baseline's runs"] if apart.same else []
    if not parts:
        return ""
    turned = [f"{metric} of {where}" for where, metric in found.columns[list(apart.turned)]]
    differ = f", of which the arms differ in {', '.join(turned)}" if turned else ""
    return f" ({' and '.join(parts)} are left out{differ})"


def best_share(table: pd.DataFrame | Samples, family: str, outcome: str = "ood_accuracy") -> Answer:
    """T3, of one family of shares: see `interior_optimum`."""
    found = interior_optimum(table, family, outcome)
    smaller = min(found.over_none, found.over_most)
    lead = {YES: "A share", NO: "No share", CANNOT_TELL: "It cannot be told whether a share"}[found.verdict]
    best = (
        f"{'the best one that is clearly so' if found.verdict == YES else 'the best one between'}, "
        f"{found.best:.3g} by the mean of {found.seeds} seeds,"
        if np.isfinite(found.best)
        else f"the mean of all between, over {found.seeds} seeds,"
    )
    sentence = (
        f"{lead} of {family} between none and the most is best for {_words(outcome)}: {best} is "
        f"{_with_interval(*found.over_none, digits=4)} better than none and "
        f"{_with_interval(*found.over_most, digits=4)} better than the largest, {found.shares[-1]:g}; an "
        f"optimum of one standard deviation of seed noise would be found with a probability of "
        f"{found.power:.2f}; with shares shuffled the smaller t of the two is at most {found.control[1]:.2f} "
        f"in 97.5 %, and here {found.statistic:.2f} (p = {found.p:.3f})."
    )
    block = family if outcome != "accuracy" else f"{family}, {_words(outcome)}"
    return Answer("T3", block, found.verdict, sentence, *smaller, 0.0, *found.control)


def ranking(table: pd.DataFrame | Samples, roles: Roles, given: str | None = None) -> Answer:
    """T4: of the measure that agrees most with the outcome, p corrected for the number of measures.

    Args:
      given: the outcome is the effective robustness, given this metric of the run.
    """
    found = samples(table)
    measures = roles.measures
    if measures is None:
        of_run = [str(metric) for group, metric in found.columns if group == RUN]
        measures = [name for name in of_run if name.startswith(_DIVERSITY)]
    if not measures:
        raise InputError("no run has a measure of diversity")
    told = given is None and "accuracy" not in measures and (RUN, "accuracy") in list(found.columns)
    beside = "accuracy" if told else None
    ranked = rank_agreement(
        found, measures, roles.outcome, given=given, beside=beside, sources=roles.sources
    ).dropna(subset="spearman")
    if ranked.empty:
        raise InputError("no measure of diversity differs between three families or more")
    best = ranked.loc[ranked["spearman"].abs().idxmax()]
    verdict = CANNOT_TELL if not best["p_holm"] < 0.05 else YES if best["spearman"] > 0 else NO
    outcome = _words(roles.outcome)
    outcome += f" beyond what its {_words(given)} lets expect (effective robustness)" if given else ""
    measure = _words(best["measure"])
    lead = {
        YES: f"{_capital(measure)} ranks families by {outcome}",
        NO: f"{_capital(measure)} ranks families by {outcome} the wrong way round",
        CANNOT_TELL: f"It cannot be told whether any measure of diversity, of {len(ranked)}, ranks families "
        f"by {outcome}",
    }[verdict]
    few = best["least_p"] * len(ranked) >= 0.05
    number = int(best["families"])
    limit = f"; with {number} families nothing can be told, since no p is below {best['least_p']:.2g}"
    known = np.isfinite(best["beside"])
    accuracy = f"; accuracy on the test set itself has {best['beside']:.2f}" if known else ""
    sentence = (
        f"{lead}: Spearman's correlation of {measure} over {number} families, each the mean of its doses"
        f"{', those that share a source counted as one' if roles.sources else ''} and those that are fed the "
        "baseline's data counted with it, is "
        f"{_with_interval(best['spearman'], best['low'], best['high'])} (p = {best['p']:.3f}, "
        f"{best['p_holm']:.3f} after Holm); 95 % of shuffled families lie within ±{best['control']:.2f}"
        f"{accuracy}{limit if few else ''}."
    )
    value = (float(best["spearman"]), float(best["low"]), float(best["high"]))
    block = "effective robustness" if given else roles.outcome
    return Answer(
        "T4", block, verdict, sentence, *value, 0.0, -float(best["control"]), float(best["control"])
    )


# What the names of measures of `rmtjax.diversity` begin with.
_DIVERSITY = (
    "vendi",
    "weighted_vendi_unpaired",
    "truncated_vendi",
    "gaussian_vendi",
    "gradient_vendi",
    "ngram_vendi",
    "rke",
    "effective_rank",
    "coverage",
    "precision",
    "recall",
    "density",
    "distinct",
    "fid",
)


def _at_equal(found: Samples, roles: Roles) -> str:
    """Of the backbone, how many numbers differ where the two families are matched, for what the table can
    match by.
    """
    out = []
    run = {metric for group, metric in found.columns if group == RUN}
    words_of = {"update_norm": "norm of the update"}
    for by in MATCHED_BY:
        words = words_of.get(by, by.replace("_", " "))
        if by not in run:
            continue
        where = matched(found, [(roles.diversity, roles.dropout)], by=by)
        here = where[where["group"] == "backbone"].dropna(subset="low")
        if len(here):
            apart = int(((here["low"] > 0) | (here["high"] < 0)).sum())
            out.append(f"at equal {words} {apart} of {len(here)} numbers of the backbone differ")
        else:
            out.append(f"their doses reach no {words} in common")
    return "".join(f"; {part}" for part in out)


def _only(answer: Callable[..., Answer], *arguments: object) -> list[Answer]:
    return [answer(*arguments)]


def _guarded(question: str, answer: Callable[[], list[Answer]]) -> list[Answer]:
    """The answers, or why the table gives none."""
    try:
        return answer()
    except InputError as error:
        return [Answer(question, "", CANNOT_TELL, f"It cannot be told: {error}.", *[np.nan] * 6)]
