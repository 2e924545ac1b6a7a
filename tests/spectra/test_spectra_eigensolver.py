"""Eigenvalues against scipy in double precision, prescribed spectra and clusters."""

import hypothesis
import jax
import numpy as np
import pandas as pd
import pytest
import scipy.linalg
from hypothesis import strategies as st

from rmtjax import spectra
from rmtjax.spectra import eigensolver, streaming

RNG = np.random.default_rng(1)
SHAPES = {
    "a": (1, 96, 64),
    "b": (1, 64, 64),
    "c": (1, 40, 3),
    "d": (9, 16, 8),
    "e": (1, 7, 1),
    "f": (1, 2, 2),
}


def stacked(**shapes: tuple[int, int, int]) -> list[spectra.Matrix]:
    return [given(name, RNG.standard_normal(shape)) for name, shape in shapes.items()]


def given(name: str, weights: np.ndarray) -> spectra.Matrix:
    return spectra.Matrix(name, "dense", weights.shape, lambda: weights)


def reference(weights: np.ndarray) -> np.ndarray:
    return np.sort(np.concatenate([scipy.linalg.svdvals(w) ** 2 for w in weights.astype(np.float64)]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-14), (np.float32, 1e-6)])
def test_parity_with_scipy(dtype, tolerance):
    found = stacked(**SHAPES)
    for matrix, (got, exponent, bad) in zip(found, streaming.spectra(found, dtype), strict=True):
        expected = reference(matrix.load())
        assert bad == 0
        assert got.dtype == dtype
        assert (np.diff(got) >= 0).all()
        np.testing.assert_allclose(
            np.ldexp(got.astype(np.float64), 2 * exponent), expected, atol=tolerance * expected[-1], rtol=0
        )


def test_prescribed_spectrum_down_to_the_resolution():
    """From 1 to 1e-12: in double the bottom is accurate; in single it is reported as unresolved."""
    prescribed = np.geomspace(1e-12, 1, 64)
    u, v = (np.linalg.qr(RNG.standard_normal((n, 64)))[0] for n in (256, 64))
    weights = {"w": (u * np.sqrt(prescribed)) @ v.T}
    double = spectra.eigenvalues(weights)["w"]
    np.testing.assert_allclose(double, prescribed, rtol=1e-3)
    single = spectra.analyze(weights, precision="single")
    unresolved = int(single.table["num_unresolved"][0])
    assert unresolved == (prescribed < eigensolver.resolution(64, np.float32)).sum()
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
    diagonals, off_diagonals = np.zeros((len(SPECIAL), 50)), np.zeros((len(SPECIAL), 49))
    for row, (diagonal, off_diagonal) in enumerate(SPECIAL.values()):
        diagonals[row] = -diagonal.max()  # decoupled, and below the eigenvalues that are compared
        diagonals[row, : len(diagonal)] = diagonal
        off_diagonals[row, : len(off_diagonal)] = off_diagonal
    with jax.enable_x64(True):
        roots = jax.jit(eigensolver.tridiagonal_eigenvalues)(diagonals, off_diagonals)
    for (diagonal, off_diagonal), got in zip(SPECIAL.values(), np.asarray(roots), strict=True):
        expected = scipy.linalg.eigvalsh_tridiagonal(diagonal, off_diagonal)
        tolerance = 30 * np.finfo(float).eps * max(1e-3, abs(diagonal).max())
        np.testing.assert_allclose(got[50 - len(diagonal) :], expected, atol=tolerance)


@hypothesis.settings(deadline=None)  # a busy machine is no failure
@hypothesis.given(
    st.dictionaries(st.integers(1, 4000), st.integers(1, 40), min_size=1, max_size=30), st.floats(1.0, 1e9)
)
def test_ladder_covers_every_size_with_few_rungs(rows, padding):
    ladder = eigensolver.padded_sizes(rows, padding)
    assert set(ladder) == set(rows)
    assert all(top >= size and top in rows for size, top in ladder.items())
    assert len(set(ladder.values())) <= 8


def test_ladder_keeps_sizes_apart_when_padding_is_dear():
    assert eigensolver.padded_sizes({64: 1, 768: 24, 3072: 24}) == {64: 768, 768: 768, 3072: 3072}


def test_clusters_and_close_pairs_in_double_precision():
    """Newton's steps say m times too little in a cluster of m roots, and may find a neighbour's root."""
    u, v = (np.linalg.qr(RNG.standard_normal((96, 96)))[0] for _ in range(2))
    prescribed = {
        "cluster": np.repeat([1.0, 2.0, 3.0], 32),
        "rank two": np.r_[np.zeros(94), 1.0, 5.0],
        "pairs": np.sort(np.r_[np.arange(1.0, 49.0), np.arange(1.0, 49.0) * (1 + 1e-9)]),
        "graded": np.geomspace(1e-14, 1.0, 96),
    }
    found = [given(name, ((u * np.sqrt(roots)) @ v.T)[None]) for name, roots in prescribed.items()]
    for roots, got in zip(prescribed.values(), streaming.spectra(found, np.float64), strict=True):
        values = np.ldexp(got.eigenvalues, 2 * got.exponent)
        np.testing.assert_allclose(values, roots, atol=50 * np.finfo(float).eps * roots.max())


