"""Layers shared by the models."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


class Dropout(nn.Module):
    """Inverted dropout whose rate may be a traced number.

    flax's own layer tests the rate in Python, so that runs which differ in nothing but the rate could not
    share one compiled step.

    Attributes:
      rate: probability that an element is dropped, in [0, 1). Only a Python 0 switches the layer off.
    """

    rate: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or (isinstance(self.rate, int | float) and self.rate == 0):
            return x
        keep = 1.0 - self.rate
        mask = jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape)
        return jnp.where(mask, x / keep, 0).astype(x.dtype)


def standardise(x: jax.Array, mean: Any, std: Any, dtype: Any) -> jax.Array:
    """Inputs `[B, H, W, C]` in [0, 1] to what the network is fed, in its compute dtype.

    Args:
      mean, std: one number, or one a channel. Grey images become as many channels as there are numbers.
    """
    mean, std = (np.asarray(value, np.float32) for value in (mean, std))
    return ((x - mean) / std).astype(dtype)
