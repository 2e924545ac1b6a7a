"""Updates planted where they should be found, and random ones beside their nulls."""

import numpy as np
import pytest
import scipy.linalg

from rmtjax import spectra
from rmtjax.spectra.update_geometry import alignment, cosines_between_updates

RNG = np.random.default_rng(12)
N, M, K = 60, 40, 10


def given(weights: np.ndarray) -> spectra.Matrix:
    stack = weights if weights.ndim == 3 else weights[None]
    return spectra.Matrix("w", "dense", stack.shape, lambda: stack)


BASE = RNG.standard_normal((N, M))
U, S, VT = np.linalg.svd(BASE, full_matrices=False)


def of(*afters: np.ndarray, base: np.ndarray = BASE, dtype=np.float64) -> dict[str, np.ndarray]:
    return alignment([given(base)] * len(afters), [given(after) for after in afters], dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_energy_lies_where_it_was_planted(dtype):
    top = BASE + 0.1 * np.outer(U[:, 0], VT[0])
    bottom = BASE + 0.1 * np.outer(U[:, -1], VT[-1])
    anywhere = BASE + 0.01 * RNG.standard_normal((N, M))
    got = of(top, bottom, anywhere, dtype=dtype)
    np.testing.assert_allclose(got["update_energy_top"][:2], [1, 0], atol=1e-4)
    np.testing.assert_allclose(got["update_energy_bottom"][:2], [0, 1], atol=1e-3)
    assert got["update_energy_top"][2] == pytest.approx(K**2 / (N * M), rel=0.5)
    np.testing.assert_allclose(got["update_energy_top_null"], K**2 / (N * M))
    assert got["shift_top"][0] == pytest.approx(0.1 / S[0], rel=1e-2)


def test_overlaps_and_intruders():
    small = BASE + 1e-4 * RNG.standard_normal((N, M))
    x, y = RNG.standard_normal(N), RNG.standard_normal(M)
    intruder = BASE + 3 * S[0] * np.outer(x / np.linalg.norm(x), y / np.linalg.norm(y))
    other = RNG.standard_normal((N, M))
    got = of(small, intruder, other)
    assert got["overlap_left"][0] > 0.99
    assert got["overlap_right"][0] > 0.99
    assert got["intruders_left"][0] == got["intruders_right"][0] == 0
    assert got["intruders_left"][1] >= 1
    assert got["intruders_right"][1] >= 1
    assert got["overlap_left"][2] == pytest.approx(K / N, abs=0.12)
    assert got["overlap_right"][2] == pytest.approx(K / M, abs=0.15)
    np.testing.assert_allclose(got["overlap_right_null"], K / M)


def test_against_numpy():
    after = BASE + 0.2 * RNG.standard_normal((N, M))
    got = of(after)
    u, s, vt = np.linalg.svd(after, full_matrices=False)
    assert got["overlap_left"][0] == pytest.approx(np.square(U[:, :K].T @ u[:, :K]).sum() / K, rel=1e-8)
    assert got["overlap_right"][0] == pytest.approx(np.square(VT[:K] @ vt[:K].T).sum() / K, rel=1e-8)
    change = after - BASE
    expected = np.square(U[:, :K].T @ change @ VT[:K].T).sum() / np.square(change).sum()
    assert got["update_energy_top"][0] == pytest.approx(expected, rel=1e-8)
    middle = np.square(U[:, K : M - K].T @ change @ VT[K : M - K].T).sum() / np.square(change).sum()
    assert got["update_energy_bulk"][0] == pytest.approx(middle, rel=1e-8)
    assert got["shift_top"][0] == pytest.approx(s[0] / S[0] - 1, rel=1e-9)
    for name, part in (("leading", slice(K)), ("bulk", slice(K, M - K)), ("trailing", slice(M - K, M))):
        assert got[f"shift_{name}"][0] == pytest.approx((s - S)[part].mean() / S[0], rel=1e-8)
    for side, one, two in (("left", U[:, :K], u[:, :K]), ("right", VT[:K].T, vt[:K].T)):
        largest = np.degrees(scipy.linalg.subspace_angles(one, two)).max()
        assert got[f"angle_{side}"][0] == pytest.approx(largest, rel=1e-6)


def test_angles_of_unrelated_subspaces_are_those_of_their_null():
    got = of(*RNG.standard_normal((8, N, M)))
    for side in ("left", "right"):
        assert got[f"angle_{side}"].mean() == pytest.approx(got[f"angle_{side}_null"][0], abs=3)
    same = of(1.5 * BASE)
    assert same["angle_left"][0] == pytest.approx(0, abs=1e-4)


def test_slices_are_averaged_and_what_is_undefined_is_nan():
    stack = np.stack([BASE, BASE[::-1]])
    after = stack.copy()
    after[0] += 0.1 * np.outer(U[:, 0], VT[0])
    after[1] += 0.1 * np.outer(U[::-1][:, -1], VT[-1])
    got = of(after, base=stack)
    assert got["update_energy_top"][0] == pytest.approx(0.5, abs=1e-6)
    top = BASE + 0.1 * np.outer(U[:, 0], VT[0])
    spoiled = BASE.copy()
    spoiled[0, 0] = np.nan
    one, undefined = of(top, spoiled)["overlap_left"]
    assert one > 0.9
    assert np.isnan(undefined)
    assert all(name.endswith("_null") for name in of(BASE, spoiled))
    huge = alignment(
        [given(BASE * 1e30)], [given(1e30 * (BASE + 0.1 * np.outer(U[:, 0], VT[0])))], np.float32
    )
    assert huge["update_energy_top"][0] == pytest.approx(1, abs=1e-3)


def test_cosine_between_the_updates_of_two_runs():
    one, two = RNG.standard_normal((N, M)), RNG.standard_normal((N, M))

    def cosine(other: np.ndarray) -> float:
        return cosines_between_updates([given(BASE)], [given(BASE + one)], {"w": given(other)})["w"]

    assert cosine(BASE + one) == pytest.approx(1, rel=1e-9)
    assert cosine(BASE - one) == pytest.approx(-1, rel=1e-9)
    assert np.isnan(cosine(BASE))
    assert np.isnan(cosine(BASE[:-1]))  # another shape
    expected = (one * two).sum() / np.linalg.norm(one) / np.linalg.norm(two)
    assert cosine(BASE + two) == pytest.approx(expected, abs=1e-9)
    rows = spectra.compare({"w": BASE}, {"w": BASE + one}, other={"w": BASE + two}, metrics="scale").table
    update = rows.set_index("stage").loc["update"]
    assert update["cosine_other"] == pytest.approx(expected, abs=1e-9)
    assert update["cosine_other_null"] == pytest.approx(1.96 / np.sqrt(N * M), rel=1e-9)
    assert rows["cosine_other"].notna().sum() == 1


def test_in_a_comparison():
    after = {"w": {"kernel": BASE + 0.1 * np.outer(U[:, 0], VT[0])}, "frozen": {"kernel": BASE}}
    before = {"w": {"kernel": BASE}, "frozen": {"kernel": BASE}}
    table = spectra.compare(before, after, metrics="default,alignment").table
    row = table[(table["stage"] == "update") & (table["name"] == "w/kernel")].iloc[0]
    assert row["update_energy_top"] == pytest.approx(1, abs=1e-6)
    assert table.loc[table["stage"] != "update", "update_energy_top"].isna().all()
    assert "overlap_left" not in spectra.compare(before, after).table
