"""Goodness of fit of the tail: against the bootstrap written out with numpy, on true power laws, and on what
is none.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rmtjax.spectra import goodness, nulls, tails

SIZE = 112
fit = jax.jit(
    goodness.goodness_of_fit,
    static_argnames=("replicates", "candidates"),
    compiler_options={"xla_backend_optimization_level": 3},  # it runs for long, unlike most of the suite
)


def p_values(sets: list[np.ndarray], replicates: int = 200, size: int = SIZE, dtype=np.float32) -> np.ndarray:
    rows = np.stack([np.r_[np.zeros(size - len(x)), np.sort(x)] for x in sets]).astype(dtype)
    count = np.array([len(x) for x in sets], np.int32)
    with jax.enable_x64(dtype == np.float64):
        got = jax.device_get(fit(rows, count, np.arange(len(sets), dtype=np.int32), replicates=replicates))
    p = got["gof_p"]
    np.testing.assert_allclose(got["gof_p_se"], np.sqrt(p * (1 - p) / replicates), rtol=1e-4, atol=1e-7)
    assert p.dtype == dtype
    return p


def scan(x: np.ndarray) -> tuple[float, float, float, int]:
    """D, alpha - 1, ln xmin and the tail's size: every distinct value but the largest as xmin."""
    y, best = np.log(x), (np.inf, 0.0, 0.0, 0)
    for start in np.unique(y)[:-1]:
        tail = y[y >= start] - start
        slope = len(tail) / tail.sum()
        distance = np.abs(1 - np.exp(-slope * tail) - np.arange(len(tail)) / len(tail)).max()
        best = min(best, (distance, slope, start, len(tail)))
    return best


def bootstrap(x: np.ndarray, replicates: int, rng: np.random.Generator) -> float:
    distance, slope, start, tail = scan(np.sort(x))
    body, n, found = x[np.log(x) < start], len(x), 0
    for _ in range(replicates):
        drawn = np.exp(start + rng.exponential(size=n) / slope)
        if len(body):
            drawn = np.where(rng.uniform(size=n) < tail / n, drawn, rng.choice(body, n))
        found += scan(np.sort(drawn))[0] >= distance
    return found / replicates


def test_equals_the_bootstrap_written_out():
    rng = np.random.default_rng(1)
    sets = [rng.pareto(1.5, 40) + 1 for _ in range(15)] + [rng.exponential(1, 40) for _ in range(15)]
    expected = np.array([bootstrap(x, 60, rng) for x in sets])
    got = p_values(sets, replicates=1000)
    spread = np.sqrt(np.maximum(got * (1 - got), 0.01) * (1 / 60 + 1 / 1000))
    z = (got - expected) / spread
    assert np.abs(z).max() < 4.5
    assert abs(z.mean()) < 4 / np.sqrt(len(sets))


@pytest.mark.parametrize("body", [False, True])
def test_true_power_laws_are_not_rejected_too_often(body):
    """p < a in at most a of all cases, for every a; at .1 in not much less."""
    rng = np.random.default_rng(2)
    sets = [rng.pareto(1.5, 100) + 1 for _ in range(200)]
    if body:  # half of the values below the power law, and not of it
        sets = [np.where(rng.uniform(size=100) < 0.5, rng.uniform(0, 1, 100), x) for x in sets]
    p = p_values(sets)
    assert stats.kstest(p, "uniform", alternative="greater").pvalue > 0.05
    assert 0.03 <= (p < 0.1).mean() <= 0.14


def test_what_is_no_power_law_is_rejected_more_often():
    """44 % of exponential samples of 768 have p < .1, and 79 % of noise spectra; of power laws it would be a
    tenth.
    """
    rng = np.random.default_rng(3)
    exponential = [rng.exponential(1, 768) for _ in range(40)]
    noise = list(nulls.simulated_spectra(1, 3072, 768, 40))
    rejected = (p_values([*exponential, *noise], replicates=40, size=768) < 0.1).reshape(2, 40).mean(1)
    assert np.abs(rejected - [0.44, 0.79]).max() < 4 * 0.08


def test_neither_padding_nor_neighbours_nor_precision_change_the_draws():
    rng = np.random.default_rng(4)
    a, b, c = (rng.pareto(1.5, n) + 1 for n in (90, 100, 60))
    first = p_values([a, b, c])
    np.testing.assert_allclose(p_values([a, c, b], size=128)[:1], first[:1], atol=0.011)
    np.testing.assert_allclose(p_values([a, b, c], dtype=np.float64), first, atol=0.011)
    np.testing.assert_allclose(p_values([1e-12 * a, 1e9 * b, c]), first, atol=0.011)


def test_where_no_tail_can_be_fitted():
    nine = np.array([1.0, 1.5, 2.0, 2.2, 2.9, 3.5, 5.0, 8.0, 9.0])
    p = p_values([np.array([2.0]), np.full(30, 2.0), nine])
    assert np.isnan(p[:2]).all()
    assert 0 < p[2] <= 1


def test_candidates():
    few, many, two = (np.asarray(goodness.tail_sizes(jnp.int32(n), 200)) for n in (120, 4096, 2))
    np.testing.assert_array_equal(few, np.r_[np.arange(2, 120), [120] * 82])
    assert many[0] == 2
    assert many[-1] == 4096
    assert (np.diff(many) > 0).all()
    assert (many[100:] / many[99:-1]).max() < 1.05
    assert (two == 2).all()
    # With all candidates the fit is that of the table.
    x = np.sort(np.random.default_rng(5).pareto(1.5, (3, SIZE)) + 1).astype(np.float32)
    count = np.full(3, SIZE, np.int32)
    table = jax.device_get(jax.jit(tails.power_law)(x, count))
    sizes = jnp.arange(2, SIZE + 1)
    least = jax.jit(lambda row: goodness._least_distance(jnp.log(row / row[-1]), jnp.int32(SIZE), sizes))
    for i, row in enumerate(x):
        expected = [table["D"][i], table["alpha"][i] - 1, table["num_pl_spikes"][i]]
        np.testing.assert_allclose(np.array(least(row)), expected, rtol=2e-5)
