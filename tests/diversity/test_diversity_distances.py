import numpy as np
import pytest
import scipy.linalg

from rmtjax import diversity


def test_frechet_distance_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((60, 5)) @ rng.standard_normal((5, 5)), rng.standard_normal((40, 5)) + 1
    covariances = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    assert diversity.frechet_distance(a, b) == pytest.approx(wanted, rel=1e-9)
    assert diversity.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert diversity.frechet_distance(a, a + np.asarray([3, 0, 0, 4, 0])) == pytest.approx(25)


@pytest.mark.parametrize(("n", "d"), [(30, 64), (200, 8)])
def test_frechet_distance_of_a_set_to_itself_and_to_a_near_one(n, d):
    """The covariances' null directions add nothing, and rounding puts no distance below 0."""
    x = np.random.default_rng(0).standard_normal((n, d))
    for shown in (x, 1e3 * x + 50):
        assert 0 <= diversity.frechet_distance(shown, shown) < 1e-13 * np.sum(shown**2)
    assert diversity.frechet_distance(x, x + 1e-3) == pytest.approx(d * 1e-6, rel=1e-6)


def test_kernel_distance_is_the_sum_over_pairs_and_unbiased():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((30, 4)), rng.standard_normal((20, 4)) + 0.5

    def kernel(x, y):
        return (x @ y.T / 4 + 1) ** 3

    off = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))  # noqa: E731
    wanted = off(kernel(a, a)) + off(kernel(b, b)) - 2 * kernel(a, b).mean()
    assert diversity.kernel_distance(a, b) == pytest.approx(wanted, rel=1e-9)
    same = [diversity.kernel_distance(*rng.standard_normal((2, 30, 4))) for _ in range(200)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(200)


def test_one_example_has_no_law():
    with pytest.raises(ValueError, match="sets of 1 and 3 examples"):
        diversity.frechet_distance(np.zeros((1, 2)), np.zeros((3, 2)))
