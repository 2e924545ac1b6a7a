"""Integers of a few bits in groups of a row that share a scale: compressed-tensors and MLX.

compressed-tensors packs 2, 4 or 8 bits into int32, less half their range, as `weight_packed`. MLX packs
any number of bits into a stream, as uint32 `weight`, and adds `biases` to the products with `scales`.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from rmtjax.checkpoints.contents import Tensor, Verdict
from rmtjax.checkpoints.quantised_layouts.stored import Stored


def judge(name: str, tensors: Stored, layout: str) -> Verdict | None:
    """Dequantises the two layouts, or refuses them where the number of bits cannot be known."""
    if name.endswith("weight_packed") and tensors[name].dtype == np.int32:
        return _compressed_tensors(name, tensors)
    if name.endswith("weight") and tensors[name].dtype == np.uint32:
        return _mlx(name, tensors)
    return None


def _compressed_tensors(name: str, tensors: Stored) -> Verdict:
    before, codes = name.removesuffix("weight_packed"), tensors[name]
    found = {
        end: f"{before}weight_{end}"
        for end in ("shape", "scale", "zero_point", "g_idx")
        if f"{before}weight_{end}" in tensors
    }
    parts = frozenset(found.values())
    two = "shape" in found and tensors[found["shape"]].shape == (2,)
    if not two or "scale" not in found or "zero_point" in found or "g_idx" in found:
        kind = "its groups are in another order" if "g_idx" in found else "its scale or shape is missing"
        kind = "a zero point beside it" if "zero_point" in found else kind
        return Verdict(None, f"quantised layout that is not read (compressed-tensors: {kind})", parts)
    scale = tensors[found["scale"]]
    shape = tuple(int(n) for n in tensors[found["shape"]].read().ravel())
    fits = len(scale.shape) == 2 and scale.shape[0] == shape[0] and shape[1] % max(scale.shape[1], 1) == 0
    bits = [b for b in (2, 4, 8) if fits and codes.shape == (shape[0], -(-shape[1] * b // 32))]
    if len(bits) != 1:
        reason = f"int32{codes.shape} with scales {scale.shape} is no matrix {shape} of 2, 4 or 8 bits"
        return Verdict(None, f"quantised layout that is not read (compressed-tensors: {reason})", parts)
    read = functools.partial(_in_groups, codes, bits[0], shape[1], scale, None)
    return Verdict(Tensor(shape, np.dtype(np.float32), read), parts=parts, name=f"{before}weight")


def _mlx(name: str, tensors: Stored) -> Verdict | None:
    before, codes = name.removesuffix("weight"), tensors[name]
    scales, biases = f"{before}scales", f"{before}biases"
    if scales not in tensors or biases not in tensors:
        return None
    parts, scale = frozenset({scales, biases}), tensors[scales]
    bits, group = _told(before.rstrip("./"), tensors.config.get("quantization"))
    width = scale.shape[-1] * group if scale.shape else 0
    fits = (
        len(codes.shape) >= 2
        and scale.shape == tensors[biases].shape
        and scale.shape[:-1] == codes.shape[:-1]
        and 0 < width * bits == 32 * codes.shape[-1]
    )
    if not fits:
        told = f"{bits} bits in groups of {group}, as config.json tells, do not fit" if bits else (
            "their number of bits is told by a config.json with 'quantization', which is not beside it"
        )  # fmt: skip
        return Verdict(None, f"quantised layout that is not read (MLX: {told})", parts)
    read = functools.partial(_in_groups, codes, bits, width, scale, tensors[biases])
    shape = (*codes.shape[:-1], width)
    return Verdict(Tensor(shape, np.dtype(np.float32), read), parts=parts)


def _told(module: str, quantization: Any) -> tuple[int, int]:
    """(bits, size of a group) of a module by the config of MLX; zeros if it does not tell them."""
    if not isinstance(quantization, Mapping):
        return 0, 0
    own = quantization.get(module)
    told = quantization | own if isinstance(own, Mapping) else quantization
    bits, group = told.get("bits"), told.get("group_size")
    known = isinstance(bits, int) and isinstance(group, int) and told.get("mode", "affine") == "affine"
    return (bits, group) if known else (0, 0)


def _in_groups(codes: Tensor, bits: int, width: int, scale: Tensor, bias: Tensor | None) -> np.ndarray:
    """`[..., width]` weights; without a bias the middle of the codes is zero."""
    stream = np.unpackbits(codes.read().astype("<u4").view(np.uint8), axis=-1, bitorder="little")
    rows = stream.shape[:-1]
    stream = stream[..., : stream.shape[-1] // bits * bits].reshape(*rows, -1, bits)
    numbers = (stream @ (1 << np.arange(bits)).astype(np.float32))[..., :width]
    factors = scale.read().astype(np.float32)[..., None]
    numbers = numbers.reshape(*rows, factors.shape[-2], -1)
    if bias is None:
        weights = (numbers - 2 ** (bits - 1)) * factors
    else:
        weights = numbers * factors + bias.read().astype(np.float32)[..., None]
    return weights.reshape(*rows, width)
