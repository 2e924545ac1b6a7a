"""int8 and float8 with scales beside them: one for all, for each output or input, or for each block."""

import functools

import numpy as np

from rmtjax.checkpoints.contents import Tensor, Verdict
from rmtjax.checkpoints.quantised_layouts.stored import (
    Stored,
    factors,
    is_eight_bits,
    is_powers,
    last,
    weights_of,
)

_POWERS = tuple(2**i for i in range(3, 11))  # usual sizes of blocks


def judge(name: str, tensors: Stored, layout: str) -> Verdict | None:
    """Multiplies an int8 or float8 tensor `X` by its scale, of any of the usual names.

    The scale is one number, a number for each output or each input (in torch outputs are rows, in Flax
    columns), or a number for each block. It may be stored as powers of two (E8M0) for float8. A tensor whose
    scale has another shape, or that has two scales, is refused.
    """
    tensor, scale = tensors[name], tensors.scale_of(name)
    if scale is None or not is_eight_bits(tensor) or tensor.dtype == np.uint8:
        return None
    parts, stored = frozenset({scale}), tensors[scale]
    others = tensors.other_scales(name, parts)
    if others:
        reason = f"{tensor.dtype} with {last(others[0])!r} beside its scale, which is not read"
        return Verdict(None, reason, parts | set(others))
    if last(scale) == "weight_scales" and tensor.dtype == np.int8 and len(stored.shape) == 1:
        return Verdict(None, "quantised layout that is not read (EETQ: int8 in an order of its own)", parts)
    powers = is_powers(stored)
    if not (powers or stored.dtype.kind == "f" or stored.dtype.name == "bfloat16") or (
        powers and tensor.dtype == np.int8
    ):
        return Verdict(None, f"{tensor.dtype} with a scale of {stored.dtype}: it is not read", parts)
    per_axis = _with_all_axes(tensor.shape, stored.shape, layout)
    blocks = per_axis and _blocks(tensor.shape, per_axis, powers)
    if per_axis is None or not blocks:
        reason = f"its scale has shape {stored.shape}, which does not fit {tensor.shape}"
        return Verdict(None, reason, parts)
    read = functools.partial(_multiplied, tensor, stored, per_axis, blocks)
    return Verdict(Tensor(tensor.shape, np.dtype(np.float32), read), parts=parts, name=weights_of(name))


def _with_all_axes(shape: tuple[int, ...], scale: tuple[int, ...], layout: str) -> tuple[int, ...] | None:
    """The shape of the scale with as many axes as the tensor has; None if it does not fit."""
    if int(np.prod(scale)) == 1:
        return (1,) * len(shape)
    if len(scale) != 1:
        return scale if len(scale) == len(shape) else None
    outputs_first = (0, 1) if layout == "torch" else (len(shape) - 1, len(shape) - 2)
    axis = next((axis for axis in outputs_first if shape[axis] == scale[0]), None)
    return None if axis is None else tuple(scale[0] if i == axis else 1 for i in range(len(shape)))


def _blocks(shape: tuple[int, ...], scale: tuple[int, ...], powers: bool) -> tuple[int, ...] | None:
    """How many entries along each axis share a scale; None if the scale does not fit."""
    if any(s < 1 or s > n for s, n in zip(scale, shape, strict=True)):
        return None
    blocks = tuple(_block(n, s, powers) for s, n in zip(scale, shape, strict=True))
    return blocks if all(blocks) else None


def _block(size: int, scales: int, powers: bool) -> int:
    """The length of blocks that cut `size` entries into as many parts as there are scales; 0 if unknown.

    Blocks of 128 are the most usual. Else equal parts are taken, unless the scales are powers of two, whose
    blocks are as well; if there are none, the only power of two that fits.
    """
    if scales == 1 or scales == size:
        return size // scales
    if -(-size // 128) == scales:
        return 128
    if size % scales == 0 and not powers:
        return size // scales
    fitting = [block for block in _POWERS if -(-size // block) == scales]
    return fitting[0] if len(fitting) == 1 else 0


def _multiplied(
    tensor: Tensor, scale: Tensor, per_axis: tuple[int, ...], blocks: tuple[int, ...]
) -> np.ndarray:
    weights = tensor.read().astype(np.float32)
    wide = factors(scale).reshape(per_axis)
    for axis, (size, block) in enumerate(zip(tensor.shape, blocks, strict=True)):
        if block > 1 and wide.shape[axis] > 1:
            wide = np.repeat(wide, block, axis)[(slice(None),) * axis + (slice(size),)]
    return weights * wide
