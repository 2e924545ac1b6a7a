"""One verdict over several models: a random-effects meta-analysis of what each model's study found.

The models are a sample of models, of which each has an effect of its own: y_i = μ + u_i + e_i, with the
variance τ² of u between models and the known variance v_i of e within each. τ² is estimated by restricted
maximum likelihood. The interval of μ is that of Hartung and Knapp (2001) and Sidik and Jonkman (2002), with
Student's t of k - 1 degrees of freedom, and its factor is 1 at least (Röver, Knapp and Friede 2015), since
few models may agree by chance. With three models t is 4.3: such intervals are wide, as three models are few.
The prediction interval, for another model, has k - 2 degrees of freedom (Higgins, Thompson and Spiegelhalter
2009).

Standard errors follow from the intervals of the answers: the half of their width over 1.96, on the scale on
which numbers are pooled; over 1.645 for T2, each of whose ends is one-sided at 95 %. Where an interval was by
Student's t of few seeds that is too large, and so on the safe side. Cosines and rank correlations are pooled
by Fisher's z = artanh r, and ends beyond ±.995 count as that; root mean squares by their squares.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Float

from rmtjax.errors import InputError
from rmtjax.statistics.directions import LEAST_COSINE, NEITHER, PLAIN, PRIMARY
from rmtjax.statistics.intervals import LEVEL
from rmtjax.statistics.verdicts import CANNOT_TELL, NO, YES
from rmtjax.statistics.wording import with_interval

TWO_ENDS = 2 * LEVEL - 1  # what an interval covers of which each end is one-sided at LEVEL
_MOST = 0.995  # of a correlation, beyond which Fisher's z is about where the end was cut
_OF_LIKENESS = ("dropout", "decay", "contrast", "margin")
LIKENESS = tuple(f"{name}{end}" for name in _OF_LIKENESS for end in ("", "_low", "_high"))


class Pooled(NamedTuple):
    """The mean over models.

    Attributes:
      value, low, high: with its 95 % interval.
      spread: τ, the standard deviation between models, on the scale of pooling.
      prediction_low, prediction_high: 95 % interval for another model; NaN of fewer than three.
      models: how many.
    """

    value: float
    low: float
    high: float
    spread: float
    prediction_low: float
    prediction_high: float
    models: int


class Scale(NamedTuple):
    """On which numbers are pooled: there and back, both increasing."""

    there: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


PLAIN_SCALE = Scale(lambda x: x, lambda x: x)
FISHER = Scale(lambda r: np.arctanh(np.clip(r, -_MOST, _MOST)), np.tanh)
SQUARE = Scale(lambda x: np.sign(x) * x**2, lambda x: np.sign(x) * np.sqrt(np.abs(x)))


class Quantity(NamedTuple):
    """The number of a question that is pooled, and what it decides.

    Attributes:
      words: what it is.
      scale: on which it is pooled.
      above: the verdict if the lower end is above a value.
      below: the verdict if the upper end is below a value; None: there is none.
      level: of the intervals of the answers.
    """

    words: str
    scale: Scale
    above: tuple[float, str]
    below: tuple[float, str] | None
    level: float = LEVEL


class OverModels(NamedTuple):
    """The answer to one question over models: a row of answers_over_models.csv.

    Attributes:
      question, block: as of the answers of one study.
      verdict, sentence: "yes", "no", "cannot tell", or for T1 "neither"; in words.
      quantity: what was pooled.
      value, low, high, spread, prediction_low, prediction_high, models: see `Pooled`; all but the spread on
        the scale of the answers.
      verdicts: of each model alone, with its name.
    """

    question: str
    block: str
    verdict: str
    sentence: str
    quantity: str
    value: float
    low: float
    high: float
    spread: float
    prediction_low: float
    prediction_high: float
    models: int
    verdicts: str


def pooled(values: Float[np.ndarray, " k"], errors: Float[np.ndarray, " k"]) -> Pooled:
    """The mean over models of which these are the values and their standard errors.

    Where all errors are e, τ² is max(0, s² - e²) and the interval is Student's of the values, but never
    narrower than t e / √k. Of one model there is no interval.

    Raises:
      InputError: no value, or an error that is not above 0.
    """
    k = len(values)
    if not k or not (np.isfinite(values).all() and (errors > 0).all() and np.isfinite(errors).all()):
        raise InputError(
            f"values {list(values)} with errors {list(errors)}: give numbers, with errors above 0"
        )
    if k == 1:
        return Pooled(float(values[0]), *[np.nan] * 5, 1)
    between = _between(values, errors)
    weights = 1 / (errors**2 + between)
    mean = float((weights * values).sum() / weights.sum())
    factor = max(1.0, float((weights * (values - mean) ** 2).sum()) / (k - 1))
    variance = factor / float(weights.sum())
    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, k - 1)) * variance**0.5
    other = np.nan
    if k > 2:
        other = float(scipy.stats.t.ppf((1 + LEVEL) / 2, k - 2)) * (between + variance) ** 0.5
    return Pooled(mean, mean - half, mean + half, between**0.5, mean - other, mean + other, k)


def _between(values: Float[np.ndarray, " k"], errors: Float[np.ndarray, " k"]) -> float:
    """τ² of the greatest restricted likelihood, 0 at least."""

    def loss(between: float) -> float:
        weights = 1 / (errors**2 + between)
        mean = (weights * values).sum() / weights.sum()
        left = (weights * (values - mean) ** 2).sum()
        return float(-np.log(weights).sum() + np.log(weights.sum()) + left)

    # Without any error τ² would be the variance of the values: their sum of squares is k - 1 times that.
    most = float(np.square(values - values.mean()).sum()) + 1e-12
    found = scipy.optimize.minimize_scalar(
        loss, bounds=(0.0, most), method="bounded", options={"xatol": 1e-9 * most}
    )
    return float(found.x) if found.fun < loss(0.0) else 0.0


def pooled_on(
    scale: Scale,
    values: Float[np.ndarray, " k"],
    lows: Float[np.ndarray, " k"],
    highs: Float[np.ndarray, " k"],
    level: float = LEVEL,
) -> Pooled:
    """The mean over models of numbers with intervals of this level; those without one are left out.

    Raises:
      InputError: none has one.
    """
    y, low, high = (scale.there(np.asarray(x, np.float64)) for x in (values, lows, highs))
    errors = (high - low) / 2 / float(scipy.stats.norm.ppf((1 + level) / 2))
    known = np.isfinite(y) & np.isfinite(errors) & (errors > 0)
    found = pooled(y[known], errors[known])
    ends = np.array([found.value, found.low, found.high, found.prediction_low, found.prediction_high])
    value, low_end, high_end, *prediction = map(float, scale.back(ends))
    return Pooled(value, low_end, high_end, found.spread, *prediction, found.models)


def quantity_of(question: str, block: str) -> Quantity | None:
    """What of a question and block is pooled; None: nothing, as of rows that join others."""
    if question == "T2":
        return Quantity(
            "the root mean square of the differences in standard deviations",
            SQUARE,
            (1.0, NO),
            (1.0, YES),
            TWO_ENDS,
        )
    if question == "T3":
        return Quantity(
            "how much better the best share between is than the better end",
            PLAIN_SCALE,
            (0.0, YES),
            (0.0, NO),
        )
    if question == "T4":
        return Quantity("Spearman's correlation over families", FISHER, (0.0, YES), (0.0, NO))
    if question == "T5" and ", moves: " in block:
        return Quantity(
            "the root mean square of the effects in standard deviations", SQUARE, (0.0, YES), (1.0, NO)
        )
    if question == "T5" and ", direction: " in block:
        return Quantity(
            "the cosine with the family of diversity", FISHER, (LEAST_COSINE, YES), (LEAST_COSINE, NO)
        )
    if question == "T6" and block != "primary":
        return Quantity("the share of the squared effect", PLAIN_SCALE, (0.5, YES), (0.5, NO))
    if question == "T7":
        return Quantity("balanced accuracy beyond chance", PLAIN_SCALE, (0.0, YES), None)
    return None


def over_models(
    answers: Mapping[str, pd.DataFrame], likeness: Mapping[str, pd.DataFrame]
) -> list[OverModels]:
    """A verdict of each question and block that two models or more have.

    T1, T5 and T6 have a row that joins their two blocks of numbers, by the rule of one study: their verdict
    where they agree, else "cannot tell".

    Args:
      answers: by the name of a model, the answers of its study.
      likeness: by the name of a model, its rows of T1; models without them do not count there.

    Raises:
      InputError: fewer than two models, or a table without a needed column.
    """
    if len(answers) < 2:
        raise InputError(f"{len(answers)} study is not several: give the folders of two or more")
    for name, table in answers.items():
        _need(name, table, ("question", "block", "verdict", "value", "low", "high", "control"))
    out = _likeness_rows(likeness)
    keys = dict.fromkeys(
        (str(row.question), str(row.block))
        for table in answers.values()
        for row in table.assign(block=_blocks(table)).itertuples()
    )
    rows = []
    for question, block in sorted(keys, key=lambda key: key[0]):
        quantity = quantity_of(question, block)
        if quantity is not None:
            rows.append(_row(question, block, quantity, answers))
    return out + _joined(rows)


def _blocks(table: pd.DataFrame) -> pd.Series:
    """The column `block`, in which a CSV file has nothing where the text is empty."""
    return table["block"].astype(object).fillna("")


def _need(name: str, table: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(
            f"the table of {name!r} has no column {missing[0]!r}: run its study again to make it"
        )


def _row(question: str, block: str, quantity: Quantity, answers: Mapping[str, pd.DataFrame]) -> OverModels:
    parts = {}
    for name, table in answers.items():
        own = table[(table["question"] == question) & (_blocks(table) == block)]
        if len(own):
            parts[name] = own.iloc[0]
    numbers = np.array([[part[end] for end in ("value", "low", "high")] for part in parts.values()], float)
    if question == "T7":  # chance is one over the number of families, of which models have different ones
        numbers = numbers - np.array([[part["control"]] for part in parts.values()], float)
    verdicts = "; ".join(f"{name}: {part['verdict']}" for name, part in parts.items())
    known = np.isfinite(numbers).all(1) & (numbers[:, 2] > numbers[:, 1])
    told = f"{question}{f', {block}' if block else ''}"
    if known.sum() < 2:
        sentence = (
            f"It cannot be told over models: {told} has a number with an interval in {known.sum()} of "
            f"{len(answers)}."
        )
        nothing = [np.nan] * 6
        return OverModels(
            question, block, CANNOT_TELL, sentence, quantity.words, *nothing, int(known.sum()), verdicts
        )
    found = pooled_on(quantity.scale, *numbers.T, level=quantity.level)
    verdict = CANNOT_TELL
    if found.low > quantity.above[0]:
        verdict = quantity.above[1]
    elif quantity.below is not None and found.high < quantity.below[0]:
        verdict = quantity.below[1]
    sentence = f"Over {found.models} models {quantity.words} is {_told(found)} ({verdicts})."
    return OverModels(question, block, verdict, sentence, quantity.words, *found, verdicts)


def _told(found: Pooled) -> str:
    prediction = (
        f"; another model would have {found.prediction_low:.2f} to {found.prediction_high:.2f}"
        if np.isfinite(found.prediction_low)
        else ""
    )
    return (
        f"{with_interval(found.value, found.low, found.high)}, with a standard deviation between models of "
        f"{found.spread:.2g} on the scale of pooling{prediction}"
    )


def _joined(rows: Sequence[OverModels]) -> list[OverModels]:
    """Before the rows of both primary blocks comes what they say together."""
    out: list[OverModels] = []
    done = set()
    for row in rows:
        stem = row.block
        for block in PRIMARY:
            stem = stem.replace(block, "*")
        both = [one for one in rows if one.question == row.question and _is_of(one.block, stem)]
        key = (row.question, stem)
        if "*" in stem and len(both) == len(PRIMARY) and key not in done:
            done.add(key)
            agree = len({one.verdict for one in both}) == 1
            told = " ".join(f"In {one.block}: {one.sentence}" for one in both)
            name = stem.removesuffix(": *").replace("*", "primary")
            out.append(row._replace(block=name, verdict=row.verdict if agree else CANNOT_TELL, sentence=told))
        out.append(row)
    return out


def _is_of(block: str, stem: str) -> bool:
    return block in [stem.replace("*", name) for name in PRIMARY]


def likeness_over(rows: pd.DataFrame, floor: float = LEAST_COSINE) -> tuple[str, str, dict[str, Pooled]]:
    """T1 over models, in one block of numbers: the verdict, its reason, and the means.

    "yes" requires the lower end of dropout's mean cosine above the floor, that of its difference from decay's
    above 0, and that of its margin over the placebo that is the nearest in each model above 0; "no" the same
    of decay; "neither" both upper ends below .3.

    Args:
      rows: a row per model, with the columns `LIKENESS`.
      floor: what unrelated directions exceed in one of forty cases; .3 at least.
    """
    scales = {"dropout": FISHER, "decay": FISHER, "contrast": PLAIN_SCALE, "margin": PLAIN_SCALE}
    found = {}
    for name, scale in scales.items():
        ends = [rows[f"{name}{end}"].to_numpy(np.float64) for end in ("", "_low", "_high")]
        known = np.isfinite(ends).all(0) & (ends[2] > ends[1])
        if known.sum() > 1:
            found[name] = pooled_on(scale, *(end[known] for end in ends))
    if not {"dropout", "decay", "contrast"} <= set(found):
        return CANNOT_TELL, "fewer than two models have the cosines with both", found
    for verdict, name, sign in ((YES, "dropout", 1), (NO, "decay", -1)):
        contrast = found["contrast"]
        clear = contrast.low > 0 if sign > 0 else contrast.high < 0
        if found[name].low > floor and clear:
            if "margin" not in found:
                return CANNOT_TELL, "fewer than two models have a placebo to compare with", found
            if found["margin"].low > 0:
                return verdict, f"the mean cosine with {name} is above what unrelated directions reach", found
            return CANNOT_TELL, f"{name} is not clearly nearer than the nearest placebo of each model", found
    if max(found["dropout"].high, found["decay"].high) < LEAST_COSINE:
        return NEITHER, f"both mean cosines are below {LEAST_COSINE:g}", found
    return CANNOT_TELL, "neither mean cosine is clearly above the floor, nor are both below .3", found


def _likeness_rows(
    likeness: Mapping[str, pd.DataFrame],
) -> list[OverModels]:
    """T1: both blocks together, then each; numbers beside dropout's cosine have rows without a verdict."""
    out, beside = [], []
    for name, table in likeness.items():
        _need(name, table, ("block", "condition", "verdict", "floor", *LIKENESS))
    for block in PRIMARY:
        parts = {
            name: table[(table["block"] == block) & (table["condition"] == PLAIN)]
            for name, table in likeness.items()
        }
        parts = {name: part for name, part in parts.items() if len(part)}
        if len(parts) < 2:
            continue
        rows = pd.concat(parts.values(), ignore_index=True)
        floor = float(rows["floor"].median())
        verdict, reason, found = likeness_over(rows, floor)
        verdicts = "; ".join(f"{name}: {part['verdict'].iloc[0]}" for name, part in parts.items())
        told = "; ".join(f"{_WORDS[name]} is {_told(one)}" for name, one in found.items())
        sentence = (
            f"{verdict.capitalize()}, since {reason} (the floor is {floor:.2f}, the median of the models'): "
            f"over {len(parts)} models {told} ({verdicts})."
        )
        numbers = found.get("dropout", Pooled(*[np.nan] * 6, len(parts)))
        out.append(OverModels("T1", block, verdict, sentence, "the cosine with dropout", *numbers, verdicts))
        beside += [
            OverModels("T1", f"{block}: {_WORDS[name]}", "", "", _WORDS[name], *one, "")
            for name, one in found.items()
            if name != "dropout"
        ]
    return _joined(out) + beside


_WORDS = {
    "dropout": "the cosine with dropout",
    "decay": "the cosine with decay",
    "contrast": "the difference of the two",
    "margin": "the margin over the nearest placebo",
}
