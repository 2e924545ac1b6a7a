"""Residual networks (He et al. 2016): those of CIFAR and of ImageNet, and the image tower of CLIP's RN50.

They share stages and blocks and differ in what is before and after:

| kind | stem | stages | shortcut | pooling |
|---|---|---|---|---|
| cifar | 3x3 | 3, depth 6 n + 2 | 1x1, or none ("pad") | mean |
| imagenet | 7x7 of stride 2, 3x3 maximum of stride 2 | 4 | 1x1 | mean |
| clip (Radford et al. 2021) | three 3x3, 2x2 mean | 4 | 2x2 mean, 1x1 | attention |

Strides are on the 3x3 convolution (torchvision's choice); in CLIP a mean over the stride's window after it
takes their place. Padding is that of torch: half a window on each side, where XLA's "SAME" would put it all
at the end.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rmtjax.errors import InputError
from rmtjax.models.layers import Attention, BatchNorm, Dropout, standardise

# Blocks a stage; below 50 layers (but for 14 and 26) of two convolutions each, else bottlenecks of three.
_STAGES = {10: (1, 1, 1, 1), 14: (1, 1, 1, 1), 18: (2, 2, 2, 2), 26: (2, 2, 2, 2), 34: (3, 4, 6, 3),
           50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # fmt: skip
_BASIC = (10, 18, 34)


def stages(kind: str, depth: int) -> tuple[int, ...]:
    """Blocks a stage. Raises InputError: there is no such depth."""
    if kind == "cifar":
        if depth < 8 or (depth - 2) % 6:
            raise InputError(f"model.resnet.depth={depth} is not 6 n + 2: use 8, 14, 20, 32, 44, 56 or 110")
        return ((depth - 2) // 6,) * 3
    known = [d for d in _STAGES if kind == "imagenet" or d not in _BASIC]
    if depth not in known:
        raise InputError(
            f"model.resnet.depth={depth} is unknown of kind {kind!r}: use {', '.join(map(str, known))}"
        )
    return _STAGES[depth]


class Block(nn.Module):
    """Two 3x3 convolutions, or a bottleneck of three, beside a shortcut.

    Attributes:
      width: of the 3x3 convolutions; a bottleneck puts out four times as many channels.
      shortcut: "projection" (1x1 convolution and norm where shapes differ), "mean" (a mean over the stride's
        window before it) or "pad" (every so many pixels, new channels zero: option A of He et al., no
        parameters).
      conv, norm: makers of layers.
    """

    width: int
    stride: int
    bottleneck: bool
    shortcut: str
    rates: Any
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, origin: jax.Array | None) -> jax.Array:
        averaged = self.shortcut == "mean" and self.stride > 1
        stride = 1 if averaged else self.stride
        shrink = (lambda x: _mean_pool(x, self.stride)) if averaged else (lambda x: x)
        norm = lambda name, x: self.norm(name=name)(x, train, origin)  # noqa: E731
        if self.bottleneck:
            y = nn.relu(norm("norm_1", self.conv(self.width, (1, 1), name="conv_1")(x)))
            y = self.conv(self.width, (3, 3), strides=stride, padding=1, name="conv_2")(y)
            y = shrink(nn.relu(norm("norm_2", y)))
            y = Dropout(self.rates["mlp"])(y, train)
            y = norm("norm_3", self.conv(4 * self.width, (1, 1), name="conv_3")(y))
        else:
            y = self.conv(self.width, (3, 3), strides=stride, padding=1, name="conv_1")(x)
            y = Dropout(self.rates["mlp"])(nn.relu(norm("norm_1", y)), train)
            y = norm("norm_2", self.conv(self.width, (3, 3), padding=1, name="conv_2")(y))
        y = Dropout(self.rates["residual"])(y, train)
        if x.shape != y.shape:
            if self.shortcut == "pad":
                new = y.shape[-1] - x.shape[-1]
                x = x[:, :: self.stride, :: self.stride]
                x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))
            else:
                x = self.conv(y.shape[-1], (1, 1), strides=stride, name="shortcut")(shrink(x))
                x = norm("norm_shortcut", x)
        return nn.relu(x + y)


class AttentionPool(nn.Module):
    """`[B, H, W, D] -> [B, out]`: the mean over all places attends to all of them (Radford et al. 2021)."""

    heads: int
    out: int
    rate: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = jnp.concatenate([x.mean(1, keepdims=True), x], 1)
        position = self.param("position", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        x = x + position.astype(self.dtype)
        attention = Attention(self.heads, self.rate, self.dtype, self.out, queries=1, name="attention")
        return attention(x, train)[:, 0]


class ResNet(nn.Module):
    """`[B, H, W, C]` in [0, 1] to logits `[B, num_classes]` and pooled features, float32.

    Features are `[B, 4 width]` (cifar), `[B, 8 width]` or, of bottlenecks, `[B, 32 width]` (imagenet), or
    `[B, projection]` (clip). Dropout: `mlp` before a block's last convolution, `residual` at the end of its
    branch, `attention` in the attention pooling, `head`.

    Attributes:
      shortcut: of cifar and imagenet, see `Block`.
      projection: of clip, whose attention pooling has width / 2 heads.
      frozen, separate: of `BatchNorm`.
    """

    num_classes: int
    kind: str
    depth: int
    width: int
    shortcut: str
    projection: int
    frozen: bool
    separate: bool
    rates: Any
    mean: Any = 0.5
    std: Any = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, origin: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """`origin [B]`: which examples are synthetic (1), for separate statistics."""
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(BatchNorm, self.frozen, self.separate, self.dtype)
        x = standardise(x, self.mean, self.std, self.dtype)
        stem = {
            "cifar": [("", self.width, 3, 1)],
            "imagenet": [("", self.width, 7, 2)],
            "clip": [("_1", self.width // 2, 3, 2), ("_2", self.width // 2, 3, 1), ("_3", self.width, 3, 1)],
        }[self.kind]
        for part, width, window, stride in stem:
            layer = conv(width, (window,) * 2, strides=stride, padding=window // 2, name=f"stem{part}")
            x = nn.relu(norm(name=f"norm_stem{part}")(layer(x), train, origin))
        if self.kind == "imagenet":
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        elif self.kind == "clip":
            x = _mean_pool(x, 2)
        bottleneck = self.kind != "cifar" and self.depth not in _BASIC
        shortcut = "mean" if self.kind == "clip" else self.shortcut
        for stage, blocks in enumerate(stages(self.kind, self.depth)):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                block = Block(
                    self.width * 2**stage, stride, bottleneck, shortcut, self.rates, conv, norm,
                    name=f"stage_{stage}_block_{i}",
                )  # fmt: skip
                x = block(x, train, origin)
        if self.kind == "clip":
            pool = AttentionPool(
                self.width // 2, self.projection, self.rates["attention"], self.dtype, name="pool"
            )
            features = pool(x, train).astype(jnp.float32)
        else:
            features = x.mean((1, 2)).astype(jnp.float32)
        logits = nn.Dense(self.num_classes, name="head")(Dropout(self.rates["head"])(features, train))
        return logits, features


def _mean_pool(x: jax.Array, size: int) -> jax.Array:
    return nn.avg_pool(x, (size, size), strides=(size, size))
