"""Power laws: known answers of WeightWatcher 0.7.7, recovery of a known exponent, Hill on noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmtjax.spectra import fingers, nulls, tails

power_law = jax.jit(tails.power_law)

# Known answers of WeightWatcher's own fit on these values (WEIGHTWATCHER.md 3.3).
VALUES = (
    1,
    1.1,
    1.3,
    1.6,
    2,
    2.5,
    3.2,
    4,
    5,
    6.5,
    8,
    10,
    13,
    17,
    22,
    30,
    40,
    55,
    75,
    100,
    150,
    220,
    350,
    600,
    1000,
)


def fit(*rows, dtype=np.float64) -> dict[str, np.ndarray]:
    """Rows of different length, right-aligned, each with a few places of padding that must not count."""
    size = max(map(len, rows)) + 3
    aligned = np.zeros((len(rows), size), dtype)
    for place, row in zip(aligned, rows, strict=True):
        place[size - len(row) :] = np.sort(row)
    count = np.array([len(row) for row in rows], np.int32)
    with jax.enable_x64(dtype == np.float64):
        return jax.device_get(power_law(jnp.asarray(aligned), jnp.asarray(count)))


def test_known_answers():
    got = fit(VALUES, VALUES[:15])
    np.testing.assert_allclose(got["alpha"], [1.3524801376651077, 1.6560747141886367], rtol=1e-12)
    np.testing.assert_allclose(got["D"], [0.12303137294615185, 0.1337875442381683], rtol=1e-12)
    np.testing.assert_allclose(got["alpha_se"], [0.07049602753302153, 0.16939776279469204], rtol=1e-12)
    np.testing.assert_array_equal(got["xmin"], [1, 1])
    np.testing.assert_array_equal(got["num_pl_spikes"], [25, 15])


def scan(x: np.ndarray) -> tuple[float, float, float]:
    """The definition, candidate by candidate."""
    best = (np.inf, np.nan, np.nan)
    for i in range(len(x) - 1):
        tail, n = x[i:], len(x) - i
        alpha = 1 + n / np.log(tail / x[i]).sum()
        distance = np.abs(1 - (tail / x[i]) ** (1 - alpha) - np.arange(n) / n).max()
        best = min(best, (distance, alpha, x[i]))
    return best


def test_equals_the_plain_scan_in_both_precisions():
    rng = np.random.default_rng(0)
    rows = [np.sort(rng.pareto(1.7, n) + rng.uniform(size=n)) for n in (20, 77, 150)]
    expected = np.array([scan(row) for row in rows])
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        got = fit(*rows, dtype=dtype)
        np.testing.assert_allclose(got["D"], expected[:, 0], rtol=tolerance)
        np.testing.assert_allclose(got["alpha"], expected[:, 1], rtol=tolerance)
        np.testing.assert_allclose(got["xmin"], expected[:, 2], rtol=tolerance)


def test_pareto_exponent_is_recovered():
    """FIELD.md 2.4 and 7, row 9: density exponent 2.5, xmin chosen: 2.54±.20, 2.52±.10, 2.50±.07."""
    rng = np.random.default_rng(2)
    expected = {100: (2.54, 0.20), 256: (2.52, 0.10), 768: (2.50, 0.07)}
    got = fit(*(rng.pareto(1.5, n) + 1 for n in expected for _ in range(60)), dtype=np.float32)["alpha"]
    for alphas, (centre, spread) in zip(got.reshape(3, 60), expected.values(), strict=True):
        assert alphas.mean() == pytest.approx(centre, abs=3 * spread / np.sqrt(60) + 0.01)
        assert 0.6 * spread < alphas.std() < 1.6 * spread


def test_scale_does_not_matter():
    rng = np.random.default_rng(3)
    row = rng.pareto(2.0, 60) + 1
    got = fit(row, 1e-12 * row, 1e12 * row)
    np.testing.assert_allclose(got["alpha"], got["alpha"][0], rtol=1e-11)
    np.testing.assert_allclose(got["xmin"], got["xmin"][0] * np.array([1, 1e-12, 1e12]), rtol=1e-14)


def test_where_no_tail_can_be_fitted():
    got = fit([1.0], [2.0] * 30, [1.0, 2.0], np.r_[[1.0] * 30, 2.0, 3.0, 5.0])
    assert np.isnan(got["alpha"][:2]).all()
    assert np.isnan(got["D"][:2]).all()
    assert (got["num_pl_spikes"][:2] == 0).all()
    assert got["alpha"][2] == pytest.approx(1 + 1 / np.log(2))  # unbiased: n - 1 over the sum
    assert np.isfinite(got["alpha"][3])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_tail_never_starts_within_equal_eigenvalues(dtype):
    """Equal but for the rounding errors of a solver, which are relative to the largest eigenvalue."""
    rng = np.random.default_rng(7)
    rows = [
        np.r_[np.ones(29), 25.0], np.r_[np.ones(15), np.full(15, 9.0)],
        np.r_[np.full(12, 2.0), rng.pareto(1, 9) + 3],
        np.r_[np.ones(20), np.full(10, 4.0), 30.0, 40.0, 90.0],
    ]  # fmt: skip
    rounded = [row * (1 + np.finfo(dtype).eps * rng.integers(-2, 3, len(row))) for row in rows]
    got = fit(*rounded, dtype=dtype)
    for i, row in enumerate(rows):
        tail = np.sort(row)[np.sort(row) >= 0.999 * got["xmin"][i]]
        assert got["num_pl_spikes"][i] == len(tail)
        assert got["alpha"][i] == pytest.approx(1 + len(tail) / np.log(tail / tail[0]).sum(), rel=1e-4)
    assert got["alpha"][0] == pytest.approx(1 + 30 / np.log(25), rel=1e-4)


def clip_written_out(x: np.ndarray, thresh: float) -> tuple[float, int]:
    """alpha and num_fingers, fit by fit; at least 20 values are always left."""
    first = scan(x)[1]
    for clip in range(2, 10):
        alpha = scan(x[:-clip])[1]
        if alpha + thresh < first:
            return alpha, clip - 1
        if alpha <= 2:
            break
    return first, 0


def test_clipped_fingers_equal_the_search_written_out():
    rng = np.random.default_rng(6)
    rows = [np.sort(rng.pareto(a, 60) + 1) for a in (0.8, 2.0, 3.0)]
    rows += [np.sort(np.r_[rng.uniform(1, 2, 60 - k), rng.uniform(3, 4, k)]) for k in (1, 3, 5, 8)]
    clip = jax.jit(fingers.clip_fingers, static_argnums=2)
    with jax.enable_x64(True):
        count = jnp.full(len(rows), 60, jnp.int32)
        for thresh in (1.0, 0.2):
            got = jax.device_get(clip(jnp.asarray(np.stack(rows)), count, thresh))
            alpha, number = np.array([clip_written_out(row, thresh) for row in rows]).T
            np.testing.assert_allclose(got["alpha_clipped"], alpha, rtol=1e-12)
            np.testing.assert_array_equal(got["num_fingers"], number)
            assert (number > 0).any()
            assert (number == 0).any()
        three = np.pad([[1.0, 2.0, 4.0]], ((0, 6), (57, 0)))  # other rows: zeros
        few = jax.device_get(clip(jnp.asarray(three), jnp.full(7, 3, jnp.int32), 1.0))
    assert few["alpha_clipped"][0] > 1
    assert few["num_fingers"][0] == 0
    assert np.isnan(few["alpha_clipped"][1:]).all()
    assert np.isnan(few["num_fingers"][1:]).all()


def test_hill_curve_is_hill_at_every_tail():
    rng = np.random.default_rng(8)
    x = np.stack([np.r_[np.zeros(n), np.sort(rng.pareto(1.5, 30 - n) + 1)] for n in (0, 12)]).astype(
        np.float32
    )
    curve = jax.device_get(tails.hill_curve(jnp.asarray(x), jnp.asarray([30, 18], jnp.int32)))
    assert np.isnan(curve[:, -1]).all()
    assert np.isnan(curve[1, :12]).all()
    for place, tail in ((0, 29), (12, 17), (20, 9), (28, 1)):
        expected = tails.hill(jnp.asarray(x), jnp.full(2, tail, jnp.int32))
        np.testing.assert_allclose(curve[:, place], expected, rtol=2e-5)


def test_hill():
    x = np.sort(np.random.default_rng(4).pareto(1.5, 400) + 1).astype(np.float32)
    rows = jnp.asarray(np.stack([x, x, np.zeros_like(x)]))
    got = np.asarray(tails.hill(rows, jnp.array([200, 400, 5], jnp.int32)))
    assert got[0] == pytest.approx(1 + 200 / np.log(x[200:] / x[199]).sum(), rel=1e-5)
    assert np.isnan(got[1:]).all()  # no threshold below the tail; a threshold of zero


def test_hill_of_noise():
    """FIELD.md 2.5 and 7, row 6: Hill at the median of Gaussian noise, Q = 1, 2, 4, 8; the closed form and
    samples.
    """
    M = np.full(4, 768)
    expected = nulls.closed_forms(1, M * np.array([1, 2, 4, 8]), M)["alpha_hill"]
    np.testing.assert_allclose(expected, [2.12, 2.70, 3.46, 4.48], atol=0.025)
    spectrum = np.linalg.eigvalsh(np.cov(np.random.default_rng(5).standard_normal((384, 768)), bias=True))
    got = tails.hill(jnp.asarray(spectrum[None], jnp.float32), jnp.array([192], jnp.int32))
    assert float(got[0]) == pytest.approx(2.70, abs=0.05)


def test_log_power_sum_does_not_overflow():
    x = jnp.asarray([[0.0, 1e-3, 10.0, 1e5]], jnp.float32)
    assert float(tails.log_power_sum(x, jnp.array([20.0]))[0]) == pytest.approx(100, abs=1e-4)
    assert float(tails.log_power_sum(x, jnp.array([1.0]))[0]) == pytest.approx(np.log10(100010.001), abs=1e-6)
