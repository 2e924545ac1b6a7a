"""mCE, relative mCE and effective robustness on examples that are worked out by hand."""

import json

import numpy as np
import pytest
from scipy.special import expit, logit, ndtr, ndtri

from rmtjax import evaluation
from rmtjax.errors import InputError

ERRORS = np.array([[0.2, 0.4], [0.3, 0.3]])
REFERENCE = np.array([[0.4, 0.4], [0.2, 0.4]])


def test_mce_is_the_mean_over_types_of_ratios_of_sums():
    # (.6 / .8 + .6 / .6) / 2
    assert float(evaluation.mean_corruption_error(ERRORS, REFERENCE)) == pytest.approx(0.875)
    # The losses against .1 are .1 .3 and .2 .2; the reference's against .2 are .2 .2 and 0 .2.
    value = evaluation.relative_mean_corruption_error(ERRORS, 0.1, REFERENCE, 0.2)
    assert float(value) == pytest.approx((0.4 / 0.4 + 0.4 / 0.2) / 2)
    assert float(evaluation.mean_corruption_error(REFERENCE, REFERENCE)) == pytest.approx(1)


def stacked(seed, n=60, k=3):
    """Logits of two types at two severities and clean ones, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n).astype(np.int32)
    right = 3 * np.eye(k)[labels]
    of_type = {
        name: np.stack([right + s * spread * rng.normal(size=(n, k)) for s in (1, 2)]).astype(np.float32)
        for name, spread in (("shot_noise", 1.5), ("fog", 2.5))
    }
    return of_type, (right + rng.normal(size=(n, k))).astype(np.float32), labels


IMAGES = evaluation.Images(60, [32, 32, 3], "f00d")


def value_of(rows, name, metric):
    (row,) = [row for row in rows if row["set"] == name and row["metric"] == metric]
    return row


def test_a_model_is_its_own_reference():
    of_type, clean, labels = stacked(0)
    rows = evaluation.corrupted_rows(of_type, clean, labels, temperature=1.0, resamples=50)
    assert not [row for row in rows if row["metric"] in ("mce", "relative_mce")]
    content = json.loads(json.dumps({"rows": rows, "corrupted": IMAGES._asdict()}))
    reference = evaluation.reference_of(content, "runs/a")
    assert reference.images == IMAGES
    assert reference.clean == pytest.approx(1 - float(evaluation.accuracy(clean, labels)), abs=1e-6)
    again = evaluation.corrupted_rows(
        of_type, clean, labels, temperature=1.0, reference=reference, resamples=50
    )
    assert [row for row in again if row["metric"] not in ("mce", "relative_mce")] == rows
    for metric in ("mce", "relative_mce"):
        row = value_of(again, "corrupted", metric)
        assert row["value"] == pytest.approx(1, abs=1e-5)
        assert row["low"] < 1 < row["high"]
    fog, noise = (value_of(again, f"corrupted/{name}", "accuracy")["value"] for name in ("fog", "shot_noise"))
    assert value_of(again, "corrupted_without_noise", "accuracy")["value"] == pytest.approx(fog)
    assert value_of(again, "corrupted", "corruption_error")["value"] == pytest.approx(1 - (fog + noise) / 2)
    assert value_of(again, "corrupted/clean", "accuracy")["value"] == pytest.approx(1 - reference.clean)


def test_mce_of_rows_is_that_of_their_accuracies():
    first, clean, labels = stacked(1)
    rows = evaluation.corrupted_rows(first, clean, labels, temperature=1.0, resamples=20)
    errors = {"shot_noise": {1: 0.1, 2: 0.3}, "fog": {1: 0.2, 2: 0.5}, "snow": {1: 0.9, 2: 0.9}}
    reference = evaluation.Reference(errors, 0.05, "runs/b", IMAGES)
    with_reference = evaluation.corrupted_rows(
        first, clean, labels, temperature=1.0, reference=reference, resamples=20
    )
    mine = evaluation.reference_of({"rows": rows, "corrupted": IMAGES._asdict()}, "runs/a")
    errors = np.array([list(mine.errors[name].values()) for name in ("shot_noise", "fog")])
    divisors = np.array([[0.1, 0.3], [0.2, 0.5]])
    expected = np.mean(errors.sum(1) / divisors.sum(1))
    assert value_of(with_reference, "corrupted", "mce")["value"] == pytest.approx(expected, rel=1e-5)
    expected = np.mean((errors - mine.clean).sum(1) / (divisors - 0.05).sum(1))
    assert value_of(with_reference, "corrupted", "relative_mce")["value"] == pytest.approx(expected, rel=1e-5)
    majority = np.bincount(labels).max() / len(labels)
    expected = np.mean(2 * (1 - majority) / divisors.sum(1))
    assert value_of(with_reference, "corrupted", "mce")["null"] == pytest.approx(expected, rel=1e-5)


def test_a_reference_that_lacks_a_corruption_is_refused():
    of_type, clean, labels = stacked(2)
    with pytest.raises(InputError, match=r"no errors under 'fog' at severity 1.*evaluation\.corruptions"):
        evaluation.corrupted_rows(
            of_type,
            clean,
            labels,
            temperature=1.0,
            reference=evaluation.Reference({"shot_noise": {1: 0.1, 2: 0.2}}, 0, "runs/b", IMAGES),
        )
    with pytest.raises(InputError, match=r"'runs/b' has no accuracies on corrupted examples"):
        evaluation.reference_of({"rows": [{"set": "test", "metric": "accuracy", "value": 0.9}]}, "runs/b")


def test_a_reference_of_other_images_is_refused():
    reference = evaluation.Reference({}, 0, "runs/b", IMAGES)
    evaluation.check_same_images(reference, evaluation.Images(60, [32, 32, 3], "f00d"))
    with pytest.raises(
        InputError, match=r"'runs/b' was evaluated on 60 corrupted examples and this one is on 200"
    ):
        evaluation.check_same_images(reference, IMAGES._replace(n=200))
    for other in (IMAGES._replace(shape=[224, 224, 3]), IMAGES._replace(labels="beef")):
        with pytest.raises(InputError, match=r"'runs/b' was evaluated on other corrupted images"):
            evaluation.check_same_images(reference, other)


@pytest.mark.parametrize(("scale", "to", "back"), [("logit", logit, expit), ("probit", ndtri, ndtr)])
def test_effective_robustness_is_the_distance_to_the_line_on_its_scale(scale, to, back):
    baselines = np.array([0.6, 0.7, 0.75, 0.8, 0.9])
    shifted = back(0.8 * to(baselines) - 0.5)
    on_the_line = back(0.8 * to(0.95) - 0.5)
    value, low, high = evaluation.effective_robustness(
        0.95, on_the_line + 0.04, baselines, shifted, scale=scale
    )
    assert (value, low, high) == pytest.approx((0.04, 0.04, 0.04), abs=1e-9)  # the line is certain
    rng = np.random.default_rng(0)
    noisy = back(0.8 * to(baselines) - 0.5 + 0.1 * rng.normal(size=5))
    value, low, high = evaluation.effective_robustness(
        0.95, on_the_line + 0.04, baselines, noisy, scale=scale
    )
    slope, intercept = np.polyfit(to(baselines), to(noisy), 1)
    assert value == pytest.approx(on_the_line + 0.04 - back(intercept + slope * to(0.95)))
    assert low < value < high


@pytest.mark.parametrize("count", [5, 10])
def test_a_model_on_the_line_has_zero_in_its_interval(count):
    """In 95 % of 2,000 draws, whose baselines and model scatter alike about the line."""
    rng = np.random.default_rng(count)
    inside = 0
    for _ in range(2000):
        x = rng.normal(1, 0.5, count + 1)
        accuracy, shifted = expit(x), expit(0.8 * x - 0.5 + 0.1 * rng.standard_normal(count + 1))
        _, low, high = evaluation.effective_robustness(accuracy[0], shifted[0], accuracy[1:], shifted[1:])
        inside += low < 0 < high
    assert 0.935 < inside / 2000 < 0.965


def test_rows_of_effective_robustness_are_for_the_sets_that_all_share():
    def rows(test, corrupted, printed=None):
        of = [("test", "id", test), ("corrupted", "shift", corrupted), ("corrupted/fog", "shift", 0.5)]
        of += [("printed_digits", "shift", printed)] if printed else []
        return [{"set": s, "kind": k, "metric": "accuracy", "value": v, "n": 9} for s, k, v in of]

    baselines = [rows(x, expit(logit(x) - 1), 0.5) for x in (0.6, 0.65, 0.7, 0.8, 0.9)]
    (row,) = evaluation.effective_robustness_rows(rows(0.8, 0.7), baselines)
    assert (row["set"], row["metric"], row["null"], row["n"]) == ("corrupted", "effective_robustness", 0.0, 9)
    assert row["value"] == pytest.approx(0.7 - expit(logit(0.8) - 1))
    assert len(evaluation.effective_robustness_rows(rows(0.8, 0.7, 0.6), baselines)) == 2
    # Sets are named as the config names them, with slashes; only corruptions one by one are left out.
    named = [[row | {"set": "tfds:cifar10_1/v6"} if row["set"] == "corrupted" else row for row in of]
             for of in (rows(0.8, 0.7), *baselines)]  # fmt: skip
    assert evaluation.effective_robustness_rows(named[0], named[1:])[0]["set"] == "tfds:cifar10_1/v6"
    with pytest.raises(InputError, match="at least five baselines"):
        evaluation.effective_robustness_rows(rows(0.8, 0.7), baselines[:4])
    with pytest.raises(InputError, match="share no shifted set"):
        evaluation.effective_robustness_rows(rows(0.8, 0.7), [rows(0.6, 0.5)[:1]] * 5)
    with pytest.raises(InputError, match="one is 0"):
        evaluation.effective_robustness_rows(rows(0.8, 0.0), baselines)
