"""What time and class become inside a velocity field, and how they enter its layers."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

FREQUENCIES = 16  # of the time embedding; pi times 1 to 16 tells apart the 20 to 50 steps a sampler takes


class Condition(nn.Module):
    """`t [B] in [0, 1], label [B]` to float32 `[B, width]`; label `num_classes` is the null class, "any"."""

    num_classes: int
    width: int

    @nn.compact
    def __call__(self, t: jax.Array, label: jax.Array) -> jax.Array:
        phase = jnp.pi * t[:, None] * jnp.arange(1, FREQUENCIES + 1)
        time = nn.Dense(self.width, name="time")(jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], -1))
        # flax's default scale, 1 / sqrt(width), would drown the class in the time.
        embed = nn.Embed(
            self.num_classes + 1, self.width, embedding_init=nn.initializers.normal(1.0), name="label"
        )
        return nn.silu(time + embed(label))


class Modulation(nn.Module):
    """`number` vectors `[B, ..., features]` of a condition, for scales, shifts and gates; zero at the start.

    Attributes:
      axes: of size 1 between the batch and the features: 2 for images, 1 for tokens.
    """

    features: int
    number: int
    axes: int
    dtype: Any

    @nn.compact
    def __call__(self, condition: jax.Array) -> list[jax.Array]:
        zeros = nn.initializers.zeros
        out = nn.Dense(self.number * self.features, kernel_init=zeros, dtype=self.dtype, name="film")(
            condition
        )
        return jnp.split(out.reshape(len(condition), *(1,) * self.axes, -1), self.number, -1)
