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


class Attention(nn.Module):
    """Multi-head self-attention. Kernels: query, key, value `(D, H, Dh)`; out `(H, Dh, D)`.

    Attributes:
      out: width of what is put out; None: that of the input.
      queries: only so many tokens, the first, ask and are put out; None: all.

    `mask [B, T]`, if given, is False for tokens that none attends to; `mask [B, Q, T]` says it for each that
    asks.
    """

    heads: int
    rate: Any
    dtype: Any
    out: int | None = None
    queries: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        width = x.shape[-1]
        head_width = width // self.heads

        def project(name: str, x: jax.Array) -> jax.Array:
            return nn.DenseGeneral((self.heads, head_width), dtype=self.dtype, name=name)(x)

        query, key, value = project("query", x[:, : self.queries]), project("key", x), project("value", x)
        logits = jnp.einsum("bqhd,bkhd->bhqk", query / jnp.sqrt(head_width).astype(self.dtype), key)
        # The softmax in float32: bfloat16 has too few digits for a sum over many tokens.
        logits = logits.astype(jnp.float32)
        if mask is not None:  # finite, so that a row without any token gives no NaN
            mask = mask[:, None] if mask.ndim == 2 else mask
            logits = jnp.where(mask[:, None], logits, jnp.finfo(jnp.float32).min)
        weights = nn.softmax(logits).astype(self.dtype)
        weights = Dropout(self.rate)(weights, train)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return nn.DenseGeneral(self.out or width, axis=(-2, -1), dtype=self.dtype, name="out")(mixed)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015), moments in float32.

    Statistics are those of the whole batch, over all devices. `batch_stats` holds their moving means.

    Attributes:
      frozen: the moving means are used in training too, and stay as they are.
      separate: real and synthetic examples are normalised apart, each by the moments of its own kind, and
        their moving means are kept apart (the synthetic ones as `mean_synthetic`, `var_synthetic`). Without
        training, all are taken for real. (As adversarial examples in Xie et al. 2020, 1911.09665.)
    """

    frozen: bool
    separate: bool
    dtype: Any
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, origin: jax.Array | None = None) -> jax.Array:
        """`x [B, ..., C]`; `origin [B]`: 0 for a real example, 1 for a synthetic one; None: all are real."""
        width = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (width,))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        wide = x.astype(jnp.float32)
        origin = jnp.zeros(len(x), jnp.int32) if origin is None or not self.separate else origin
        outs = []
        for number, kind in enumerate(("", "_synthetic") if self.separate else ("",)):
            mean = self.variable("batch_stats", f"mean{kind}", jnp.zeros, (width,))
            var = self.variable("batch_stats", f"var{kind}", jnp.ones, (width,))
            moments = mean.value, var.value
            if train and not self.frozen:
                share = (origin == number).astype(jnp.float32)
                moments = _moments(wide, share)
                if not self.is_initializing():
                    keep = jnp.where(share.sum() > 0, self.momentum, 1.0)  # none of this kind in the batch
                    mean.value = keep * mean.value + (1 - keep) * moments[0]
                    var.value = keep * var.value + (1 - keep) * moments[1]
            outs.append((wide - moments[0]) * jax.lax.rsqrt(moments[1] + self.epsilon))
        out = outs[0]
        if self.separate and train:
            out = jnp.where(origin.reshape(-1, *[1] * (x.ndim - 1)) == 1, outs[1], outs[0])
        return (out * scale + bias).astype(self.dtype)


def _moments(x: jax.Array, share: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance [C] of the examples of `x [B, ..., C]` whose share [B] is 1; zeros if none."""
    weight = share.reshape(-1, *[1] * (x.ndim - 1)) / jnp.maximum(share.sum(), 1) / (x[0, ..., 0].size or 1)
    axes = tuple(range(x.ndim - 1))
    mean = (x * weight).sum(axes)
    return mean, (jnp.square(x - mean) * weight).sum(axes)