def test_matrices_without_numbers_end_the_search(monkeypatch):
    """Zeros, and NaN, which becomes zeros: with padding and without. The limit on turns must not end the
    search.
    """
    monkeypatch.setattr(eigensolver, "_MOST_TURNS", 10**6)
    jax.clear_caches()
    spoiled = RNG.standard_normal((1, 64, 40))
    spoiled[0, 3, 4] = np.nan
    low_rank = RNG.standard_normal((64, 2)) @ RNG.standard_normal((2, 64))
    found = [
        given("zero", np.zeros((1, 64, 40))),
        given("spoiled", spoiled),
        given("wide", np.zeros((1, 64, 64))),
        given("low rank", low_rank[None]),
        given("noise", RNG.standard_normal((1, 64, 64))),
    ]
    got = streaming.spectra(found, np.float64)
    assert [one.bad for one in got] == [0, 1, 0, 0, 0]
    for one in got[:3]:
        assert (one.eigenvalues == 0).all()
    expected = reference(low_rank[None])
    np.testing.assert_allclose(
        np.ldexp(got[3].eigenvalues, 2 * got[3].exponent), expected, atol=1e-13 * expected[-1]
    )


SIZES = st.integers(1, 900)
TALL_SHAPES = st.tuples(SIZES, SIZES).map(lambda shape: (max(shape), min(shape)))


@hypothesis.settings(deadline=None)  # a busy machine is no failure
@hypothesis.given(
    st.dictionaries(TALL_SHAPES, st.integers(1, 40), min_size=1, max_size=20), st.floats(1.0, 1e10)
)
def test_common_shapes_hold_their_members_and_waste_little(rows, padding):
    shapes = streaming.padded_shapes(rows, padding)
    assert set(shapes) == set(rows)
    waste: dict[tuple[int, int], float] = {}
    for shape, common in shapes.items():
        assert common[0] >= shape[0]
        assert common[1] >= shape[1]
        extra = rows[shape] * (streaming._cost(1, *common) - streaming._cost(1, *shape))
        waste[common] = waste.get(common, 0) + extra
    assert max(waste.values()) <= padding


def test_numbers_of_rows_are_few():
    assert [streaming.round_rows(n) for n in range(1, 14)] == [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 12, 12, 16]
    assert [streaming.round_rows(n, 8) for n in (1, 8, 9, 17)] == [8, 8, 16, 24]


def test_stacks_above_the_budget_give_the_same_numbers(monkeypatch):
    found = stacked(a=(1, 96, 64), b=(4, 96, 64), c=(1, 96, 64), d=(1, 40, 3))
    whole = streaming.spectra(found, np.float64)
    monkeypatch.setattr(streaming, "STACK_BYTES", 2 * (96 * 64 + 3 * 64 * 64) * 8)
    stacks = [members for _, members in streaming._stacks(found, range(4), 8)]
    assert stacks == [[0], [1], [2, 3]]
    for one, other in zip(whole, streaming.spectra(found, np.float64), strict=True):
        np.testing.assert_allclose(one.eigenvalues, other.eigenvalues, rtol=1e-13)


def test_a_stopped_call_goes_on_where_it_was(tmp_path, monkeypatch):
    found = stacked(a=(1, 96, 64), b=(1, 96, 64), c=(2, 40, 24))
    monkeypatch.setattr(streaming, "STACK_BYTES", 1)
    whole = streaming.spectra(found, np.float32)
    loaded = []

    def counted(matrix: spectra.Matrix, stop: bool) -> spectra.Matrix:
        def load() -> np.ndarray:
            if stop:
                raise KeyboardInterrupt
            loaded.append(matrix.name)
            return matrix.load()

        return matrix._replace(load=load)

    with pytest.raises(KeyboardInterrupt):
        streaming.spectra([counted(m, m.name == "c") for m in found], np.float32, partial=tmp_path)
    resumed = streaming.spectra([counted(m, False) for m in found], np.float32, partial=tmp_path)
    assert sorted(loaded) == ["a", "b", "b", "c"]  # b was on its way when c could not be read
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one.eigenvalues, other.eigenvalues)
    assert not list(tmp_path.glob(".*"))
    others = stacked(a=(1, 40, 24))
    assert streaming.spectra(others, np.float32, partial=tmp_path)[0].eigenvalues.shape == (24,)


def test_a_stopped_call_goes_on_only_with_the_same_options(tmp_path):
    """What is done with one seed or one layout must not stand in the table of another."""
    tree = {
        "conv": {"kernel": RNG.standard_normal((3, 3, 6, 8))},
        "b": {"kernel": RNG.standard_normal((20, 12))},
    }
    one = {"metrics": "scale,shuffles", "seed": 0}
    other = {"metrics": "scale,shuffles", "seed": 1, "conv_norm": True}
    spectra.analyze(tree, partial=tmp_path, **one)
    resumed = spectra.analyze(tree, partial=tmp_path, **other).table
    pd.testing.assert_frame_equal(resumed, spectra.analyze(tree, **other).table)
