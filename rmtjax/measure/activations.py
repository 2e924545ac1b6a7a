"""Activations of a trained model's layers over real training examples, as rows of its table of spectra."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from rmtjax import data
from rmtjax.spectra import Analysis, activations
from rmtjax.spectra.curvature import Batches
from rmtjax.train import Result

_HEADS = re.compile(r"(^|/)(query|key|value)$")  # their outputs are [..., heads, width of a head]
_CALL = "/__call__"


def activations_of_run(config: ConfigDict, result: Result) -> Analysis:
    """Rows of kind "activation", `<layer>/activation`: what each layer with a kernel puts out, linearly.

    Of the first `spectra.activation_examples` real training examples, in evaluation mode. An example gives
    one row: of layers with positions that of a position drawn at random, of a text a token before its
    padding.
    """
    source = result.splits.train
    chosen = data.take(source, np.arange(min(config.spectra.activation_examples, source.num_examples)))
    made = list(data.evaluation_batches(chosen, batch_size=config.train.evaluation_batch_size))
    rng = np.random.default_rng(config.seed)
    examples = {
        "inputs": np.stack([batch["inputs"] for batch in made]),
        "place": rng.random((len(made), len(made[0]["mask"])), np.float32),
    }
    weights = np.stack([batch["mask"] for batch in made]).astype(np.float32) / chosen.num_examples
    variables = {"params": result.state.params} | result.state.model_state
    kernels = {
        name.removesuffix("/kernel")
        for name in traverse_util.flatten_dict(variables["params"], sep="/")
        if name.endswith("/kernel")
    }

    def layers(variables: Any, examples: Any) -> dict[str, jax.Array]:
        inputs, place = examples["inputs"], examples["place"]
        _, kept = result.model.apply(
            variables, inputs, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        outputs = traverse_util.flatten_dict(kept["intermediates"], sep="/")
        found = {
            name.removesuffix(_CALL): output for name, (output, *_) in outputs.items() if name.endswith(_CALL)
        }
        texts = inputs if jnp.issubdtype(inputs.dtype, jnp.integer) else None
        return {
            f"{name}/activation": _row(name, found[name], place, texts)
            for name in sorted(kernels & set(found))
        }

    return activations.analyze(layers, variables, Batches(examples, weights))


def _row(name: str, output: jax.Array, place: jax.Array, texts: jax.Array | None) -> jax.Array:
    """One row an example, `[B, d]`: the place in [0, 1) chooses among the positions.

    Args:
      output: `[B, d]`, or `[B, *positions, d]`, of which attention's projections split d over heads.
      texts: tokens `[B, T]`, 0 where a text has ended.
    """
    examples = len(output)
    width = int(np.prod(output.shape[-2:] if _HEADS.search(name) else output.shape[-1:]))
    rows = output.reshape(examples, -1, width).astype(jnp.float32)
    count = jnp.full(examples, rows.shape[1], jnp.float32)
    if texts is not None and rows.shape[1] == texts.shape[1]:
        count = (texts != 0).sum(1).astype(jnp.float32)
    at = jnp.floor(place * count).astype(jnp.int32)
    return jnp.take_along_axis(rows, at[:, None, None], 1)[:, 0]
