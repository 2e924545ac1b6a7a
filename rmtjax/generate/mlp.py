"""A velocity field for small images: a residual MLP over all pixels at once."""

import jax
import jax.numpy as jnp
from flax import linen as nn

FREQUENCIES = 16  # of the time embedding; pi times 1 to 16 tells apart the 20 to 50 steps a sampler takes


class VelocityMLP(nn.Module):
    """`x [B, ...], t [B] in [0, 1], label [B]` to a velocity of x's shape, float32.

    Time and class enter every block as a scale and shift after its normalisation (Perez et al. 2018, FiLM).
    Blocks start as the identity and the output as zero.

    Attributes:
      num_classes: labels run from 0 to num_classes - 1; num_classes itself is the null class, "any".
    """

    num_classes: int
    width: int
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array, label: jax.Array) -> jax.Array:
        phase = jnp.pi * t[:, None] * jnp.arange(1, FREQUENCIES + 1)
        time = nn.Dense(self.width, name="time")(jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], -1))
        # flax's default scale, 1 / sqrt(width), would drown the class in the time.
        embed = nn.Embed(
            self.num_classes + 1, self.width, embedding_init=nn.initializers.normal(1.0), name="label"
        )
        condition = nn.silu(time + embed(label))
        flat = x.reshape(x.shape[0], -1)
        h = nn.Dense(self.width, name="input")(flat)
        for i in range(self.depth):
            film = nn.Dense(2 * self.width, kernel_init=nn.initializers.zeros, name=f"block_{i}_film")(
                condition
            )
            scale, shift = jnp.split(film, 2, -1)
            y = nn.LayerNorm(use_scale=False, use_bias=False, name=f"block_{i}_norm")(h) * (1 + scale) + shift
            y = nn.silu(nn.Dense(self.width, name=f"block_{i}_up")(y))
            h = h + nn.Dense(self.width, kernel_init=nn.initializers.zeros, name=f"block_{i}_down")(y)
        h = nn.LayerNorm(name="norm")(h)
        return nn.Dense(flat.shape[-1], kernel_init=nn.initializers.zeros, name="output")(h).reshape(x.shape)
