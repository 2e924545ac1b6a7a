"""The final table, and what is said of matrices: order, groups, sizes of updates, drawn laws."""

import json
import pathlib

import matplotlib
import numpy as np
import pandas as pd
import pytest
import report_workdir

from rmtjax import config as config_lib
from rmtjax import report, results
from rmtjax.report import evaluation, layers, matrix_charts, numbers, png, spectral_data, training, words
from rmtjax.report.chart import Line, Rule
from rmtjax.spectra import curves

NAN = float("nan")


def test_final_table(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    report_workdir.evaluation(tmp_path, rng)
    report_workdir.spectra(tmp_path, report_workdir.vit_shapes(1, 16), rng)
    text = report.final_table(tmp_path)
    lines = text.splitlines()
    assert lines[0].split() == ["set", "metric", "value", "95", "%", "interval", "(null)", "n"]
    assert lines[2].split() == ["test", "accuracy", "0.914", "[0.895,", "0.933]", "(0.100)", "797"]
    assert "contrast" not in text  # single corruptions are the page's
    assert any(line.split()[:3] == ["letters_unlike_digits", "AUROC,", "max"] for line in lines)
    ends = {len(line) for line in lines[2:12] if line.endswith(")")}
    assert len(ends) == 1  # aligned
    table = pd.read_parquet(tmp_path / "spectra.parquet")
    median = {s: table.loc[table["stage"] == s, "alpha"].median() for s in layers.STAGES}
    (alpha,) = (line.split() for line in lines if line.startswith("alpha"))
    assert [float(alpha[k]) for k in (1, 2, 4)] == pytest.approx([median[s] for s in layers.STAGES], rel=5e-3)
    assert "report:" not in text
    assert text.isascii()
    (tmp_path / "report.html").write_text("x")
    assert report.final_table(tmp_path).endswith(f"report: {tmp_path / 'report.html'}")


def test_evaluation_table_is_that_part_of_the_final_table(tmp_path: pathlib.Path) -> None:
    report_workdir.evaluation(tmp_path, np.random.default_rng(0))
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert report.evaluation_table(content) == report.final_table(tmp_path)
    assert "temperature 1.31" in report.evaluation_table(content)
    assert report.evaluation_table({"temperature": None, "rows": []}) == ""


def test_final_table_without_anything(tmp_path: pathlib.Path) -> None:
    assert "nothing has been evaluated" in report.final_table(tmp_path)


def test_final_table_with_nan(tmp_path: pathlib.Path) -> None:
    rows = [
        {
            "set": "test",
            "kind": "id",
            "metric": "accuracy",
            "value": None,
            "low": None,
            "high": None,
            "null": None,
            "n": None,
        }
    ]
    report_workdir.dump(tmp_path / "evaluation.json", {"rows": rows})
    assert report.final_table(tmp_path).splitlines()[2].split() == ["test", "accuracy", "-"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (NAN, "–"),
        (np.inf, "∞"),
        (0.0, "0"),
        (3.0, "3"),
        (0.91449, "0.914"),
        (-0.5, "−0.500"),
        (12.345, "12.3"),
        (1234.5, "1234"),
        (0.00197, "0.002"),
        (1.5e-7, "1.50e−07"),
        (2.5e9, "2.50e+09"),
    ],
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert numbers.show(value) == text


def test_order_counts_numbers_and_keeps_the_rest() -> None:
    names = [
        "stem/kernel",
        *(f"block_{k}/{part}/kernel" for k in sorted(range(12), key=str) for part in "ab"),
        "head/kernel",
    ]
    ordered = layers.ordered_names(pd.DataFrame({"name": names * 2}))
    assert ordered[0] == "stem/kernel"
    assert ordered[-1] == "head/kernel"
    assert [name for name in ordered if "/a/" in name] == [f"block_{k}/a/kernel" for k in range(12)]
    assert ordered[3:5] == ["block_1/a/kernel", "block_1/b/kernel"]


def test_short_names_drop_what_all_share() -> None:
    names = ["params/a/kernel", "params/b/c/kernel"]
    assert list(layers.short_names(names).values()) == ["a", "b/c"]
    assert layers.short_names(["params/a/kernel"]) == {"params/a/kernel": "params/a/kernel"}
    assert list(layers.short_names(["m.a.weight", "m.b"]).values()) == ["a", "b"]
    assert list(layers.short_names(["a/kernel", "a"]).values()) == ["a/kernel", "a"]


def test_failed_fits_are_missing_not_minus_one() -> None:
    table = layers.measured(
        pd.DataFrame(
            {
                "stage": ["after"] * 3,
                "name": list("abc"),
                "kind": "dense",
                "alpha": [-1.0, 0.9, 2.5],
                "xmin": [-1.0, 1.0, 1.0],
                "bulk_max": [-1.0, 2.0, np.inf],
            }
        )
    )
    assert table["alpha"].isna().tolist() == [True, True, False]
    assert table["xmin"].isna().tolist() == [True, False, False]
    assert table["edge"].isna().tolist() == [True, False, True]
    (line,) = spectral_data.summary(table)
    assert (line.metric, line.after) == ("alpha", 2.5)


def test_the_drawn_power_law_meets_the_spectrum_at_xmin() -> None:
    """Through (xmin, share of eigenvalues >= xmin) with slope 1 - alpha; along the curve of a true law."""
    share = (np.arange(400, 0, -1)) / 400
    values = share ** (-1 / 1.5)  # complementary distribution λ^-1.5: alpha = 2.5, xmin = 1
    rows = [
        {"stage": "after", "name": "w", "kind": "dense", "alpha": 2.5, "xmin": values[100], "bulk_max": 3.0}
    ]
    table = layers.measured(pd.DataFrame(rows))
    found = {
        key.removeprefix("after/w/"): one for key, one in curves.curves(table, {"after/w": values}).items()
    }
    drawn = matrix_charts.survival({"after": found}, {"after": {"alpha": 2.5, "edge": 3.0}}, "w")
    lines = [mark for mark in drawn.marks if isinstance(mark, Line)]
    dashed = next(line for line in lines if line.style == "dash")
    assert dashed.x[0] == pytest.approx(values[100])
    np.testing.assert_allclose(dashed.y, np.asarray(dashed.x) ** -1.5, rtol=1e-6)
    curve = max(lines, key=lambda line: len(line.x))
    known = np.isfinite(curve.x)
    np.testing.assert_allclose(curve.y[known], curve.x[known] ** -1.5, rtol=1e-6)
    (edge,) = (mark.at for mark in drawn.marks if isinstance(mark, Rule))
    assert edge == 3.0
    assert any(getattr(mark, "text", "") == "after, α 2.50" for mark in drawn.marks)


def test_long_runs_are_drawn_as_bins_and_broken_ones_at_all() -> None:
    step = np.arange(100_000)
    table = pd.DataFrame(
        {"step": step, "loss": np.where(step == 7, np.nan, 1 + np.sin(step)), "learning_rate": 1e-3}
    )
    drawn = training.curves(table)
    lines = [mark for chart in drawn for mark in chart.marks if isinstance(mark, Line)]
    assert max(len(line.x) for line in lines) <= 202
    assert not training.curves(pd.DataFrame({"step": [1], "loss": [np.nan]}))
    assert not training.curves(pd.DataFrame({"step": []}))
    assert training.curves(pd.DataFrame({"step": [1], "loss": [0.0]}))


def test_evaluation_figures_need_their_rows() -> None:
    row = {"set": ["test"], "kind": ["id"], "metric": ["accuracy"], "value": [0.5], "n": [10.0]}
    table = pd.DataFrame(row | {"low": [NAN], "high": [NAN], "null": [NAN]})
    assert evaluation.sets_charts(table)
    assert not evaluation.sets_charts(table.assign(value=NAN))
    assert not evaluation.severity_charts(table)
    assert evaluation.severity_charts(table.assign(set="corrupted/blur/3"))
    assert not evaluation.reliability_charts(None)
    assert not evaluation.reliability_charts({"test": {"confidence": [0.5], "accuracy": [], "count": [1]}})


def test_headline_says_what_was_trained_on_what(tmp_path: pathlib.Path) -> None:
    config = config_lib.base()
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    text = words.trained(results.read(tmp_path))
    assert "starting from 'letters'" in text
    assert "400 examples of digits" in text
    assert text.endswith("No regulariser, augmentation or synthetic data.")
    config.model.init_from = None
    config.regularization.weight_decay = 0.05
    config.augment.mixup = 1.0
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    report_workdir.dump(tmp_path / "run.json", {"parameters": 12_345_678, "step": 30, "status": "failed"})
    text = words.trained(results.read(tmp_path))
    assert "A vision transformer of 12.3 million parameters, from scratch, has so far been trained" in text
    assert text.endswith("With weight decay 0.05 and augmentation (mixup 1).")


def test_config_shows_what_differs_from_the_defaults() -> None:
    config = config_lib.base()
    config.optim.learning_rate = 1e-2
    stored = json.loads(config_lib.to_json(config)) | {"mine": 3}
    assert words.changed_fields(stored) == [("optim.learning_rate", "0.01", "0.0005"), ("mine", "3", "-")]


def test_drawing_leaves_matplotlib_as_it_was(tmp_path: pathlib.Path) -> None:
    before = dict(matplotlib.rcParams)
    png.save(tmp_path / "x.png", training.curves(pd.DataFrame({"step": [1], "loss": [0.0]})))
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("alpha_null_p", 0.0025, "< 0.005"),
        ("alpha_null_p", 0.01, "0.010"),
        ("tw_p", 3.84e-295, "< 1e−6"),
        ("gof_p", 0.0, "< 1e−6"),
        ("alpha", 1e-7, "1.00e−07"),
        ("tw_p", NAN, "–"),
    ],
)
def test_probabilities_are_no_smaller_than_they_are_known_to_be(metric: str, value: float, text: str) -> None:
    assert numbers.show_metric(metric, value) == text
