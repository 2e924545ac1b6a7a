"""OOD scores, AUROC and FPR95 against scikit-learn and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit, logsumexp, softmax
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from rmtjax import evaluation


def pooled(inside, outside):
    return np.r_[np.ones(len(inside)), np.zeros(len(outside))], np.r_[inside, outside]


def sklearn_fpr95(inside, outside):
    fpr, tpr, _ = roc_curve(*pooled(inside, outside), drop_intermediate=False)
    return fpr[np.argmax(tpr >= 0.95 - 1e-12)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(40, 60), (100, 7)]), st.sampled_from([3, 10, 10**6]))
def test_auroc_and_fpr_equal_sklearn_with_ties(seed, sizes, levels):
    rng = np.random.default_rng(seed)
    inside = (rng.integers(levels, size=sizes[0]) + 0.3 * levels).astype(np.float32) // 1
    outside = rng.integers(levels, size=sizes[1]).astype(np.float32)
    assert float(evaluation.auroc(inside, outside)) == pytest.approx(
        roc_auc_score(*pooled(inside, outside)), abs=1e-6
    )
    assert float(evaluation.fpr_at_tpr(inside, outside)) == pytest.approx(
        sklearn_fpr95(inside, outside), abs=1e-6
    )


def test_normal_scores():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1.5, 1, 20000), rng.normal(0, 1, 20000)
    assert float(evaluation.auroc(inside, outside)) == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=0.01)
    assert float(evaluation.fpr_at_tpr(inside, outside)) == pytest.approx(
        norm.sf(1.5 + norm.ppf(0.05)), abs=0.02
    )


def test_extremes_and_symmetry():
    low, high = np.arange(10.0), np.arange(10.0) + 20
    assert float(evaluation.auroc(high, low)) == 1.0
    assert float(evaluation.auroc(low, high)) == 0.0
    assert float(evaluation.fpr_at_tpr(high, low)) == 0.0
    same = np.ones(5)
    assert float(evaluation.auroc(same, same)) == 0.5
    assert float(evaluation.fpr_at_tpr(same, same)) == 1.0


@pytest.mark.parametrize("n", [20, 100, 757, 797, 800, 1000])
def test_threshold_lets_in_just_enough(n):
    """The threshold is the ceil(.95 n)-th highest score, whatever .95 rounds to in float32."""
    inside = np.arange(n, dtype=np.float32)
    threshold = n - -(-95 * n // 100)  # the score of that rank
    outside = np.array([threshold - 1, threshold], np.float32)
    assert float(evaluation.fpr_at_tpr(inside, outside)) == 0.5


def test_weights_count_examples():
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(8, size=50) + 1.0, rng.integers(8, size=30) + 0.0
    counts = rng.integers(0, 3, size=50), rng.integers(0, 3, size=30)
    repeated = np.repeat(inside, counts[0]), np.repeat(outside, counts[1])
    weights = [jnp.asarray(c, jnp.float32) for c in counts]
    for metric in (evaluation.auroc, evaluation.fpr_at_tpr):
        assert float(metric(inside, outside, *weights)) == pytest.approx(float(metric(*repeated)), abs=1e-6)


def test_scores():
    logits = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    np.testing.assert_allclose(evaluation.max_softmax(logits), softmax(logits, -1).max(-1), rtol=1e-5)
    np.testing.assert_allclose(evaluation.energy(logits), logsumexp(logits, -1), rtol=1e-5)
    np.testing.assert_allclose(
        evaluation.max_log_odds(logits),
        logit(softmax(logits.astype(np.float64), -1).max(-1)),
        rtol=1e-5,
        atol=1e-6,
    )
    assert np.isposinf(evaluation.max_log_odds(logits[:, :1])).all()  # one class is certain


def log_odds(logits):
    """In float64, by its definition."""
    ordered = np.sort(logits.astype(np.float64), axis=-1)
    return ordered[:, -1] - logsumexp(ordered[:, :-1], axis=-1)


def test_log_odds_do_not_tie_at_gaps_of_up_to_60():
    gaps = np.linspace(0, 60, 60_001, dtype=np.float32)
    logits = np.random.default_rng(0).normal(size=(len(gaps), 10)).astype(np.float32)
    logits[:, 3] = np.delete(logits, 3, axis=1).max(axis=1) + gaps
    np.testing.assert_allclose(evaluation.max_log_odds(logits), log_odds(logits), rtol=3e-7, atol=1e-6)
    alike = np.stack([gaps, *np.zeros((9, len(gaps)), np.float32)], axis=1)
    assert (np.diff(evaluation.max_log_odds(alike)) > 0).all()
    assert len(np.unique(evaluation.max_softmax(alike))) < len(gaps) / 3  # probabilities do


def test_very_confident_models_are_ranked():
    """Most probabilities are 1 in float32, by which AUROC would be near chance."""
    rng = np.random.default_rng(0)
    inside, outside = (rng.normal(size=(2000, 10)).astype(np.float32) for _ in range(2))
    inside[:, 0] += rng.normal(40, 5, 2000)
    outside[:, 0] += rng.normal(35, 5, 2000)
    exact = roc_auc_score(np.repeat([1, 0], 2000), log_odds(np.concatenate([inside, outside])))
    by_metric = {
        row["metric"]: row["value"] for row in evaluation.ood_rows("far", inside, outside, resamples=2)
    }
    assert by_metric["auroc_max_softmax"] == pytest.approx(exact, abs=1e-5)
    threshold = np.sort(log_odds(inside))[100]  # that 1,900 of 2,000 reach
    assert by_metric["fpr95_max_softmax"] == pytest.approx(np.mean(log_odds(outside) >= threshold), abs=1e-3)
    rounded = evaluation.auroc(evaluation.max_softmax(inside), evaluation.max_softmax(outside))
    assert float(rounded) < 0.51 < 0.74 < exact


def test_float64_scores_that_float32_would_tie_are_ranked():
    rng = np.random.default_rng(0)
    outside = 1 - rng.uniform(1e-9, 2e-9, 50)
    inside = 1 - rng.uniform(1e-10, 9e-10, 40)
    assert len(np.unique(np.r_[inside, outside].astype(np.float32))) == 1
    assert float(evaluation.auroc(inside, outside)) == 1.0
    assert float(evaluation.fpr_at_tpr(inside, outside)) == 0.0
    mixed = np.r_[inside[:20], outside[:5]]
    assert float(evaluation.auroc(mixed, outside)) == pytest.approx(roc_auc_score(*pooled(mixed, outside)))
    assert float(evaluation.fpr_at_tpr(mixed, outside)) == pytest.approx(sklearn_fpr95(mixed, outside))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("score", [evaluation.auroc, evaluation.fpr_at_tpr])
def test_scores_without_an_order_are_refused(score, dtype):
    with pytest.raises(ValueError, match="1 of 3 ood_scores are NaN"):
        score(np.ones(2, dtype), np.array([0, np.nan, 1], dtype))
