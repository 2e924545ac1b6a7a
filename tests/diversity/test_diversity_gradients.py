"""Features from gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmtjax import diversity


def loss(params, example):
    out = jnp.tanh(example["x"] @ params["w"]) @ params["v"]
    return (out - example["y"]) ** 2


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    params = {
        "w": jnp.asarray(rng.normal(size=(12, 30)), jnp.float32),
        "v": jnp.asarray(rng.normal(size=30), jnp.float32),
    }
    examples = {
        "x": rng.normal(size=(70, 12)).astype(np.float32),
        "y": rng.normal(size=70).astype(np.float32),
    }
    one_by_one = [jax.grad(loss)(params, jax.tree.map(lambda a, i=i: a[i], examples)) for i in range(70)]
    whole = np.stack([np.concatenate([np.ravel(g["v"]), np.ravel(g["w"])]) for g in one_by_one])
    return params, examples, whole


def test_inner_products_are_kept(problem):
    params, examples, whole = problem
    exact = whole @ whole.T
    errors = []
    for dims in (64, 4096):
        features = diversity.gradient_features(loss, params, examples, dims=dims, seed=1)
        assert features.shape == (70, dims)
        errors.append(np.linalg.norm(features @ features.T - exact) / np.linalg.norm(exact))
    assert errors[1] < 1e-5  # as many buckets as parameters: nothing is lost
    assert errors[0] < 0.6
    mean = np.mean(
        [
            f @ f.T
            for f in (diversity.gradient_features(loss, params, examples, dims=64, seed=s) for s in range(40))
        ],
        axis=0,
    )
    assert np.linalg.norm(mean - exact) / np.linalg.norm(exact) < errors[0] / 3  # unbiased


def test_score_of_gradients(problem):
    params, examples, whole = problem
    features = diversity.gradient_features(loss, params, examples, dims=4096)
    assert diversity.vendi_score(features) == pytest.approx(diversity.vendi_score(whole), rel=1e-4)
    repeated = jax.tree.map(lambda a: np.repeat(a[:7], 10, axis=0), examples)
    assert diversity.vendi_score(diversity.gradient_features(loss, params, repeated)) <= 7 + 1e-4


def test_same_numbers_whatever_the_block(problem):
    params, examples, _ = problem
    first = diversity.gradient_features(loss, params, examples, dims=100, block=70)
    rounding = 1e-5 * np.abs(first).max()  # of a float32 sum over all parameters, in another order
    np.testing.assert_allclose(
        diversity.gradient_features(loss, params, examples, dims=100, block=9),
        first,
        rtol=1e-4,
        atol=rounding,
    )
    np.testing.assert_array_equal(
        diversity.gradient_features(loss, params, examples, dims=100, block=70), first
    )


def test_bad_input_is_one_sentence(problem):
    params, examples, _ = problem
    with pytest.raises(ValueError, match="dims=0"):
        diversity.gradient_features(loss, params, examples, dims=0)
    with pytest.raises(ValueError, match="no examples"):
        diversity.gradient_features(loss, params, jax.tree.map(lambda a: a[:0], examples))
