"""Batch normalisation: as flax's by default, frozen, and with separate statistics of synthetic examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rmtjax import config as config_lib
from rmtjax import models
from rmtjax.models.layers import BatchNorm
from rmtjax.train import classification, sharding

RNG = np.random.default_rng(0)
REAL = jnp.asarray(RNG.normal(1.0, 2.0, (6, 3, 3, 4)), jnp.float32)
SYNTHETIC = jnp.asarray(RNG.normal(-3.0, 0.5, (4, 3, 3, 4)), jnp.float32)
STATS = {"mean": jnp.full(4, 0.5), "var": jnp.full(4, 3.0)}
BOTH = STATS | {"mean_synthetic": jnp.full(4, -1.0), "var_synthetic": jnp.full(4, 2.0)}
PARAMS = {"scale": jnp.asarray([1.0, 2.0, 3.0, 4.0]), "bias": jnp.asarray([0.1, 0.2, 0.3, 0.4])}


def run(x, origin=None, *, stats=STATS, frozen=False, separate=False, train=True):
    norm = BatchNorm(frozen, separate, jnp.float32)
    variables = {"params": PARAMS, "batch_stats": stats}
    out, new = norm.apply(variables, x, train, origin, mutable=["batch_stats"])
    return out, new["batch_stats"]


@pytest.mark.parametrize("train", [True, False])
def test_as_flax_s_own(train):
    variables = {"params": PARAMS, "batch_stats": STATS}
    theirs = nn.BatchNorm(use_running_average=not train, momentum=0.9)
    wanted, stats = theirs.apply(variables, REAL, mutable=["batch_stats"])
    out, ours = run(REAL, train=train)
    np.testing.assert_allclose(out, wanted, atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(ours[name], stats["batch_stats"][name], rtol=1e-5)


def test_frozen_trains_as_it_evaluates_and_keeps_its_statistics():
    out, stats = run(REAL, frozen=True)
    wanted, _ = run(REAL, train=False)
    np.testing.assert_array_equal(out, wanted)
    jax.tree.map(np.testing.assert_array_equal, stats, STATS)


def test_each_kind_is_normalised_alone_and_has_its_own_moving_means():
    order = np.asarray([0, 6, 1, 7, 2, 3, 8, 4, 9, 5])  # mixed up in the batch
    x = jnp.concatenate([REAL, SYNTHETIC])[order]
    origin = jnp.asarray(order >= 6, jnp.int32)
    out, stats = run(x, origin, stats=BOTH, separate=True)
    alone, of_real = run(REAL)
    apart, of_synthetic = run(SYNTHETIC, stats={"mean": BOTH["mean_synthetic"], "var": BOTH["var_synthetic"]})
    np.testing.assert_allclose(out[np.argsort(order)], jnp.concatenate([alone, apart]), atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(stats[name], of_real[name], rtol=1e-5)
        np.testing.assert_allclose(stats[f"{name}_synthetic"], of_synthetic[name], rtol=1e-5)
    mixed, _ = run(x)
    assert np.abs(mixed - out).max() > 1  # pooled statistics are another thing


def test_a_batch_without_synthetic_examples_leaves_their_statistics_and_evaluation_uses_the_real_ones():
    _, stats = run(REAL, jnp.zeros(6, jnp.int32), stats=BOTH, separate=True)
    np.testing.assert_array_equal(stats["mean_synthetic"], BOTH["mean_synthetic"])
    np.testing.assert_array_equal(stats["var_synthetic"], BOTH["var_synthetic"])
    assert np.all(stats["mean"] != BOTH["mean"])
    evaluated, _ = run(SYNTHETIC, stats=BOTH, separate=True, train=False)
    wanted, _ = run(SYNTHETIC, train=False)
    np.testing.assert_array_equal(evaluated, wanted)


def test_the_loss_tells_the_model_which_examples_are_synthetic():
    config = config_lib.base()
    config.model.name = "resnet"
    config.model.init_from = None
    config_lib.smoke(config)
    config.model.batch_norm.separate = True
    model = models.build(config, 3)
    x = jnp.concatenate([REAL, SYNTHETIC])[..., :3]
    shapes = jax.eval_shape(classification.make_init(model, (3, 3, 3)), jax.random.key(0))
    params, state = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), shapes)
    batch = {
        "inputs": x,
        "label": jnp.zeros(10, jnp.int32),
        "origin": jnp.asarray([0] * 6 + [1] * 4, jnp.int32),
    }
    loss = jax.jit(classification.make_loss(model))
    rngs = {"dropout": jax.random.key(1)}
    _, (mixed, _) = loss(params, state, batch, rngs)
    _, (real, _) = loss(params, state, batch | {"origin": jnp.zeros(10, jnp.int32)}, rngs)
    stem, fresh = mixed["batch_stats"]["norm_stem"], state["batch_stats"]["norm_stem"]
    assert np.all(stem["mean_synthetic"] != fresh["mean_synthetic"])
    np.testing.assert_array_equal(real["batch_stats"]["norm_stem"]["mean_synthetic"], fresh["mean_synthetic"])


def test_statistics_are_sharded_with_the_rest():
    mesh = sharding.make_mesh(1, 8)
    stats = {"batch_stats": {"norm": {"mean": jnp.zeros(16), "var": jnp.zeros(16)}}}
    placed = sharding.put(stats, sharding.shardings(stats, [(".*", "fsdp")], mesh))
    assert {leaf.addressable_shards[0].data.shape for leaf in jax.tree.leaves(placed)} == {(2,)}
