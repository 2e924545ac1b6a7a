"""Generators without a network, to hold the others against: they are fitted in no time and need no storing.

`repeat` shows the training images again: nothing is new. `memoriser` is the exact minimiser of flow
matching's loss on the training images: what a network without limits would learn, which is to give them back.
`gaussian` knows the mean and covariance of each class and nothing else.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from rmtjax import data
from rmtjax.train.step import named_key

LAST = 1e-3  # the minimiser divides by 1 - t, at least this


def memoriser(
    images: Float[np.ndarray, "n ..."], labels: Int[np.ndarray, " n"], num_classes: int
) -> tuple[dict[str, np.ndarray], Callable[..., jax.Array]]:
    """Parameters and `velocity(params, x, t, label)` that minimise flow matching's loss on these images.

    With images a_i = 2 x_i - 1 of the class (all of them for the null class `num_classes`) and noise of
    variance 1,

        v(x, t) = sum_i w_i (a_i - x) / (1 - t),   w_i ~ exp(-|x - t a_i|^2 / (2 (1 - t)^2))

    (closed form: Bertrand et al. 2025, arXiv 2506.03719). Its samples are the images themselves, up to the
    sampler's steps.
    """
    params = {"images": 2 * images - 1, "labels": labels.astype(np.int32)}

    def velocity(params: Any, x: jax.Array, t: jax.Array, label: jax.Array) -> jax.Array:
        flat, known = x.reshape(len(x), -1), params["images"].reshape(len(params["images"]), -1)
        left = jnp.maximum(1 - t, LAST)[:, None]
        squares = (
            jnp.sum(flat**2, 1, keepdims=True)
            - 2 * t[:, None] * (flat @ known.T)
            + t[:, None] ** 2 * jnp.sum(known**2, 1)
        )
        mine = (params["labels"] == label[:, None]) | (label == num_classes)[:, None]
        weights = jax.nn.softmax(jnp.where(mine, -squares / (2 * left**2), -jnp.inf), 1)
        return ((weights @ known - flat) / left).reshape(x.shape)

    return params, velocity


def gaussian(
    train: data.Source, *, seed: int, temperature: float, distinct: int | None
) -> Callable[[Int[np.ndarray, " n"], Int[np.ndarray, " n"]], Float[np.ndarray, "n ..."]]:
    """`sample(labels [n], numbers [n]) -> images [n, ...]` from one Gaussian per class, clipped to [0, 1].

    Each lies in the span of the images of its class.

    Sample number i is a function of (seed, i modulo `distinct`) and its class. A class of one image gives
    that image.
    """
    key = named_key(seed, "samples")
    means, factors = [], []
    for k in range(len(train.classes)):
        rows = np.flatnonzero(train.labels == k)
        flat = train.inputs(rows).reshape(len(rows), -1)
        mean = flat.mean(0)
        # Rows of (x - mean) / sqrt(n - 1): their random mixture with normal weights has the class's
        # covariance.
        factors.append((flat - mean) / np.sqrt(max(len(flat) - 1, 1)))
        means.append(mean)
    most = max(map(len, factors))

    @jax.jit
    def weights(index: jax.Array) -> jax.Array:
        return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (most,)))(index)

    def sample(labels: Int[np.ndarray, " n"], numbers: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n ..."]:
        z = temperature * np.asarray(weights((numbers % (distinct or 2**32)).astype(np.uint32)))
        out = np.empty((len(labels), *train.shape), np.float32)
        for k in np.unique(labels):
            rows = np.flatnonzero(labels == k)
            flat = means[k] + z[rows, : len(factors[k])] @ factors[k]
            out[rows] = np.clip(flat, 0, 1).reshape(len(rows), *train.shape)
        return out

    return sample
