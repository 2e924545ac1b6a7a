import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from rmtjax.generate import flow
from rmtjax.generate.dit import VelocityDiT, positions
from rmtjax.generate.mlp import VelocityMLP
from rmtjax.generate.unet import VelocityUNet
from rmtjax.train import loop
from rmtjax.train.sharding import make_mesh
from rmtjax.train.step import make_step

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
    one_device = jax.sharding.Mesh(np.asarray(jax.devices()[:1]).reshape(1, 1), ("data", "fsdp"))
    fitted = loop.fit(
        step_fn=make_step(flow.make_loss(model, 2, 0.3), optimizer, seed=0, schedule=schedule),
        start=loop.fresh_start(flow.make_init(model, (1, 2, 1)), optimizer, 0, one_device),
        batches=lambda start: iter(lambda: data, None),
        total_steps=800,
    )
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

    velocity = flow.guided(flow.field(model), 2, 1.0)
    sample = flow.make_sampler(velocity, (1, 2, 1), flow.Knobs(30), seed=0, mesh=mesh)
    labels = np.arange(100, dtype=np.int32) % 2
    assert np.abs(sample(params, labels) - POINTS[labels]).max() < 0.05


def test_samples_of_the_exact_field_land_on_the_image(mesh):
    sample = flow.make_sampler(
        flow.guided(flow.field(Exact()), 2, 1.0), (1, 2, 1), flow.Knobs(7), seed=0, mesh=mesh
    )
    labels = np.asarray([0, 1, 1, 0, 1], np.int32)
    np.testing.assert_allclose(sample(exact_params(), labels), POINTS[labels], atol=1e-5)


def test_samples_are_clipped_to_the_unit_interval(mesh):
    beyond = {"points": jnp.asarray([[5.0, -5.0], [-5.0, 5.0]]).reshape(2, 1, 2, 1)}
    sample = flow.make_sampler(
        flow.guided(flow.field(Exact()), 2, 1.0), (1, 2, 1), flow.Knobs(4), seed=0, mesh=mesh
    )
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
        return jax.jit(flow.guided(flow.field(model), 3, guidance))(params, x, t, label)

    np.testing.assert_array_equal(guided(1.0), conditional)
    np.testing.assert_allclose(guided(0.0), null, atol=1e-5)
    np.testing.assert_allclose(guided(2.5), null + 2.5 * (conditional - null), atol=1e-5)


def test_label_dropout_trains_the_null_class_and_only_then():
    model = VelocityMLP(2, 16, 1)
    params = perturbed(model, (1, 2, 1))

    def row_gradients(dropout):
        loss_fn = flow.make_loss(model, 2, dropout)
        grads = jax.jit(jax.grad(lambda p: loss_fn(p, {}, batch(), rngs(0))[0]))(params)
        return jnp.abs(grads["condition"]["label"]["embedding"]).max(1) > 0

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
    velocity = flow.guided(flow.field(model), 3, 1.5)

    def sampler(seed, batch_size):
        return flow.make_sampler(
            velocity, (4, 4, 1), flow.Knobs(5), seed=seed, mesh=mesh, batch_size=batch_size
        )

    labels = np.arange(50, dtype=np.int32) % 3
    sample = sampler(0, 64)
    whole = sample(params, labels)
    assert whole.dtype == np.float32
    assert whole.std(0).min() > 0  # they are not all alike
    np.testing.assert_array_equal(sample(params, labels), whole)
    np.testing.assert_array_equal(sample(params, labels[:20]), whole[:20])
    np.testing.assert_allclose(sample(params, labels[31:], np.arange(31, 50)), whole[31:], atol=1e-5)
    np.testing.assert_allclose(sampler(0, 8)(params, labels), whole, atol=1e-5)
    assert np.abs(sampler(1, 64)(params, labels) - whole).max() > 0.1


def turning(params, x, t, label):
    """dx/dt = x + 4 t, whose flow is known: from x at 0 to e x + 4 (e - 2) at 1."""
    return x + 4 * t.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_samplers_have_their_order(mesh, method, order):
    field = lambda params, x, t, label: 0.05 * turning(params, x, t, label)  # noqa: E731

    def error(steps):
        # Noise of one number, scaled down: samples stay within [0, 1], and the end is known.
        knobs = flow.Knobs(steps, method, temperature=0.1)
        images = flow.make_sampler(field, (1, 1, 1), knobs, seed=0, mesh=mesh)({}, np.zeros(8, np.int32))
        start = flow.make_sampler(lambda *a: 0 * a[1], (1, 1, 1), knobs, seed=0, mesh=mesh)(
            {}, np.zeros(8, np.int32)
        )
        a = 0.05
        # x' = a x + 4 a t: x(1) = e^a x(0) + 4 (e^a - 1 - a) / a
        wanted = np.exp(a) * (2 * start - 1) + 4 * (np.exp(a) - 1 - a) / a
        return np.abs((2 * images - 1) - wanted).max()

    ratio = error(2) / error(4)
    # Heun's last step is Euler's, whose one error is of second order too.
    assert ratio == pytest.approx(2**order, rel=0.3)


