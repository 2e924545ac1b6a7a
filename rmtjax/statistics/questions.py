"""The four questions about data diversity, each answered by the numbers in one sentence.

"cannot tell" is an answer too.

T1 Does diversity change the weights more like dropout than like weight decay?   (the paper's claim)
T2 Is its effect the same as dropout's, to within one standard deviation of seed noise?
T3 Is there a best share of synthetic data between none and all?
T4 Does a measure of diversity rank arms by their accuracy out of distribution?
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rmtjax.errors import InputError
from rmtjax.statistics.contrasts import effects
from rmtjax.statistics.doses import by_family, matched
from rmtjax.statistics.effect_similarity import FAKE, Similarity, similarity
from rmtjax.statistics.outcomes import interior_optimum, rank_agreement
from rmtjax.statistics.study_table import NULL, RUN, samples
from rmtjax.statistics.tost import CANNOT_TELL, DIFFERENT, EQUIVALENT, WITHIN, equivalence

YES, NO, NEITHER = "yes", "no", "neither"


class Roles(NamedTuple):
    """Which families of a study stand for what, by their names in the table.

    Attributes:
      diversity, dropout, decay: families of T1 and T2.
      synthetic: families whose doses are shares of synthetic data, for T3; with a baseline of share 0.
      same_dose: an arm of `diversity` and one of `dropout`, to be tested for equivalence; None: the arm of
        each with the most seeds.
      placebos: families that change how the model is trained and nothing that the questions are about, such
        as the learning rate.
      measures: metrics of group "run" for T4; None: all measures of diversity that the table has.
      outcome: metric of group "run" that diversity is meant to improve.
    """

    diversity: str
    dropout: str
    decay: str
    synthetic: Sequence[str] = ()
    same_dose: tuple[str, str] | None = None
    placebos: Sequence[str] = ()
    measures: Sequence[str] | None = None
    outcome: str = "ood_accuracy"


class Answer(NamedTuple):
    """The answer to one question.

    Attributes:
      question: "T1", "T2", "T3" or "T4".
      verdict: "yes", "no", "cannot tell", or for T1 "neither".
      sentence: the answer in plain English, with the numbers.
      value, low, high: the number that the sentence rests on, with its 95 % interval.
      control, control_low, control_high: the same where there is nothing to be found.
    """

    question: str
    verdict: str
    sentence: str
    value: float
    low: float
    high: float
    control: float
    control_low: float
    control_high: float


def answers(table: pd.DataFrame, roles: Roles) -> pd.DataFrame:
    """T1 to T4, a row each, and of T3 a row per family of shares.

    What the table cannot answer gets "cannot tell" with the reason.

    Args:
      table: as `study_table` says.
      roles: which families stand for what.

    Returns columns as `Answer`'s.

    Raises:
      InputError: a family or arm that the table does not have.
    """
    known = by_family(samples(table))
    for role in ("diversity", "dropout", "decay"):
        name = getattr(roles, role)
        if name not in known:
            raise InputError(f"{role}={name!r} is no family of the table: it has {', '.join(known)}")
    found = [
        _guarded("T1", lambda: likeness(table, roles)),
        _guarded("T2", lambda: sameness(table, roles)),
        *(
            _guarded("T3", functools.partial(best_share, table, family, roles.outcome))
            for family in roles.synthetic
        ),
        _guarded("T4", lambda: ranking(table, roles)),
    ]
    return pd.DataFrame(found, columns=Answer._fields)


def likeness(table: pd.DataFrame, roles: Roles) -> Answer:
    """T1, by the difference of the cosines.

    For "yes" and "no" it must also hold after correction for noise, its control must be null, and the greater
    cosine must itself be above 0: of two effects that are both unlike, one is always the less unlike, and
    that is "neither".
    """
    families = by_family(samples(table))
    chosen = {name: families[name] for name in (roles.diversity, roles.dropout, roles.decay)}
    found = similarity(table, chosen)
    difference = found.contrast(*chosen)
    true = found.contrast(*chosen, kind="corrected")
    control = found.contrast(FAKE, roles.dropout, roles.decay)
    pairs = found.table().set_index(["family", "other"])
    to_dropout, to_decay = (
        pairs.loc[(roles.diversity, name), ["cosine", "cosine_low", "cosine_high"]]
        for name in (roles.dropout, roles.decay)
    )
    sign = np.sign(difference.value)
    clear = difference.low > 0 or difference.high < 0
    holds = np.isfinite(true.low) and (true.low * sign > 0 and true.high * sign > 0)
    null = control.low < 0 < control.high
    nearest = to_dropout if sign > 0 else to_decay
    verdict = CANNOT_TELL if not (clear and holds and null) else YES if sign > 0 else NO
    if verdict != CANNOT_TELL and not nearest["cosine_low"] > 0:
        verdict = NEITHER
    numbers = (
        f"the cosine of its effects with dropout's is {_with_interval(*to_dropout)} and with weight decay's "
        f"{_with_interval(*to_decay)}, a difference of {_with_interval(*difference)}"
    )
    beside = f"with baseline runs in its place the difference is {_with_interval(*control)}"
    if verdict == CANNOT_TELL:
        weak = min(_cosine(found, name, name) for name in chosen)
        why = (
            "the interval holds 0"
            if not clear
            else "the control is not null"
            if not null
            else f"one of the effects is mostly noise (reliability {weak:.2f})"
            if not np.isfinite(true.low)
            else "it does not hold once the noise of each family's effects is corrected for"
        )
        sentence = (
            f"It cannot be told whether {roles.diversity} changes the weights more like dropout or like "
            f"weight decay, since {why}: {numbers}; {beside}."
        )
    elif verdict == NEITHER:
        less, more = ("dropout", "weight decay") if sign > 0 else ("weight decay", "dropout")
        sentence = (
            f"{_capital(roles.diversity)} changes the weights like neither dropout nor weight decay; "
            f"{less} is the less unlike of the two, {more} the more: {numbers}; {beside}."
        )
    else:
        like, unlike = ("dropout", "weight decay") if verdict == YES else ("weight decay", "dropout")
        sentence = (
            f"{_capital(roles.diversity)} changes the weights more like {like} than like {unlike}: "
            f"{numbers}; {beside}."
        )
    return Answer("T1", verdict, sentence, *difference, *control)


def sameness(table: pd.DataFrame, roles: Roles) -> Answer:
    """T2: two one-sided tests of every number of the layers. "yes" asks that all are equivalent, "no" that
    one is different and not within the margin.
    """
    found = samples(table)
    families = by_family(found)
    pair = roles.same_dose or (
        max(families[roles.diversity], key=lambda n: len(found.seeds[n])),
        max(families[roles.dropout], key=lambda n: len(found.seeds[n])),
    )
    layers = table[table["group"] != RUN]
    tests = equivalence(layers, [pair]).dropna(subset="difference")
    same, differ = (int(tests["verdict"].isin(names).sum()) for names in ((EQUIVALENT, WITHIN), (DIFFERENT,)))
    verdict = YES if same == len(tests) > 0 else NO if differ else CANNOT_TELL
    own = effects(layers)
    moved = [int((own.loc[own["arm"] == name, "p_holm"] < 0.05).sum()) for name in pair]
    if tests["difference"].isna().all():
        raise InputError("the two arms have too few seeds for a test")
    widest = tests.loc[tests["difference"].abs().idxmax()]
    nulls = [name for name in families.get(NULL, []) if len(found.seeds[name]) > 1]
    control = (np.nan, np.nan, np.nan)
    beside = "there is no null arm to compare with"
    if nulls:
        name = max(nulls, key=lambda n: len(found.seeds[n]))
        null = equivalence(layers, [(name, str(found.arms.loc[name, "baseline"]))]).dropna(
            subset="difference"
        )
        far = null.loc[null["difference"].abs().idxmax()]
        control = (float(far["difference"]), float(far["low"]), float(far["high"]))
        passed = int(null["verdict"].isin((EQUIVALENT, WITHIN)).sum())
        wrong = int((null["verdict"] == DIFFERENT).sum())
        beside = (
            f"of the null arm {name} against its baseline {passed} of {len(null)} are equivalent and {wrong} "
            f"different (power {null['power'].median():.2f})"
        )
    lead = {
        YES: f"Arm {pair[0]} has the same effect as {pair[1]}",
        NO: f"Arm {pair[0]} does not have the same effect as {pair[1]}",
        CANNOT_TELL: f"It cannot be told whether arm {pair[0]} has the same effect as {pair[1]}",
    }[verdict]
    sentence = (
        f"{lead}, to within one standard deviation of seed noise: of {len(tests)} numbers of the layers "
        f"{same} are equivalent, {differ} different and {len(tests) - same - differ} undecided, with "
        f"{int(tests['seeds'].iloc[0])} seeds and a power of {tests['power'].median():.2f}; the largest "
        f"difference is {_with_interval(widest['difference'], widest['low'], widest['high'])} standard "
        f"deviations ({widest['metric']} of {widest['group']}, 90 % interval); against the baseline "
        f"{moved[0]} differ for {pair[0]} and {moved[1]} for {pair[1]}; {beside}{_at_equal(table, roles)}."
    )
    value = (float(widest["difference"]), float(widest["low"]), float(widest["high"]))
    return Answer("T2", verdict, sentence, *value, *control)


def best_share(table: pd.DataFrame, family: str, outcome: str = "ood_accuracy") -> Answer:
    """T3, of one family of shares."""
    found = interior_optimum(table, family, outcome)
    smaller = min(found.over_none, found.over_most)
    verdict = found.verdict
    lead = {YES: "A share", NO: "No share", CANNOT_TELL: "It cannot be told whether a share"}[verdict]
    sentence = (
        f"{lead} of {family} between none and the most is best for {_words(outcome)}: the best one between, "
        f"{found.best:.3g} by the mean of {found.seeds} seeds, is "
        f"{_with_interval(*found.over_none, digits=4)} better than none and "
        f"{_with_interval(*found.over_most, digits=4)} better than the largest, {found.shares[-1]:g}; with "
        f"shares shuffled the smaller of the two lies in [{found.control[0]:.4f}, {found.control[1]:.4f}] "
        f"(p = {found.p:.3f})."
    )
    return Answer("T3", verdict, sentence, *smaller, 0.0, *found.control)


def ranking(table: pd.DataFrame, roles: Roles) -> Answer:
    """T4: of the measure that agrees most with the outcome, p corrected for the number of measures."""
    measures = roles.measures
    if measures is None:
        of_run = table.loc[table["group"] == RUN, "metric"].unique()
        measures = [str(name) for name in of_run if str(name).startswith(_DIVERSITY)]
    if not measures:
        raise InputError("no run has a measure of diversity")
    found = rank_agreement(table, measures, roles.outcome)
    found = found.dropna(subset="spearman")
    if found.empty:
        raise InputError("no measure of diversity differs between 4 arms or more")
    best = found.loc[found["spearman"].abs().idxmax()]
    clear = best["p_holm"] < 0.05
    verdict = CANNOT_TELL if not clear else YES if best["spearman"] > 0 else NO
    accuracy = ""
    if "accuracy" not in measures and ((table["group"] == RUN) & (table["metric"] == "accuracy")).any():
        plain = rank_agreement(table, ["accuracy"], roles.outcome)["spearman"].item()
        accuracy = f"; accuracy on the test set itself has {plain:.2f}"
    measure, outcome = _words(best["measure"]), _words(roles.outcome)
    lead = {
        YES: f"{_capital(measure)} ranks arms by {outcome}",
        NO: f"{_capital(measure)} ranks arms by {outcome} the wrong way round",
        CANNOT_TELL: f"It cannot be told whether any measure of diversity, of {len(found)}, ranks arms "
        f"by {outcome}",
    }[verdict]
    sentence = (
        f"{lead}: Spearman's correlation of {measure} over {int(best['arms'])} arms is "
        f"{_with_interval(best['spearman'], best['low'], best['high'])} (p = {best['p']:.3f}, "
        f"{best['p_holm']:.3f} after Holm); 95 % of shuffled arms lie within "
        f"±{best['control']:.2f}{accuracy}."
    )
    value = (float(best["spearman"]), float(best["low"]), float(best["high"]))
    return Answer("T4", verdict, sentence, *value, 0.0, -float(best["control"]), float(best["control"]))


# What the names of measures of `rmtjax.diversity` begin with.
_DIVERSITY = (
    "vendi",
    "weighted_vendi",
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


def _at_equal(table: pd.DataFrame, roles: Roles) -> str:
    """Of the backbone, how many numbers differ where the two families are matched, for what the table can
    match by.
    """
    out = []
    run = set(table.loc[table["group"] == RUN, "metric"])
    for by, words in (("validation_loss", "validation loss"), ("update_norm", "norm of the update")):
        if by not in run:
            continue
        found = matched(table, [(roles.diversity, roles.dropout)], by=by)
        here = found[found["group"] == "backbone"].dropna(subset="low")
        if len(here):
            apart = int(((here["low"] > 0) | (here["high"] < 0)).sum())
            out.append(f"at equal {words} {apart} of {len(here)} numbers of the backbone differ")
        else:
            out.append(f"their doses reach no {words} in common")
    return "".join(f"; {part}" for part in out)


def _guarded(question: str, answer: Callable[[], Answer]) -> Answer:
    """The answer, or why the table gives none."""
    try:
        return answer()
    except InputError as error:
        return Answer(question, CANNOT_TELL, f"It cannot be told: {error}.", *[np.nan] * 6)


def _cosine(found: Similarity, one: str, other: str) -> float:
    return float(found.cosine[found.families.index(one), found.families.index(other)])


def _with_interval(value: float, low: float, high: float, digits: int = 2) -> str:
    if not np.isfinite(low):
        return f"{value:.{digits}f} [no interval]"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _words(metric: str) -> str:
    return metric.replace("ood_accuracy", "accuracy out of distribution").replace("_", " ")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
