"""Vision transformers (Dosovitskiy et al. 2020) with the norm inside the residual branches, of any size.

The same modules make the ViTs of timm, Hugging Face, vit_jax and big_vision, the image towers of CLIP
(Radford et al. 2021) and SigLIP (Zhai et al. 2023, 2303.15343), DeiT (Touvron et al. 2020, 2012.12877) and
DINOv2 (Oquab et al. 2023, 2304.07193; registers: Darcet et al. 2023, 2309.16588). They differ in the tokens
beside the patches, a norm before the blocks, the activation, the scale of residual branches, the norms'
epsilon, where features are taken from, and a projection of them. README.md beside this file has the settings
of each.
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
    """One hidden layer; with the activation "swiglu" two, of which one gates the other (Shazeer 2020)."""

    width: int
    activation: str
    rate: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def dense(name: str, width: int, x: jax.Array) -> jax.Array:
            return nn.Dense(width, dtype=self.dtype, name=name)(x)

        if self.activation == "swiglu":
            hidden = nn.silu(dense("gate", self.width, x)) * dense("linear", self.width, x)
        else:
            hidden = ACTIVATIONS[self.activation](dense("up", self.width, x))
        hidden = Dropout(self.rate)(hidden, train)
        return dense("out" if self.activation == "swiglu" else "down", x.shape[-1], hidden)


class Block(nn.Module):
    heads: int
    mlp_width: int
    activation: str
    epsilon: float
    rates: Any
    dtype: Any
    layer_scale: float | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        def added(x: jax.Array, branch: jax.Array, name: str) -> jax.Array:
            if self.layer_scale is not None:
                initial = nn.initializers.constant(self.layer_scale)
                branch = branch * self.param(name, initial, (x.shape[-1],)).astype(self.dtype)
            return x + Dropout(self.rates["residual"])(branch, train)

        y = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm_attention")(x)
        y = Attention(self.heads, self.rates["attention"], self.dtype, name="attention")(y, train, mask)
        x = added(x, y, "scale_attention")
        y = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm_mlp")(x)
        y = Mlp(self.mlp_width, self.activation, self.rates["mlp"], self.dtype, name="mlp")(y, train)
        return added(x, y, "scale_mlp")


class Embed(nn.Module):
    """Patches to tokens, with learned positions. `[B, H, W, C] -> [B, T, D]`.

    A class token comes first, then that of distillation, then registers, which have no position.
    """

    patch: int
    width: int
    bias: bool
    class_token: bool
    distillation_token: bool
    registers: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def learned(name: str, count: int) -> jax.Array:
            value = self.param(name, nn.initializers.normal(0.02), (1, count, self.width))
            return value.astype(self.dtype)

        size = (self.patch, self.patch)
        conv = functools.partial(nn.Conv, use_bias=self.bias, padding="VALID", dtype=self.dtype)
        x = conv(self.width, size, strides=size, name="patch")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        of_every = (len(x), 1, self.width)
        first = int(self.class_token) + int(self.distillation_token)
        if self.distillation_token:
            x = jnp.concatenate([jnp.broadcast_to(learned("dist_token", 1), of_every), x], 1)
        if self.class_token:
            x = jnp.concatenate([jnp.broadcast_to(learned("class_token", 1), of_every), x], 1)
        x = x + learned("position", x.shape[1])
        if self.registers:
            registers = learned("register_tokens", self.registers)
            registers = jnp.broadcast_to(registers, (len(x), self.registers, self.width))
            x = jnp.concatenate([x[:, :first], registers, x[:, first:]], 1)
        return x


class Encoder(nn.Module):
    depth: int
    heads: int
    mlp_width: int
    activation: str
    epsilon: float
    pre_norm: bool
    layer_scale: float | None
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
                self.layer_scale,
                name=f"block_{i}",
            )
            x = block(x, train)
        return nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm")(x)


class ProbePool(nn.Module):
    """A learned token attends to all others, `[B, T, D] -> [B, D]`, and an MLP follows (SigLIP)."""

    heads: int
    mlp_width: int
    activation: str
    epsilon: float
    rates: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        probe = self.param("probe", nn.initializers.normal(0.02), (1, 1, x.shape[-1])).astype(self.dtype)
        x = jnp.concatenate([jnp.broadcast_to(probe, (len(x), 1, x.shape[-1])), x], 1)
        others = jnp.broadcast_to(jnp.arange(x.shape[1]) > 0, x.shape[:2])
        attention = Attention(self.heads, self.rates["attention"], self.dtype, queries=1, name="attention")
        x = attention(x, train, others)
        y = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm")(x)
        y = Mlp(self.mlp_width, self.activation, self.rates["mlp"], self.dtype, name="mlp")(y, train)
        return (x + Dropout(self.rates["residual"])(y, train))[:, 0]


class TwoHeads(nn.Module):
    """The mean of the logits of the class token and of the token of distillation (DeiT)."""

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        logits = [
            nn.Dense(self.num_classes, name=name)(part)
            for name, part in zip(("class_head", "dist_head"), jnp.split(x, 2, -1), strict=True)
        ]
        return (logits[0] + logits[1]) / 2


class ViT(nn.Module):
    """`[B, H, W, C]` in [0, 1] to logits `[B, num_classes]` and pooled features `[B, width]`, float32.

    Attributes:
      patch_bias: a bias beside the patches' kernel.
      pre_norm: a norm before the first block too.
      layer_scale: what residual branches are first multiplied by, channel by channel; None: by nothing.
      pool: "mean" over the tokens of the patches, the "class_token", both of them one after the other
        ("class_and_mean", as DINOv2's linear head has them), the class token and that of distillation
        ("class_and_distillation", with a head each, as DeiT has them), or "probe", a learned token that
        attends to all.
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
    distillation_token: bool
    registers: int
    pre_norm: bool
    layer_scale: float | None
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
        x = Embed(
            self.patch, self.width, self.patch_bias, self.class_token, self.distillation_token,
            self.registers, self.dtype, name="embed",
        )(x)  # fmt: skip
        x = Encoder(
            self.depth, self.heads, self.mlp_width, self.activation, self.epsilon, self.pre_norm,
            self.layer_scale, self.rates, self.dtype, name="encoder",
        )(x, train)  # fmt: skip
        features = self._pooled(x, train)
        if self.projection is not None:
            features = nn.Dense(self.projection, use_bias=False, dtype=self.dtype, name="projection")(
                features
            )
        features = features.astype(jnp.float32)
        head = TwoHeads if self.pool == "class_and_distillation" else nn.Dense
        logits = head(self.num_classes, name="head")(Dropout(self.rates["head"])(features, train))
        return logits, features

    def _pooled(self, x: jax.Array, train: bool) -> jax.Array:
        patches = x[:, int(self.class_token) + int(self.distillation_token) + self.registers :]
        if self.pool == "class_token":
            return x[:, 0]
        if self.pool == "class_and_mean":
            return jnp.concatenate([x[:, 0], patches.mean(1)], -1)
        if self.pool == "class_and_distillation":
            return x[:, :2].reshape(len(x), -1)
        if self.pool == "probe":
            return ProbePool(
                self.heads, self.mlp_width, self.activation, self.epsilon, self.rates, self.dtype, name="pool"
            )(x, train)
        return patches.mean(1)
