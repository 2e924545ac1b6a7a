"""A velocity field of patches: a diffusion transformer (Peebles & Xie 2023, arXiv 2212.09748)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from rmtjax.generate.condition import Condition, Modulation
from rmtjax.models.layers import Attention


class VelocityDiT(nn.Module):
    """`x [B, H, W, C], t [B] in [0, 1], label [B]` to a velocity of x's shape, float32.

    Pre-norm blocks whose norms are scaled and shifted, and whose branches are gated, by time and class; the
    gates and the output start at zero, so that blocks start as the identity. Positions are sines and cosines
    of both coordinates.

    Attributes:
      num_classes: labels run from 0 to num_classes - 1; num_classes itself is the null class, "any".
      width: of a token; a multiple of `heads` and of 4.
      patch: side of the squares that become tokens; divides the image's side.
      dtype: of the computation.
    """

    num_classes: int
    width: int
    depth: int
    heads: int
    patch: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array, label: jax.Array) -> jax.Array:
        zeros = nn.initializers.zeros
        batch, height, width, channels = x.shape
        rows, columns, p = height // self.patch, width // self.patch, self.patch
        patches = (
            x.reshape(batch, rows, p, columns, p, channels).swapaxes(2, 3).reshape(batch, rows * columns, -1)
        )
        condition = Condition(self.num_classes, self.width, name="condition")(t, label)
        h = nn.Dense(self.width, dtype=self.dtype, name="input")(patches)
        h = h + positions(rows, columns, self.width).astype(self.dtype)

        def norm(h: jax.Array, scale: jax.Array, shift: jax.Array, name: str) -> jax.Array:
            plain = nn.LayerNorm(use_scale=False, use_bias=False, dtype=self.dtype, name=name)
            return plain(h) * (1 + scale) + shift

        for i in range(self.depth):
            name = f"block_{i}"
            s1, b1, g1, s2, b2, g2 = Modulation(self.width, 6, 1, self.dtype, name=name)(condition)
            attention = Attention(self.heads, 0.0, self.dtype, name=f"{name}_attention")
            h = h + g1 * attention(norm(h, s1, b1, f"{name}_norm_1"), train=False)
            y = nn.Dense(4 * self.width, dtype=self.dtype, name=f"{name}_up")(
                norm(h, s2, b2, f"{name}_norm_2")
            )
            h = h + g2 * nn.Dense(self.width, dtype=self.dtype, name=f"{name}_down")(nn.gelu(y))
        scale, shift = Modulation(self.width, 2, 1, self.dtype, name="final")(condition)
        h = norm(h, scale, shift, "norm").astype(jnp.float32)
        out = nn.Dense(patches.shape[-1], kernel_init=zeros, name="output")(h)
        return out.reshape(batch, rows, columns, p, p, channels).swapaxes(2, 3).reshape(x.shape)


def positions(rows: int, columns: int, width: int) -> jax.Array:
    """`[rows * columns, width]`: sines and cosines (Vaswani et al. 2017) of the row, then of the column."""
    frequency = 1 / 10000 ** (np.arange(width // 4) / (width // 4))
    angles = [np.arange(n)[:, None] * frequency for n in (rows, columns)]
    row, column = (np.concatenate([np.sin(a), np.cos(a)], -1) for a in angles)
    both = np.concatenate([np.repeat(row[:, None], columns, 1), np.repeat(column[None], rows, 0)], -1)
    return jnp.asarray(both.reshape(rows * columns, -1), jnp.float32)
