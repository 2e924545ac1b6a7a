"""The weighted Vendi score."""

import numpy as np
import pytest

from rmtjax import diversity


@pytest.fixture(scope="module")
def base():
    return (np.random.default_rng(0).normal(size=(80, 10)) + 0.7).astype(np.float32)


@pytest.mark.parametrize("q", [1.0, 2])
def test_of_a_set_with_itself(base, q):
    own = diversity.weighted_vendi(base, base, q)
    np.testing.assert_allclose(own[:3], _symmetric(diversity.vendi_interval(base, q)), rtol=1e-5)
    unpaired = diversity.weighted_vendi_unpaired(base, base, q)
    assert unpaired.value == pytest.approx(diversity.vendi_score(base, q), rel=1e-9)
    assert own.null < own.value  # pairs at random are less alike


def _symmetric(interval):
    """Of the score itself, where that of the Vendi score is of its logarithm."""
    half = interval.value * np.log(interval.high / interval.value)
    return interval.value, interval.value - half, interval.value + half


def test_definition(base):
    rng = np.random.default_rng(1)
    arm = 3 * base + rng.normal(size=base.shape)
    rho = np.sum(base * arm) / np.linalg.norm(base) / np.linalg.norm(arm)
    made = diversity.weighted_vendi(base, arm)
    assert made.value == pytest.approx(diversity.vendi_score(arm) * rho, rel=1e-6)
    order = [rng.permutation(80) for _ in range(4000)]
    random = [np.sum(base * arm[o]) / np.linalg.norm(base) / np.linalg.norm(arm) for o in order]
    assert made.null == pytest.approx(diversity.vendi_score(arm) * np.mean(random), rel=2e-3)
    assert diversity.weighted_vendi(base, -arm).value == pytest.approx(-made.value, rel=1e-9)
    cosine = base.mean(0) @ arm.mean(0) / np.linalg.norm(base.mean(0)) / np.linalg.norm(arm.mean(0))
    unpaired = diversity.weighted_vendi_unpaired(base, arm[:50])
    assert unpaired.low < unpaired.value < unpaired.high
    assert diversity.weighted_vendi_unpaired(base, arm).value == pytest.approx(
        diversity.vendi_score(arm) * cosine, rel=1e-5
    )


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_hold_the_expectation(paired):
    """Over samples of one law, about 95 % of the intervals hold the mean score."""
    rng = np.random.default_rng(0)
    function = diversity.weighted_vendi if paired else diversity.weighted_vendi_unpaired

    scale, means = np.array([3, 1, 1, 0.5, 0.2]), np.array([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0]])

    def sample():
        base = rng.normal(size=(150, 5)) * scale + means[0]
        arm = base + rng.normal(size=base.shape) if paired else rng.normal(size=(150, 5)) + means[1]
        return function(base, arm)

    made = [sample() for _ in range(250)]
    expected = np.mean([m.value for m in made])
    assert 0.9 <= np.mean([m.low <= expected <= m.high for m in made]) <= 0.985


def test_bad_input_is_one_sentence(base):
    with pytest.raises(ValueError, match=r"shapes \[80, 10\] and \[79, 10\]"):
        diversity.weighted_vendi(base, base[:-1])
    with pytest.raises(ValueError, match="are 0: nothing"):
        diversity.weighted_vendi(base, 0 * base)
    with pytest.raises(ValueError, match="no direction"):
        diversity.weighted_vendi_unpaired(base, np.concatenate([base, -base]))
