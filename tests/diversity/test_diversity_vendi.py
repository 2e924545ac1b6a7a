"""The Vendi score against its definition, closed forms and simulation."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmtjax import diversity
from rmtjax.diversity import spectrum
from rmtjax.spectra.nulls import closed_forms

ORDERS = (0.5, 1.0, 2, math.inf)


def by_definition(features, q):
    """From the eigenvalues of the whole n x n similarity matrix."""
    x = features / np.linalg.norm(features, axis=1, keepdims=True)
    p = np.linalg.eigvalsh(x @ x.T / len(x))
    p = p[p > 1e-12]
    if q == 1:
        return np.exp(-np.sum(p * np.log(p)))
    return 1 / p.max() if math.isinf(q) else np.sum(p**q) ** (1 / (1 - q))


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize("shape", [(50, 8), (50, 50), (20, 70)])
def test_definition_in_primal_and_dual_form(shape, q):
    features = np.random.default_rng(0).normal(size=shape) + 0.5
    assert diversity.vendi_score(features, q) == pytest.approx(by_definition(features, q), rel=1e-10)


@pytest.mark.parametrize("q", ORDERS)
def test_closed_forms(q):
    row = np.random.default_rng(0).normal(size=(1, 12)).astype(np.float32)
    assert diversity.vendi_score(np.repeat(row, 30, axis=0), q) == pytest.approx(1, abs=1e-10)
    assert diversity.vendi_score(np.eye(12), q) == pytest.approx(12, rel=1e-12)
    assert diversity.vendi_score(np.eye(12)[:7], q) == pytest.approx(7, rel=1e-12)
    # Two groups of 3 and 1 identical examples: p = (3/4, 1/4).
    features = np.eye(2)[[0, 0, 0, 1]]
    expected = {0.5: (0.75**0.5 + 0.5) ** 2, 1.0: 4 / 3**0.75, 2: 1 / (0.5625 + 0.0625), math.inf: 4 / 3}
    assert diversity.vendi_score(features, q) == pytest.approx(expected[q], rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(9, 4), (6, 10)]))
def test_invariances(seed, shape):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=shape) ** 3
    scores = [diversity.vendi_score(features, q) for q in ORDERS]
    assert scores[-1] + 1e-9 >= 1
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(scores))  # falls with the order
    assert scores[0] <= min(shape) + 1e-9
    rotation = np.linalg.qr(rng.normal(size=(shape[1], shape[1])))[0]
    scaled = features[rng.permutation(shape[0])] * rng.uniform(0.1, 9, size=(shape[0], 1)) @ rotation
    doubled = np.concatenate([features, features])
    for q, score in zip(ORDERS, scores, strict=True):
        assert diversity.vendi_score(scaled, q) == pytest.approx(score, rel=1e-8)
        assert diversity.vendi_score(doubled, q) == pytest.approx(score, rel=1e-8)


def test_scales_far_from_one_and_float32():
    features = np.random.default_rng(0).normal(size=(30, 6))
    score = diversity.vendi_score(features)
    for scale in (1e-200, 1e200):
        assert diversity.vendi_score(features * scale) == pytest.approx(score, rel=1e-10)
    assert diversity.vendi_score(features.astype(np.float32)) == pytest.approx(score, rel=1e-6)


def test_zero_rows_are_one_kind_of_their_own():
    features = np.concatenate([np.eye(3), np.zeros((4, 3))])
    # p = (1/7, 1/7, 1/7, 4/7)
    assert diversity.vendi_score(features) == pytest.approx(7 ** (3 / 7) * (7 / 4) ** (4 / 7), rel=1e-12)
    assert diversity.vendi_score(np.zeros((4, 3))) == pytest.approx(1)


@pytest.mark.parametrize(
    ("n", "d", "first", "second"),
    [(5000, 64, 63.6, 63.2), (200, 512, 164.5, 143.7), (5000, 512, 486.4, 464.4)],
)
def test_isotropic_noise(n, d, first, second):
    """FIELD 3 and 7 (row 11)."""
    features = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    for q, expected in ((1, first), (2, second)):
        assert diversity.vendi_score(features, q) == pytest.approx(expected, rel=2e-3)
        assert diversity.vendi_of_isotropic(n, d, q) == pytest.approx(expected, rel=3e-3)


@pytest.mark.parametrize(("q", "tolerance"), [(0.5, 3e-3), (math.inf, 0.05)])
def test_isotropic_noise_at_other_orders(q, tolerance):
    """The largest eigenvalue nears the edge only as n^(-2/3)."""
    features = np.random.default_rng(0).normal(size=(200, 512))
    assert diversity.vendi_score(features, q) == pytest.approx(
        diversity.vendi_of_isotropic(200, 512, q), rel=tolerance
    )


@pytest.mark.parametrize(
    ("n", "d", "tolerance"), [(60, 40, 0.02), (30, 300, 0.02), (1000, 20, 0.02), (20, 5, 0.15), (3, 3, 1.0)]
)
def test_largest_eigenvalue_of_noise(n, d, tolerance):
    """The null of order infinity is the mean score of noise, and with few dimensions an upper end."""
    rng = np.random.default_rng(0)
    scores = [diversity.vendi_score(rng.normal(size=(n, d)), math.inf) for _ in range(100)]
    error = np.std(scores) / 10
    null = diversity.vendi_of_isotropic(n, d, math.inf)
    assert null <= min(n, d)
    assert np.mean(scores) - 3 * error < null < (1 + tolerance) * np.mean(scores) + 3 * error


def test_isotropic_closed_forms():
    n, d = 300, 120
    assert diversity.vendi_of_isotropic(n, d, 2) == pytest.approx(n * d / (n + d), rel=1e-9)
    near_one = [diversity.vendi_of_isotropic(n, d, q) for q in (0.9999, 1, 1.0001)]
    assert near_one[0] == pytest.approx(near_one[1], rel=1e-4)
    assert near_one[2] == pytest.approx(near_one[1], rel=1e-4)
    assert diversity.vendi_of_isotropic(n, d, 400) == pytest.approx(
        diversity.vendi_of_isotropic(n, d, math.inf), rel=0.03
    )
    assert diversity.vendi_of_isotropic(n, d) == diversity.vendi_of_isotropic(d, n)
    assert diversity.vendi_of_isotropic(50, 1) == 1


@pytest.mark.parametrize("q", ORDERS)
@pytest.mark.parametrize("shape", [(40, 5), (12, 30)])
def test_standard_error_is_that_of_the_influences(shape, q):
    """Against derivatives of the entropy by the examples' weights, taken by differences."""
    rng = np.random.default_rng(0)
    n = shape[0]
    features = rng.normal(size=shape) + 1
    x = features / np.linalg.norm(features, axis=1, keepdims=True)

    def entropy(weights):
        root = np.sqrt(weights / weights.sum())[:, None] * x
        p = np.linalg.svd(root, compute_uv=False) ** 2
        if q == 1:
            return -np.sum(p * np.log(p))
        return -np.log(p.max()) if math.isinf(q) else np.log(np.sum(p**q)) / (1 - q)

    step = 1e-4
    influence = [
        n * (entropy(np.ones(n) + step * e) - entropy(np.ones(n) - step * e)) / (2 * step) for e in np.eye(n)
    ]
    error = np.std(influence) / np.sqrt(n)
    value, low, high = diversity.vendi_interval(features, q)
    assert np.log(high / value) / 1.959964 == pytest.approx(error, rel=1e-4)
    assert np.log(value / low) / 1.959964 == pytest.approx(error, rel=1e-4)


