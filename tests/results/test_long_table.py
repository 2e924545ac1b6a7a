"""The long table of finished runs and its views, on run folders written by hand."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from rmtjax import results, statistics
from rmtjax.errors import InputError
from rmtjax.statistics import Arm

ARMS = {"none": Arm("none", 0.0, "none"), "drop": Arm("dropout", 0.3, "none")}
LAYERS = {
    "embed/kernel": "patch_embedding",
    "block_0/attention/query/kernel": "attention_query",
    "block_1/attention/query/kernel": "attention_query",
    "block_0/mlp/up/kernel": "mlp",
    "pooler/kernel": "dense",
    "head/kernel": "head",
}


OUTSIDE = {"letters": 0.9, "npz:other/images.npz": 0.8}


def finished_run(folder, alpha, loss=0.5, status="finished", layers=LAYERS, **columns):
    """What a finished run leaves, as far as the tables read it; alpha of the layers is alpha, alpha + 1,
    ...
    """
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": status}))
    lines = [
        {"step": 1, "loss": 2.0, "validation/loss": 9.0},
        {"step": 2, "loss": 1.0, "validation/loss": loss},
        {"step": 3, "loss": 1.0},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    accuracies = {
        "printed_digits": 0.6,
        "corrupted": 0.8,
        "corrupted/fog": 0.1,
        "corrupted_without_noise": 0.9,
    }
    rows = [{"set": s, "kind": "shift", "metric": "accuracy", "value": v} for s, v in accuracies.items()]
    rows += [{"set": s, "kind": "ood", "metric": "auroc_max_softmax", "value": v} for s, v in OUTSIDE.items()]
    of_test = {"accuracy": 0.95, "ece": 0.02, "nll": None}
    rows += [{"set": "test", "kind": "id", "metric": m, "value": v} for m, v in of_test.items()]
    rows += [{"set": "letters", "kind": "ood", "metric": "auroc_energy", "value": 0.7}]
    (folder / "evaluation.json").write_text(json.dumps({"rows": rows}))
    fed = [
        {"set": s, "space": "feature", "metric": "vendi_score", "value": v}
        for s, v in {"real": 5.0, "augmented": 6.0, "fed": 7.0}.items()
    ]
    (folder / "diversity.json").write_text(json.dumps({"rows": fed}))
    parts = [
        pd.DataFrame(
            {
                "stage": stage,
                "name": list(layers),
                "kind": list(layers.values()),
                "alpha": alpha + np.arange(float(len(layers))),
                "log_norm": 0.0,
                "norm_ratio": 0.1 if stage == "update" else np.nan,
                "warning": "",
            }
            | columns
        )
        for stage in ("before", "after", "update")
    ]
    pd.concat(parts, ignore_index=True).to_parquet(folder / "spectra.parquet")
    eigenvalues = {f"update/{name}": np.ones(9) for name in layers}
    np.savez(folder / "spectra.npz", **eigenvalues)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two arms of two seeds, and a run that is not finished."""
    out = tmp_path_factory.mktemp("study")
    for arm, alpha in (("none", 2.0), ("drop", 3.0)):
        for seed in (0, 1):
            finished_run(out / arm / str(seed), alpha)
    finished_run(out / "drop" / "2", 9.0, status="running")
    return out


@pytest.fixture(scope="module")
def table(out):
    return results.collect(out, ARMS)


def test_every_number_of_a_finished_run_stands_once(table, out):
    assert list(table.columns) == ["run", "arm", "seed", "stage", "group", "metric", "value"]
    assert not table.duplicated(["run", "stage", "group", "metric"]).any()
    assert np.isfinite(table["value"]).all()
    assert set(table.loc[table["arm"] == "drop", "seed"]) == {0, 1}  # the third is not finished
    assert set(table["run"]) == {str(out / arm / str(seed)) for arm in ARMS for seed in (0, 1)}
    value = table[table["seed"] == 0].set_index(["arm", "stage", "group", "metric"])["value"]
    assert value["none", "after", "q", "alpha"] == 2.0 + 1.5  # of layers 1 and 2
    assert value["none", "before", "backbone", "alpha"] == 2.0 + 2.0  # of layers 0 to 4
    assert value["drop", "update", "head", "alpha"] == 3.0 + 5.0
    assert value["drop", "evaluation", "corrupted/fog", "accuracy"] == 0.1
    assert value["drop", "diversity", "real/feature", "vendi_score"] == 5.0
    assert value["drop", "training", "run", "validation_loss"] == 0.5
    assert ("none", "after", "conv", "alpha") not in value
    assert ("none", "evaluation", "test", "nll") not in value  # null in evaluation.json
    only = results.collect(out, ARMS, {"none": [1], "drop": [0]})
    assert set(zip(only["arm"], only["seed"], strict=True)) == {("none", 1), ("drop", 0)}


