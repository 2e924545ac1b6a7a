"""Groups of metrics that come on request: local statistics, fingers, windows, shuffles, simulated nulls,
bootstrap.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from test_spectra_analysis import weightwatcher

from rmtjax import checkpoints, spectra
from rmtjax.spectra import farms, fingers, neighbours, nulls, shuffles, tails

RNG = np.random.default_rng(8)


def measured(values: np.ndarray, N: int, M: int) -> dict[str, np.ndarray]:
    rows = len(values)
    full = [jnp.full(rows, x, jnp.float32) for x in (0.0, 0.0, 1.0, N, M / N)]
    return jax.device_get(
        jax.jit(neighbours.spacing_statistics)(values.astype(np.float32), jnp.full(rows, M, jnp.int32), *full)
    )


@pytest.mark.parametrize(("N", "M"), [(256, 256), (512, 256)])
def test_noise_repels_like_random_matrices(N, M):
    """FIELD.md 7, row 10: ratio .5307; measured for singular values .526 ± .005; and the number variance of
    GOE.
    """
    got = measured(nulls.simulated_spectra(1, N, M, 200), N, M)
    assert got["spacing_ratio"].mean() == pytest.approx(neighbours.SPACING_RATIO_GOE, abs=0.006)
    assert got["spacing_ratio"].std() == pytest.approx(got["spacing_ratio_se"].mean(), rel=0.15)
    for length, value in ((1, 0.442), (2, 0.583), (5, 0.768), (10, 0.909)):
        assert neighbours.number_variance_goe(length) == pytest.approx(value, abs=1e-3)
        assert got[f"number_variance_{length}"].mean() == pytest.approx(value, abs=0.05)


@pytest.mark.parametrize(
    ("N", "M", "value", "draws"), [(48, 48, 0.76, 1000), (96, 48, 0.92, 1000), (300, 300, 0.92, 100)]
)
def test_the_brody_exponent_of_noise_is_its_null(N, M, value, draws):
    """It is below 1, most for small square matrices."""
    null = float(nulls.closed_forms(1, N, M)["brody"])
    assert null == pytest.approx(value, abs=0.01)
    found = measured(nulls.simulated_spectra(1, N, M, draws), N, M)["brody"]
    assert found.mean() == pytest.approx(null, abs=0.03)


def test_independent_points_do_not():
    """Points of the Marchenko-Pastur law, drawn independently: ratio .3863, variance of a window its mean."""
    from rmtjax.spectra import laws

    points = np.sort(512 * laws.marchenko_pastur_quantile(RNG.uniform(size=(200, 256)), 0.5), -1)
    got = measured(points, 512, 256)
    assert got["spacing_ratio"].mean() == pytest.approx(neighbours.SPACING_RATIO_POISSON, abs=0.006)
    assert got["brody"].mean() < 0.1
    assert got["number_variance_2"].mean() == pytest.approx(2, rel=0.15)


def test_pooled_slices_have_no_local_statistics():
    table = spectra.analyze({"c/kernel": RNG.standard_normal((3, 3, 8, 16))}, metrics="default,local").table
    assert table["spacing_ratio"].isna().all()


def test_clipped_fingers_are_weightwatchers():
    folder = weightwatcher()
    theirs = pd.read_csv(folder / "layers8_clip_xmax.csv").set_index("name")
    weights = checkpoints.open(folder / "layers8.safetensors")
    ours = spectra.analyze(weights, metrics="default,fingers", conv_norm=True).table
    ours = ours.set_index(ours["name"].str.removesuffix(".weight")).loc[theirs.index]
    np.testing.assert_allclose(ours["alpha_clipped"], theirs["alpha"], rtol=1e-6)
    np.testing.assert_allclose(ours["alpha"], theirs["raw_alpha"], rtol=1e-6)
    np.testing.assert_array_equal(ours["num_fingers"], theirs["num_fingers"])


def test_planted_fingers_are_clipped():
    values = np.sort(RNG.pareto(1.5, 200) + 1)
    values[-3:] = [4e6, 5e6, 6e6]
    got = fingers.clip_fingers(jnp.asarray(values[None], jnp.float32), jnp.array([200], jnp.int32), 0.01)
    plain = tails.power_law(jnp.asarray(values[None], jnp.float32), jnp.array([200], jnp.int32))["alpha"]
    assert float(got["num_fingers"][0]) in (0, *range(1, 9))
    assert np.isfinite(float(got["alpha_clipped"][0]))
    untouched = fingers.clip_fingers(jnp.asarray(values[None], jnp.float32), jnp.array([200], jnp.int32), 1e9)
    assert float(untouched["alpha_clipped"][0]) == float(plain[0])
    assert float(untouched["num_fingers"][0]) == 0


def test_windows_of_one_shape_take_the_aspect_ratio_out():
    """FIELD.md 7, rows 6, 8: Hill's exponent of noise of 3072 x 768 is 3.46, and of square windows 2.12."""
    weights = {"w": {"kernel": RNG.standard_normal((3072, 768)).astype(np.float32)}}
    row = spectra.analyze(weights, metrics="scale,tail,farms", precision="single").table.iloc[0]
    assert row["alpha_hill"] == pytest.approx(3.46, abs=0.05)
    assert row["alpha_farms"] == pytest.approx(2.12, abs=0.03)
    assert row["alpha_farms_null"] == pytest.approx(2.12, abs=0.01)
    for Q, hill in ((1, 2.12), (2, 2.70), (4, 3.46), (8, 4.48)):
        assert float(nulls.closed_forms(1, 768 * Q, 768)["alpha_hill"]) == pytest.approx(hill, abs=0.03)


