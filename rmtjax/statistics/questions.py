"""The four questions about data diversity, each answered by the numbers in one sentence.

"cannot tell" is an answer too.

T1 Does diversity change the weights like dropout, and not like weight decay or a placebo? (the paper's claim)
T2 Is its effect the same as dropout's, to within one standard deviation of seed noise in the root mean
   square?
T3 Is there a best share of synthetic data between none and all?
T4 Does a measure of diversity rank families by their accuracy out of distribution?
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd

from rmtjax.errors import InputError
from rmtjax.statistics.directions import (
    MATCHED_BY,
    NEITHER,
    PLACEBO,
    PLAIN,
    PRIMARY,
    Cast,
    Likeness,
    likeness_rows,
)
from rmtjax.statistics.distance import distance_of_arms
from rmtjax.statistics.doses import by_family, matched
from rmtjax.statistics.outcomes import interior_optimum, rank_agreement
from rmtjax.statistics.study_table import NULL, RUN, Samples, samples
from rmtjax.statistics.verdicts import CANNOT_TELL, NO, YES


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
      sources: by the name of a family, what it shares with others: a generator, or a knob that they turn. T4
        counts families that share one as one family, since what they share moves them together.
      alone: families that vary diversity by itself; their doses are below 0 where it is less.
      measures: metrics of group "run" for T4; None: all measures of diversity that the table has.
      outcome: metric of group "run" that diversity is meant to improve.
    """

    diversity: str
    dropout: str
    decay: str
    synthetic: Sequence[str] = ()
    same_dose: tuple[str, str] | None = None
    placebos: Sequence[str] = ()
    progress: str | None = None
    scales: Mapping[str, int | None] | None = None
    sources: Mapping[str, str] = MappingProxyType({})
    alone: Sequence[str] = ()
    measures: Sequence[str] | None = None
    outcome: str = "ood_accuracy"


class Answer(NamedTuple):
    """The answer to one question.

    Attributes:
      question: "T1", "T2", "T3" or "T4".
      block: of T1 which numbers and doses, first "primary", which is both primary rows together; of T4 which
        outcome; of T3 which family.
      verdict: "yes", "no", "cannot tell", or for T1 also "placebo" and "neither".
      sentence: the answer in plain English, with the numbers.
      value, low, high: the number that the sentence rests on, with its interval.
      control, control_low, control_high: the same where there is nothing to be found.
    """

    question: str
    block: str
    verdict: str
    sentence: str
    value: float
    low: float
    high: float
    control: float
    control_low: float
    control_high: float


def answers(table: pd.DataFrame, roles: Roles) -> pd.DataFrame:
    """T1 to T4: of T1 the verdict of both primary rows, then a row per block of numbers and choice of doses;
    of T3 one per family of shares and outcome, of T4 one per outcome.

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
    return pd.DataFrame(rows, columns=Answer._fields)


def likeness(table: pd.DataFrame | Samples, roles: Roles) -> list[Likeness]:
    """T1: a row per block of numbers and choice of doses, the primary ones first."""
    cast = Cast(roles.diversity, roles.dropout, roles.decay, roles.placebos, roles.progress)
    return likeness_rows(table, cast, roles.scales)


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
        block="primary", verdict=verdict, sentence=" ".join([f"{_lead(verdict, roles)}.", *told])
    )
    return [together, *each]


def _likeness_answer(row: Likeness, roles: Roles) -> Answer:
    title = f"{row.block}, {row.condition}"
    sentence = f"{_lead(row.verdict, roles)}, since {row.reason}. In {title}: {_numbers(row, roles)}."
    value = (row.dropout, row.dropout_low, row.dropout_high)
    control = (row.placebo_cosine, row.placebo_low, row.placebo_high)
    return Answer("T1", title, row.verdict, sentence, *value, *control)


def _lead(verdict: str, roles: Roles) -> str:
    of = _capital(roles.diversity)
    return {
        YES: f"{of} changes the weights like dropout and not like weight decay",
        NO: f"{of} changes the weights like weight decay and not like dropout",
        PLACEBO: f"It cannot be told whether {roles.diversity} changes the weights like dropout or decay, "
        "or like a placebo",
        NEITHER: f"{of} changes the weights like neither dropout nor weight decay",
        CANNOT_TELL: f"It cannot be told whether {roles.diversity} changes the weights like dropout",
    }[verdict]


def _numbers(row: Likeness, roles: Roles) -> str:
    if not np.isfinite(row.dropout + row.decay):
        return f"{row.numbers} numbers"
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
    room = (
        f"unrelated directions in {row.dimensions:.1f} dimensions exceed {row.floor:.2f} in 2.5 % of cases"
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
    nulls = [name for name in families.get(NULL, []) if len(found.seeds[name]) > 2]
    control = (np.nan, np.nan, np.nan)
    beside = "there is no null arm to compare with"
    if nulls:
        name = max(nulls, key=lambda n: len(found.seeds[n]))
        null = distance_of_arms(found, name, str(found.arms.loc[name, "baseline"]), layers)
        control = tuple(null.size)
        beside = (
            f"for the null arm {name} against its baseline it is {_with_interval(*null.size)}, and "
            f"{len(null.beyond)} numbers are beyond the margin"
        )
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
        f"{lead}: the root mean square of the differences of {apart.numbers} numbers of the layers, without "
        f"noise, is {_with_interval(*apart.size)} standard deviations ({seeds} seeds); {apart.within} are "
        f"shown to differ by less than one, each by a test of its own, and {len(apart.beyond)} by more, "
        f"with intervals that hold for all at once; the clearest difference is "
        f"{_with_interval(*apart.difference)} ({metric} of {where}); {beside}{_at_equal(found, roles)}."
    )
    return Answer("T2", "", apart.verdict, sentence, *apart.size, *control)


def best_share(table: pd.DataFrame | Samples, family: str, outcome: str = "ood_accuracy") -> Answer:
    """T3, of one family of shares: see `interior_optimum`."""
    found = interior_optimum(table, family, outcome)
    smaller = min(found.over_none, found.over_most)
    lead = {YES: "A share", NO: "No share", CANNOT_TELL: "It cannot be told whether a share"}[found.verdict]
    sentence = (
        f"{lead} of {family} between none and the most is best for {_words(outcome)}: the best one between, "
        f"{found.best:.3g} by the mean of {found.seeds} seeds, is "
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
    ranked = rank_agreement(found, measures, roles.outcome, given=given, sources=roles.sources).dropna(
        subset="spearman"
    )
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
    accuracy = ""
    if given is None and "accuracy" not in measures and (RUN, "accuracy") in list(found.columns):
        plain = rank_agreement(found, ["accuracy"], roles.outcome, sources=roles.sources, resamples=2)[
            "spearman"
        ].item()
        accuracy = f"; accuracy on the test set itself has {plain:.2f}"
    sentence = (
        f"{lead}: Spearman's correlation of {measure} over {number} families, each the mean of its doses"
        f"{', those that share a source counted as one' if roles.sources else ''}, is "
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


def _with_interval(value: float, low: float, high: float, digits: int = 2) -> str:
    if not np.isfinite(low):
        return f"{value:.{digits}f} [no interval]"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _words(metric: str) -> str:
    names = {"accuracy": "accuracy in distribution", "ood_accuracy": "accuracy out of distribution"}
    return names.get(metric, metric.replace("_", " "))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
