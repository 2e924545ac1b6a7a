import json
import pathlib

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from rmtjax import config as config_lib
from rmtjax import flags, study
from rmtjax.errors import InputError
from rmtjax.study import runner

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"

TINY = """
from rmtjax import config

def get_config():
    c = config.smoke(config.base())
    c.model.init_from = None
    c.model.name = "mlp"
    c.model.mlp.width = 8
    c.spectra.enabled = False
    c.diversity.enabled = False
    c.evaluation.shifts = ()
    c.evaluation.ood = ()
    return c
"""
ARMS = {"plain": [], "decay": ["regularization.weight_decay=0.1"]}


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(TINY)
    return str(path)


def finish(run, accuracy):
    """What a finished run leaves, as far as the tables read it."""
    run.workdir.mkdir(parents=True)
    (run.workdir / "config.json").write_text(config_lib.to_json(run.config))
    (run.workdir / "run.json").write_text(json.dumps({"status": "finished"}))
    row = {
        "set": "test",
        "kind": "id",
        "metric": "accuracy",
        "value": accuracy,
        "low": 0,
        "high": 1,
        "null": 0.1,
        "n": 40,
    }
    (run.workdir / "evaluation.json").write_text(json.dumps({"temperature": 1.0, "rows": [row]}))
    layers = pd.DataFrame(
        {
            "stage": "after",
            "name": ["a/kernel", "b/kernel", "c/kernel", "head/kernel"],
            "alpha": [2.0, 3.0, 7.0, 50.0],
        }
    )
    layers.to_parquet(run.workdir / "spectra.parquet")


def test_the_table_has_a_row_a_run_and_number_with_the_head_apart(tiny, tmp_path):
    runs = study.plan(tiny, ARMS, [0, 1], tmp_path / "out")
    assert [(run.arm, run.seed) for run in runs] == [("plain", 0), ("decay", 0), ("plain", 1), ("decay", 1)]
    for run, accuracy in zip(runs[:3], (0.5, 0.7, 0.6), strict=True):
        finish(run, accuracy)
    table = study.table(runs)
    accuracy = table[table["metric"] == "accuracy"]
    assert list(accuracy["value"]) == [0.5, 0.7, 0.6]
    alpha = table[(table["metric"] == "alpha") & (table["config"] == "plain") & (table["seed"] == 0)]
    assert dict(zip(alpha["set"], alpha["value"], strict=True)) == {"weights/after": 3.0, "head/after": 50.0}


def test_the_overview_has_a_row_an_arm_and_the_size_of_the_update():
    layers = pd.DataFrame(
        {
            "stage": ["before", "before", "update", "update", "after"],
            "name": ["a/kernel", "b/kernel", "b/kernel", "a/kernel", "a/kernel"],
            "log_norm": [2.0, 4.0, 2.0, -2.0, 2.0],
        }
    )
    ratios = runner._with_relative_update(layers)["relative_update"].to_numpy()
    np.testing.assert_allclose(ratios, [np.nan, np.nan, 0.1, 0.01, np.nan])
    rows = [
        ("b", 0, "test", "accuracy", 0.5),
        ("b", 1, "test", "accuracy", 0.7),
        ("a", 0, "test", "accuracy", 0.25),
    ]
    rows += [("b", 0, "weights/update", "alpha", 3.25), ("b", 0, "weights/after", "alpha", 9.0)]
    rows += [("b", 0, "corrupted/fog", "accuracy", 0.1), ("b", 0, "test", "nll", 9.0)]
    table = study.overview(pd.DataFrame(rows, columns=["config", "seed", "set", "metric", "value"]))
    assert list(table.columns) == ["config", "test accuracy", "update alpha"]
    assert table.to_numpy().tolist() == [["b", "0.6 [-0.671, 1.87]", "3.25"], ["a", "0.25", ""]]


