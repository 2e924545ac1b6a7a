"""The training step: a pure function of state and batch, the same for every task."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = Any
LossFn = Callable[[Params, Any, dict[str, Any], dict[str, Any]], tuple[jax.Array, tuple[Any, dict[str, Any]]]]
"""`loss_fn(params, model_state, batch, rngs) -> loss, (model_state, scalars)`; the loss is a batch mean."""


class State(NamedTuple):
    """Everything that training changes. `step` counts finished steps; there is no random key."""

    step: Any  # int32 scalar
    params: Any
    model_state: Any  # e.g. {"batch_stats": ...}; {} if there is none
    opt_state: Any


def named_key(seed: Any, name: str) -> jax.Array:
    """The random key that belongs to a seed and a purpose."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def make_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    seed: Any,
    accumulate: int = 1,
    schedule: optax.Schedule | None = None,
) -> Callable[[State, dict[str, Any]], tuple[State, dict[str, Any]]]:
    """Returns `step(state, batch) -> state, scalars`.

    The scalars are the loss, the norm of the gradient (`grad_norm`), and those of the loss function.

    Args:
      seed: an int or a traced int32. Step s derives its randomness from `fold_in(key, s)`, so that a resumed
        run equals one that was never stopped.
      accumulate: the number of parts that the batch is split into, one after the other. Gradients and
        scalars are averaged; model state is passed from part to part.
      schedule: if given, its value is added to the scalars as `learning_rate`.
    """
    gradient = jax.value_and_grad(loss_fn, has_aux=True)

    def step(state: State, batch: dict[str, Any]) -> tuple[State, dict[str, Any]]:
        key = jax.random.fold_in(named_key(seed, "step"), state.step)

        def part(carry: Any, inputs: Any) -> Any:
            index, micro = inputs
            model_state, grads = carry
            rngs = {"dropout": jax.random.fold_in(key, index)}
            (loss, (model_state, scalars)), new = gradient(state.params, model_state, micro, rngs)
            return (model_state, jax.tree.map(jnp.add, grads, new)), {"loss": loss} | scalars

        # Part i takes rows i, i + accumulate, ..., so that each device splits the rows it has.
        micro = jax.tree.map(lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), batch)
        carry = (state.model_state, jax.tree.map(jnp.zeros_like, state.params))
        if accumulate == 1:
            (model_state, grads), scalars = part(carry, (0, jax.tree.map(lambda x: x[0], micro)))
        else:
            (model_state, grads), scalars = jax.lax.scan(part, carry, (jnp.arange(accumulate), micro))
            grads = jax.tree.map(lambda g: g / accumulate, grads)
            scalars = jax.tree.map(lambda s: s.mean(0), scalars)
        scalars["grad_norm"] = optax.tree.norm(grads)
        if schedule is not None:
            scalars["learning_rate"] = schedule(state.step)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(state.step + 1, params, model_state, opt_state), scalars

    return step
