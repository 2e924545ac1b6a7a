"""Limit laws against published constants, quadrature and exact samples. FIELD.md 7, row 1; 2.1 and 2.2."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from rmtjax.spectra import eigensolver, laws, nulls

RATIOS = (1.0, 0.5, 0.25, 0.01)


def test_tracy_widom_constants():
    x = np.linspace(-10, 20, 60001)
    density = np.gradient(laws.tracy_widom_cdf(x), x)
    mean = np.trapezoid(x * density, x)
    variance = np.trapezoid((x - mean) ** 2 * density, x)
    assert mean == pytest.approx(-1.2065336, abs=1e-5)
    assert variance == pytest.approx(1.6077810, abs=1e-4)
    assert np.trapezoid((x - mean) ** 3 * density, x) / variance**1.5 == pytest.approx(0.29346, abs=1e-3)
    levels = (0.5, 0.9, 0.95, 0.99, 0.995, 0.999)
    quantiles = (-1.2686, 0.4501, 0.9793, 2.0234, 2.4224, 3.2722)
    np.testing.assert_allclose(laws.tracy_widom_quantile(levels), quantiles, atol=2e-4)


def test_tracy_widom_tails():
    x = np.linspace(-9, 40, 500)
    survival = laws.tracy_widom_sf(x)
    np.testing.assert_allclose(survival + laws.tracy_widom_cdf(x), 1, atol=1e-14)
    assert (np.diff(survival[x > -4]) < 0).all()
    # Leading asymptotics of the tail, to its next order in x^(-3/2); also where the table has ended.
    far = np.array([15.0, 19.9, 20.1, 30.0])
    leading = np.exp(-2 / 3 * far**1.5) / (4 * np.sqrt(np.pi) * far**0.75)
    np.testing.assert_allclose(laws.tracy_widom_sf(far), leading, rtol=0.02)
    np.testing.assert_allclose(laws.tracy_widom_isf(survival[x > -4]), x[x > -4], atol=1e-6)
    assert laws.tracy_widom_mean_of_largest([1])[0] == pytest.approx(-1.20653, abs=1e-4)


@pytest.mark.parametrize("c", RATIOS)
def test_marchenko_pastur_is_consistent(c):
    lower, upper = laws.marchenko_pastur_edges(c)
    middle = (lower + upper) / 2
    share = scipy.integrate.quad(lambda x: laws.marchenko_pastur_pdf(x, c), middle, upper)[0]
    assert 1 - laws.marchenko_pastur_cdf(middle, c) == pytest.approx(share, abs=1e-9)
    assert laws.marchenko_pastur_cdf([0.0, upper, 99.0], c) == pytest.approx([0, 1, 1], abs=1e-14)
    p = np.linspace(0.001, 0.999, 101)
    np.testing.assert_allclose(
        laws.marchenko_pastur_cdf(laws.marchenko_pastur_quantile(p, c), c), p, atol=1e-12
    )


@pytest.mark.parametrize("c", RATIOS)
def test_marchenko_pastur_moments(c):
    """Closed forms of FIELD.md 2.1: mean 1, second moment 1 + c, mean log ((c - 1)/c) ln(1 - c) - 1."""
    x = laws.marchenko_pastur_quantile((np.arange(20000) + 0.5) / 20000, c)
    log_mean = -1.0 if c == 1 else (c - 1) / c * np.log(1 - c) - 1
    assert x.mean() == pytest.approx(1, abs=1e-4)
    assert (x**2).mean() == pytest.approx(1 + c, abs=1e-3)
    assert np.log(x).mean() == pytest.approx(log_mean, abs=2e-3)
    # exp of the entropy of x / sum(x), per eigenvalue: exp(-c/2).
    assert np.exp(-(x * np.log(x)).mean()) == pytest.approx(np.exp(-c / 2), abs=1e-3)


def test_marchenko_pastur_scales_with_the_variance_and_runs_on_jax_arrays():
    x = np.linspace(0.1, 8, 30)
    np.testing.assert_allclose(laws.marchenko_pastur_cdf(x, 0.3, 3.0), laws.marchenko_pastur_cdf(x / 3, 0.3))
    np.testing.assert_allclose(
        laws.marchenko_pastur_pdf(x, 0.3, 3.0), laws.marchenko_pastur_pdf(x / 3, 0.3) / 3
    )
    on_device = laws.marchenko_pastur_cdf(jnp.asarray(x, jnp.float32), 0.3, 3.0)
    assert isinstance(on_device, jnp.ndarray)
    np.testing.assert_allclose(on_device, laws.marchenko_pastur_cdf(x, 0.3, 3.0), atol=1e-5)


@functools.cache
def noise_spectra(replicates: int, N: int, M: int, seed: int = 0) -> np.ndarray:
    diagonal, off_diagonal = nulls.bidiagonal_wishart(np.random.default_rng(seed), replicates, N, M)
    return np.array(jax.jit(eigensolver.tridiagonal_eigenvalues)(diagonal, off_diagonal))


def test_largest_eigenvalue_follows_tracy_widom():
    """512 x 256: the 95 % point is exceeded in .043 of draws (FIELD.md 2.2, 400 draws)."""
    largest = noise_spectra(2000, 256, 128)[:, -1]
    centre, scale = laws.largest_eigenvalue_scale(256, 128)
    standard = (largest - centre) / scale
    assert standard.mean() == pytest.approx(-1.2065, abs=0.1)
    assert standard.std() == pytest.approx(np.sqrt(1.6078), abs=0.07)
    assert 0.03 < (laws.tracy_widom_sf(standard) < 0.05).mean() < 0.065
