"""A velocity field for images of 16 to 64 pixels a side: a U-Net with attention."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rmtjax.generate.condition import Condition, Modulation
from rmtjax.models.layers import Attention

GROUPS = 8  # of the group norms, at most
ATTENTION = 16  # attention stands where the side is at most this, and in the middle; not at the full size


class VelocityUNet(nn.Module):
    """`x [B, H, W, C], t [B] in [0, 1], label [B]` to a velocity of x's shape, float32.

    As Ho et al. 2020 (arXiv 2006.11239) and Dhariwal & Nichol 2021 (arXiv 2105.05233) have it: residual
    blocks with group norms that time and class scale and shift, self-attention at small sides, skips from
    each block going down to its mirror image going up.

    Attributes:
      num_classes: labels run from 0 to num_classes - 1; num_classes itself is the null class, "any".
      width: channels of the first level.
      depth: residual blocks a level.
      multipliers: channels of each level, in widths; the side halves from level to level, so it must be
        divisible by 2^(levels - 1).
      dtype: of the computation.
    """

    num_classes: int
    width: int
    depth: int
    multipliers: tuple[int, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array, label: jax.Array) -> jax.Array:
        condition = Condition(self.num_classes, 4 * self.width, name="condition")(t, label)
        side, channels = x.shape[1], x.shape[-1]

        def conv(h: jax.Array, features: int, stride: int, name: str) -> jax.Array:
            return nn.Conv(features, (3, 3), (stride, stride), dtype=self.dtype, name=name)(h)

        def block(h: jax.Array, features: int, name: str) -> jax.Array:
            h = _Block(features, self.dtype, name=name)(h, condition)
            attend = h.shape[1] <= ATTENTION and h.shape[1] < side
            return _AttentionBlock(self.dtype, name=f"{name}_attention")(h) if attend else h

        h = conv(x, self.width, 1, "input")
        skips = [h]
        for level, multiplier in enumerate(self.multipliers):
            if level:
                h = conv(h, h.shape[-1], 2, f"down_{level}_shrink")
                skips.append(h)
            for i in range(self.depth):
                h = block(h, self.width * multiplier, f"down_{level}_{i}")
                skips.append(h)
        h = _Block(h.shape[-1], self.dtype, name="middle_0")(h, condition)
        h = _AttentionBlock(self.dtype, name="middle_attention")(h)
        h = _Block(h.shape[-1], self.dtype, name="middle_1")(h, condition)
        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            for i in range(self.depth + 1):
                h = block(jnp.concatenate([h, skips.pop()], -1), self.width * multiplier, f"up_{level}_{i}")
            if level:
                h = h.repeat(2, 1).repeat(2, 2)
                h = conv(h, h.shape[-1], 1, f"up_{level}_grow")
        h = nn.silu(_norm(h, jnp.float32, "norm"))
        return nn.Conv(channels, (3, 3), kernel_init=nn.initializers.zeros, name="output")(h)


def _norm(x: jax.Array, dtype: Any, name: str, learned: bool = True) -> jax.Array:
    groups = next(g for g in range(min(GROUPS, x.shape[-1]), 0, -1) if x.shape[-1] % g == 0)
    return nn.GroupNorm(groups, use_scale=learned, use_bias=learned, dtype=dtype, name=name)(x)


class _Block(nn.Module):
    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        conv = lambda name, **kwargs: nn.Conv(self.features, (3, 3), dtype=self.dtype, name=name, **kwargs)  # noqa: E731
        h = conv("first")(nn.silu(_norm(x, self.dtype, "first_norm")))
        scale, shift = Modulation(self.features, 2, 2, self.dtype, name="condition")(condition)
        h = _norm(h, self.dtype, "second_norm", learned=False) * (1 + scale) + shift
        h = conv("second", kernel_init=nn.initializers.zeros)(nn.silu(h))
        if x.shape[-1] != self.features:
            x = nn.Dense(self.features, dtype=self.dtype, name="skip")(x)
        return x + h


class _AttentionBlock(nn.Module):
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        tokens = _norm(x, self.dtype, "norm").reshape(x.shape[0], -1, x.shape[-1])
        heads = max(1, x.shape[-1] // 64)
        while x.shape[-1] % heads:
            heads -= 1
        return x + Attention(heads, 0.0, self.dtype, name="attention")(tokens, train=False).reshape(x.shape)
