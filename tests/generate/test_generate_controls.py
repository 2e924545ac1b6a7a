import jax
import numpy as np
import pytest

from rmtjax import data
from rmtjax.generate import controls, flow
from rmtjax.train.sharding import make_mesh


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1, (12, 3, 3, 1)).astype(np.float32), (np.arange(12) % 3).astype(np.int32)


def test_the_memorisers_samples_are_training_images_of_their_class(images):
    known, labels = images
    params, field = controls.memoriser(known, labels, 3)
    for method in ("euler", "heun"):
        sample = flow.make_sampler(
            flow.guided(field, 3, 1.0), known.shape[1:], flow.Knobs(60, method), seed=0, mesh=make_mesh()
        )
        wanted = np.repeat(np.arange(3, dtype=np.int32), 20)
        made = sample(params, wanted)
        distance = np.abs(made[:, None] - known).max((2, 3, 4))
        assert distance.min(1).max() < 0.02
        np.testing.assert_array_equal(labels[distance.argmin(1)], wanted)
        assert len(np.unique(distance.argmin(1))) > 6  # not one image a class


def test_the_memoriser_is_the_posterior_mean_field(images):
    """Against the average over draws of (image, noise) whose path passes near a point."""
    known, labels = images
    params, field = controls.memoriser(known, labels, 3)
    t = 0.3
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5, *known.shape[1:])).astype(np.float32)
    for label in (1, 3):
        some = 2 * (known if label == 3 else known[labels == label]) - 1
        log_weight = -((x[:, None] - t * some) ** 2).sum((2, 3, 4)) / (2 * (1 - t) ** 2)
        weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
        weight /= weight.sum(1, keepdims=True)
        wanted = np.einsum("bi,ihwc->bhwc", weight, some) / (1 - t) - x / (1 - t)
        got = jax.jit(field)(params, x, np.full(5, t, np.float32), np.full(5, label, np.int32))
        np.testing.assert_allclose(got, wanted, atol=2e-4)


def test_gaussians_have_the_means_and_covariances_of_their_classes():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    known = np.clip(0.5 + 0.05 * rng.standard_normal((80, 2, 2, 1)) + 0.1 * labels[:, None, None, None], 0, 1)
    train = data.from_arrays("two", known.astype(np.float32), labels, ("a", "b"))
    draw = controls.gaussian(train, seed=0, temperature=1.0, distinct=None)
    wanted = np.repeat([0, 1], 4000)
    made = draw(wanted, np.arange(8000)).reshape(8000, -1)
    for k in (0, 1):
        real = known[labels == k].reshape(40, -1)
        np.testing.assert_allclose(made[wanted == k].mean(0), real.mean(0), atol=0.005)
        np.testing.assert_allclose(np.cov(made[wanted == k].T), np.cov(real.T), atol=3e-4)
    np.testing.assert_array_equal(draw(wanted[5:9], np.arange(5, 9)).reshape(4, -1), made[5:9])
    cold = controls.gaussian(train, seed=0, temperature=0.0, distinct=None)(np.asarray([1]), np.asarray([7]))
    np.testing.assert_allclose(cold[0], known[labels == 1].mean(0), atol=1e-6)
    few = controls.gaussian(train, seed=0, temperature=1.0, distinct=3)(np.zeros(9, np.int32), np.arange(9))
    assert len(np.unique(few.reshape(9, -1), axis=0)) == 3


def test_a_class_of_one_image_is_that_image():
    known = np.full((1, 2, 2, 1), 0.3, np.float32)
    train = data.from_arrays("one", known, np.asarray([0]), ("a",))
    draw = controls.gaussian(train, seed=0, temperature=1.0, distinct=None)
    np.testing.assert_allclose(draw(np.zeros(3, np.int32), np.arange(3)), np.repeat(known, 3, 0), atol=1e-6)
