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
from rmtjax.report import evaluation, layers, panels, spectra, style, tables, training, words

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
    [(NAN, "–"), (np.inf, "∞"), (0.0, "0"), (3.0, "3"), (0.91449, "0.914"), (-0.5, "−0.500"), (12.345, "12.3"),
     (1234.5, "1234"), (0.00197, "0.002"), (1.5e-7, "1.50e−07"), (2.5e9, "2.50e+09")],
)  # fmt: skip
def test_numbers_for_people(value: float, text: str) -> None:
    assert tables.show(value) == text


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


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (list(report_workdir.vit_shapes(3)), ["embed/patch", "attention/out", "attention/key", "attention/query",
                                              "attention/value", "mlp/down", "mlp/up", "head"]),
        (["conv1.weight", "layer1.0.conv1.weight", "layer1.0.conv2.weight", "layer2.0.conv1.weight", "fc.weight"],
         ["conv#.weight", "layer#.#.conv#.weight", "fc"]),
        (["model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"], ["self_attn/q_proj"]),
        (["a"], ["a"]),
        (["3"], ["#"]),
    ],
)  # fmt: skip
def test_groups_are_the_kinds_that_repeat_over_depth(names: list[str], labels: list[str]) -> None:
    grouped = layers.groups(names)
    assert list(grouped) == labels
    assert sorted(name for members in grouped.values() for name in members) == sorted(names)


def test_short_names_drop_what_all_share() -> None:
    names = ["params/a/kernel", "params/b/c/kernel"]
    assert list(layers.short_names(names).values()) == ["a", "b/c"]
    assert layers.short_names(["params/a/kernel"]) == {"params/a/kernel": "params/a/kernel"}
    assert list(layers.short_names(["m.a.weight", "m.b"]).values()) == ["a", "b"]
    assert list(layers.short_names(["a/kernel", "a"]).values()) == ["a/kernel", "a"]


def test_size_of_the_update_from_whatever_is_there() -> None:
    rows = [
        {"stage": "before", "name": "w", "log_norm": 2.0},
        {"stage": "update", "name": "w", "log_norm": 0.0},
    ]
    table = layers.measured(pd.DataFrame(rows))
    assert layers.relative_update(table, None)["w"] == pytest.approx(0.1)
    eigenvalues = {"before/w": np.array([4.0, 12.0]), "update/w": np.array([1.0, 3.0])}
    assert layers.relative_update(table, eigenvalues)["w"] == pytest.approx(0.5)
    given = layers.measured(pd.DataFrame([rows[0], rows[1] | {"norm_ratio": 0.25}]))
    assert layers.relative_update(given, eigenvalues)["w"] == 0.25
    assert np.isnan(layers.relative_update(layers.measured(pd.DataFrame(rows[1:])), None)["w"])


def test_failed_fits_are_missing_not_minus_one() -> None:
    table = layers.measured(pd.DataFrame({"stage": ["after"] * 3, "name": list("abc"), "alpha": [-1.0, 0.9, 2.5],
                                          "xmin": [-1.0, 1.0, 1.0], "bulk_max": [-1.0, 2.0, np.inf]}))  # fmt: skip
    assert table["alpha"].isna().tolist() == [True, True, False]
    assert table["xmin"].isna().tolist() == [True, False, False]
    assert table["edge"].isna().tolist() == [True, False, True]
    (line,) = spectra.summary(table, None)
    assert (line.metric, line.after) == ("alpha", 2.5)


def test_the_drawn_power_law_meets_the_spectrum_at_xmin() -> None:
    """Through (xmin, share of eigenvalues >= xmin) with slope 1 - alpha, on a true power law along the curve."""
    share = (np.arange(400, 0, -1)) / 400
    values = share ** (-1 / 1.5)  # complementary distribution λ^-1.5: alpha = 2.5, xmin = 1
    rows = [{"stage": "after", "name": "w", "alpha": 2.5, "xmin": values[100], "bulk_max": 3.0}]
    with style.drawing():
        (panel,) = panels.panels(pd.DataFrame(rows), {"after/w": values})
    (axes,) = panel.drawn.axes
    dashed = next(line for line in axes.lines if line.get_linestyle() == "--")
    x, y = dashed.get_xdata(), dashed.get_ydata()
    assert x[0] == pytest.approx(values[100])
    np.testing.assert_allclose(y, np.asarray(x) ** -1.5, rtol=1e-6)
    curve = max(axes.lines, key=lambda line: len(line.get_xdata()))
    np.testing.assert_allclose(curve.get_ydata(), np.asarray(curve.get_xdata()) ** -1.5, rtol=1e-6)
    assert axes.lines[-1].get_xdata()[0] == 3.0
    assert panel.alphas == {"after": 2.5}


def test_thinning_keeps_both_ends_and_the_tail() -> None:
    kept = panels._thinned(5000)
    assert kept[0] == 0
    assert list(kept[-80:]) == list(range(4920, 5000))
    assert (np.diff(kept) > 0).all()
    assert len(kept) == 200


def test_long_runs_are_drawn_as_bins_and_broken_ones_at_all() -> None:
    step = np.arange(100_000)
    table = pd.DataFrame(
        {"step": step, "loss": np.where(step == 7, np.nan, 1 + np.sin(step)), "learning_rate": 1e-3}
    )
    with style.drawing():
        drawn = training.curves(table)
        assert drawn is not None
        assert max(len(line.get_xdata()) for axes in drawn.axes for line in axes.lines) <= 202
        assert training.curves(pd.DataFrame({"step": [1], "loss": [np.nan]})) is None
        assert training.curves(pd.DataFrame({"step": []})) is None
        assert training.curves(pd.DataFrame({"step": [1], "loss": [0.0]})) is not None


def test_evaluation_figures_need_their_rows() -> None:
    table = pd.DataFrame({"set": ["test"], "kind": ["id"], "metric": ["accuracy"], "value": [0.5], "low": [NAN], "high": [NAN],
                          "null": [NAN], "n": [10.0]})  # fmt: skip
    with style.drawing():
        assert evaluation.sets_figure(table) is not None
        assert evaluation.sets_figure(table.assign(value=NAN)) is None
        assert evaluation.severity_figure(table) is None
        assert evaluation.severity_figure(table.assign(set="corrupted/blur/3")) is not None
        assert evaluation.reliability_figure(None) is None
        assert (
            evaluation.reliability_figure({"test": {"confidence": [0.5], "accuracy": [], "count": [1]}})
            is None
        )


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


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    with style.drawing():
        style.to_svg(style.figure(1.0, 1.0), "nothing", "x")
    assert dict(matplotlib.rcParams) == before
