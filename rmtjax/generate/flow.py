"""Class-conditional flow matching with classifier-free guidance.

Lipman et al. 2023 (arXiv 2210.02747): on the straight path x_t = (1 - t) x_0 + t x_1 from noise x_0 to an
image x_1, a network v(x_t, t, class) is regressed on x_1 - x_0; its minimiser carries noise at t = 0 into
images at t = 1. Guidance: Ho & Salimans 2022 (arXiv 2207.12598).

Nothing here knows the network: any module with `(x [B, ...], t [B], label [B]) -> velocity` will do, where
the label `num_classes` means "any class". Networks see images as 2 x - 1, in [-1, 1].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Float, Int

from rmtjax.generate import batching
from rmtjax.train.step import LossFn, named_key


class EmaState(NamedTuple):
    """`count` updates so far and `sum`, the parameters' average before its correction."""

    count: Any  # int32 scalar
    sum: Any


def make_init(model: nn.Module, image_shape: tuple[int, ...]) -> Callable[[jax.Array], tuple[Any, Any]]:
    """`key -> params, model_state` of a velocity field on images `[B, *image_shape]`."""

    def init(key: jax.Array) -> tuple[Any, Any]:
        x = jnp.zeros((1, *image_shape))
        return model.init(key, x, jnp.zeros(1), jnp.zeros(1, jnp.int32))["params"], {}

    return init


def make_loss(model: nn.Module, num_classes: int, label_dropout: float, time: str = "uniform") -> LossFn:
    """Mean square of v(x_t, t, class) - (x_1 - x_0) over pixels and batch; x_0 standard normal.

    Args:
      label_dropout: probability that an example's class is replaced by the null class.
      time: of t: "uniform", or "logit_normal", the sigmoid of a standard normal, which spends more on the
        middle of the path (Esser et al. 2024, arXiv 2403.03206).
    """

    def loss_fn(params: Any, model_state: Any, batch: Any, rngs: Any) -> Any:
        image, label = batch["inputs"], batch["label"]
        t_key, noise_key, drop_key = jax.random.split(rngs["dropout"], 3)
        if time == "uniform":
            t = jax.random.uniform(t_key, label.shape)
        else:
            t = jax.nn.sigmoid(jax.random.normal(t_key, label.shape))
        noise = jax.random.normal(noise_key, image.shape)
        label = jnp.where(jax.random.bernoulli(drop_key, label_dropout, label.shape), num_classes, label)
        data = 2 * image - 1
        column = t.reshape(-1, *(1,) * (image.ndim - 1))
        velocity = model.apply({"params": params}, (1 - column) * noise + column * data, t, label)
        return jnp.mean((velocity - (data - noise)) ** 2), (model_state, {})

    return loss_fn


def ema(decay: float) -> optax.GradientTransformation:
    """Keeps an exponential moving average of the parameters and passes updates on as they are.

    To be the last of a chain, since it takes the updates it sees for the ones applied. After n updates the
    average (see `averaged`) is sum_s w_s params_s / sum_s w_s with w_s = decay^(n - s) over s = 1..n, so that
    the initial parameters have no part in it.
    """

    def init(params: Any) -> EmaState:
        return EmaState(jnp.int32(0), jax.tree.map(jnp.zeros_like, params))

    def update(updates: Any, state: EmaState, params: Any = None) -> tuple[Any, EmaState]:
        new = optax.apply_updates(params, updates)
        total = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.sum, new)
        return updates, EmaState(state.count + 1, total)

    return optax.GradientTransformation(init, update)


def averaged(opt_state: Any, decay: float) -> Any:
    """The averaged parameters of a chain that ends in `ema(decay)`; after at least one update."""
    state = opt_state[-1]
    return jax.tree.map(lambda a: a / (1 - decay ** state.count.astype(jnp.float32)), state.sum)


