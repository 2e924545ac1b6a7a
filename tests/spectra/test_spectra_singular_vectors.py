"""Singular vectors: WeightWatcher's columns, noise against its closed forms, vectors on few entries."""

import functools

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from test_spectra_analysis import weightwatcher

from rmtjax import checkpoints, spectra
from rmtjax.spectra import singular_vectors

RNG = np.random.default_rng(31)
N, M = 96, 64
NOISE = RNG.standard_normal((N, M))


def given(weights: np.ndarray) -> spectra.Matrix:
    stack = weights if weights.ndim == 3 else weights[None]
    return spectra.Matrix("w", "dense", stack.shape, lambda: stack)


def of(*weights: np.ndarray, tail: float = 8, dtype=np.float64) -> dict[str, np.ndarray]:
    return singular_vectors.vector_metrics(
        [given(w) for w in weights], np.full(len(weights), float(tail)), dtype
    )


def test_the_columns_of_weightwatcher():
    """WeightWatcher leaves it to rounding whether the eigenvalue at xmin is in the tail: either is accepted.

    For a square matrix it takes the vectors of the other side.
    """
    folder = weightwatcher()
    theirs = pd.read_csv(folder / "layers8_vectors.csv").set_index("name")
    found, _ = spectra.weight_matrices(checkpoints.open(folder / "layers8.safetensors"), conv_norm=True)
    by_name = {matrix.name.removesuffix(".weight"): matrix for matrix in found}
    square = by_name["fc_square"]
    by_name["fc_square"] = square._replace(load=lambda: square.load().swapaxes(1, 2))
    names = ["conv1x1", "conv2x2_even", "emb", "fc_small", "fc_square"]
    theirs = theirs.loc[names]
    tail = theirs["num_pl_spikes"].to_numpy(float)
    with_it, without = (
        singular_vectors.vector_metrics([by_name[name] for name in names], tail - less, np.float64)
        for less in (0, 1)
    )
    columns = [c for c in theirs if c.startswith(("bulk_", "tail_"))]
    assert len(columns) == 12
    exact, other = (
        np.stack([np.abs(ours[c] / theirs[c].to_numpy() - 1) for c in columns]).max(0)
        for ours in (with_it, without)
    )
    np.testing.assert_array_less(np.minimum(exact, other), 1e-6)


@functools.cache
def of_noise() -> dict[str, np.ndarray]:
    return of(*RNG.standard_normal((200, N, M)), dtype=np.float32)


def test_noise_agrees_with_the_closed_forms():
    got = of_noise()
    for side, n in (("N", N), ("M", M)):
        for part, many in (("bulk", 56), ("leading", 10)):
            ipr, null = got[f"ipr_{part}_{side}"], got[f"ipr_{part}_{side}_null"]
            np.testing.assert_allclose(null, 3 / (n + 2))
            spread = (8 / 3 / n) ** 0.5 / (many * len(ipr)) ** 0.5
            assert ipr.mean() == pytest.approx(null[0], rel=4 * spread)
            entropy, null = got[f"vector_entropy_{part}_{side}"], got[f"vector_entropy_{part}_{side}_null"]
            assert entropy.mean() == pytest.approx(null[0], abs=0.01)
            assert null[0] == pytest.approx(np.log(n) - 0.730, abs=0.02)
    for name, off in (("loc_ratio", 0.03), ("part_ratio", 0.01)):
        assert got[f"bulk_mean_{name}"].mean() == pytest.approx(got[f"bulk_mean_{name}_null"][0], rel=off)


def test_noise_is_rejected_as_rarely_as_promised():
    """Any rejection in at most 5 % of matrices; 200 of them: at most 18 with probability .99."""
    for side in ("N", "M"):
        rejected = of_noise()[f"num_non_porter_thomas_{side}"]
        assert 1 <= (rejected > 0).sum() <= 18
        assert of_noise()[f"num_non_porter_thomas_{side}_null"][0] == 0


