"""Nearest distances, precision, recall, density and coverage against plain numpy and exact expectations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from rmtjax import diversity
from rmtjax.diversity import neighbours


def plain(reference, candidates, k):
    """The definitions, from whole distance matrices."""
    radius = np.sort(cdist(reference, reference), axis=1)[:, k]
    candidate_radius = np.sort(cdist(candidates, candidates), axis=1)[:, k]
    between = cdist(reference, candidates)
    inside = between <= radius[:, None]
    return (
        inside.any(axis=0).mean(),
        (between <= candidate_radius[None, :]).any(axis=1).mean(),
        inside.sum() / (k * len(candidates)),
        inside.any(axis=1).mean(),
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(30, 20, 1), (25, 60, 3)]), st.floats(0, 2))
def test_scores_equal_the_definitions(seed, sizes, shift):
    *sizes, k = sizes
    rng = np.random.default_rng(seed)
    reference, candidates = rng.normal(size=(sizes[0], 3)), rng.normal(size=(sizes[1], 3)) * 0.7 + shift
    expected = plain(reference, candidates, k)
    np.testing.assert_allclose(diversity.manifold_scores(reference, candidates, k), expected, rtol=1e-12)
    assert diversity.coverage(reference, candidates, k).value == pytest.approx(expected[3])


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    reference, candidates = rng.normal(size=(53, 4)), rng.normal(size=(41, 4)) + 0.3
    monkeypatch.setattr(neighbours, "_ELEMENTS", 7 * 41)  # 7 rows, and a rest of 4
    np.testing.assert_allclose(
        diversity.manifold_scores(reference, candidates, 3), plain(reference, candidates, 3), rtol=1e-12
    )
    assert diversity.coverage(reference, candidates, 3).value == plain(reference, candidates, 3)[3]
    np.testing.assert_allclose(
        diversity.nearest_distances(reference, candidates), cdist(reference, candidates).min(1), rtol=1e-12
    )


def test_nearest_distances():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(80, 6)).astype(np.float32) + 100  # far from the origin: squares cancel
    near = train[:20] + np.float32(1e-3) * rng.normal(size=(20, 6)).astype(np.float32)
    expected = cdist(near.astype(np.float64), train.astype(np.float64)).min(1)
    np.testing.assert_allclose(diversity.nearest_distances(near, train), expected, rtol=1e-9)
    np.testing.assert_array_equal(diversity.nearest_distances(train, train), np.zeros(80))


def test_limits():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 2))
    assert diversity.manifold_scores(points, points, 3)[:2] == (1, 1)
    same = diversity.coverage(points, points, 3)
    assert (same.value, same.high) == (1, 1)
    assert same.low > 0.85
    far = diversity.coverage(points, points + 100, 3)
    assert (far.value, far.low) == (0, 0)
    assert 0 < far.high < 0.15
    assert tuple(diversity.manifold_scores(points, points + 100, 3)) == (0, 0, 0, 0)
    # Copies of one candidate lie in one place and reach no more than one.
    one = diversity.coverage(points, np.repeat(points[:1], 30, axis=0), 3).value
    assert one == diversity.coverage(points, points[:1], 3).value < 0.3


def test_full_coverage_by_few_candidates_has_an_interval():
    """Balls that one candidate alone is in make it wider, not all of [0, 1]."""
    line = np.arange(60.0)[:, None]
    few, many = (diversity.coverage(line, line[::step], 3) for step in (3, 1))
    assert few.value == many.value == 1
    assert 0.5 < few.low < many.low < 1


def test_equal_points_are_neighbours():
    """A point's copies are other points at distance 0: its ball shrinks to itself."""
    reference = np.concatenate([np.zeros((4, 2)), np.ones((4, 2))])
    candidates = np.array([[0.0, 0.0], [0.5, 0.5], [0.2, 0.1], [3.0, 3.0]])
    assert diversity.coverage(reference, candidates, 3).value == 0.5


@pytest.mark.parametrize("offset", [0, 100])
def test_borders_are_inside_whatever_the_rounding(offset):
    """Balls of copies have radius 0, and rounding keeps squared distances of copies from being exactly 0."""
    points = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32) + np.float32(offset)
    copies = np.repeat(points, 5, axis=0)
    assert diversity.manifold_scores(copies, points, 3) == pytest.approx((1, 1, 5 / 3, 1), rel=1e-12)
    assert diversity.coverage(copies, points, 3).value == 1
    assert diversity.manifold_scores(points, copies, 3)[:2] == (1, 1)
    near = points + np.float32(1e-3)  # and what lies outside, however near, is not inside
    assert tuple(diversity.manifold_scores(copies, near, 3))[::2] == (0, 0)
    assert diversity.coverage(copies, near, 3).value == 0
    far = np.concatenate([copies, np.full((1, 64), 1e8, np.float32)])  # an outlier widens no other's ball
    assert diversity.coverage(far, near, 3).value == 1 / 201


@pytest.mark.parametrize(("n", "m", "k"), [(60, 60, 3), (40, 90, 2), (90, 30, 5)])
def test_expectations_for_one_law(n, m, k):
    """Density 1 and coverage by the exact formula, whatever the law; 5 standard errors."""
    rng = np.random.default_rng(0)
    scores = np.array(
        [
            diversity.manifold_scores(rng.normal(size=(n, 3)) ** 3, rng.normal(size=(m, 3)) ** 3, k)
            for _ in range(150)
        ]
    )
    error = scores.std(axis=0) / np.sqrt(150)
    assert abs(scores[:, 2].mean() - 1) < 5 * error[2]
    assert abs(scores[:, 3].mean() - diversity.expected_coverage(n, m, k)) < 5 * error[3]
    assert diversity.expected_coverage(10**6, 10**6, k) == pytest.approx(1 - 0.5**k, abs=1e-5)


@pytest.mark.parametrize("d", [3, 24])
def test_intervals_hold_the_expected_coverage(d):
    rng = np.random.default_rng(0)
    expected = diversity.expected_coverage(120, 60, 3)
    intervals = [
        diversity.coverage(rng.normal(size=(120, d)), rng.normal(size=(60, d)), 3) for _ in range(150)
    ]
    covered = np.mean([i.low <= expected <= i.high for i in intervals])
    assert covered >= 0.92
    assert np.mean([i.high - i.low for i in intervals]) < 0.4


def test_bad_input_is_one_sentence():
    points = np.ones((5, 2))
    with pytest.raises(ValueError, match="k=5 neighbours in a reference set of 5"):
        diversity.coverage(points, points, 5)
    with pytest.raises(ValueError, match="k=3 neighbours in a candidate set of 2"):
        diversity.manifold_scores(points, points[:2], 3)
    with pytest.raises(ValueError, match="candidate set is empty"):
        diversity.coverage(points, points[:0], 3)
    with pytest.raises(ValueError, match="is empty"):
        diversity.nearest_distances(points, points[:0])
    with pytest.raises(ValueError, match="1 of 5 examples have features that are not finite, first row 2"):
        diversity.coverage(np.where(np.arange(5)[:, None] == 2, np.nan, points), points, 3)