def test_the_study_table_is_a_view_of_it(table, tmp_path):
    view = results.study_table(table, ARMS)
    assert list(view.columns) == list(statistics.COLUMNS)
    assert view[["arm", "family", "dose", "baseline"]].drop_duplicates().to_numpy().tolist() == [
        ["none", "none", 0.0, "none"],
        ["drop", "dropout", 0.3, "none"],
    ]
    value = view[view["seed"] == 0].set_index(["arm", "group", "metric"])["value"]
    assert value["none", "q", "after/alpha"] == 2.0 + 1.5
    assert value["none", "backbone", "after/alpha"] == 2.0 + 2.0
    assert value["drop", "head", "after/alpha"] == 3.0 + 5.0
    assert value["drop", "embedding", "update/norm_ratio"] == 0.1
    assert value["none", "run", "validation_loss"] == 0.5
    assert value["none", "run", "update_norm"] == pytest.approx(6**0.5)
    assert value["none", "run", "ood_accuracy"] == pytest.approx(0.7)  # printed and corrupted
    assert value["none", "run", "ood_auroc"] == pytest.approx(0.85)
    assert value["none", "run", "printed_digits_accuracy"] == 0.6
    assert value["none", "run", "vendi_score_feature"] == 7.0  # of what was fed
    assert ("none", "conv", "after/alpha") not in value
    found = statistics.effects(view).set_index(["group", "metric"])
    assert found.loc[("q", "after/alpha"), "effect"] == 1.0
    with pytest.raises(InputError, match="no run of none, drop is finished"):
        results.study_table(results.collect(tmp_path / "nowhere", ARMS), ARMS)


def test_the_results_are_a_view_of_it_with_the_head_apart(table):
    view = results.results_table(table)
    assert list(view.columns) == ["config", "seed", "set", "metric", "value"]
    runs = view[["config", "seed"]].drop_duplicates().to_numpy().tolist()
    assert runs == [["none", 0], ["drop", 0], ["none", 1], ["drop", 1]]
    value = view[(view["config"] == "none") & (view["seed"] == 0)].set_index(["set", "metric"])["value"]
    alpha = value[value.index.get_level_values("metric") == "alpha"]
    weights = {f"weights/{stage}": 4.0 for stage in ("before", "after", "update")}
    assert alpha.droplevel("metric").to_dict() == weights | {
        f"head/{stage}": 7.0 for stage in ("before", "after", "update")
    }
    assert value["weights/update", "norm_ratio"] == 0.1
    assert value["test", "accuracy"] == 0.95
    assert value["fed/feature", "vendi_score"] == 7.0
    assert "validation_loss" not in set(view["metric"])


def test_the_head_of_a_model_that_calls_it_classifier_is_the_head(tmp_path):
    """In results.csv, study.csv and spectra.csv: its kind says so, and its name is never asked."""
    layers = {"head/kernel": "mlp", "classifier/kernel": "head"}
    for seed in (0, 1):
        finished_run(tmp_path / "none" / str(seed), 2.0, layers=layers)
        np.savez(
            tmp_path / "none" / str(seed) / "spectra.npz",
            **{"update/head/kernel": np.array([0.2, 1.8]), "update/classifier/kernel": np.ones(99)},
        )
    arms = {"none": ARMS["none"]}
    table = results.collect(tmp_path, arms)
    found = results.results_table(table).set_index(["seed", "set", "metric"])["value"]
    assert found[0, "head/after", "alpha"] == 3.0
    assert found[0, "weights/after", "alpha"] == 2.0
    found = results.study_table(table, arms).set_index(["seed", "group", "metric"])["value"]
    assert found[0, "head", "after/alpha"] == 3.0
    assert found[0, "backbone", "after/alpha"] == found[0, "mlp", "after/alpha"] == 2.0
    found = results.update_densities(table, arms)
    there = found.loc[found["density"] > 0, "log10_eigenvalue"]
    np.testing.assert_allclose(there, np.log10([0.2, 1.8]), atol=0.051)


def test_products_are_groups_of_their_own_and_alpha_has_a_spread_over_the_backbone(tmp_path):
    layers = LAYERS | {"block_0/attention/qk[head 0]": "attention_qk"}
    for seed in (0, 1):
        finished_run(tmp_path / "none" / str(seed), 2.0, layers=layers, slices=1, N=64, M=32)
    table = results.collect(tmp_path, ARMS).set_index(["stage", "group", "metric", "seed"])["value"]
    assert table["after", "qk", "alpha", 0] == 8.0
    assert table["after", "backbone", "alpha", 0] == 4.0  # of 2 to 6, without the head and the product
    assert table["training", "run", "update_norm", 0] == pytest.approx(6**0.5)
    assert table["after", "backbone", "alpha_spread", 0] == pytest.approx(2.5**0.5)
    shown = results.results_table(results.collect(tmp_path, ARMS))
    assert shown.set_index(["set", "metric", "seed"])["value"]["qk/after", "alpha", 0] == 8.0
    spread = shown[shown["metric"].isin(["alpha_spread", "alpha_spread_null"])]
    assert set(spread["set"]) == {"weights/before", "weights/after", "weights/update"}
    assert len(spread) == 2 * 3 * 2