def test_summary_is_the_t_interval_over_seeds():
    values = np.array([0.5, 0.7, 0.9, 0.6])
    results = pd.DataFrame(
        {"config": "a", "seed": range(4), "set": "test", "metric": "accuracy", "value": values}
    )
    row = study.summary(results).iloc[0]
    low, high = scipy.stats.t.interval(0.95, 3, values.mean(), scipy.stats.sem(values))
    np.testing.assert_allclose([row["mean"], row["low"], row["high"]], [values.mean(), low, high])
    assert row["seeds"] == 4


def test_differences_are_paired_by_seed():
    rows = [("a", s, 0.5 + s / 10) for s in range(3)] + [("b", s, 0.4 + s / 10) for s in (2, 0, 1)]
    results = pd.DataFrame(
        [{"config": c, "seed": s, "set": "test", "metric": "accuracy", "value": v} for c, s, v in rows]
    )
    row = study.differences(results, [("a", "b")]).iloc[0]
    np.testing.assert_allclose([row["mean"], row["low"], row["high"]], 0.1)


def test_a_folder_of_another_config_is_refused(tiny, tmp_path):
    (run,) = study.plan(tiny, {"plain": []}, [0], tmp_path / "out")
    finish(run, 0.5)
    with pytest.raises(InputError, match=r"weight_decay: 0\.0 -> 0\.1"):
        study.plan(tiny, {"plain": ["regularization.weight_decay=0.1"]}, [0], tmp_path / "out")


@pytest.mark.parametrize("text", ["", "1-", "a", "1,,2"])
def test_bad_seeds_are_one_sentence(text):
    with pytest.raises(InputError, match="is not a list of whole numbers"):
        flags.seeds(text)


def test_a_bad_arm_name_is_refused(tmp_path):
    path = tmp_path / "arms.py"
    path.write_text("def get_arms(config):\n    return {'a/b': []}\n")
    with pytest.raises(InputError, match="arm name 'a/b'"):
        study.load_arms(str(path), config_lib.base())


@pytest.mark.parametrize(
    ("arms", "config"),
    [
        ("arms_cifar10", "cifar10_resnet20"), ("arms_cifar10", "cifar10_clip_vitb32"), ("arms_cifar10", "cars_clip_rn50"),
        ("arms_text", "banking77_minilm"), ("arms_transfer_synthetic", "digits"),
    ],
)  # fmt: skip
def test_arms_fit_the_config_they_are_over(arms, config, tmp_path):
    base = config_lib.load(str(CONFIGS / f"{config}.py"))
    made = study.load_arms(str(CONFIGS / f"{arms}.py"), base)
    runs = study.plan(str(CONFIGS / f"{config}.py"), made, [0], tmp_path)
    rates = {(run.config.optim.name, run.config.optim.learning_rate) for run in runs}
    if arms == "arms_cifar10" and base.optim.name == "sgd":
        assert rates == {("sgd", 1e-3), ("adam_l2", 1e-4), ("adamw", 1e-4)}
    else:  # the config's own in every arm
        assert {rate for _, rate in rates} == {base.optim.learning_rate}
    distinct = {config_lib.to_json(run.config) for run in runs}
    assert len(distinct) == len(runs)


@pytest.mark.slow
def test_runs_are_executed_once_failures_are_named_and_the_others_go_on(tiny, tmp_path, monkeypatch):
    arms = {"good": [], "bad": ["data.source=npz:nowhere.npz"]}
    runs = study.plan(tiny, arms, [0], tmp_path / "out")
    failed = study.execute(runs, workers=2)
    assert [run.arm for run in failed] == ["bad"]
    assert "nowhere.npz" in (tmp_path / "out" / "bad" / "0" / "log.txt").read_text()
    results = study.write_tables(runs, tmp_path / "out")
    assert set(results["config"]) == {"good"}
    assert (tmp_path / "out" / "summary.csv").exists()
    before = (tmp_path / "out" / "good" / "0" / "log.txt").stat().st_mtime_ns
    assert study.execute(runs[:1]) == []
    assert (tmp_path / "out" / "good" / "0" / "log.txt").stat().st_mtime_ns == before
