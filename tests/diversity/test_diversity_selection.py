import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmtjax import diversity


def gains(features, before, after):
    """What each of `after` adds to the log-determinant of those before it."""
    x = features / np.linalg.norm(features, axis=1, keepdims=True)

    def log_det(numbers):
        return np.linalg.slogdet(np.eye(len(numbers)) + x[numbers] @ x[numbers].T)[1]

    return np.array([log_det([*before, i]) - log_det([*before]) for i in after])


@pytest.mark.parametrize("quantile", [0.0, 0.3, 1.0])
def test_each_example_has_the_quantile_of_the_gains_of_those_left(quantile):
    features = np.random.default_rng(0).normal(size=(14, 5)) + 1
    labels = np.zeros(14, int)
    chosen = list(diversity.select(features, labels, labels[:9], quantile=quantile, seed=1))
    for t in range(1, 9):
        left = [i for i in range(14) if i not in chosen[:t]]
        found = gains(features, chosen[:t], left)
        assert found[left.index(chosen[t])] == pytest.approx(
            np.sort(found)[round(quantile * (len(left) - 1))]
        )


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    quantile=st.floats(0, 1),
    seed=st.integers(0, 2**40),
    share=st.floats(0, 1),
)
def test_every_setting_has_the_labels_that_are_wanted_and_no_example_twice(counts, quantile, seed, share):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    features = rng.normal(size=(len(labels), 3)).round()  # with copies, and rows of 0
    wanted = labels[: round(share * len(labels))]
    chosen = diversity.select(features, labels, wanted, quantile=quantile, seed=seed)
    np.testing.assert_array_equal(labels[chosen], wanted)
    assert len(set(chosen)) == len(chosen)
    again = diversity.select(features, labels, wanted, quantile=quantile, seed=seed)
    np.testing.assert_array_equal(again, chosen)
    fewer = diversity.select(features, labels, wanted[: len(wanted) // 2], quantile=quantile, seed=seed)
    np.testing.assert_array_equal(fewer, chosen[: len(wanted) // 2])


def test_diversity_rises_with_the_quantile():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(400, 24)) * np.arange(1, 25) ** -0.7 + 0.5, np.arange(400) % 4
    scores = [
        diversity.vendi_score(features[diversity.select(features, labels, labels[:80], quantile=q)])
        for q in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert (np.diff(scores) > 0.05).all()
    random = [diversity.vendi_score(features[rng.permutation(400)[:80]]) for _ in range(20)]
    assert scores[0] < min(random)
    assert max(random) < scores[-1]


def test_seeds_differ_and_scales_do_not():
    features, labels = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2
    one, other = (diversity.select(features, labels, labels[:10], quantile=0, seed=s) for s in (0, 1))
    assert set(one) != set(other)
    scaled = features * np.linspace(0.1, 9, 60)[:, None]
    np.testing.assert_array_equal(diversity.select(scaled, labels, labels[:10], quantile=0, seed=0), one)


def test_what_cannot_be_selected_is_said():
    with pytest.raises(ValueError, match="class 1 has 1 examples, and 2 are wanted"):
        diversity.select(np.eye(3), np.array([0, 0, 1]), np.array([1, 1]))
    with pytest.raises(ValueError, match="finite"):
        diversity.select(np.full((2, 2), np.nan), np.zeros(2, int), np.zeros(1, int))
