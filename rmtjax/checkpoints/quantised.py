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


_ZERO = ("_zero_point", "_zero_points", "_zp")


def dequantised(tensors: Mapping[str, Tensor], layout: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of eight bits become float32, their scales vanish; what is packed otherwise is refused.

    An int8 or float8 tensor `X` is multiplied by `X_scale` or `X_scale_inv`, one number, one for each output or else
    each input (for torch a row or a column, for Flax the other way round), or one a block; bitsandbytes' int8 `weight`
    by `SCB / 127`, row by row. Float8 without a scale is taken as it is.

    Returns:
      The tensors that can be read, and name -> reason of those that cannot.
    """
    out: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    beside: set[str] = set()  # scales
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
        zero = next((name + end for end in _ZERO if name + end in tensors), None)
        rowwise = name.removesuffix("weight") + "SCB"
        if zero is not None:
            refused[name] = "quantised layout that is not read (a zero point beside it)"
            beside |= {zero} if scale is None else {zero, scale}
        elif scale is None and name.endswith("weight") and rowwise in tensors and tensor.dtype == np.int8:
            read = functools.partial(_by_row, tensor, tensors[rowwise])
            out[name] = Tensor(tensor.shape, np.dtype(np.float32), read)
            beside |= {rowwise, name.removesuffix("weight") + "weight_format"}
        elif scale is not None and tensor.dtype != np.uint8:
            beside.add(scale)
            per_axis = _one_an_axis(tensor.shape, tensors[scale].shape, layout)
            if per_axis is None or _blocks(tensor.shape, per_axis) is None:
                refused[name] = (
                    f"its scale has shape {tensors[scale].shape}, which does not fit {tensor.shape}"
                )
                continue
            read = functools.partial(_by_block, tensor, tensors[scale], per_axis)
            out[name] = Tensor(tensor.shape, np.dtype(np.float32), read)
        elif tensor.dtype == np.int8 or (tensor.dtype == np.uint8 and f"{name}.absmax" in tensors):
            refused[name] = (
                f"{tensor.dtype} without a scale that is known: no {name}_scale, {name}_scale_inv or SCB"
            )
        else:
            out[name] = tensor
    refused = {name: reason for name, reason in refused.items() if name not in beside}
    return {name: tensor for name, tensor in out.items() if name not in beside}, refused


def _by_row(tensor: Tensor, scale: Tensor) -> np.ndarray:
    return tensor.read().astype(np.float32) * (scale.read().astype(np.float32).reshape(-1, 1) / 127)


def _one_an_axis(shape: tuple[int, ...], scale: tuple[int, ...], layout: str) -> tuple[int, ...] | None:
    """The scale's shape with as many axes as the tensor; None if it does not fit."""
    if int(np.prod(scale)) == 1:
        return (1,) * len(shape)
    if len(scale) != 1:
        return scale if len(scale) == len(shape) else None
    outputs_first = (0, 1) if layout == "torch" else (len(shape) - 1, len(shape) - 2)
    axis = next((axis for axis in outputs_first if shape[axis] == scale[0]), None)
    return None if axis is None else tuple(scale[0] if i == axis else 1 for i in range(len(shape)))


def _blocks(shape: tuple[int, ...], scale: tuple[int, ...]) -> tuple[int, ...] | None:
    """How many entries along each axis share a scale; None if the scale does not fit."""
    if any(s < 1 or s > n for s, n in zip(scale, shape, strict=True)):
        return None
    blocks = tuple(128 if -(-n // 128) == s else -(-n // s) for s, n in zip(scale, shape, strict=True))
    return blocks if all(-(-n // b) == s for n, b, s in zip(shape, blocks, scale, strict=True)) else None


def _by_block(tensor: Tensor, scale: Tensor, per_axis: tuple[int, ...]) -> np.ndarray:
    weights = tensor.read().astype(np.float32)
    blocks = _blocks(tensor.shape, per_axis)
    assert blocks is not None
    factors = scale.read().astype(np.float32).reshape(per_axis)
    for axis, (size, block) in enumerate(zip(tensor.shape, blocks, strict=True)):
        if block > 1 and factors.shape[axis] > 1:
            factors = np.repeat(factors, block, axis)[(slice(None),) * axis + (slice(size),)]
    return weights * factors