@pytest.mark.parametrize("n", [16, 300])
def test_p_values_of_vectors_on_the_sphere_are_uniform(n):
    u = RNG.standard_normal((8000, n))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    statistics = jax.jit(singular_vectors._vector_statistics, static_argnums=1)
    p = np.asarray(statistics(u.astype(np.float32), "M")["p_M"])
    for level in (0.01, 0.05, 0.1, 0.25, 0.5):
        spread = (level * (1 - level) / len(p)) ** 0.5
        assert (p <= level).mean() == pytest.approx(level, abs=3 * spread + 0.02 * level)
    # Kolmogorov's own p values would not be: distances are those of scipy, and too small for them.
    distance = scipy.stats.kstest(u[0] * n**0.5, "norm").statistic
    x = (n**0.5 + 0.12 + 0.11 / n**0.5) * distance
    assert p[0] == pytest.approx(scipy.stats.kstwobign.sf((x**2 + 0.075) ** 0.5), abs=1e-3)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_localised_spike_is_found_on_its_side(dtype):
    few = np.zeros(M)
    few[:3] = [0.6, -0.6, 0.53]
    spread = RNG.standard_normal(N)
    spread /= np.linalg.norm(spread)
    got = of(NOISE, NOISE + 100 * np.outer(spread, few), tail=1, dtype=dtype)
    assert got["num_non_porter_thomas_M"][0] == 0
    assert got["num_non_porter_thomas_M"][1] >= 1
    assert got["num_non_porter_thomas_N"][1] == got["num_non_porter_thomas_N"][0]
    leading = np.square(few / np.linalg.norm(few))
    assert got["tail_mean_part_ratio"][1] == pytest.approx(np.square(leading).sum() ** -0.25, rel=0.02)
    assert got["tail_var_part_ratio"][1] == 0
    assert got["ipr_leading_M"][1] > got["ipr_leading_M"][0] + 0.02
    assert got["ipr_leading_N"][1] == pytest.approx(got["ipr_leading_N"][0], rel=0.5)
    assert got["ipr_bulk_M"][1] == pytest.approx(3 / (M + 2), rel=0.3)


def test_against_numpy():
    u, _, vt = np.linalg.svd(NOISE, full_matrices=False)
    got = of(NOISE)
    for side, rows in (("N", u.T), ("M", vt)):
        assert got[f"ipr_leading_{side}"][0] == pytest.approx((rows[:10] ** 4).sum(1).mean(), rel=1e-9)
        entropy = -(rows[8:] ** 2 * np.log(rows[8:] ** 2)).sum(1).mean()
        assert got[f"vector_entropy_bulk_{side}"][0] == pytest.approx(entropy, rel=1e-9)


def test_slices_are_pooled_and_ranked_together_and_scale_does_not_matter():
    two = np.stack([NOISE, 1e-3 * RNG.standard_normal((N, M))])
    got, first = of(two, tail=M), of(NOISE, tail=0)
    assert got["tail_mean_loc_ratio"][0] == pytest.approx(first["bulk_mean_loc_ratio"][0], rel=1e-9)
    for name, values in of(2.0**-300 * two, 2.0**300 * two, tail=M).items():
        np.testing.assert_array_equal(values, np.repeat(got[name], 2))


def test_vectors_that_rounding_chooses_do_not_count():
    low = NOISE[:, :12] @ RNG.standard_normal((12, M))
    got = of(low, np.eye(N, M), np.zeros((N, M)), np.full((N, M), np.nan), tail=6)
    bulk = np.linalg.svd(low)[2][6:12]
    assert got["ipr_bulk_M"][0] == pytest.approx((bulk**4).sum(1).mean(), rel=1e-6)
    for name, values in got.items():
        if not name.endswith("_null"):
            assert np.isnan(values[1:]).all(), name
    unfitted = of(NOISE, tail=np.nan)
    assert np.isnan(unfitted["bulk_mean_loc_ratio"][0])
    assert unfitted["ipr_leading_M"][0] == pytest.approx(of(NOISE)["ipr_leading_M"][0])
    assert np.isnan(of(RNG.standard_normal((40, 1)))["num_non_porter_thomas_M"][0])


def test_rejections_are_those_of_scipy():
    p = np.concatenate([RNG.uniform(size=300), RNG.uniform(size=40) * 1e-3])
    assert singular_vectors.num_rejected(p) == (scipy.stats.false_discovery_control(p) <= 0.05).sum()
    assert singular_vectors.num_rejected(np.array([0.2, 0.9])) == 0
