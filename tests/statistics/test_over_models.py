"""Random-effects meta-analysis, by closed forms and a known example, and verdicts over models."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from rmtjax import statistics
from rmtjax.errors import InputError
from rmtjax.statistics import Answer, meta
from rmtjax.statistics.directions import PRIMARY

# Thirteen trials of the BCG vaccine (Colditz et al. 1994): cases and others, vaccinated and not.
BCG = np.array([
    [4, 119, 11, 128], [6, 300, 29, 274], [3, 228, 11, 209], [62, 13536, 248, 12619], [33, 5036, 47, 5761],
    [180, 1361, 372, 1079], [8, 2537, 10, 619], [505, 87886, 499, 87892], [29, 7470, 45, 7232],
    [17, 1699, 65, 1600], [186, 50448, 141, 27197], [5, 2493, 3, 2338], [27, 16886, 29, 17825],
], float)  # fmt: skip


def test_the_known_example():
    """metafor: tau² = 0.3132, mean -0.7145; Viechtbauer 2010."""
    cases, others, control, healthy = BCG.T
    ratio = np.log(cases / (cases + others)) - np.log(control / (control + healthy))
    error = np.sqrt(1 / cases - 1 / (cases + others) + 1 / control - 1 / (control + healthy))
    found = meta.pooled(ratio, error)
    assert found.spread**2 == pytest.approx(0.3132, abs=2e-4)
    assert found.value == pytest.approx(-0.7145, abs=1e-4)
    assert found.low < -1.08
    assert -0.33 < found.high < -0.32
    assert found.prediction_low < found.low < found.high < found.prediction_high


def test_equal_errors_have_a_closed_form():
    values, error = np.array([1.0, 2.0, 6.0]), 0.5
    found = meta.pooled(values, np.full(3, error))
    assert found.value == pytest.approx(3)
    assert found.spread**2 == pytest.approx(values.var(ddof=1) - error**2, rel=1e-4)
    # The interval is Student's of the values themselves, with 2 degrees of freedom.
    t = scipy.stats.t.ppf(0.975, 2)
    assert found.high - 3 == pytest.approx(t * values.std(ddof=1) / 3**0.5, rel=1e-4)
    other = scipy.stats.t.ppf(0.975, 1) * np.sqrt(found.spread**2 + values.var(ddof=1) / 3)
    assert found.prediction_high - 3 == pytest.approx(other, rel=1e-4)


def test_models_that_agree_by_chance_earn_no_narrower_interval():
    found = meta.pooled(np.array([1.0, 1.001, 0.999]), np.full(3, 0.5))
    assert found.spread == 0
    assert found.high - 1 == pytest.approx(scipy.stats.t.ppf(0.975, 2) * 0.5 / 3**0.5, rel=1e-4)


def test_one_and_two_models():
    assert np.isnan(meta.pooled(np.array([1.0]), np.array([0.1])).low)
    assert np.isnan(meta.pooled(np.array([1.0, 2.0]), np.array([0.1, 0.1])).prediction_low)
    with pytest.raises(InputError, match="give numbers, with errors above 0"):
        meta.pooled(np.array([1.0, 2.0]), np.array([0.1, 0.0]))
    with pytest.raises(InputError, match="give numbers"):
        meta.pooled(np.array([]), np.array([]))


def test_scales():
    r = np.array([0.5, 0.6, 0.7])
    found = meta.pooled_on(meta.FISHER, r, np.tanh(np.arctanh(r) - 0.2), np.tanh(np.arctanh(r) + 0.2))
    plain = meta.pooled(np.arctanh(r), np.full(3, 0.2 / scipy.stats.norm.ppf(0.975)))
    assert found.value == pytest.approx(np.tanh(plain.value))
    assert found.high == pytest.approx(np.tanh(plain.high))
    assert found.spread == pytest.approx(plain.spread)
    beyond = meta.pooled_on(meta.FISHER, np.array([0.98, 0.99]), np.array([0.9, 0.9]), np.array([1.06, 1.05]))
    assert beyond.high < 1
    # A root mean square whose square may be below 0 by chance; one without an interval is left out.
    squares = meta.pooled_on(
        meta.SQUARE, np.array([2.0, -1.0, 5.0]), np.array([1.0, -2.0, np.nan]), np.array([3.0, 1.0, np.nan])
    )
    assert squares.models == 2
    assert squares.value == pytest.approx(1.5**0.5, rel=0.3)


def answers(rows):
    """question, block, verdict, value, half of the interval's width, control."""
    full = [
        Answer(q, block, verdict, "It is.", value, value - half, value + half, control, np.nan, np.nan)
        for q, block, verdict, value, half, control in rows
    ]
    return pd.DataFrame(full)


def likeness(dropout, decay, margin):
    numbers = {"dropout": dropout, "decay": decay, "contrast": dropout - decay, "margin": margin}
    row = {
        f"{name}{end}": value + shift
        for name, value in numbers.items()
        for end, shift in (("", 0.0), ("_low", -0.03), ("_high", 0.03))
    }
    return pd.DataFrame(
        [
            {"block": block, "condition": "all doses", "verdict": "yes", "floor": 0.5} | row
            for block in PRIMARY
        ]
    )


def of_three(rows_of):
    """Three models; `rows_of(shift)` are the rows of one."""
    return {name: answers(rows_of(shift)) for name, shift in (("one", -0.01), ("two", 0.0), ("three", 0.01))}


