"""Multi-layer perceptron on flattened inputs."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rmtjax.models.layers import Dropout, standardise


class MLP(nn.Module):
    """`[B, ...]` in [0, 1] to logits `[B, num_classes]` and last hidden layer `[B, width]`, float32.

    The hidden layers have `widths`, or else there are `depth` of them, each of `width`.
    """

    num_classes: int
    width: int
    depth: int
    rates: Any
    widths: tuple[int, ...] = ()
    mean: Any = 0.5
    std: Any = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        x = standardise(x, self.mean, self.std, self.dtype).reshape(x.shape[0], -1)
        widths = self.widths or (self.width,) * self.depth
        for i, width in enumerate(widths):
            x = nn.relu(nn.Dense(width, dtype=self.dtype, name=f"hidden_{i}")(x))
            if i + 1 < len(widths):  # the last hidden layer is the head's input, and has the head's dropout
                x = Dropout(self.rates["mlp"])(x, train)
        features = x.astype(jnp.float32)
        logits = nn.Dense(self.num_classes, name="head")(Dropout(self.rates["head"])(features, train))
        return logits, features
