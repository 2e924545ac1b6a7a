"""Gaussian kernels, random Fourier features and the order-2 score, against their definitions."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from rmtjax import diversity
from rmtjax.diversity import spectrum

BANDWIDTH = 2.5


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(150, 6)) * np.arange(1, 7) + 40


def kernel(features):
    return np.exp(-squareform(pdist(features, "sqeuclidean")) / (2 * BANDWIDTH**2))


@pytest.mark.parametrize("q", [1.0, 2, math.inf])
def test_gaussian_kernel_exactly(features, q):
    p = np.linalg.eigvalsh(kernel(features) / len(features))
    p = p[p > 0]
    expected = (
        np.exp(-np.sum(p * np.log(p))) if q == 1 else 1 / p.max() if q == math.inf else 1 / np.sum(p**2)
    )
    value, low, high = diversity.gaussian_vendi(features, BANDWIDTH, q)
    assert value == pytest.approx(expected, rel=1e-9)
    assert low < value < high


def test_limits_of_the_bandwidth(features):
    assert diversity.gaussian_vendi(features, 1e-4).value == pytest.approx(150, rel=1e-9)
    assert diversity.gaussian_vendi(features, 1e6).value == pytest.approx(1, abs=1e-6)
    doubled = np.concatenate([features, features])
    assert diversity.gaussian_vendi(doubled, BANDWIDTH).value == pytest.approx(
        diversity.gaussian_vendi(features, BANDWIDTH).value, rel=1e-8
    )


def test_fourier_features_converge(features):
    """By the dual form (few frequencies) and the Gram matrix (many): the error falls as r^(-1/2)."""
    exact = diversity.gaussian_vendi(features, 8.0).value
    errors = {}
    for frequencies in (25, 400, 6400):
        scores = [diversity.fkea(features, 8.0, frequencies=frequencies, seed=s).value for s in range(3)]
        errors[frequencies] = np.mean(np.abs(np.array(scores) / exact - 1))
    assert 3 * errors[6400] < 1.5 * errors[400] < errors[25]
    assert errors[6400] < 0.02
    assert diversity.fkea(features, 8.0, seed=1) == diversity.fkea(features, 8.0, seed=1)
    assert diversity.fkea(features, 8.0, seed=1) != diversity.fkea(features, 8.0, seed=2)
    all_of_them = diversity.fkea(features, 8.0, top=2000)
    assert all_of_them.value == pytest.approx(diversity.fkea(features, 8.0).value, rel=1e-12)


@pytest.mark.parametrize("shape", [(90, 12), (20, 50)])
def test_rke_is_the_vendi_score_of_order_2(shape):
    features = np.random.default_rng(1).normal(size=shape) + 0.4
    np.testing.assert_allclose(diversity.rke(features), diversity.vendi_interval(features, 2), rtol=1e-9)


def test_rke_of_any_kernel(features, monkeypatch):
    expected = 1 / np.mean(kernel(features) ** 2)
    monkeypatch.setattr(spectrum, "_ELEMENTS", 7 * 150)  # blocks of 7 rows, and a rest of 3
    np.testing.assert_allclose(
        diversity.rke(features, diversity.gaussian(BANDWIDTH)),
        diversity.gaussian_vendi(features, BANDWIDTH, 2),
        rtol=1e-9,
    )
    assert diversity.rke(features, diversity.gaussian(BANDWIDTH)).value == pytest.approx(expected, rel=1e-9)

    def laplace(x, others):
        return jnp.exp(-jnp.sum(jnp.abs(x[None] - others), axis=1) / 9)

    assert diversity.rke(features, laplace).value == pytest.approx(
        1 / np.mean(np.exp(-squareform(pdist(features, "cityblock")) / 9) ** 2), rel=1e-9
    )


def test_median_distance(features):
    assert diversity.median_distance(features) == pytest.approx(np.median(pdist(features)), rel=1e-9)
    many = np.random.default_rng(0).normal(size=(3000, 4))
    assert diversity.median_distance(many) == diversity.median_distance(many)
    assert diversity.median_distance(many, seed=1) == pytest.approx(np.median(pdist(many)), rel=0.05)


def test_bad_input_is_one_sentence(features):
    for bad in (0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="bandwidth="):
            diversity.gaussian_vendi(features, bad)
        with pytest.raises(ValueError, match="bandwidth="):
            diversity.fkea(features, bad)
    with pytest.raises(ValueError, match="most are copies"):
        diversity.median_distance(np.ones((5, 2)))
    # Not a tiny bandwidth from distances of copies that rounding has made.
    most = np.concatenate([np.repeat(features[:1] + 100, 90, axis=0), features[:20]])
    with pytest.raises(ValueError, match="most are copies: give a bandwidth, or leave gaussian_vendi out"):
        diversity.median_distance(most)
    with pytest.raises(ValueError, match="one example has no distances"):
        diversity.median_distance(features[:1])
    with pytest.raises(ValueError, match="no examples"):
        diversity.rke(features[:0])