def make_optimizer(
    learning_rate: float, ema_decay: float, total_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Clipped Adam with a short warm-up and a cosine to zero, and the average last; and the schedule."""
    warmup = min(100, total_steps // 10)
    schedule = optax.cosine_decay_schedule(learning_rate, max(total_steps - warmup, 1))
    if warmup:
        rise = optax.linear_schedule(learning_rate / warmup, learning_rate, max(warmup - 1, 1))
        schedule = optax.join_schedules([rise, schedule], [warmup])
    chain = (optax.clip_by_global_norm(1.0), optax.adam(schedule), ema(ema_decay))
    return optax.chain(*chain), schedule


def field(model: nn.Module) -> Callable[..., jax.Array]:
    """`velocity(params, x, t, label)` of a network."""
    return lambda params, x, t, label: model.apply({"params": params}, x, t, label)


def guided(velocity: Callable[..., jax.Array], num_classes: int, guidance: float) -> Callable[..., jax.Array]:
    """`velocity(params, x, t, label)`: v_null + guidance (v_class - v_null).

    Guidance 1 is the conditional field itself, at half the cost; 0 the unconditional one.
    """

    def scaled(params: Any, x: jax.Array, t: jax.Array, label: jax.Array) -> jax.Array:
        conditional = velocity(params, x, t, label)
        if guidance == 1:
            return conditional
        null = velocity(params, x, t, jnp.full_like(label, num_classes))
        return null + guidance * (conditional - null)

    return scaled


class Knobs(NamedTuple):
    """What makes samples more or less diverse, and how exactly they are integrated.

    Attributes:
      steps: of the integration over the whole path; an edit, which starts later, takes its share of them.
      method: "euler"; "midpoint" or "heun", of second order at two evaluations a step (Heun's last step is
        Euler's, as in Karras et al. 2022, arXiv 2206.00364).
      temperature: of the noise that samples start from, a factor.
      edit_start: the time at which a sample starts from a real image with the noise of that time (Meng et al.
        2022, SDEdit, arXiv 2108.01073); 0: from noise alone. 1 would be the image itself.
      distinct: different noises; sample i has noise i modulo this. None: as many as samples.
    """

    steps: int = 30
    method: str = "euler"
    temperature: float = 1.0
    edit_start: float = 0.0
    distinct: int | None = None


def make_sampler(
    velocity: Callable[..., jax.Array],
    image_shape: tuple[int, ...],
    knobs: Knobs,
    *,
    seed: int,
    mesh: jax.sharding.Mesh,
    batch_size: int = 512,
) -> Callable[..., Float[np.ndarray, "n ..."]]:
    """`sample(params, labels [n], numbers [n]=None, edited=None) -> float32 [n, *image_shape]` in [0, 1].

    Integrated from t = 0 (or `edit_start`) to 1, over all devices of the mesh. Sample number i (None: 0 to n
    - 1) starts from noise that is a function of (seed, i) alone, so neither `batch_size` nor the other
    samples change it (but for float32 rounding, where the batch size changes). `edited [n, *image_shape]` in
    [0, 1] are the images that edits start from. With several processes all must call it together; all get
    every image.

    Args:
      velocity: of `guided`.
      batch_size: images at a time; rounded up to a multiple of the number of devices.
    """
    key = named_key(seed, "samples")
    begin_at = knobs.edit_start
    steps = max(1, round(knobs.steps * (1 - begin_at)))
    h = (1 - begin_at) / steps

    def integrate(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), image_shape))(batch["index"])
        x = knobs.temperature * noise
        if begin_at:
            x = (1 - begin_at) * x + begin_at * (2 * batch["edited"] - 1)

        def v(x: jax.Array, t: Any) -> jax.Array:
            return velocity(params, x, jnp.full(x.shape[0], t), batch["label"])

        def step(k: jax.Array, x: jax.Array) -> jax.Array:
            t = begin_at + k * h
            if knobs.method == "midpoint":
                return x + h * v(x + h / 2 * v(x, t), t + h / 2)
            slope = v(x, t)
            if knobs.method == "heun":
                ahead = jnp.where(k == steps - 1, slope, v(x + h * slope, t + h))
                slope = (slope + ahead) / 2
            return x + h * slope

        return jnp.clip((jax.lax.fori_loop(0, steps, step, x) + 1) / 2, 0, 1)

    run = batching.in_batches(integrate, mesh, batch_size)

    def sample(
        params: Any,
        labels: Int[np.ndarray, " n"],
        numbers: Int[np.ndarray, " n"] | None = None,
        edited: Float[np.ndarray, "n ..."] | None = None,
    ) -> Float[np.ndarray, "n ..."]:
        number = np.arange(len(labels)) if numbers is None else numbers
        columns = {
            "index": (number % (knobs.distinct or 2**32)).astype(np.uint32),
            "label": labels.astype(np.int32),
        }
        return run(params, columns if edited is None else columns | {"edited": edited})

    return sample


def make_mean_loss(model: nn.Module, draws: int = 16) -> Callable[..., float]:
    """`mean_loss(params, images [n, ...] in [0, 1], labels [n])`: the mean conditional loss.

    Each image has `draws` times and noises, always the same ones for one shape, so sets of one size compare.
    """
    loss_fn = make_loss(model, 0, label_dropout=0.0)  # without dropout the null class does not matter

    @jax.jit
    def mean(params: Any, batch: Any) -> jax.Array:
        keys = jax.random.split(jax.random.key(0), draws)
        return jax.lax.map(lambda key: loss_fn(params, {}, batch, {"dropout": key})[0], keys).mean()

    return lambda params, images, labels: float(mean(params, {"inputs": images, "label": labels}))
