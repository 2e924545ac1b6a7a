"""What noise shows: closed forms against samples of noise, and the metrics' own closed forms (FIELD.md 7,
rows 2, 3, 7).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmtjax import spectra
from rmtjax.spectra import bulk, correlation, eigensolver, laws, measures, nulls, tails

OPTIMISED = {"xla_backend_optimization_level": 3}  # thousands of spectra: these programs run for long


@pytest.fixture(autouse=True, scope="module")
def optimised():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nulls, "_fit", jax.jit(nulls._fit.__wrapped__, compiler_options=OPTIMISED))
        yield


def noise_metrics(replicates: int, slices: int, N: int, M: int) -> dict[str, np.ndarray]:
    """Metrics of noise, from the exact tridiagonal model; `values` are the eigenvalues."""
    values = nulls.simulated_spectra(slices, N, M, replicates)
    return jax.device_get(measured(values, bulk_constants(replicates, slices, N, M))) | {"values": values}


def bulk_constants(rows: int, slices: int, N: int, M: int) -> dict[str, np.ndarray]:
    shapes = (np.full(rows, float(n)) for n in (slices, N, M))
    return {name: value.astype(np.float32) for name, value in bulk.shape_constants(*shapes).items()}


@functools.partial(jax.jit, compiler_options=OPTIMISED)
def measured(values, constants):
    count = jnp.full(len(values), values.shape[1], jnp.int32)
    found = measures.norms_and_ranks(values, count, jnp.full(len(values), 1e-6))
    return (
        found
        | bulk.noise_and_spikes(values, count, count, constants)
        | correlation.erg(values, count, jnp.zeros(len(values)))
    )


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
    tolerance = {"stable_rank": 0.02, "mp_softrank": 0.03, "effective_rank": 0.01, "num_ERG_spikes": 0.06}
    names = ["stable_rank", "effective_rank", "effective_rank_sv", "participation_ratio", "entropy",
             "mp_softrank",
             "renyi_entropy_2", "renyi_entropy_inf"]  # fmt: skip
    for name in names + ["num_ERG_spikes"] * (shape[2] >= 16):
        assert got[name].mean() == pytest.approx(float(closed[name]), rel=tolerance.get(name, 0.01)), name
    share = got["nuclear_norm"] / np.sqrt(got["norm"] * got["values"].shape[1])
    assert share.mean() == pytest.approx(float(closed["nuclear_share"]), rel=0.01)


@pytest.mark.parametrize("shape", [(1, 128, 128), (9, 64, 32), (1, 96, 24), (16, 40, 20)])
def test_noise_exceeds_its_distance_from_the_law_at_its_level(shape):
    """The formula errs by at most 9 %: its 1.15-fold is exceeded too seldom, 1 / 1.15 of it too often."""
    distances = noise_metrics(600, *shape)["ks_mp"]
    for level in (0.95, 0.99):
        limit = float(laws.marchenko_pastur_distance(shape[0], shape[2], level))
        assert (distances > 1.15 * limit).mean() < 1 - level < (distances > limit / 1.15).mean()


@pytest.mark.parametrize("shape", [(1, 512, 256), (1, 300, 300), (9, 64, 32)])
def test_the_gap_of_noise_is_its_null(shape):
    """It is about 170 for 512 x 256, though noise has no correlations."""
    closed = nulls.closed_forms(*(np.array([float(x)]) for x in shape))
    null = float(closed["ERG_gap"][0])
    values = nulls.simulated_spectra(*shape, 100)
    count = jnp.full(100, values.shape[1], jnp.int32)
    tail = jax.jit(tails.power_law)(values, count)["num_pl_spikes"]
    gaps = jax.jit(correlation.erg)(values, count, tail)["ERG_gap"]
    assert np.median(gaps) == pytest.approx(null, rel=0.06)


def test_tridiagonal_model_has_the_law_of_gaussian_matrices():
    rng = np.random.default_rng(3)
    direct = np.array(
        [np.linalg.svd(rng.standard_normal((30, 12)), compute_uv=False) ** 2 for _ in range(600)]
    )
    pair = nulls.bidiagonal_wishart(rng, 600, 30, 12)
    model = np.asarray(jax.jit(eigensolver.tridiagonal_eigenvalues)(*pair))
    np.testing.assert_allclose(model.mean(0), direct.mean(0)[::-1], rtol=0.03)
    np.testing.assert_allclose(model.std(0), direct.std(0)[::-1], rtol=0.15)


def test_alpha_of_noise():
    """FIELD.md 2.4 and 7, row 7: 10.1±4.1 for 768 x 768, 15±10 for 3072 x 768, 4.6±1.0 for 128 x 128.

    These come from few draws; the distribution has a long upper tail, so its median is compared.
    """
    for shape, centre, spread in (((768, 768), 10.1, 4.1), ((3072, 768), 15, 10), ((128, 128), 4.6, 1.0)):
        alphas = nulls.simulated_alpha(1, *shape, 64)
        assert abs(np.median(alphas) - centre) < spread
    np.testing.assert_array_equal(alphas, nulls.simulated_alpha(1, 128, 128, 64))
    assert not np.array_equal(alphas, nulls.simulated_alpha(1, 128, 128, 64, seed=1))


@pytest.mark.parametrize(
    "shape", [(1, 900, 300), (1, 96, 96), (9, 120, 40), (25, 64, 16), (1, 20_000, 10), (1, 5, 3)]
)
def test_the_table_of_alpha_agrees_with_noise_between_its_points(shape):
    """Within four standard errors of the simulation, and a tenth for the interpolation."""
    quantiles = nulls.alpha_quantiles(*shape)[0]
    alphas = nulls.simulated_alpha(*shape, 256, seed=5)
    for level in (0.05, 0.25, 0.5, 0.75):
        found = np.interp(level, nulls.ALPHA_LEVELS, quantiles)
        share = (alphas <= found).mean()
        assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / 256) + 0.06, (level, share)
    p = nulls.alpha_p(
        np.array([quantiles[0] / 2, quantiles[len(quantiles) // 2], 1e9, np.nan]), np.tile(quantiles, (4, 1))
    )
    assert p[0] == nulls.ALPHA_LEVELS[0] / 2
    assert p[1] == pytest.approx(0.5, abs=0.03)
    assert p[2] > 0.99
    assert np.isnan(p[3])


def test_alpha_of_noise_beyond_the_table():
    """Of 8192 x 8192, 60 matrices of noise had quartiles 21.2, 29.4 and 43.5 (LAPACK, seed 7)."""
    quartiles = np.interp((0.25, 0.5, 0.75), nulls.ALPHA_LEVELS, nulls.alpha_quantiles(1, 8192, 8192)[0])
    np.testing.assert_allclose(quartiles, (21.2, 29.4, 43.5), rtol=0.15)
    medians = nulls.alpha_quantiles([1] * 4, [4096, 4097, 8192, 32768], [4096, 4097, 8192, 32768])[:, 20]
    assert medians[1] == pytest.approx(medians[0], rel=0.01)  # no step at the end of the table
    assert (np.diff(medians) > 0).all()
    far = nulls.simulated_alpha(1, 2**14 * 8, 8, 256)  # Q = 16,384
    found = np.interp(0.5, nulls.ALPHA_LEVELS, nulls.alpha_quantiles(1, 2**14 * 8, 8)[0])
    assert found == pytest.approx(np.median(far), rel=0.08)


def test_where_alpha_of_noise_is_not_known_it_is_nan_with_a_reason():
    assert np.isnan(nulls.alpha_quantiles([121, 1], [96, 2], [3, 2])).all()
    row = spectra.analyze({"stem": {"kernel": np.random.default_rng(2).standard_normal((11, 11, 3, 96))}})
    assert np.isnan(row.table.loc[0, "alpha_null_p"])
    assert "alpha of noise is known only for up to 49 slices" in row.table.loc[0, "warning"]


def test_alpha_of_noise_where_nothing_can_be_fitted():
    assert np.isnan(nulls.simulated_alpha(1, 50, 1, 8)).all()


def test_measures_of_a_known_spectrum():
    values = jnp.asarray(
        [[0.0, 0.0, 1.0, 2.0, 3.0, 10.0], [0, 0, 0, 0, 0, 0], [0, 4, 4, 4, 4, 4]], jnp.float32
    )
    got = measures.norms_and_ranks(values, jnp.array([5, 6, 5], jnp.int32), jnp.full(3, 1e-6))
    p = np.array([1, 2, 3, 10]) / 16
    entropy = -(p * np.log(p)).sum()
    expected = {
        "norm": 16, "spectral_norm": 10, "stable_rank": 1.6, "effective_rank": np.exp(entropy),
        "participation_ratio": 256 / 114, "matrix_rank": 4, "entropy": entropy / np.log(4), "rank_loss": 1,
        "renyi_entropy_2": np.log(256 / 114) / np.log(4), "renyi_entropy_inf": np.log(1.6) / np.log(4),
        "nuclear_norm": np.sqrt([1, 2, 3, 10]).sum(), "sv_max": np.sqrt(10), "sv_min": 0,
        "condition_number": np.inf,
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
