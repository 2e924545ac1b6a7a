"""Weights stored in eight bits with scales beside them; other quantised layouts are refused by name."""

import functools
import re
from collections.abc import Mapping

import numpy as np

from rmtjax.checkpoints.formats import Tensor

# Parts of layouts that pack several weights into a number, by the last part of the name.
_PACKED = {
    "qweight": "GPTQ or AWQ: weights packed into int32",
    "qzeros": "GPTQ or AWQ: zero points",
    "scales": "GPTQ or AWQ: scales",
    "g_idx": "GPTQ: order of groups",
    "weight_packed": "compressed-tensors: weights packed into int32",
    "absmax": "bitsandbytes 4-bit: scales",
    "quant_map": "bitsandbytes 4-bit: code book",
    "nested_absmax": "bitsandbytes 4-bit: scales",
    "nested_quant_map": "bitsandbytes 4-bit: code book",
}
_FLOAT8 = re.compile("float8")


def dequantised(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of eight bits become float32, their scales vanish; what is packed otherwise is refused.

    An int8 or float8 tensor `X` is multiplied by `X_scale` or `X_scale_inv`, one number, one a row, one a column, or
    one a block; bitsandbytes' int8 `weight` by `SCB / 127`, row by row. Float8 without a scale is taken as it is.

    Returns:
      The tensors that can be read, and name -> reason of those that cannot.
    """
    out: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    scales: set[str] = set()
    packed = any(name.rsplit(".", 1)[-1] in _PACKED for name in tensors)
    for name, tensor in tensors.items():
        last = name.rsplit(".", 1)[-1]
        reason = _PACKED.get(last) or ("bitsandbytes 4-bit: state" if ".quant_state." in name else "")
        if packed and reason:
            refused[name] = f"quantised layout that is not read ({reason})"
            continue
        eight = tensor.dtype in (np.dtype(np.int8), np.dtype(np.uint8)) or _FLOAT8.match(tensor.dtype.name)
        if not eight or len(tensor.shape) < 2:
            out[name] = tensor
            continue
        scale = next((s for s in (f"{name}_scale", f"{name}_scale_inv") if s in tensors), None)
        rowwise = name.removesuffix("weight") + "SCB"
        if scale is None and name.endswith("weight") and rowwise in tensors and tensor.dtype == np.int8:
            read = functools.partial(_by_row, tensor, tensors[rowwise])
            scales |= {rowwise, name.removesuffix("weight") + "weight_format"}
        elif scale is not None and tensor.dtype != np.uint8:
            if _blocks(tensor.shape, tensors[scale].shape) is None:
                refused[name] = (
                    f"its scale has shape {tensors[scale].shape}, which does not fit {tensor.shape}"
                )
                continue
            read = functools.partial(_by_block, tensor, tensors[scale])
            scales.add(scale)
        elif tensor.dtype == np.int8 or (tensor.dtype == np.uint8 and f"{name}.absmax" in tensors):
            refused[name] = (
                f"{tensor.dtype} without a scale that is known: no {name}_scale, {name}_scale_inv or SCB"
            )
            continue
        else:
            out[name] = tensor
            continue
        out[name] = Tensor(tensor.shape, np.dtype(np.float32), read)
    return {name: tensor for name, tensor in out.items() if name not in scales}, refused


def _by_row(tensor: Tensor, scale: Tensor) -> np.ndarray:
    return tensor.read().astype(np.float32) * (scale.read().astype(np.float32).reshape(-1, 1) / 127)


def _blocks(shape: tuple[int, ...], scale: tuple[int, ...]) -> tuple[int, ...] | None:
    """How many entries along each axis share a scale; None if the scale does not fit."""
    if int(np.prod(scale)) == 1:
        return shape
    if len(scale) == 1:
        scale = (*scale, *[1] * (len(shape) - 1))
    if len(scale) != len(shape) or any(s < 1 or s > n for s, n in zip(scale, shape, strict=True)):
        return None
    blocks = tuple(128 if -(-n // 128) == s else -(-n // s) for s, n in zip(scale, shape, strict=True))
    return blocks if all(-(-n // b) == s for n, b, s in zip(shape, blocks, scale, strict=True)) else None


def _by_block(tensor: Tensor, scale: Tensor) -> np.ndarray:
    weights = tensor.read().astype(np.float32)
    blocks = _blocks(tensor.shape, scale.shape)
    assert blocks is not None
    factors = scale.read().astype(np.float32)
    factors = factors.reshape(tuple(-(-n // b) for n, b in zip(tensor.shape, blocks, strict=True)))
    for axis, (size, block) in enumerate(zip(tensor.shape, blocks, strict=True)):
        factors = (
            np.repeat(factors, block, axis)[(slice(None),) * axis + (slice(size),)] if block > 1 else factors
        )
    return weights * factors
