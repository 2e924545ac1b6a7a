import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from rmtjax.generate import flow
from rmtjax.generate.mlp import VelocityMLP
from rmtjax.train import loop
from rmtjax.train.sharding import make_mesh

POINTS = np.asarray([[0.2, 0.9], [0.7, 0.1]], np.float32).reshape(
    2, 1, 2, 1
)  # an image for each of two classes


class Exact(nn.Module):
    """The closed-form field of data with one image a class: (x_1 - x) / (1 - t), x_1 a parameter."""

    @nn.compact
    def __call__(self, x, t, label):
        points = self.param("points", nn.initializers.zeros, POINTS.shape)
        return (points[label] - x) / (1 - t.reshape(-1, 1, 1, 1))


def exact_params():
    return {"points": jnp.asarray(2 * POINTS - 1)}


def batch(n=64):
    label = np.arange(n, dtype=np.int32) % 2
    return {"inputs": POINTS[label], "label": label}


def rngs(i):
    return {"dropout": jax.random.key(i)}


@pytest.fixture(scope="module")
def mesh():
    return make_mesh()


def test_loss_is_zero_and_smallest_at_the_closed_form():
    loss_fn = flow.make_loss(Exact(), 2, 0.0)

    def loss(params):
        return loss_fn(params, {}, batch(), rngs(0))[0]

    assert float(loss(exact_params())) < 1e-6
    assert max(jnp.abs(g).max() for g in jax.tree.leaves(jax.grad(loss)(exact_params()))) < 1e-2
    assert float(loss({"points": exact_params()["points"] + 0.1})) > 0.01


def test_fitted_field_is_the_closed_form_for_classes_and_for_the_null_class(mesh):
    model = VelocityMLP(2, 64, 2)
    decay = 0.99
    optimizer, schedule = flow.make_optimizer(5e-3, decay, 800)
    data = batch(128)
    fitted = loop.fit(
        init=flow.make_init(model, (1, 2, 1)), loss_fn=flow.make_loss(model, 2, 0.3), optimizer=optimizer,
        schedule=schedule, batches=lambda start: iter(lambda: data, None), total_steps=800, seed=0,
        mesh=jax.sharding.Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("data", "fsdp")),
    )  # fmt: skip
    params = flow.averaged(jax.device_get(fitted.state.opt_state), decay)

    points = (2 * POINTS - 1).reshape(2, 2)
    rng = np.random.default_rng(0)
    for t in (0.2, 0.5, 0.8):
        ends = points[rng.integers(0, 2, 200)]
        x = ((1 - t) * rng.standard_normal((200, 2)) + t * ends).astype(np.float32)
        toward = (points - x[:, None]) / (1 - t)  # the two conditional fields
        # Posterior of each image given x_t = x: a normal around t x_1 with variance (1 - t)^2.
        score = -(((x[:, None] - t * points) / (1 - t)) ** 2).sum(-1) / 2
        weight = np.exp(score - score.max(1, keepdims=True))
        weight /= weight.sum(1, keepdims=True)
        wanted = [toward[:, 0], toward[:, 1], (weight[..., None] * toward).sum(1)]
        for label in range(3):
            got = model.apply(
                {"params": params},
                jnp.asarray(x.reshape(-1, 1, 2, 1)),
                jnp.full(200, t),
                jnp.full(200, label, jnp.int32),
            )
            seen = slice(None) if label == 2 else (ends == points[label]).all(1)  # where it was trained
            error = np.asarray(got).reshape(-1, 2)[seen] - wanted[label][seen]
            assert np.sqrt((error**2).mean()) < 0.15, (t, label)

    velocity = flow.guided(model, 2, 1.0)
    sample = flow.make_sampler(velocity, (1, 2, 1), steps=30, seed=0, mesh=mesh)
    labels = np.arange(100, dtype=np.int32) % 2
    assert np.abs(sample(params, labels) - POINTS[labels]).max() < 0.05


def test_samples_of_the_exact_field_land_on_the_image(mesh):
    sample = flow.make_sampler(flow.guided(Exact(), 2, 1.0), (1, 2, 1), steps=7, seed=0, mesh=mesh)
    labels = np.asarray([0, 1, 1, 0, 1], np.int32)
    np.testing.assert_allclose(sample(exact_params(), labels), POINTS[labels], atol=1e-5)


def test_samples_are_clipped_to_the_unit_interval(mesh):
    beyond = {"points": jnp.asarray([[5.0, -5.0], [-5.0, 5.0]]).reshape(2, 1, 2, 1)}
    sample = flow.make_sampler(flow.guided(Exact(), 2, 1.0), (1, 2, 1), steps=4, seed=0, mesh=mesh)
    images = sample(beyond, np.asarray([0, 1], np.int32)).reshape(2, 2)
    np.testing.assert_array_equal(images, [[1, 0], [0, 1]])


