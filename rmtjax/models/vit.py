"""Vision transformers (Dosovitskiy et al. 2020) with the norm inside the residual branches, of any size.

The same modules make the ViTs of timm, Hugging Face, vit_jax and big_vision and the image tower of CLIP
(Radford et al. 2021), which differ in a class token, a norm before the blocks, the activation, the norms'
epsilon, where features are taken from, and a projection of them.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rmtjax.models.layers import Attention, Dropout, standardise

ACTIVATIONS = {
    "gelu": functools.partial(nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),  # CLIP's
}


class Mlp(nn.Module):
    width: int
    activation: str
    rate: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        hidden = ACTIVATIONS[self.activation](nn.Dense(self.width, dtype=self.dtype, name="up")(x))
        hidden = Dropout(self.rate)(hidden, train)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="down")(hidden)


class Block(nn.Module):
    heads: int
    mlp_width: int
    activation: str
    epsilon: float
    rates: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        y = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm_attention")(x)
        y = Attention(self.heads, self.rates["attention"], self.dtype, name="attention")(y, train, mask)
        x = x + Dropout(self.rates["residual"])(y, train)
        y = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm_mlp")(x)
        y = Mlp(self.mlp_width, self.activation, self.rates["mlp"], self.dtype, name="mlp")(y, train)
        return x + Dropout(self.rates["residual"])(y, train)


class Embed(nn.Module):
    """Patches to tokens, with learned positions. `[B, H, W, C] -> [B, T, D]`; a class token comes first."""

    patch: int
    width: int
    bias: bool
    class_token: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = (self.patch, self.patch)
        conv = functools.partial(nn.Conv, use_bias=self.bias, padding="VALID", dtype=self.dtype)
        x = conv(self.width, size, strides=size, name="patch")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        if self.class_token:
            token = self.param("class_token", nn.initializers.normal(0.02), (1, 1, self.width))
            token = jnp.broadcast_to(token.astype(self.dtype), (len(x), 1, self.width))
            x = jnp.concatenate([token, x], 1)
        position = self.param("position", nn.initializers.normal(0.02), (1, x.shape[1], self.width))
        return x + position.astype(self.dtype)


class Encoder(nn.Module):
    depth: int
    heads: int
    mlp_width: int
    activation: str
    epsilon: float
    pre_norm: bool
    rates: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if self.pre_norm:
            x = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm_pre")(x)
        for i in range(self.depth):
            block = Block(
                self.heads,
                self.mlp_width,
                self.activation,
                self.epsilon,
                self.rates,
                self.dtype,
                name=f"block_{i}",
            )
            x = block(x, train)
        return nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm")(x)


class ViT(nn.Module):
    """`[B, H, W, C]` in [0, 1] to logits `[B, num_classes]` and pooled features `[B, width]`, float32.

    Attributes:
      patch_bias: a bias beside the patches' kernel.
      pre_norm: a norm before the first block too.
      pool: "mean" over the tokens of the patches, or the "class_token".
      projection: width that features are projected to, without a bias; None: they are not.
    """

    num_classes: int
    patch: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    patch_bias: bool
    class_token: bool
    pre_norm: bool
    activation: str
    epsilon: float
    pool: str
    projection: int | None
    rates: Any
    mean: Any = 0.5
    std: Any = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        x = standardise(x, self.mean, self.std, self.dtype)
        x = Embed(self.patch, self.width, self.patch_bias, self.class_token, self.dtype, name="embed")(x)
        x = Encoder(
            self.depth, self.heads, self.mlp_width, self.activation, self.epsilon, self.pre_norm, self.rates,
            self.dtype, name="encoder",
        )(x, train)  # fmt: skip
        features = x[:, 0] if self.pool == "class_token" else x[:, int(self.class_token) :].mean(1)
        if self.projection is not None:
            features = nn.Dense(self.projection, use_bias=False, dtype=self.dtype, name="projection")(
                features
            )
        features = features.astype(jnp.float32)
        logits = nn.Dense(self.num_classes, name="head")(Dropout(self.rates["head"])(features, train))
        return logits, features
