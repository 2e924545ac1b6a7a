"""Gradient features: the gradient of each example, projected to fewer dimensions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jaxtyping import Float


def gradient_features(
    loss: Callable[[Any, Any], Any], params: Any, examples: Any, *, dims: int = 1024, seed: int = 0,
    block: int = 32,
) -> Float[np.ndarray, "n dims"]:  # fmt: skip
    """The gradient of each example, randomly projected to `dims` dimensions; its Vendi score is G-Vendi.

    G-Vendi is by Jung et al. 2025 (arXiv 2505.20161). The projection preserves inner products in expectation,
    with an error of about dims^(-1/2) of the lengths. It is a count sketch (Charikar et al. 2002) with
    buckets of equal size: parameters are put in a random order with random signs, and every `dims`-th one is
    summed. It needs no matrix, and gives the same numbers on every call.

    Args:
      loss: `(params, example) -> scalar`, differentiable, of a single example (a slice of `examples`).
      params: any pytree of floats.
      examples: any pytree of arrays with the examples along the first axis, such as `{"inputs": x, "label":
        y}`.
      dims: number of dimensions of the features.
      seed: seed of the projection. Use the same seed for sets that are compared.
      block: number of examples at a time; each needs memory for a gradient.

    Raises:
      ValueError: dims is below 1, or there are no examples.
    """
    if dims < 1:
        raise ValueError(f"dims={dims} is out of range: gradients need at least one dimension")
    leaves = jax.tree.leaves(examples)
    if not leaves or not len(leaves[0]):
        raise ValueError("there are no examples to take gradients of: give at least one")
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    padded = -(-size // dims) * dims
    order_key, sign_key = jax.random.split(jax.random.key(seed))
    order = jax.random.permutation(order_key, padded)
    signs = jax.random.rademacher(sign_key, (padded,), jnp.float32)

    @jax.jit
    def features(params: Any, examples: Any) -> Float[Array, "n dims"]:
        def one(example: Any) -> Array:
            flat = ravel_pytree(jax.grad(loss)(params, example))[0].astype(jnp.float32)
            spread = jnp.pad(flat, (0, padded - size))[order] * signs
            return jnp.sum(spread.reshape(-1, dims), axis=0)

        made: Array = jax.lax.map(one, examples, batch_size=block)
        return made

    return np.asarray(features(params, jax.tree.map(jnp.asarray, examples)))