def perturbed(model, shape, seed=0):
    """Parameters away from the zeros they start with, so that time and class have a say."""
    params, _ = jax.jit(flow.make_init(model, shape))(jax.random.key(seed))
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(
        tree, [leaf + 0.3 * rng.standard_normal(leaf.shape).astype(np.float32) for leaf in leaves]
    )


def test_guidance_one_is_the_conditional_field_and_others_extrapolate():
    model = VelocityMLP(3, 16, 1)
    params = perturbed(model, (2, 2, 1))
    x = jax.random.normal(jax.random.key(1), (5, 2, 2, 1))
    t, label = jnp.linspace(0, 0.9, 5), jnp.asarray([0, 1, 2, 0, 1])
    field = jax.jit(lambda params, x, t, label: model.apply({"params": params}, x, t, label))
    conditional, null = field(params, x, t, label), field(params, x, t, jnp.full(5, 3))
    assert jnp.abs(conditional - null).max() > 0.1

    def guided(guidance):
        return jax.jit(flow.guided(model, 3, guidance))(params, x, t, label)

    np.testing.assert_array_equal(guided(1.0), conditional)
    np.testing.assert_allclose(guided(0.0), null, atol=1e-5)
    np.testing.assert_allclose(guided(2.5), null + 2.5 * (conditional - null), atol=1e-5)


def test_label_dropout_trains_the_null_class_and_only_then():
    model = VelocityMLP(2, 16, 1)
    params = perturbed(model, (1, 2, 1))

    def row_gradients(dropout):
        loss_fn = flow.make_loss(model, 2, dropout)
        grads = jax.jit(jax.grad(lambda p: loss_fn(p, {}, batch(), rngs(0))[0]))(params)
        return jnp.abs(grads["label"]["embedding"]).max(1) > 0

    assert row_gradients(0.0).tolist() == [True, True, False]
    assert row_gradients(1.0).tolist() == [False, False, True]


def test_average_equals_its_closed_form_and_leaves_training_alone():
    decay, steps = 0.9, 7
    with_average, without = optax.chain(optax.sgd(0.1), flow.ema(decay)), optax.sgd(0.1)
    params = plain = {"w": jnp.asarray([3.0, -1.0])}
    state, plain_state = with_average.init(params), without.init(plain)
    history = []
    for step in range(steps):
        grads = {"w": jnp.asarray([1.0, step])}
        updates, state = with_average.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        updates, plain_state = without.update(grads, plain_state, plain)
        plain = optax.apply_updates(plain, updates)
        history.append(np.asarray(params["w"]))
    np.testing.assert_array_equal(params["w"], plain["w"])
    weights = decay ** np.arange(steps)[::-1]
    wanted = (weights[:, None] * np.stack(history)).sum(0) / weights.sum()
    np.testing.assert_allclose(flow.averaged(state, decay)["w"], wanted, rtol=1e-5)


def test_a_sample_depends_on_seed_and_its_number_alone(mesh):
    model = VelocityMLP(3, 16, 1)
    params = perturbed(model, (4, 4, 1))
    velocity = flow.guided(model, 3, 1.5)

    def sampler(seed, batch_size):
        return flow.make_sampler(velocity, (4, 4, 1), steps=5, seed=seed, mesh=mesh, batch_size=batch_size)

    labels = np.arange(50, dtype=np.int32) % 3
    sample = sampler(0, 64)
    whole = sample(params, labels)
    assert whole.dtype == np.float32
    assert whole.std(0).min() > 0  # they are not all alike
    np.testing.assert_array_equal(sample(params, labels), whole)
    np.testing.assert_array_equal(sample(params, labels[:20]), whole[:20])
    np.testing.assert_allclose(sample(params, labels[31:], start=31), whole[31:], atol=1e-5)
    np.testing.assert_allclose(sampler(0, 8)(params, labels), whole, atol=1e-5)
    assert np.abs(sampler(1, 64)(params, labels) - whole).max() > 0.1


def test_mean_loss_of_a_zero_field_is_the_second_moment_of_image_minus_noise():
    model = VelocityMLP(2, 16, 1)
    params, _ = jax.jit(flow.make_init(model, (1, 2, 1)))(jax.random.key(0))  # its output starts as zero
    data = batch(2000)
    mean_loss = flow.make_mean_loss(model)
    loss = mean_loss(params, data["inputs"], data["label"])
    assert loss == mean_loss(params, data["inputs"], data["label"])
    assert loss == pytest.approx(1 + ((2 * data["inputs"] - 1) ** 2).mean(), abs=0.02)


def test_learning_rate_rises_then_falls_to_zero():
    _, schedule = flow.make_optimizer(1e-3, 0.9, 1000)
    rates = np.asarray([schedule(step) for step in range(1000)])
    assert rates.argmax() == 99
    assert rates[99] == pytest.approx(1e-3)
    assert (np.diff(rates[:100]) > 0).all()
    assert (np.diff(rates[100:]) <= 0).all()
    assert rates[-1] < 1e-6
