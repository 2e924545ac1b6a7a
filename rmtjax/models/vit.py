"""Vision transformer (Dosovitskiy et al. 2020), pre-norm, mean-pooled, of any size."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rmtjax.models.layers import Dropout, standardise


class Attention(nn.Module):
    """Multi-head self-attention. Kernels: query, key, value `(D, H, Dh)`; out `(H, Dh, D)`."""

    heads: int
    rate: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = x.shape[-1]
        head_width = width // self.heads
        project = lambda name: nn.DenseGeneral((self.heads, head_width), dtype=self.dtype, name=name)(x)  # noqa: E731
        query, key, value = project("query"), project("key"), project("value")
        logits = jnp.einsum("bqhd,bkhd->bhqk", query / jnp.sqrt(head_width).astype(self.dtype), key)
        # The softmax in float32: bfloat16 has too few digits for a sum over many tokens.
        weights = nn.softmax(logits.astype(jnp.float32)).astype(self.dtype)
        weights = Dropout(self.rate)(weights, train)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return nn.DenseGeneral(width, axis=(-2, -1), dtype=self.dtype, name="out")(mixed)


class Mlp(nn.Module):
    width: int
    rate: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        hidden = nn.gelu(nn.Dense(self.width, dtype=self.dtype, name="up")(x))
        hidden = Dropout(self.rate)(hidden, train)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="down")(hidden)


class Block(nn.Module):
    heads: int
    mlp_width: int
    rates: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = nn.LayerNorm(dtype=self.dtype, name="norm_attention")(x)
        y = Attention(self.heads, self.rates["attention"], self.dtype, name="attention")(y, train)
        x = x + Dropout(self.rates["residual"])(y, train)
        y = nn.LayerNorm(dtype=self.dtype, name="norm_mlp")(x)
        y = Mlp(self.mlp_width, self.rates["mlp"], self.dtype, name="mlp")(y, train)
        return x + Dropout(self.rates["residual"])(y, train)


class Embed(nn.Module):
    """Patches to tokens, with learned positions. `[B, H, W, C] -> [B, T, D]`."""

    patch: int
    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = (self.patch, self.patch)
        x = nn.Conv(self.width, size, strides=size, padding="VALID", dtype=self.dtype, name="patch")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        position = self.param("position", nn.initializers.normal(0.02), (1, x.shape[1], self.width))
        return x + position.astype(self.dtype)


class Encoder(nn.Module):
    depth: int
    heads: int
    mlp_width: int
    rates: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for i in range(self.depth):
            x = Block(self.heads, self.mlp_width, self.rates, self.dtype, name=f"block_{i}")(x, train)
        return nn.LayerNorm(dtype=self.dtype, name="norm")(x)


class ViT(nn.Module):
    """`[B, H, W, C]` in [0, 1] to logits `[B, num_classes]` and pooled features `[B, width]`, float32."""

    num_classes: int
    patch: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    rates: Any
    mean: Any = 0.5
    std: Any = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        x = standardise(x, self.mean, self.std, self.dtype)
        x = Embed(self.patch, self.width, self.dtype, name="embed")(x)
        x = Encoder(self.depth, self.heads, self.mlp_width, self.rates, self.dtype, name="encoder")(x, train)
        features = x.mean(1).astype(jnp.float32)
        logits = nn.Dense(self.num_classes, name="head")(Dropout(self.rates["head"])(features, train))
        return logits, features