def test_knobs_of_the_start(mesh):
    still = lambda params, x, t, label: 0 * x  # noqa: E731
    labels = np.zeros(6, np.int32)

    def sample(edited=None, **knobs):
        return flow.make_sampler(still, (2, 2, 1), flow.Knobs(5, **knobs), seed=0, mesh=mesh)(
            {}, labels, None, edited
        )

    cold = sample(temperature=0.1)
    np.testing.assert_allclose(2 * sample(temperature=0.2) - 1, 2 * (2 * cold - 1), atol=1e-6)
    np.testing.assert_array_equal(sample(temperature=0.0), np.full((6, 2, 2, 1), 0.5, np.float32))
    few = sample(temperature=0.1, distinct=2)
    np.testing.assert_array_equal(few[:2], few[2:4])
    np.testing.assert_array_equal(few[:2], cold[:2])
    assert len(np.unique(few.reshape(6, -1), axis=0)) == 2
    images = np.linspace(0.4, 0.6, 24, dtype=np.float32).reshape(6, 2, 2, 1)
    edited = sample(images, temperature=0.1, edit_start=0.8)
    np.testing.assert_allclose(2 * edited - 1, 0.2 * (2 * cold - 1) + 0.8 * (2 * images - 1), atol=1e-6)


def test_edits_take_their_share_of_the_steps(mesh):
    ahead = lambda params, x, t, label: jnp.ones_like(x)  # noqa: E731
    images = np.full((2, 1, 1, 1), 0.2, np.float32)
    knobs = flow.Knobs(10, temperature=0.0, edit_start=0.5)
    edited = flow.make_sampler(ahead, (1, 1, 1), knobs, seed=0, mesh=mesh)(
        {}, np.zeros(2, np.int32), None, images
    )
    np.testing.assert_allclose(2 * edited - 1, 0.5 * (2 * images - 1) + 0.5, atol=1e-6)


NETWORKS = {
    "unet": VelocityUNet(3, 8, 1, (1, 2)),
    "dit": VelocityDiT(3, 16, 2, 2, 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_starts_at_zero_and_then_time_and_class_have_a_say(name):
    model, shape = NETWORKS[name], (8, 8, 2)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, *shape)), jnp.float32)
    t, label = jnp.asarray([0.1, 0.5, 0.5, 0.9]), jnp.asarray([0, 1, 2, 3])
    params, _ = jax.jit(flow.make_init(model, shape))(jax.random.key(0))
    apply = jax.jit(flow.field(model))
    assert (apply(params, x, t, label) == 0).all()
    params = perturbed(model, shape)
    out = apply(params, x, t, label)
    assert out.shape == x.shape
    assert out.dtype == jnp.float32
    assert (jnp.abs(apply(params, x, t + 0.05, label) - out).max((1, 2, 3)) > 1e-3).all()
    assert (jnp.abs(apply(params, x, t, (label + 1) % 4) - out).max((1, 2, 3)) > 1e-3).all()
    moved = apply(params, x.at[:, 0, 0, 0].add(1.0), t, label)
    assert (jnp.abs(moved - out)[:, -1, -1] > 1e-5).any()  # one corner reaches the other
    half = jax.jit(flow.field(model.copy(dtype=jnp.bfloat16)))(params, x, t, label)
    assert half.dtype == jnp.float32
    assert np.abs(half - out).max() < 0.1 * np.abs(out).max()


def test_positions_are_all_different():
    table = np.asarray(positions(4, 5, 8))
    assert table.shape == (20, 8)
    assert len(np.unique(table.round(5), axis=0)) == 20


def test_logit_normal_times_are_in_the_middle_more_often():
    """With v = 0 the loss does not depend on t; a field of 1 at the ends alone shows which are drawn."""

    class AtTheEnds(nn.Module):
        @nn.compact
        def __call__(self, x, t, label):
            return jnp.where(jnp.abs(t - 0.5) > 0.4, 100.0, 0.0).reshape(-1, 1, 1, 1) * jnp.ones_like(x)

    share = {
        time: float(flow.make_loss(AtTheEnds(), 2, 0.0, time)({}, {}, batch(4000), rngs(0))[0]) / 1e4
        for time in ("uniform", "logit_normal")
    }
    assert share["uniform"] == pytest.approx(0.2, abs=0.03)
    assert share["logit_normal"] == pytest.approx(2 * 0.01401, abs=0.01)  # 2 P(Z < logit .1)


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
