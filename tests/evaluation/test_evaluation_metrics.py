"""Accuracy, NLL, Brier, calibration and temperature against scikit-learn, closed forms and plain loops."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from rmtjax import evaluation
from rmtjax.evaluation import calibration


def predictions(n=300, k=5, seed=0, signal=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n).astype(np.int32)
    logits = rng.normal(size=(n, k)) + signal * np.eye(k)[labels]
    return logits.astype(np.float32), labels


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def loop_ece(confidence, correct, bins):
    total = 0.0
    for j in range(bins):
        inside = (confidence > j / bins) & (confidence <= (j + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


def test_metrics_equal_sklearn():
    logits, labels = predictions()
    p = softmax(logits.astype(np.float64))
    assert float(evaluation.accuracy(logits, labels)) == pytest.approx(accuracy_score(labels, p.argmax(1)))
    assert float(evaluation.nll(logits, labels)) == pytest.approx(log_loss(labels, p), rel=1e-5)
    assert float(evaluation.brier_score(logits, labels)) == pytest.approx(
        brier_score_loss(labels, p, scale_by_half=False), rel=1e-5
    )


def test_weights_count_examples():
    logits, labels = predictions(n=60)
    counts = np.random.default_rng(1).integers(0, 4, size=60)
    repeated = np.repeat(np.arange(60), counts)
    weights = jnp.asarray(counts, jnp.float32)
    outcome = evaluation.top_label(logits, labels)
    again = evaluation.top_label(logits[repeated], labels[repeated])
    for metric in (evaluation.accuracy, evaluation.nll, evaluation.brier_score):
        expected = metric(logits[repeated], labels[repeated])
        np.testing.assert_allclose(metric(logits, labels, weights), expected, rtol=1e-5)
    for error in (evaluation.expected_calibration_error, evaluation.adaptive_calibration_error):
        np.testing.assert_allclose(error(*outcome, 7, weights), error(*again, 7), rtol=1e-4)


def test_ece_equals_a_loop_over_bins():
    logits, labels = predictions()
    confidence, correct = evaluation.top_label(logits, labels)
    value = evaluation.expected_calibration_error(confidence, correct, 15)
    assert float(value) == pytest.approx(loop_ece(np.asarray(confidence), np.asarray(correct), 15), rel=1e-5)


def test_ece_closed_forms():
    ones = np.ones(20, np.float32)
    half = np.tile([0.0, 1.0], 10).astype(np.float32)
    for error in (evaluation.expected_calibration_error, evaluation.adaptive_calibration_error):
        assert float(error(ones, ones)) == 0.0  # confidence 1 belongs to the last bin
        assert float(error(ones, half)) == pytest.approx(0.5)
        assert float(error(0.5 * ones, half)) == pytest.approx(0.0, abs=1e-6)


def test_ece_bins_are_closed_on_the_right():
    # With 2 bins, .5 is in the first: gaps of -.5 and +.25 in separate bins cannot cancel.
    confidence, correct = np.array([0.5, 0.75], np.float32), np.array([0.0, 1.0], np.float32)
    assert float(evaluation.expected_calibration_error(confidence, correct, 2)) == pytest.approx(0.375)
    assert float(evaluation.expected_calibration_error(confidence, correct, 1)) == pytest.approx(0.125)


@pytest.mark.parametrize("bins", [5, 10, 15, 25, 49])
def test_ece_counts_shares_of_votes_as_on_their_border(bins):
    """A bin for each share: .56 * 25 in floating point is above 14."""
    rng = np.random.default_rng(0)
    votes, correct = rng.integers(1, bins + 1, 500), rng.integers(0, 2, 500).astype(np.float32)
    expected = sum((votes == j).mean() * abs(correct[votes == j].mean() - j / bins) for j in np.unique(votes))
    for confidence in (votes / bins, (votes / bins).astype(np.float32)):
        found = evaluation.expected_calibration_error(confidence, correct, bins=bins)
        assert float(found) == pytest.approx(expected, abs=1e-6)


def test_adaptive_ece_equals_equal_splits_of_the_sorted_examples():
    logits, labels = predictions(n=300)
    confidence, correct = (np.asarray(x) for x in evaluation.top_label(logits, labels))
    parts = np.array_split(np.argsort(confidence), 15)  # 20 each
    expected = sum(len(p) / 300 * abs(correct[p].mean() - confidence[p].mean()) for p in parts)
    assert float(evaluation.adaptive_calibration_error(confidence, correct, 15)) == pytest.approx(
        expected, rel=1e-4
    )


def test_adaptive_ece_divides_an_example_on_a_border():
    # Three examples, two bins of 1.5 each: the middle one is halved. Gaps -.2, -.4, +.4.
    confidence, correct = np.array([0.2, 0.4, 0.6], np.float32), np.array([0.0, 0.0, 1.0], np.float32)
    expected = (abs(-0.2 - 0.2) + abs(-0.2 + 0.4)) / 3
    assert float(evaluation.adaptive_calibration_error(confidence, correct, 2)) == pytest.approx(
        expected, rel=1e-5
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_adaptive_ece_does_not_depend_on_order(seed, levels):
    rng = np.random.default_rng(seed)
    confidence = rng.choice(np.linspace(0.1, 1, levels), size=40).astype(np.float32)  # many ties
    correct = (rng.random(40) < 0.5).astype(np.float32)
    shuffled = rng.permutation(40)
    value = float(evaluation.adaptive_calibration_error(confidence, correct, 7))
    again = float(evaluation.adaptive_calibration_error(confidence[shuffled], correct[shuffled], 7))
    assert value == pytest.approx(again, abs=1e-6)
    assert abs(correct.mean() - confidence.mean()) - 1e-6 <= value <= 1  # one bin gives the least error


@pytest.mark.parametrize(("n", "expected"), [(1000, 0.020), (10000, 0.0065)])
def test_calibration_null_of_beta_confidences(n, expected):
    """FIELD 5: what a perfectly calibrated model with Beta(8, 1) confidences shows over 15 bins."""
    confidence = np.random.default_rng(0).beta(8, 1, size=n).astype(np.float32)
    ece, adaptive = evaluation.calibration_null(confidence, 15, seed=0, draws=100)
    assert float(ece) == pytest.approx(expected, rel=0.08)
    assert 0 < float(adaptive) < 2 * expected


def test_calibration_null_is_a_seeded_mean_of_the_error():
    confidence = np.random.default_rng(0).beta(5, 2, size=(2, 50)).astype(np.float32)
    value = evaluation.calibration_null(confidence, 10, seed=3, draws=8)
    uniform = np.random.default_rng(3).random((8, 50), np.float32)
    for c in range(2):
        expected = np.mean([loop_ece(confidence[c], (u < confidence[c]).astype(float), 10) for u in uniform])
        assert value[0][c] == pytest.approx(expected, rel=1e-4)
    assert not np.allclose(value[0], evaluation.calibration_null(confidence, 10, seed=4, draws=8)[0])


def test_no_merit_is_the_constant_prediction_of_the_frequencies():
    _, labels = predictions(n=200, k=4)
    frequencies = np.bincount(labels, minlength=4) / 200
    logits = np.tile(np.log(frequencies), (200, 1)).astype(np.float32)
    expected = evaluation.no_merit(labels)
    assert float(evaluation.accuracy(logits, labels)) == pytest.approx(expected["accuracy"])
    assert float(evaluation.nll(logits, labels)) == pytest.approx(expected["nll"], rel=1e-5)
    assert float(evaluation.brier_score(logits, labels)) == pytest.approx(expected["brier"], rel=1e-5)


def test_temperature_recovers_the_one_that_made_the_labels():
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(20000, 6))
    labels = np.argmax(logits / 2.5 + rng.gumbel(size=logits.shape), axis=-1)  # drawn from softmax(z / 2.5)
    assert evaluation.fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.03)


def test_temperature_is_the_minimum_and_scales_with_the_logits():
    logits, labels = predictions()
    t = evaluation.fit_temperature(logits, labels)
    assert evaluation.fit_temperature(4 * logits, labels) == pytest.approx(4 * t, rel=1e-5)

    def nll(temperature):
        return log_loss(labels, softmax(logits.astype(np.float64) / temperature))

    assert nll(t) < min(nll(1.01 * t), nll(t / 1.01), nll(1.0))


def test_temperature_where_no_minimum_exists():
    labels = np.arange(4, dtype=np.int32)
    assert evaluation.fit_temperature(np.eye(4), labels) == 1.0  # all right: T -> 0 would be ever better
    assert (
        evaluation.fit_temperature(-np.eye(4), labels) == calibration.TEMPERATURES[1]
    )  # worse than no logits


def test_temperature_with_masked_classes_is_that_of_the_others():
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((300, 5))
    labels = np.array([rng.choice(5, p=np.exp(z) / np.exp(z).sum()) for z in logits / 2])
    masked = np.concatenate([logits, np.full((300, 2), -np.inf)], axis=1)
    assert evaluation.fit_temperature(masked, labels) == evaluation.fit_temperature(logits, labels)
    with pytest.raises(
        ValueError, match="1 of 300 examples have a label whose logit is -inf, first example 7"
    ):
        evaluation.fit_temperature(masked, np.where(np.arange(300) == 7, 6, labels))
    for bad in (np.nan, np.inf):
        logits[3, 0] = bad
        with pytest.raises(ValueError, match="1 of 300 examples have a logit that is NaN or"):
            evaluation.fit_temperature(logits, labels)