def test_windows_lie_inside_and_cover_both_ends():
    weights = np.arange(2 * 700 * 300.0).reshape(2, 700, 300)
    (matrix,) = spectra.weight_matrices(
        {"routed/kernel": weights}, (spectra.Rule("kernel", "x", lambda w: {"": w}),)
    )[0]
    cut = farms.windowed(matrix)
    assert cut.shape == (4, 256, 256)
    pieces = cut.load()
    assert pieces.shape == cut.shape
    assert pieces[0, 0, 0] == weights[0, 0, 0]
    assert pieces[-1, -1, -1] == weights[1, -1, 255]


def test_a_shuffle_keeps_the_entries_and_comes_from_its_seed():
    weights = RNG.standard_normal((2, 30, 20))
    matrix = spectra.Matrix("a", "dense", weights.shape, lambda: weights)
    one, again, other = (shuffles.shuffled(matrix, seed).load() for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(np.sort(one, None), np.sort(weights, None))
    assert not np.array_equal(one, weights)


def test_simulated_nulls_replace_the_closed_forms_and_agree_with_them():
    weights = {"w": {"kernel": RNG.standard_normal((128, 64)).astype(np.float32)}}
    closed = spectra.analyze(weights, precision="single").table.iloc[0]
    row = spectra.analyze(weights, precision="single", metrics="default,nulls").table.iloc[0]
    for name in ("stable_rank", "entropy", "effective_rank", "mp_softrank", "alpha_hill"):
        assert row[f"{name}_null"] == pytest.approx(closed[f"{name}_null"], rel=0.04)
        assert row[f"{name}_null_low"] <= row[f"{name}_null"] <= row[f"{name}_null_high"]
    assert row["alpha_null"] == pytest.approx(closed["alpha_null"], rel=0.3)
    assert row["ks_mp_null"] == closed["ks_mp_null"] == pytest.approx(row["ks_mp_null_high"], rel=0.25)
    assert row["phase"] == closed["phase"] == "random-like"
    assert "norm_null_low" not in row
    again = spectra.analyze(weights, precision="single", metrics="default,nulls").table.iloc[0]
    assert again["D_null"] == row["D_null"]


def test_the_bootstrap_is_seeded():
    weights = {"w": {"kernel": RNG.standard_t(1.5, (60, 40)).astype(np.float32)}}
    one, again, other = (
        spectra.analyze(weights, precision="single", metrics="tail,bootstrap", seed=seed).table.iloc[0]
        for seed in (0, 0, 1)
    )
    assert one["gof_p"] == again["gof_p"]
    assert 0 <= other["gof_p"] <= 1
    assert one["gof_p"] == pytest.approx(other["gof_p"], abs=0.1)
