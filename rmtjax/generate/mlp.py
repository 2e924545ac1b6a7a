"""A velocity field for small images: a residual MLP over all pixels at once."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rmtjax.generate.condition import Condition, Modulation


class VelocityMLP(nn.Module):
    """`x [B, ...], t [B] in [0, 1], label [B]` to a velocity of x's shape, float32.

    Time and class enter every block as a scale and shift after its normalisation (Perez et al. 2018, FiLM).
    Blocks start as the identity and the output as zero.

    Attributes:
      num_classes: labels run from 0 to num_classes - 1; num_classes itself is the null class, "any".
      dtype: of the computation.
    """

    num_classes: int
    width: int
    depth: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array, label: jax.Array) -> jax.Array:
        zeros = nn.initializers.zeros
        condition = Condition(self.num_classes, self.width, name="condition")(t, label)
        flat = x.reshape(x.shape[0], -1)
        h = nn.Dense(self.width, dtype=self.dtype, name="input")(flat)
        for i in range(self.depth):
            scale, shift = Modulation(self.width, 2, 0, self.dtype, name=f"block_{i}")(condition)
            norm = nn.LayerNorm(use_scale=False, use_bias=False, dtype=self.dtype, name=f"block_{i}_norm")
            y = norm(h) * (1 + scale) + shift
            y = nn.silu(nn.Dense(self.width, dtype=self.dtype, name=f"block_{i}_up")(y))
            h = h + nn.Dense(self.width, kernel_init=zeros, dtype=self.dtype, name=f"block_{i}_down")(y)
        h = nn.LayerNorm(name="norm")(h)
        return nn.Dense(flat.shape[-1], kernel_init=zeros, name="output")(h).reshape(x.shape)