def test_intervals_hold_the_expected_score():
    """Groups of unequal size: about 95 % of the intervals hold the mean score over samples of this size."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 10)) * 2
    shares = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05])

    def sample():
        return centres[rng.choice(6, size=120, p=shares)] + 0.4 * rng.normal(size=(120, 10))

    expected = np.exp(np.mean([np.log(diversity.vendi_score(sample())) for _ in range(300)]))
    intervals = [diversity.vendi_interval(sample()) for _ in range(200)]
    covered = np.mean([i.low <= expected <= i.high for i in intervals])
    assert 0.9 <= covered <= 0.99


def test_bad_input_is_one_sentence():
    features = np.ones((4, 2))
    for q in (0, -1, math.nan):
        with pytest.raises(ValueError, match="must be above 0"):
            diversity.vendi_score(features, q)
    with pytest.raises(ValueError, match="must be above 0"):
        diversity.vendi_of_isotropic(4, 2, 0)
    with pytest.raises(ValueError, match="no examples"):
        diversity.vendi_score(features[:0])
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            diversity.vendi_score(np.array([[1.0, 2.0], [bad, 1.0]]))
    with pytest.raises(ValueError, match="complex64: give real numbers"):
        spectrum.refuse_complex(np.ones((3, 2), np.complex64))


@pytest.mark.parametrize("q", [0.5, 1.0, 2])
def test_truncated(q):
    """2410.21719: the largest eigenvalues scaled to sum 1; all of them are the plain score."""
    features = np.random.default_rng(0).normal(size=(60, 9)) * np.arange(1, 10)
    x = features / np.linalg.norm(features, axis=1, keepdims=True)
    p = np.linalg.eigvalsh(x.T @ x / len(x))[-4:]
    p /= p.sum()
    expected = np.exp(-np.sum(p * np.log(p))) if q == 1 else np.sum(p**q) ** (1 / (1 - q))
    assert diversity.vendi_score(features, q, top=4) == pytest.approx(expected, rel=1e-10)
    assert diversity.vendi_interval(features, q, top=4).value == pytest.approx(expected, rel=1e-10)
    for all_of_them in (9, 1000):
        assert diversity.vendi_score(features, q, top=all_of_them) == pytest.approx(
            diversity.vendi_score(features, q), rel=1e-12
        )
    assert diversity.vendi_score(features, q, top=1) == pytest.approx(1, rel=1e-12)
    with pytest.raises(ValueError, match="top=0 is out of range"):
        diversity.vendi_score(features, q, top=0)


def test_truncated_noise():
    features = np.random.default_rng(0).normal(size=(900, 120))
    for q in (1, 2):
        assert diversity.vendi_of_isotropic(900, 120, q, top=40) == pytest.approx(
            diversity.vendi_score(features, q, top=40), rel=5e-3
        )
    assert diversity.vendi_of_isotropic(900, 120, 1, top=120) == diversity.vendi_of_isotropic(900, 120)


@pytest.mark.parametrize(("q", "top"), [(0.5, None), (1, 3), (2, 3), (math.inf, 4), (3, 6)])
def test_derivatives_of_the_entropy(q, top):
    p = np.array([0.02, 0.08, 0.1, 0.3, 0.5]) * 3
    value, slope = spectrum.renyi(p, q, top)
    assert value == pytest.approx(spectrum.renyi(p / 7, q, top)[0], rel=1e-12)
    for k in range(5):
        step = np.eye(5)[k] * 1e-6
        difference = spectrum.renyi(p + step, q, top)[0] - spectrum.renyi(p - step, q, top)[0]
        assert slope[k] == pytest.approx(difference / 2e-6, abs=1e-7)


@pytest.mark.parametrize("shape", [(5000, 30), (30, 3000), (1300, 1200)])
def test_blocks_change_nothing(shape, monkeypatch):
    """Rows and columns in blocks with a rest; and eigenvalues without vectors of a large matrix."""
    features = np.random.default_rng(0).normal(size=shape).astype(np.float32) + 1
    monkeypatch.setattr(spectrum, "_ELEMENTS", 71 * min(shape))
    jax.clear_caches()
    x = features.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    p = np.linalg.svd(x, compute_uv=False) ** 2 / len(x)
    expected = np.exp(-np.sum(p * np.log(p)))
    assert diversity.vendi_score(features) == pytest.approx(expected, rel=1e-9)
    assert diversity.vendi_interval(features).value == pytest.approx(expected, rel=1e-9)
    jax.clear_caches()


def roy_vetterli(features):
    """By its definition: singular values of the centred features, scaled to sum 1."""
    values = np.linalg.svd(features - features.mean(0), compute_uv=False)
    p = values[values > 1e-10 * values.max()] / values.sum()
    return np.exp(-np.sum(p * np.log(p)))


@pytest.mark.parametrize("shape", [(80, 6), (8, 40)])
def test_effective_rank(shape):
    rng = np.random.default_rng(0)
    features = rng.normal(size=shape) * np.arange(1, shape[1] + 1) + 30
    value, low, high = diversity.effective_rank(features)
    assert value == pytest.approx(roy_vetterli(features), rel=1e-7)
    assert low < value < high
    assert diversity.effective_rank(features - 1e3).value == pytest.approx(value, rel=1e-7)
    assert diversity.vendi_score(features) < 0.7 * value  # the common direction is most of what it sees
    assert diversity.effective_rank(np.full((5, 3), 0.1)) == (1, 1, 1)


def test_effective_rank_of_given_singular_values():
    """Of the values 4, 2, 1, 1: p = 1/2, 1/4, 1/8, 1/8, whose entropy is 7/4 ln 2."""
    rng = np.random.default_rng(0)
    left = np.linalg.qr(np.column_stack([np.ones(30), rng.normal(size=(30, 4))]))[0][:, 1:]  # centred
    right = np.linalg.qr(rng.normal(size=(9, 4)))[0]
    features = left @ np.diag([4.0, 2.0, 1.0, 1.0]) @ right.T
    assert diversity.effective_rank(features).value == pytest.approx(2**1.75, rel=1e-6)


@pytest.mark.parametrize("shape", [(25, 6), (7, 40)])
def test_influence_on_effective_rank_is_the_derivative_by_an_examples_weight(shape):
    features = np.random.default_rng(0).normal(size=shape) * np.arange(1, shape[1] + 1)
    with jax.enable_x64(True):
        mean = jnp.asarray(features.mean(0))
    influence = spectrum.entropy(features, spectrum.centred, mean, of_roots=True).influence

    def entropy(weights):
        weights = weights / weights.sum()
        rows = np.sqrt(weights)[:, None] * (features - weights @ features)
        values = np.linalg.svd(rows, compute_uv=False)
        p = values[values > 1e-7 * values.max()]
        p = p / p.sum()
        return -np.sum(p * np.log(p))

    n, step = len(features), 1e-5
    nudged = [
        (entropy(1 + step * np.eye(n)[i]) - entropy(1 - step * np.eye(n)[i])) / (2 * step) for i in range(n)
    ]
    np.testing.assert_allclose((influence - influence.mean()) / n, nudged, atol=1e-7)


@pytest.mark.parametrize(("n", "d"), [(400, 100), (101, 101), (50, 200)])
def test_effective_rank_of_noise(n, d):
    features = np.random.default_rng(0).normal(size=(n, d)) + 5
    null = diversity.effective_rank_of_isotropic(n, d)
    assert diversity.effective_rank(features).value == pytest.approx(null, rel=1e-2)
    rows, columns = max(n - 1, d), min(n - 1, d)
    of_weights = closed_forms(1, rows, columns)["effective_rank_sv"]  # the same law for matrices of weights
    assert null == pytest.approx(of_weights.item(), rel=1e-3)
    assert null > 1.05 * diversity.vendi_of_isotropic(n - 1, d)


def test_interval_of_effective_rank_covers_its_expectation():
    """A spectrum that decays; 300 sets, of which about 285 intervals hold the mean."""
    scales = 1 / np.arange(1, 33)
    draws = (np.random.default_rng(seed).normal(size=(150, 32)) * scales for seed in range(300))
    found = np.array([diversity.effective_rank(features) for features in draws])
    covered = (found[:, 1] <= found[:, 0].mean()) & (found[:, 0].mean() <= found[:, 2])
    assert 0.91 <= covered.mean() <= 0.99


@pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning")  # of the package
@pytest.mark.parametrize(("shape", "offset"), [((700, 64), 0), ((300, 512), 0), ((700, 64), 2)])
def test_equals_vendi_score(shape, offset):
    """The authors' package, by both of its ways; score_X ignores q, so other orders than 1 use score_dual."""
    peer = pytest.importorskip("vendi_score.vendi")
    features = np.random.default_rng(0).normal(size=shape) + offset
    assert diversity.vendi_score(features) == pytest.approx(peer.score_X(features), rel=1e-5)
    assert diversity.vendi_score(features) == pytest.approx(peer.score_dual(features), rel=1e-5)
    assert diversity.vendi_score(features, 2) == pytest.approx(peer.score_dual(features, q=2), rel=1e-5)
    assert diversity.vendi_score(features, math.inf) == pytest.approx(
        peer.score_dual(features, q="inf"), rel=1e-5
    )
