"""Noise level, spikes and their strengths, against noise and planted signals (FIELD.md 7, rows 4 and 5)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmtjax import spectra
from rmtjax.spectra import bulk, laws, nulls

RNG = np.random.default_rng(11)


def constants(rows: int, slices: int, N: int, M: int, dtype=np.float32) -> dict[str, np.ndarray]:
    shapes = (np.full(rows, float(n)) for n in (slices, N, M))
    return {name: value.astype(dtype) for name, value in bulk.shape_constants(*shapes).items()}


def of(values: np.ndarray, slices: int, N: int, M: int) -> dict[str, np.ndarray]:
    count = jnp.full(len(values), values.shape[1], jnp.int32)
    return jax.device_get(
        jax.jit(bulk.noise_and_spikes)(
            values.astype(np.float32), count, count, constants(len(values), slices, N, M)
        )
    )


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return nulls.simulated_spectra(1, 256, 128, 2000)


def test_false_positive_rate_of_spikes(noise):
    """At the 99 % level, of 2,000 matrices of noise of 256 x 128, .6 to 1.5 % show one."""
    got = of(noise, 1, 256, 128)
    assert 0.006 <= (got["num_spikes"] > 0).mean() <= 0.015
    assert got["noise_variance"].mean() == pytest.approx(1, abs=0.005)
    assert got["noise_variance_median"].mean() == pytest.approx(1, abs=0.005)
    p = laws.tracy_widom_sf(got["tw_statistic"])
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.015)
    assert (got["gavish_donoho_rank"] == 0).all()
    assert (np.isnan(got["bbp_theta"]) == (got["num_spikes"] == 0)).all()


def test_planted_spikes_are_counted_and_move_no_robust_noise_level():
    """Five spikes so strong that what is left is exactly noise of (N - 5) x (M - 5)."""
    rest = nulls.simulated_spectra(1, 251, 123, 2000)
    got = of(np.concatenate([rest, 3 * rest[:, -1:] * np.arange(1, 6)], 1), 1, 256, 128)
    assert (got["num_spikes"] == 5).mean() > 0.95
    assert (got["gavish_donoho_rank"] == 5).all()
    # In 1 % the distance from the law is beyond its 99 % quantile, in 1 % noise shows a sixth spike.
    held = got["num_removed"] == 5
    assert held.mean() == pytest.approx(0.98, abs=0.015)
    assert got["noise_variance"][held].mean() == pytest.approx(1, abs=0.005)
    assert got["noise_variance"][~held].mean() > 1.01
    assert got["noise_variance_median"].mean() == pytest.approx(1, abs=0.05)
    assert got["mp_softrank"].mean() < 0.1
    assert got["ks_mp"].mean() < 0.05


def planted(N: int, M: int, theta: np.ndarray) -> np.ndarray:
    """Noise of unit variance with spikes of these strengths, in units of √N."""
    left, right = (np.linalg.qr(RNG.standard_normal((side, len(theta))))[0] for side in (N, M))
    return (RNG.standard_normal((N, M)) + np.sqrt(N) * (left * theta) @ right.T).astype(np.float32)


SHAPES, SHARES = ((500, 250), (300, 300), (1500, 100)), (0, 0.02, 0.05, 0.1, 0.19)


@pytest.fixture(scope="module")
def bulks():
    """Bulks with spikes at multiples of the threshold of Baik, Ben Arous and Péché."""
    strengths = {"strong": lambda k: np.linspace(2, 6, k), "faint": lambda k: np.full(k, 1.2)}
    which = [(shape, share, kind) for shape in SHAPES for share in SHARES for kind in strengths]
    which = [one for one in which if one[2] == "strong" or (one[0][0] == 500 and one[1] in (0.02, 0.19))]
    tree = {}
    for (N, M), share, kind in which:
        k = round(share * M)
        tree[f"{kind} {N} {k}"] = planted(N, M, (M / N) ** 0.25 * strengths[kind](k))
    return spectra.analyze(tree, precision="single", metrics="tail,bulk").table.set_index("name")


@pytest.mark.parametrize(("N", "M"), SHAPES)
def test_strong_spikes_up_to_a_fifth_do_not_move_the_noise(N, M, bulks):
    """The first fit finds up to 1.37 for σ², and called these bulks heavy-tailed."""
    spikes = np.array([round(share * M) for share in SHARES])
    table = bulks.loc[[f"strong {N} {k}" for k in spikes]]
    np.testing.assert_array_equal(table["num_spikes"], spikes)
    np.testing.assert_array_equal(table["num_removed"], spikes)
    np.testing.assert_allclose(table["noise_std"] ** 2, 1, atol=0.02)
    assert table["phase"].tolist() == ["random-like", *["bulk+spikes"] * 4]
    assert (table["ks_mp"] < 1.2 * table["ks_mp_null"]).all()
    np.testing.assert_allclose(table["bbp_theta"][1:], 6 * (M / N) ** 0.25, rtol=0.05)
    sides = np.sqrt(N - spikes) + np.sqrt(M - spikes)
    np.testing.assert_allclose(table["bulk_max"], (table["noise_std"] * sides) ** 2, rtol=1e-5)


def test_faint_spikes_are_found_by_the_second_fit_as_long_as_they_are_few(bulks):
    """2 % leave the bulk a bulk; 19 % do not, and the first fit stands."""
    few, many = bulks.loc["faint 500 5"], bulks.loc["faint 500 48"]
    assert few["num_removed"] == few["num_spikes"] > 0
    assert few["noise_std"] ** 2 == pytest.approx(1, abs=0.01)
    assert many["num_removed"] == 0
    assert many["ks_mp"] > many["ks_mp_null"]


def test_quantiles_without_spikes_are_those_of_the_smaller_noise():
    known = bulk.shape_constants(1, 1000, 500)
    given = {name: jnp.asarray(value, jnp.float32)[None] for name, value in known.items()}
    got = bulk._without(jnp.array([77]), given)
    exact = 923 * laws.marchenko_pastur_quantile(np.linspace(0.2, 0.8, 32), 423 / 923)
    np.testing.assert_allclose(got["quantiles"][0], exact, rtol=5e-5)
    smaller = bulk.shape_constants(1, 923, 423)
    for name in ("c", "lower", "upper", "threshold"):
        assert float(got[name][0]) == pytest.approx(float(smaller[name]), rel=1e-5), name


def test_without_spikes_the_first_fit_stands(noise):
    got, rows = of(noise, 1, 256, 128), len(noise)
    count = jnp.full(rows, 128, jnp.int32)
    none = jnp.zeros_like(count)
    variance, spikes = jax.jit(bulk._variance_and_spikes)(noise, count, none, constants(rows, 1, 256, 128))
    pure = got["num_spikes"] == 0
    assert (got["num_removed"][pure] == 0).all()
    # Compiled alone, the sums may round otherwise in the last bit.
    np.testing.assert_allclose(got["noise_variance"][pure], variance[pure], rtol=3e-7)
    np.testing.assert_array_equal(got["num_spikes"] > 0, np.asarray(spikes) > 0)


def test_a_spectrum_that_decays_is_not_peeled():
    """Columns of uneven scale: without the limit of a fifth and the test of the distance, more and more of
    the spectrum would be taken for spikes.
    """
    scales = np.exp(0.5 * RNG.standard_normal((8, 1, 256)))
    weights = RNG.standard_normal((8, 256, 256)) * scales
    values = np.sort(np.linalg.svd(weights, compute_uv=False) ** 2, -1)
    got = of(values, 1, 256, 256)
    assert (got["num_spikes"] > 10).all()
    assert (got["num_removed"] == 0).all()


def test_heavy_tailed_spectra_are_far_from_the_law(noise):
    heavy = np.sort(RNG.pareto(1.0, (50, 128)) + 1, -1)
    assert of(heavy, 1, 256, 128)["ks_mp"].min() > 3 * np.quantile(of(noise, 1, 256, 128)["ks_mp"], 0.95)


@pytest.mark.parametrize(("N", "M", "theta"), [(1000, 500, 2.0), (600, 600, 1.5), (1200, 150, 1.2)])
def test_strength_and_overlaps_of_a_planted_spike(N, M, theta):
    """FIELD.md 7, row 4: N = 1000, M = 500, θ = 2: singular value 2.372, overlaps .775 (N side) and .861 (M
    side).
    """
    c = M / N
    s = float(laws.bbp_singular_value(theta, c))
    found, along_N, along_M = (float(v) for v in laws.bbp_strength(s, c))
    assert found == pytest.approx(theta, rel=1e-9)
    if theta == 2:
        assert (s, along_N, along_M) == pytest.approx((2.372, 0.775, 0.861), abs=5e-4)
    overlaps = []
    for _ in range(6):
        u, v = (x / np.linalg.norm(x) for x in (RNG.standard_normal(N), RNG.standard_normal(M)))
        left, values, right = np.linalg.svd(
            theta * np.outer(u, v) + RNG.standard_normal((N, M)) / np.sqrt(N), full_matrices=False
        )
        overlaps.append((values[0], (u @ left[:, 0]) ** 2, (v @ right[0]) ** 2))
    np.testing.assert_allclose(np.mean(overlaps, 0), (s, along_N, along_M), rtol=0.05)


def test_nothing_below_the_threshold_is_a_spike():
    assert np.isnan(laws.bbp_strength(1.5, 0.5)[0])
    assert float(laws.bbp_singular_value(0.5, 0.5)) == pytest.approx(1 + np.sqrt(0.5))
    assert np.isfinite(laws.bbp_strength(1 + np.sqrt(0.5) + 1e-6, 0.5)[0])


def test_gavish_donoho():
    """FIELD.md 7, row 5; the cubic of their paper errs by at most .4 %."""
    assert float(laws.gavish_donoho_threshold(1.0)) == pytest.approx(4 / np.sqrt(3), rel=1e-12)
    for c, omega in ((1.0, 2.8584), (0.5, 2.1712), (0.25, 1.8369), (0.125, 1.6500)):
        assert float(laws.gavish_donoho_omega(c)) == pytest.approx(omega, abs=1e-4)
        assert 0.56 * c**3 - 0.95 * c**2 + 1.82 * c + 1.43 == pytest.approx(omega, rel=0.004)


def test_padding_and_pooling_change_nothing():
    values = np.sort(RNG.chisquare(3, (3, 90)), -1)
    together = np.concatenate([np.zeros((3, 38)), values], 1).astype(np.float32)
    alone = of(values, 3, 60, 30)
    padded = jax.device_get(
        jax.jit(bulk.noise_and_spikes)(together, *[jnp.full(3, 90, jnp.int32)] * 2, constants(3, 3, 60, 30))
    )
    for name, value in alone.items():
        np.testing.assert_allclose(padded[name], value, rtol=2e-5, err_msg=name)


def test_zeros_are_not_taken_for_noise():
    """Where more than a fifth is zero to rounding there is no bulk to tell spikes from."""
    low = RNG.standard_normal((60, 2)) @ RNG.standard_normal((2, 40))
    nearly = RNG.standard_normal((60, 36)) @ RNG.standard_normal((36, 40))
    table = spectra.analyze({"low": low, "nearly": nearly}).table.set_index("name")
    bulk_columns = [
        "noise_std",
        "bulk_max",
        "mp_softrank",
        "num_spikes",
        "tw_p",
        "gavish_donoho_rank",
        "bbp_theta",
    ]
    assert table.loc["low", bulk_columns].isna().all()
    assert "too many eigenvalues are zero" in table.loc["low", "warning"]
    assert table.loc["low", "phase"] == "rank-collapse"
    assert table.loc["nearly", "matrix_rank"] == 36
    assert np.isfinite(table.loc["nearly", "noise_std"])


def test_a_tall_matrix_keeps_its_rank():
    """A common component 45 times as large as the others: numpy's bound N ε would take the others for
    rounding.
    """
    weights = RNG.standard_normal((200_000, 8)).astype(np.float32) + 20
    table = spectra.analyze({"embedding": {"embedding": weights}}, metrics="scale,tail").table
    assert table.loc[0, "matrix_rank"] == 8
    assert np.isfinite(table.loc[0, "condition_number"])
