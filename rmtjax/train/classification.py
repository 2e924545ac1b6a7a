"""The classification task: its loss, and what a model says about a whole data set."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rmtjax.models import Model
from rmtjax.train import sharding as sharding_lib
from rmtjax.train.loop import Observer
from rmtjax.train.step import LossFn, State


def make_init(
    model: Model, input_shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Callable[[jax.Array], tuple[Any, Any]]:
    """`key -> params, model_state` for inputs `[B, *input_shape]`."""

    def init(key: jax.Array) -> tuple[Any, Any]:
        variables = dict(model.init(key, jnp.zeros((1, *input_shape), dtype), train=False))
        return variables.pop("params"), variables

    return init


def make_loss(model: Model, label_smoothing: Any = 0.0) -> LossFn:
    """Mean cross-entropy with label smoothing (Szegedy et al. 2016) and mixup's second label (Zhang et al. 2018).

    The scalars hold the accuracy on the batch as it was trained on. A model that says it keeps statistics of synthetic
    examples apart (`separate`) is told which they are.
    """

    def loss_fn(params: Any, model_state: Any, batch: Any, rngs: Any) -> Any:
        mutable = list(model_state)
        origin = {"origin": batch["origin"]} if getattr(model, "separate", False) else {}
        out = model.apply(
            {"params": params} | model_state,
            batch["inputs"],
            train=True,
            rngs=rngs,
            mutable=mutable,
            **origin,
        )
        (logits, _), model_state = out
        target = jax.nn.one_hot(batch["label"], logits.shape[-1])
        if "label_mix" in batch:
            weight = batch["mix_weight"][:, None]
            target = weight * target + (1 - weight) * jax.nn.one_hot(batch["label_mix"], logits.shape[-1])
        loss = optax.softmax_cross_entropy(logits, optax.smooth_labels(target, label_smoothing)).mean()
        accuracy = (logits.argmax(-1) == batch["label"]).mean()
        return loss, (dict(model_state), {"accuracy": accuracy})

    return loss_fn


def make_predict(
    model: Model, mesh: jax.sharding.Mesh
) -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """`predict(params, model_state, batches) -> logits [n, K], features [n, D], label [n]`, numpy, in order.

    `batches` are evaluation batches with a mask; compiled once for all sets of one batch shape.
    """

    @functools.partial(jax.jit, out_shardings=sharding_lib.replicated(mesh))
    def forward(params: Any, model_state: Any, batch: Any) -> Any:
        logits, features = model.apply({"params": params} | model_state, batch["inputs"], train=False)
        return logits, features, batch["label"], batch["mask"], batch["index"]

    def predict(params: Any, model_state: Any, batches: Iterator[dict[str, np.ndarray]]) -> Any:
        parts = []
        for batch in batches:
            # Fetched at once: on CPU one program is in flight at most.
            parts.append(jax.device_get(forward(params, model_state, sharding_lib.put_batch(batch, mesh))))
        logits, features, label, mask, index = (np.concatenate(part) for part in zip(*parts, strict=True))
        # Processes hold strided or contiguous parts of the set: the index puts them back in order.
        order = np.argsort(index[mask], kind="stable")
        return logits[mask][order], features[mask][order], label[mask][order]

    return predict


def validate_every(
    steps: int, total_steps: int, predict: Callable[..., Any], batches: Callable[[], Iterator[dict[str, np.ndarray]]],
    also_every: int,
) -> Observer:  # fmt: skip
    """Validation loss and accuracy every `steps` steps, at every checkpoint (`also_every`) and at the end."""

    def observe(step: int, state: State) -> dict[str, float] | None:
        if step % steps and step % also_every and step != total_steps:
            return None
        logits, _, label = predict(state.params, state.model_state, batches())
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
        return {
            "validation/loss": float(loss),
            "validation/accuracy": float((logits.argmax(-1) == label).mean()),
        }

    return observe
