"""int8 and float8 with scales beside them: one for all, for each output or input, or for each block."""

import functools
from collections.abc import Mapping

import numpy as np

from rmtjax.checkpoints.contents import Tensor, Verdict
from rmtjax.checkpoints.quantised_layouts import eight_bits


def judge(name: str, tensors: Mapping[str, Tensor], layout: str) -> Verdict | None:
    """Multiplies an int8 or float8 tensor `X` by `X_scale` or `X_scale_inv`.

    The scale is one number, a number for each output or each input (in torch outputs are rows, in Flax
    columns), or a number for each block. A tensor whose scale has another shape is refused.
    """
    tensor, scale = tensors[name], eight_bits.scale_of(name, tensors)
    if scale is None or not eight_bits.is_matrix(tensor) or tensor.dtype == np.uint8:
        return None
    parts = frozenset({scale})
    per_axis = _with_all_axes(tensor.shape, tensors[scale].shape, layout)
    if per_axis is None or _blocks(tensor.shape, per_axis) is None:
        reason = f"its scale has shape {tensors[scale].shape}, which does not fit {tensor.shape}"
        return Verdict(None, reason, parts)
    read = functools.partial(_multiplied, tensor, tensors[scale], per_axis)
    return Verdict(Tensor(tensor.shape, np.dtype(np.float32), read), parts=parts)


def _with_all_axes(shape: tuple[int, ...], scale: tuple[int, ...], layout: str) -> tuple[int, ...] | None:
    """The shape of the scale with as many axes as the tensor has; None if it does not fit."""
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


def _multiplied(tensor: Tensor, scale: Tensor, per_axis: tuple[int, ...]) -> np.ndarray:
    weights = tensor.read().astype(np.float32)
    blocks = _blocks(tensor.shape, per_axis)
    assert blocks is not None
    factors = scale.read().astype(np.float32).reshape(per_axis)
    for axis, (size, block) in enumerate(zip(tensor.shape, blocks, strict=True)):
        if block > 1 and factors.shape[axis] > 1:
            factors = np.repeat(factors, block, axis)[(slice(None),) * axis + (slice(size),)]
    return weights * factors