def test_verdicts_over_models():
    after, update = PRIMARY
    found = statistics.over_models(
        of_three(lambda shift: [
            ("T1", "primary", "yes", 0.9, 0.1, 0.0),
            ("T2", "", "cannot tell", 0.5 + shift, 0.1, 0.0),
            ("T3", "replace", "no", -0.2 + shift, 0.02, 0.0),
            ("T4", "ood_accuracy", "cannot tell", 0.9 + shift, 0.02, 0.0),
            ("T5", "selection, moves", "yes", 2.0 + shift, 0.1, 0.0),
            ("T5", f"selection, moves: {after}", "yes", 2.0 + shift, 0.1, 0.0),
            ("T5", f"selection, moves: {update}", "yes", 0.1 + shift, 0.02, 0.0),
            ("T5", f"selection, direction: {after}", "augmentation", 0.8 + shift, 0.02, 0.0),
            ("T5", f"selection, direction: {update}", "augmentation", 0.8 + shift, 0.02, 0.0),
            ("T6", "primary", "no", 0.1 + shift, 0.05, 0.5),
            ("T6", f"{after}, equal training loss", "no", 0.1 + shift, 0.05, 0.5),
            ("T6", f"{update}, equal training loss", "no", 0.9 + shift, 0.05, 0.5),
            ("T7", "update", "yes", 0.5 + 10 * shift, 0.05, 0.1 + 10 * shift),
        ]),
        {name: likeness(0.9, 0.1, 0.4) for name in ("one", "two", "three")},
    )  # fmt: skip
    verdicts = {(row.question, row.block): row.verdict for row in found}
    assert verdicts["T1", "primary"] == verdicts["T1", after] == "yes"
    assert verdicts["T2", ""] == "yes"
    assert verdicts["T3", "replace"] == "no"
    assert verdicts["T4", "ood_accuracy"] == "yes"
    assert verdicts["T5", "selection, moves"] == "yes"
    assert verdicts["T5", "selection, direction"] == "yes"
    assert verdicts["T6", f"{after}, equal training loss"] == "no"
    assert verdicts["T6", f"{update}, equal training loss"] == "yes"
    assert verdicts["T6", "primary, equal training loss"] == "cannot tell"
    by_block = {(row.question, row.block): row for row in found}
    told = by_block["T7", "update"]
    assert told.value == pytest.approx(0.4)  # chance, which differs between models, is taken off
    assert told.spread == pytest.approx(0, abs=1e-6)
    assert told.verdicts == "one: yes; two: yes; three: yes"
    assert "one: cannot tell; two" in by_block["T2", ""].sentence
    assert by_block["T1", f"{after}: the difference of the two"].value == pytest.approx(0.8)
    assert len(verdicts) == len(found)  # each once


def test_models_that_differ_leave_it_open():
    found = statistics.over_models(
        {name: answers([("T6", f"{PRIMARY[0]}, equal training loss", "yes", value, 0.02, 0.5)])
         for name, value in (("one", 0.6), ("two", 0.9), ("three", 0.75))},
        {},
    )  # fmt: skip
    # Each by itself says more than half; the mean of all such models may be less.
    assert [row.verdict for row in found] == ["cannot tell"]
    assert found[0].prediction_low < 0 < found[0].low < 0.5


@pytest.mark.parametrize(
    ("dropout", "decay", "margin", "verdict"),
    [
        (0.9, 0.1, 0.4, "yes"),
        (0.1, 0.9, 0.4, "no"),
        (0.9, 0.1, -0.1, "cannot tell"),  # a placebo is as near
        (0.9, 0.1, np.nan, "cannot tell"),  # no placebo
        (0.9, 0.9, 0.4, "cannot tell"),
        (0.1, 0.0, 0.4, "neither"),
        (0.45, 0.0, 0.4, "cannot tell"),  # below the floor of .5
    ],
)
def test_likeness_over_models(dropout, decay, margin, verdict):
    rows = pd.concat([likeness(dropout + s, decay + s, margin) for s in (-0.01, 0.0, 0.01)])
    assert meta.likeness_over(rows, 0.5)[0] == verdict


def test_tables_that_do_not_suffice():
    one = answers([("T2", "", "yes", 0.5, 0.1, 0.0)])
    with pytest.raises(InputError, match="1 study is not several: give the folders of two or more"):
        statistics.over_models({"one": one}, {})
    with pytest.raises(InputError, match="the table of 'two' has no column 'value': run its study again"):
        statistics.over_models({"one": one, "two": one.drop(columns="value")}, {})
    lacking = answers([("T2", "", "cannot tell", np.nan, 0.1, 0.0)])
    found = statistics.over_models({"one": one, "two": lacking}, {})
    assert found[0].verdict == "cannot tell"
    assert "has a number with an interval in 1 of 2" in found[0].sentence


def test_the_ends_of_t2_are_one_sided():
    t2 = meta.quantity_of("T2", "")
    assert t2.level == pytest.approx(0.9)
    one = meta.pooled_on(t2.scale, np.array([2.0, 2.0]), np.array([1.5, 1.5]), np.array([2.4, 2.4]), t2.level)
    two = meta.pooled_on(t2.scale, np.array([2.0, 2.0]), np.array([1.5, 1.5]), np.array([2.4, 2.4]))
    wider = scipy.stats.norm.ppf(0.975) / scipy.stats.norm.ppf(0.95)
    assert (one.high**2 - 4) / (two.high**2 - 4) == pytest.approx(wider, rel=1e-6)
