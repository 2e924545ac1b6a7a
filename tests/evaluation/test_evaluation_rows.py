"""Bootstrap intervals and the rows of evaluation.json."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from rmtjax import evaluation
from rmtjax.errors import InputError
from rmtjax.evaluation import resampling
from rmtjax.evaluation import rows as rows_module


def predictions(n=200, k=5, seed=0, signal=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n).astype(np.int32)
    logits = rng.normal(size=(n, k)) + signal * np.eye(k)[labels]
    return logits.astype(np.float32), labels


def mean_statistic(data, weights):
    return {"mean": jnp.dot(data, weights) / jnp.sum(weights)}


def difference_statistic(data, first, second):
    return {"difference": data[0] @ first / first.sum() - data[1] @ second / second.sum()}


def by_metric(rows):
    return {row["metric"]: row for row in rows}


def test_bootstrap_spread_of_a_mean():
    x = np.random.default_rng(0).normal(size=400).astype(np.float32)
    values, replicates = evaluation.bootstrap(mean_statistic, jnp.asarray(x), (400,), seed=1, resamples=4000)
    assert float(values["mean"]) == pytest.approx(x.mean(), abs=1e-6)
    assert replicates["mean"].shape == (4000,)
    assert replicates["mean"].mean() == pytest.approx(x.mean(), abs=4 * x.std() / 20 / np.sqrt(4000))
    assert replicates["mean"].std() == pytest.approx(x.std() / 20, rel=0.05)
    interval = evaluation.percentile_interval(float(values["mean"]), replicates["mean"])
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * x.std() / 20, rel=0.06)


def test_bootstrap_resamples_sets_independently():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=300).astype(np.float32), rng.normal(size=150).astype(np.float32)
    _, replicates = evaluation.bootstrap(
        difference_statistic, (jnp.asarray(a), jnp.asarray(b)), (300, 150), seed=0, resamples=3000
    )
    assert replicates["difference"].std() == pytest.approx(np.sqrt(a.var() / 300 + b.var() / 150), rel=0.06)


def test_bootstrap_in_blocks_is_seeded_and_whole(monkeypatch):
    x = jnp.arange(20.0)
    whole, first = evaluation.bootstrap(mean_statistic, x, (20,), seed=5, resamples=101)
    monkeypatch.setattr(resampling, "_ELEMENTS", 20 * 10)
    blocks, second = evaluation.bootstrap(mean_statistic, x, (20,), seed=5, resamples=101)
    assert float(whole["mean"]) == float(blocks["mean"]) == pytest.approx(9.5)
    assert first["mean"].shape == second["mean"].shape == (101,)
    assert np.std(second["mean"]) == pytest.approx(np.std(first["mean"]), rel=0.4)
    _, again = evaluation.bootstrap(mean_statistic, x, (20,), seed=5, resamples=101)
    np.testing.assert_array_equal(second["mean"], again["mean"])


def test_intervals_of_accuracy_cover_the_truth():
    """For a model that is right in 80 % of cases, some 95 % of 200 intervals hold .8."""
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        right = jnp.asarray(rng.random(150) < 0.8, jnp.float32)
        values, replicates = evaluation.bootstrap(mean_statistic, right, (150,), seed=seed, resamples=300)
        interval = evaluation.percentile_interval(float(values["mean"]), replicates["mean"])
        covered += interval.low <= 0.8 <= interval.high
    assert 0.89 <= covered / 200 <= 0.99


def test_recentred_interval():
    replicates = np.linspace(0.2, 0.4, 101)
    plain = evaluation.percentile_interval(0.1, replicates)
    assert (plain.low, plain.high) == pytest.approx((0.205, 0.395))
    recentred = evaluation.percentile_interval(0.1, replicates, recentre=True)
    assert (recentred.low, recentred.high) == pytest.approx((0.005, 0.195))
    assert evaluation.percentile_interval(0.05, replicates, recentre=True).low == 0.0


def test_classification_rows():
    logits, labels = predictions()
    rows = evaluation.classification_rows("test", "id", logits, labels, temperature=0.5, resamples=100)
    assert [row["metric"] for row in rows] == [*rows_module.METRICS, *rows_module.SCALED_METRICS]
    assert json.loads(json.dumps(rows)) == rows
    row = by_metric(rows)
    assert all(r["low"] <= r["value"] <= r["high"] and r["n"] == 200 for r in rows)
    assert {(r["set"], r["kind"]) for r in rows} == {("test", "id")}
    for suffix, z in (("", logits), ("_ts", logits / 0.5)):
        outcome = evaluation.top_label(z, labels)
        expected = {
            "nll": evaluation.nll(z, labels),
            "brier": evaluation.brier_score(z, labels),
            "ece": evaluation.expected_calibration_error(*outcome),
            "adaptive_ece": evaluation.adaptive_calibration_error(*outcome),
        }
        for metric, value in expected.items():
            assert row[metric + suffix]["value"] == pytest.approx(float(value), rel=1e-5)
        null = evaluation.calibration_null(outcome[0], 15, seed=0)
        assert row["ece" + suffix]["null"] == pytest.approx(float(null[0]), rel=1e-4)
        assert row["adaptive_ece" + suffix]["null"] == pytest.approx(float(null[1]), rel=1e-4)
    assert row["accuracy"]["value"] == pytest.approx(float(evaluation.accuracy(logits, labels)))
    assert row["nll_ts"]["null"] == pytest.approx(evaluation.no_merit(labels)["nll"])


def test_conditions_are_averaged_and_resampled_together():
    logits, labels = predictions()
    one = by_metric(evaluation.classification_rows("a", "id", logits, labels, temperature=2.0, resamples=100))
    six = by_metric(
        evaluation.classification_rows(
            "a", "id", np.stack([logits] * 6), labels, temperature=2.0, resamples=100
        )
    )
    for metric, row in one.items():  # copies of one condition add no evidence: the interval stays as wide
        for field in ("value", "low", "high", "null", "n"):
            assert six[metric][field] == pytest.approx(row[field], rel=1e-4), (metric, field)


def test_corrupted_rows():
    logits, labels = predictions()
    rng = np.random.default_rng(1)
    by_type = {
        name: np.stack([logits + s * rng.normal(size=logits.shape) for s in range(3)]).astype(np.float32)
        for name in ("noise", "blur")
    }
    severities = (1, 3, 5)
    rows = evaluation.corrupted_rows(
        by_type, logits, labels, temperature=1.0, severities=severities, resamples=100
    )
    accuracy = {r["set"]: r["value"] for r in rows if r["metric"] == "accuracy"}
    for name, stack in by_type.items():
        for s, severity in enumerate(severities):
            value = float(evaluation.accuracy(stack[s], labels))
            assert accuracy[f"corrupted/{name}/{severity}"] == pytest.approx(value)
        mean = np.mean([accuracy[f"corrupted/{name}/{s}"] for s in severities])
        assert accuracy[f"corrupted/{name}"] == pytest.approx(mean, rel=1e-6)
    assert accuracy["corrupted"] == pytest.approx(
        np.mean([accuracy["corrupted/noise"], accuracy["corrupted/blur"]]), rel=1e-6
    )
    assert {r["set"] for r in rows if r["metric"] != "accuracy"} == {"corrupted"}
    assert not {r["set"] for r in rows} & {
        "corrupted_without_noise"
    }  # there is none of CIFAR-10-C's noise types
    assert accuracy["corrupted/clean"] == pytest.approx(float(evaluation.accuracy(logits, labels)))
    assert all(r["kind"] == "shift" and r["low"] <= r["value"] <= r["high"] for r in rows)


def test_ood_rows():
    logits, _ = predictions()
    outside = np.random.default_rng(3).normal(size=(90, 5)).astype(np.float32)
    rows = evaluation.ood_rows("letters", logits, outside, resamples=200)
    assert [r["metric"] for r in rows] == list(rows_module.OOD_METRICS)
    assert all(r["low"] <= r["value"] <= r["high"] and r["n"] == 90 and r["kind"] == "ood" for r in rows)
    row = by_metric(rows)
    for name, score in (("max_softmax", evaluation.max_log_odds), ("energy", evaluation.energy)):
        inside_score, outside_score = score(logits), score(outside)
        assert row[f"auroc_{name}"]["value"] == pytest.approx(
            float(evaluation.auroc(inside_score, outside_score)), abs=1e-6
        )
        assert row[f"fpr95_{name}"]["value"] == pytest.approx(
            float(evaluation.fpr_at_tpr(inside_score, outside_score)), abs=1e-6
        )
    assert (row["auroc_energy"]["null"], row["fpr95_energy"]["null"]) == (0.5, 0.95)


def test_bad_input_is_one_sentence():
    logits, labels = predictions(n=10)
    broken = logits.copy()
    broken[3, 1] = np.nan
    cases = [
        ((logits, labels[:9]), "10 examples and 9 labels"),
        ((logits, labels + 3), "labels must lie in"),
        ((broken, labels), "1 examples whose logits are not finite"),
        ((logits[:0], labels[:0]), "no examples"),
    ]
    for (z, y), message in cases:
        with pytest.raises(InputError, match=message):
            evaluation.classification_rows("test", "id", z, y, temperature=1.0)
    with pytest.raises(InputError, match="the same model"):
        evaluation.ood_rows("letters", logits, logits[:, :3])
    with pytest.raises(InputError, match="every type the same"):
        evaluation.corrupted_rows({"a": logits[None], "b": logits[None, :5]}, logits, labels, temperature=1.0)


def test_import_is_light():
    code = (
        "import sys, rmtjax.evaluation\n"
        "print([m for m in ('tensorflow', 'flax', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
