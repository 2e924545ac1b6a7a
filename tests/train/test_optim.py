import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rmtjax import config as config_lib
from rmtjax.errors import InputError
from rmtjax.train import optim, rules

PARAMS = {
    "encoder": {
        "kernel": jnp.full((3, 2), 2.0),
        "bias": jnp.full(2, 2.0),
        "norm": {"scale": jnp.full(2, 2.0)},
    },
    "head": {"kernel": jnp.full((2, 2), 2.0)},
}


def config_with(**regularization):
    config = config_lib.base()
    config.optim.update(learning_rate=0.1, warmup_steps=0, schedule="constant", clip_norm=None)
    config.regularization.update(regularization)
    return config


def update(config, grads, steps=1):
    optimizer, _ = optim.make_optimizer(config, PARAMS, 10, 0)
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


ZERO = jax.tree.map(jnp.zeros_like, PARAMS)


def test_decoupled_decay_shrinks_kernels_alone_by_rate_times_decay():
    params = update(config_with(weight_decay=0.5), ZERO)
    np.testing.assert_allclose(params["encoder"]["kernel"], 2.0 * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_allclose(params["head"]["kernel"], 1.9, rtol=1e-6)
    np.testing.assert_array_equal(params["encoder"]["bias"], 2.0)
    np.testing.assert_array_equal(params["encoder"]["norm"]["scale"], 2.0)


def test_coupled_l2_goes_through_adam_and_becomes_a_step_of_the_learning_rate():
    config = config_with(weight_decay=0.5)
    config.optim.name = "adam_l2"
    params = update(config, ZERO)
    # Adam divides the gradient by its own size: whatever the decay, the first step is the learning rate.
    np.testing.assert_allclose(params["encoder"]["kernel"], 2.0 - 0.1, rtol=1e-5)
    np.testing.assert_array_equal(params["encoder"]["bias"], 2.0)


def test_sgd_decay_is_coupled_and_has_the_right_sign():
    config = config_with(weight_decay=0.5)
    config.optim.name = "sgd"
    np.testing.assert_allclose(update(config, ZERO)["encoder"]["kernel"], 2.0 - 0.1 * 0.5 * 2.0, rtol=1e-6)


def test_coupled_and_decoupled_differ_with_a_gradient_and_agree_without_decay():
    grads = jax.tree.map(lambda p: jnp.linspace(0.5, 1.0, p.size).reshape(p.shape), PARAMS)
    results = {}
    for decay in (0.0, 0.5):
        for name in ("adamw", "adam_l2"):
            config = config_with(weight_decay=decay)
            config.optim.name = name
            results[name, decay] = update(config, grads, steps=3)["encoder"]["kernel"]
    np.testing.assert_array_equal(results["adamw", 0.0], results["adam_l2", 0.0])
    assert float(jnp.abs(results["adamw", 0.5] - results["adam_l2", 0.5]).min()) > 0.01


def test_frozen_parameters_stay_bit_for_bit_also_under_decay():
    config = config_with(weight_decay=0.5)
    config.optim.freeze = "encoder/.*"
    params = update(config, jax.tree.map(jnp.ones_like, PARAMS), steps=2)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params["encoder"], PARAMS["encoder"]))
    assert float(params["head"]["kernel"].max()) < 2.0


def test_the_head_has_its_own_learning_rate():
    config = config_with()
    config.optim.head_learning_rate = 0.01
    params = update(config, jax.tree.map(jnp.ones_like, PARAMS))
    np.testing.assert_allclose(params["encoder"]["kernel"], 1.9, rtol=1e-5)
    np.testing.assert_allclose(params["head"]["kernel"], 1.99, rtol=1e-5)


def test_clipping_bounds_the_global_norm():
    config = config_with()
    config.optim.update(name="sgd", clip_norm=1.0, learning_rate=1.0)
    grads = jax.tree.map(lambda p: 100.0 * jnp.ones_like(p), PARAMS)
    moved = jax.tree.map(jnp.subtract, PARAMS, update(config, grads))
    assert float(optax.tree.norm(moved)) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_schedules(kind):
    config = config_with()
    config.optim.schedule = kind
    schedule = optim.make_schedule(config, 0.1, total_steps=100, warmup_steps=10)
    assert float(schedule(0)) == pytest.approx(0.01)
    assert float(schedule(9)) == pytest.approx(0.1)
    assert float(schedule(10)) == pytest.approx(0.1)
    assert float(schedule(100)) == pytest.approx(0.1 if kind == "constant" else 0.0, abs=1e-8)
    assert float(schedule(55)) == pytest.approx(0.1 if kind == "constant" else 0.05, rel=1e-5)


def test_first_rule_wins_and_must_match_the_whole_name():
    chosen = rules.first_match([("encoder/norm/.*", "a"), ("encoder/.*", "b")], "c", PARAMS, "test")
    assert chosen["encoder"] == {"kernel": "b", "bias": "b", "norm": {"scale": "a"}}
    assert chosen["head"] == {"kernel": "c"}
    assert rules.first_match([("head", "a")], "c", PARAMS, "test")["head"]["kernel"] == "c"


def test_names_reach_into_optimiser_state():
    names = []
    rules.map_named(lambda name, leaf: names.append(name), optax.adam(0.1).init(PARAMS))
    assert names.count("encoder/norm/scale") == 2


LORA = {
    "block": {
        "kernel": jnp.ones((3, 2)),
        "bias": jnp.ones(2),
        "kernel_lora_a": jnp.ones((3, 1)),
        "kernel_lora_b": jnp.ones((1, 2)),
    },
    "head": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
}


def moved(config, gradient=0.0):
    """Names of the parameters of LORA that a step changes."""
    optimizer, _ = optim.make_optimizer(config, LORA, 10, 0)
    grads = jax.tree.map(lambda x: jnp.full_like(x, gradient), LORA)
    updates, _ = optimizer.update(grads, optimizer.init(LORA), LORA)
    found = set()
    rules.map_named(lambda name, change: found.add(name) if np.any(change) else None, updates)
    return found


def test_decay_reaches_the_low_rank_factors_and_freezing_adds_to_what_they_imply():
    factors = {"block/kernel_lora_a", "block/kernel_lora_b"}
    config = config_with(weight_decay=0.5)
    config.model.lora.rank = 1
    assert moved(config) == factors | {"head/kernel"}
    assert moved(config, 1.0) == factors | {"head/kernel", "head/bias"}
    config.optim.freeze = "head/.*"
    assert moved(config, 1.0) == factors


def test_decay_of_only_frozen_parameters_is_refused():
    config = config_with(weight_decay=0.5, decayed="block/kernel")
    config.model.lora.rank = 1
    with pytest.raises(
        InputError, match=r"'block/kernel' matches no parameter that is trained: there are names like 'block/"
    ):
        moved(config)
    config.optim.freeze = ".*"
    with pytest.raises(InputError, match="all are frozen"):
        moved(config)
