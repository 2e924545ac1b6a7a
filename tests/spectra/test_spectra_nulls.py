"""What noise shows: closed forms against samples of noise, and the metrics' own closed forms (FIELD.md 7, rows 2, 3, 7)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmtjax.spectra import bulk, eigen, measures, nulls


def noise_metrics(replicates: int, slices: int, N: int, M: int) -> dict[str, np.ndarray]:
    """Metrics of noise, from the exact tridiagonal model; `values` are the eigenvalues."""
    rng = np.random.default_rng([replicates, slices, N, M])
    pair = nulls.bidiagonal_wishart(rng, replicates * slices, N, M)
    constants = {k: np.full(replicates, v, np.float32) for k, v in bulk.shape_constants(slices, N, M).items()}
    return jax.device_get(measured(*pair, constants, slices))


@functools.partial(jax.jit, static_argnames="slices")
def measured(diagonal, off_diagonal, constants, slices):
    values = eigen.pool(eigen.tridiagonal_eigenvalues(diagonal, off_diagonal), slices, diagonal.shape[1])
    count = jnp.full(len(values), values.shape[1], jnp.int32)
    found = measures.measures(values, count, jnp.full(len(values), 1e-6))
    return found | bulk.bulk(values, count, constants) | {"values": values}


@pytest.mark.parametrize(
    ("N", "expected"),
    [(768, {"effective_rank": 465.8, "participation_ratio": 384, "stable_rank": 194, "log": -1.0}),
     (3072, {"effective_rank": 677.8, "participation_ratio": 614.4, "stable_rank": 341.3, "log": -0.137})],
)  # fmt: skip
def test_marchenko_pastur_rows_of_the_field(N, expected):
    closed = nulls.closed_forms(1, N, 768)
    got = noise_metrics(8, 1, N, 768)
    for name in ("effective_rank", "participation_ratio", "stable_rank"):
        assert closed[name] == pytest.approx(expected[name], rel=0.006)
        assert got[name].mean() == pytest.approx(expected[name], rel=0.01)
    # The smallest of a square matrix is about 1 / M², at the resolution of single precision.
    logs = np.log(np.maximum(got["values"] / N, 1e-7))
    assert logs.mean() == pytest.approx(expected["log"], abs=0.01)


@pytest.mark.parametrize("shape", [(1, 128, 128), (1, 512, 128), (9, 64, 32), (1, 128, 10)])
def test_closed_forms_agree_with_noise(shape):
    got = noise_metrics(300, *shape)
    closed = nulls.closed_forms(*shape)
    tolerance = {"stable_rank": 0.02, "mp_softrank": 0.03, "effective_rank": 0.01, "entropy": 0.005}
    for name in ("stable_rank", "effective_rank", "participation_ratio", "entropy", "mp_softrank"):
        assert got[name].mean() == pytest.approx(float(closed[name]), rel=tolerance.get(name, 0.005)), name


def test_tridiagonal_model_has_the_law_of_gaussian_matrices():
    rng = np.random.default_rng(3)
    direct = np.array(
        [np.linalg.svd(rng.standard_normal((30, 12)), compute_uv=False) ** 2 for _ in range(600)]
    )
    pair = nulls.bidiagonal_wishart(rng, 600, 30, 12)
    model = np.asarray(jax.jit(eigen.tridiagonal_eigenvalues)(*pair))
    np.testing.assert_allclose(model.mean(0), direct.mean(0)[::-1], rtol=0.03)
    np.testing.assert_allclose(model.std(0), direct.std(0)[::-1], rtol=0.15)


def test_alpha_of_noise():
    """FIELD.md 2.4 and 7, row 7: 10.1±4.1 for 768 x 768, 15±10 for 3072 x 768, 4.6±1.0 for 128 x 128.

    These come from few draws; the distribution has a long upper tail, so its median is compared.
    """
    for shape, centre, spread in (((768, 768), 10.1, 4.1), ((3072, 768), 15, 10), ((128, 128), 4.6, 1.0)):
        alphas = nulls.simulated_alpha(1, *shape)
        assert len(alphas) == nulls.REPLICATES
        assert abs(np.median(alphas) - centre) < spread
    assert nulls.simulated_alpha(1, 128, 128) is nulls.simulated_alpha(1, 128, 128)
    again = nulls.simulated_alpha.__wrapped__(1, 128, 128)
    np.testing.assert_array_equal(alphas, again)


def test_alpha_of_noise_where_nothing_can_be_fitted():
    assert np.isnan(nulls.simulated_alpha(1, 50, 1)).all()


def test_measures_of_a_known_spectrum():
    values = jnp.asarray(
        [[0.0, 0.0, 1.0, 2.0, 3.0, 10.0], [0, 0, 0, 0, 0, 0], [0, 4, 4, 4, 4, 4]], jnp.float32
    )
    got = measures.measures(values, jnp.array([5, 6, 5], jnp.int32), jnp.full(3, 1e-6))
    p = np.array([1, 2, 3, 10]) / 16
    entropy = -(p * np.log(p)).sum()
    expected = {
        "norm": 16, "spectral_norm": 10, "stable_rank": 1.6, "effective_rank": np.exp(entropy),
        "participation_ratio": 256 / 114, "matrix_rank": 4, "entropy": entropy / np.log(4),
    }  # fmt: skip
    for name, value in expected.items():
        assert float(got[name][0]) == pytest.approx(value, rel=1e-6), name
    assert float(got["norm"][1]) == 0
    assert np.isnan([float(got[name][1]) for name in ("stable_rank", "entropy", "effective_rank")]).all()
    for name, value in {
        "stable_rank": 5,
        "effective_rank": 5,
        "participation_ratio": 5,
        "entropy": 1,
    }.items():
        assert float(got[name][2]) == pytest.approx(value, rel=1e-6), name
