"""CIFAR ResNet (He et al. 2016, section 4.2): 6 n + 2 layers in three stages, projection shortcuts."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rmtjax.models.layers import Dropout, standardise


class ResidualBlock(nn.Module):
    width: int
    stride: int
    rates: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=self.dtype)
        y = conv(self.width, (3, 3), strides=self.stride, name="conv_1")(x)
        y = nn.relu(norm(name="norm_1")(y))
        y = Dropout(self.rates["mlp"])(y, train)
        y = norm(name="norm_2")(conv(self.width, (3, 3), name="conv_2")(y))
        y = Dropout(self.rates["residual"])(y, train)
        if x.shape != y.shape:
            x = norm(name="norm_shortcut")(conv(self.width, (1, 1), strides=self.stride, name="shortcut")(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """`[B, H, W, C]` in [0, 1] to logits `[B, num_classes]` and pooled features `[B, 4 width]`, float32.

    Dropout: `mlp` between the two convolutions of a block, `residual` at the end of its branch, `head`.
    """

    num_classes: int
    depth: int
    width: int
    rates: Any
    mean: float = 0.5
    std: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
        x = standardise(x, self.mean, self.std, self.dtype)
        x = nn.Conv(self.width, (3, 3), use_bias=False, dtype=self.dtype, name="stem")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype, name="norm_stem")(x)
        x = nn.relu(x)
        for stage in range(3):
            for i in range((self.depth - 2) // 6):
                stride = 2 if stage > 0 and i == 0 else 1
                block = ResidualBlock(
                    self.width * 2**stage, stride, self.rates, self.dtype, name=f"stage_{stage}_block_{i}"
                )
                x = block(x, train)
        features = x.mean((1, 2)).astype(jnp.float32)
        logits = nn.Dense(self.num_classes, name="head")(Dropout(self.rates["head"])(features, train))
        return logits, features