def test_densities_are_of_the_updates_without_the_head(tmp_path):
    layers = {"a": "mlp", "head/kernel": "head"}
    for seed, scale in ((0, 1.0), (1, 9.0)):
        folder = tmp_path / "none" / str(seed)
        finished_run(folder, 2.0, layers=layers)
        two = scale * np.array([0.2, 1.8])  # over their mean: .2 and 1.8, whatever the scale
        np.savez(
            folder / "spectra.npz",
            **{"update/a": two, "update/head/kernel": np.ones(99), "after/a": np.ones(99)},
        )
    found = results.update_densities(results.collect(tmp_path, ARMS), ARMS)
    assert set(found["arm"]) == {"none"}
    assert set(found["seeds"]) == {2}
    np.testing.assert_allclose(found["density"].sum() * 0.1, 1)
    there = found.loc[found["density"] > 0, "log10_eigenvalue"]
    np.testing.assert_allclose(there, np.log10([0.2, 1.8]), atol=0.051)
    np.testing.assert_allclose(found["high"], found["low"])
    finished_run(tmp_path / "drop" / "0", 2.0, layers=layers)  # a frozen backbone
    np.savez(
        tmp_path / "drop" / "0" / "spectra.npz", **{"update/a": np.zeros(9), "update/head/kernel": np.ones(9)}
    )
    assert results.update_densities(results.collect(tmp_path, ARMS), ARMS).equals(found)
    some = results.collect(tmp_path, ARMS, {name: [1] for name in ARMS})
    assert set(results.update_densities(some, ARMS)["seeds"]) == {1}


def test_summary_is_the_t_interval_over_seeds():
    values = np.array([0.5, 0.7, 0.9, 0.6])
    rows = {"config": "a", "seed": range(4), "set": "test", "metric": "accuracy", "value": values}
    row = results.summary(pd.DataFrame(rows)).iloc[0]
    low, high = scipy.stats.t.interval(0.95, 3, values.mean(), scipy.stats.sem(values))
    np.testing.assert_allclose([row["mean"], row["low"], row["high"]], [values.mean(), low, high])
    assert row["seeds"] == 4


def test_the_long_table_has_a_summary_as_well(table):
    found = results.summary(table).set_index(["arm", "stage", "group", "metric"])
    row = found.loc["drop", "after", "head", "alpha"]
    assert (row["mean"], row["low"], row["high"], row["seeds"]) == (8.0, 8.0, 8.0, 2)


def test_differences_are_paired_by_seed():
    rows = [("a", s, 0.5 + s / 10) for s in range(3)] + [("b", s, 0.4 + s / 10) for s in (2, 0, 1)]
    table = pd.DataFrame(
        [{"config": c, "seed": s, "set": "test", "metric": "accuracy", "value": v} for c, s, v in rows]
    )
    row = results.differences(table, [("a", "b")]).iloc[0]
    np.testing.assert_allclose([row["mean"], row["low"], row["high"]], 0.1)
    assert row["config"] == "a - b"


def test_the_overview_has_a_row_an_arm_and_the_size_of_the_update():
    rows = [
        ("b", 0, "test", "accuracy", 0.5),
        ("b", 1, "test", "accuracy", 0.7),
        ("a", 0, "test", "accuracy", 0.25),
    ]
    rows += [("b", 0, "weights/update", "alpha", 3.25), ("b", 0, "weights/after", "alpha", 9.0)]
    rows += [("a", 0, "weights/update", "norm_ratio", 0.01)]
    rows += [("b", 0, "corrupted/fog", "accuracy", 0.1), ("b", 0, "test", "nll", 9.0)]
    table = results.overview(pd.DataFrame(rows, columns=["config", "seed", "set", "metric", "value"]))
    assert list(table.columns) == ["config", "test accuracy", "update alpha", "update norm ratio"]
    assert table.to_numpy().tolist() == [["b", "0.6 [-0.671, 1.87]", "3.25", ""], ["a", "0.25", "", "0.01"]]


def test_a_damaged_file_is_named(tmp_path):
    finished_run(tmp_path / "none" / "0", 2.0)
    (tmp_path / "none" / "0" / "evaluation.json").write_text("{")
    with pytest.raises(InputError, match=r"cannot read .*none/0/evaluation.json"):
        results.collect(tmp_path, ARMS)
