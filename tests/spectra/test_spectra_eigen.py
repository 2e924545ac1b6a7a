"""Eigenvalues against scipy in double precision, prescribed spectra and clusters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from rmtjax import spectra
from rmtjax.spectra import eigen, onepass

RNG = np.random.default_rng(1)
SHAPES = {
    "a": (1, 96, 64),
    "b": (1, 64, 64),
    "c": (1, 40, 3),
    "d": (9, 16, 8),
    "e": (1, 7, 1),
    "f": (1, 2, 2),
}


def stacked(**shapes: tuple[int, ...]) -> list[spectra.Matrix]:
    return [spectra.Matrix(name, "dense", RNG.standard_normal(shape)) for name, shape in shapes.items()]


def reference(weights: np.ndarray) -> np.ndarray:
    return np.sort(np.concatenate([scipy.linalg.svdvals(w) ** 2 for w in weights.astype(np.float64)]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-14), (np.float32, 1e-6)])
def test_parity_with_scipy(dtype, tolerance):
    found = stacked(**SHAPES)
    values, raw = onepass.run(found, dtype, with_metrics=False)
    for matrix, got, exponent in zip(found, values, raw["exponent"], strict=True):
        expected = reference(matrix.weights)
        assert got.dtype == dtype
        assert (np.diff(got) >= 0).all()
        np.testing.assert_allclose(
            np.ldexp(got.astype(np.float64), 2 * exponent), expected, atol=tolerance * expected[-1], rtol=0
        )


def test_prescribed_spectrum_down_to_the_resolution():
    """From 1 to 1e-12 in double: relative error at the bottom; in single the bottom is told to be unresolved."""
    prescribed = np.geomspace(1e-12, 1, 64)
    u, v = (np.linalg.qr(RNG.standard_normal((n, 64)))[0] for n in (256, 64))
    weights = {"w": (u * np.sqrt(prescribed)) @ v.T}
    double = spectra.eigenvalues(weights)["w"]
    np.testing.assert_allclose(double, prescribed, rtol=1e-3)
    single = spectra.analyze(weights, precision="single")
    unresolved = int(single.table["num_unresolved"][0])
    assert unresolved == (prescribed < eigen.resolution(64, np.float32)).sum()
    np.testing.assert_allclose(single.eigenvalues["w"][unresolved:], prescribed[unresolved:], rtol=0.1)
    assert "below the resolution" in single.table["warning"][0]


SPECIAL = {
    "all equal": (np.ones(17), np.zeros(16)),
    "clusters": (np.repeat([1.0, 2.0, 5.0], 11), np.zeros(32)),
    "zero": (np.zeros(9), np.zeros(8)),
    "two blocks": (np.arange(12.0), np.r_[np.ones(5), 0.0, np.ones(5)]),
    "second differences": (np.full(50, 2.0), np.full(49, -1.0)),
    "graded": (np.r_[1e6, np.full(20, 1e-3)], np.full(20, 1e-4)),
    "one": (np.array([3.0]), np.zeros(0)),
}


def test_bisection_on_special_tridiagonals_padded_to_one_size():
    with jax.enable_x64(True):
        padded = [
            eigen.pad_tridiagonal(jnp.asarray(diagonal)[None], jnp.asarray(off_diagonal)[None], 50)
            for diagonal, off_diagonal in SPECIAL.values()
        ]
        roots = jax.jit(eigen.tridiagonal_eigenvalues)(
            jnp.concatenate([d for d, _ in padded]), jnp.concatenate([e for _, e in padded])
        )
    for (diagonal, off_diagonal), got in zip(SPECIAL.values(), np.asarray(roots), strict=True):
        expected = scipy.linalg.eigvalsh_tridiagonal(diagonal, off_diagonal)
        tolerance = 30 * np.finfo(float).eps * max(1e-3, abs(diagonal).max())
        np.testing.assert_allclose(got[50 - len(diagonal) :], expected, atol=tolerance)


@given(
    st.dictionaries(st.integers(1, 4000), st.integers(1, 40), min_size=1, max_size=30), st.floats(1.0, 1e9)
)
def test_ladder_covers_every_size_with_few_rungs(rows, padding):
    ladder = eigen.padded_sizes(rows, padding)
    assert set(ladder) == set(rows)
    assert all(top >= size and top in rows for size, top in ladder.items())
    assert len(set(ladder.values())) <= 8


def test_ladder_keeps_sizes_apart_when_padding_is_dear():
    assert eigen.padded_sizes({64: 1, 768: 24, 3072: 24}) == {64: 768, 768: 768, 3072: 3072}


def test_batches_above_the_budget_give_the_same_numbers(monkeypatch):
    found = stacked(a=(1, 96, 64), b=(1, 96, 64), c=(1, 96, 64), d=(1, 40, 3))
    whole, _ = onepass.run(found, np.float64, with_metrics=False)
    monkeypatch.setattr(onepass, "CALL_BYTES", 2 * 96 * 64 * 8)
    batches = list(onepass._batches(found, 8))
    assert sorted(i for batch in batches for members in batch for i in members) == [0, 1, 2, 3]
    assert len(batches) == 2
    parts, _ = onepass.run(found, np.float64, with_metrics=False)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)
