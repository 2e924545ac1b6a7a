"""The classification task: its loss, and the predictions of a model for a whole data set."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from rmtjax.models import Model
from rmtjax.train import rules
from rmtjax.train import sharding as sharding_lib
from rmtjax.train.step import LossFn


def make_init(
    model: Model,
    input_shape: tuple[int, ...],
    dtype: Any = jnp.float32,
    scale: float = 1.0,
    *,
    head: str | None = None,
    head_seed: int = 0,
) -> Callable[[jax.Array], tuple[Any, Any]]:
    """Returns `init(key) -> params, model_state` for inputs `[B, *input_shape]`, params times `scale`.

    Args:
      head: regex of the parameters that `head_seed` is about.
      head_seed: other than 0, their values are drawn anew, by the key and this number.
    """

    def init(key: jax.Array) -> tuple[Any, Any]:
        def draw(key: jax.Array) -> dict[str, Any]:
            return dict(model.init(key, jnp.zeros((1, *input_shape), dtype), train=False))

        variables = draw(key)
        params = variables.pop("params")
        if head_seed:
            others = draw(jax.random.fold_in(key, head_seed))["params"]
            anew = rules.mask(head, params, "initial values drawn anew")
            params = jax.tree.map(lambda of_head, x, y: y if of_head else x, anew, params, others)
        return jax.tree.map(lambda x: scale * x, params), variables

    return init


def make_loss(model: Model, label_smoothing: Any = 0.0) -> LossFn:
    """The mean cross-entropy, with label smoothing (Szegedy et al. 2016) and the second label of mixup.

    Mixup is by Zhang et al. 2018. The scalars hold the accuracy on the batch in training mode. A model that
    keeps separate statistics of synthetic examples (`separate`) gets the origin of each example.
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
    model: Model, mesh: jax.sharding.Mesh, members: bool = False
) -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Returns `predict(params, model_state, batches) -> logits [n, K], features [n, D], label [n]`.

    `batches` are evaluation batches with a mask. The results are numpy arrays in the order of the data set.
    The model is compiled once for each shape of batch.

    Args:
      members: the weights are those of several members, stacked; logits and features are [members, n, ...].
        All members see the same batches; with `predict(..., each=True)` the batches are stacked too, and
        label is [members, n].
    """

    def apply(params: Any, model_state: Any, inputs: Any) -> Any:
        return model.apply({"params": params} | model_state, inputs, train=False)

    @functools.partial(jax.jit, static_argnums=3, out_shardings=sharding_lib.replicated(mesh))
    def forward(params: Any, model_state: Any, batch: Any, each: bool) -> Any:
        function = sharding_lib.over_members(apply, mesh, (True, True, each)) if members else apply
        logits, features = function(params, model_state, batch["inputs"])
        return logits, features, batch["label"], batch["mask"], batch["index"]

    def predict(params: Any, model_state: Any, batches: Any, each: bool = False) -> Any:
        spec = sharding_lib.BATCH if each or not members else P()
        parts = []
        for batch in batches:
            # Fetched at once, because on CPU at most one program may be in flight.
            placed = sharding_lib.put_batch(batch, mesh, spec)
            parts.append(jax.device_get(forward(params, model_state, placed, each)))
        logits, features, label, mask, index = zip(*parts, strict=True)
        label, mask, index = (np.concatenate(part, -1) for part in (label, mask, index))
        if each:  # the sets have one length and one order
            mask, index = mask[0], index[0]
        # Each process holds a part of the set: the index restores the order.
        kept = np.flatnonzero(mask)
        kept = kept[np.argsort(index[kept], kind="stable")]
        logits, features = (np.concatenate(part, -2)[..., kept, :] for part in (logits, features))
        return logits, features, label[..., kept]

    return predict


def validation_scalars(
    logits: Float[np.ndarray, "*members n k"], label: Int[np.ndarray, "*members n"]
) -> dict[str, Any]:
    """Mean cross-entropy and accuracy: floats for one model, arrays over members for a population."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean(-1)
    accuracy = (logits.argmax(-1) == label).mean(-1)
    scalars = {"validation/loss": np.asarray(loss), "validation/accuracy": np.asarray(accuracy)}
    return {name: value if value.ndim else float(value) for name, value in scalars.items()}
