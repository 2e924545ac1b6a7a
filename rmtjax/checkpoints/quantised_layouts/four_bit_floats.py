"""FP4 (E2M1) with a scale for each block of a row: NVFP4 (blocks of 16) and MXFP4 (blocks of 32).

Two numbers share a byte, the first in its low half. The scales of MXFP4 are powers of two (E8M0). Those of
NVFP4 are float8 (E4M3), and one more scale is common to all of them: modelopt multiplies by
`weight_scale_2`, compressed-tensors divides by `weight_global_scale`; MLX has none.
"""

import functools
from typing import NamedTuple

import ml_dtypes
import numpy as np

from rmtjax.checkpoints.contents import Tensor, Verdict
from rmtjax.checkpoints.quantised_layouts.stored import Stored, factors, is_powers, last

_VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
_VALUES = np.concatenate([_VALUES, -_VALUES])


class _Names(NamedTuple):
    """The end of the names of the codes, and what stands in its place in the other names of the group."""

    codes: str
    scale: str
    weights: str
    multiplied: str = ""
    divided: str = ""


_LAYOUTS = (
    _Names("weight_packed", "weight_scale", "weight", divided="weight_global_scale"),
    _Names("weight", "weight_scale", "weight", multiplied="weight_scale_2"),
    _Names("weight", "scales", "weight"),  # MLX, in uint32
    _Names("_blocks", "_scales", ""),  # gpt-oss, with an axis of blocks
)


def judge(name: str, tensors: Stored, layout: str) -> Verdict | None:
    """Multiplies FP4 numbers by the scales of their blocks; refuses uint8 with scales that do not fit."""
    codes = tensors[name]
    names = next((one for one in _LAYOUTS if name.endswith(one.codes) and _other(name, one) in tensors), None)
    mlx = names is not None and names.scale == "scales"
    if names is None or len(codes.shape) < 2 or codes.dtype != (np.uint32 if mlx else np.uint8):
        return None
    scale_name = _other(name, names)
    scale, before = tensors[scale_name], name.removesuffix(names.codes)
    if mlx and scale.dtype != np.uint8:
        return None  # not FP4
    common = next((before + end for end in (names.multiplied, names.divided) if before + end in tensors), "")
    if not (names.multiplied or names.divided):
        common = ""
    extra = {before + end for end in ("weight_shape",) if before + end in tensors}
    parts = frozenset({scale_name, *filter(None, [common]), *extra})
    others = tensors.other_scales(name, parts)
    width = (8 if mlx else 2) * codes.shape[-1]
    rows = codes.shape[:-1]
    if names.codes == "_blocks":
        width, rows = width * codes.shape[-2], rows[:-1]
    block = width // max(scale.shape[-1], 1) if scale.shape[:-1] == rows else 0
    fits = block in (16, 32) and block * scale.shape[-1] == width
    if common and not _is_common(tensors[common].shape, codes.shape):
        fits = False
    if others or not fits or not _of_kind(scale, block, bool(common), mlx):
        what = f"with {last(others[0])!r} beside it" if others else f"with scales {scale.dtype}{scale.shape}"
        return Verdict(
            None, f"{codes.dtype}{codes.shape} {what}: neither NVFP4 nor MXFP4", parts | set(others)
        )
    read = functools.partial(
        _multiplied, codes, scale, tensors[common] if common else None, bool(names.divided), block
    )
    dtype = np.dtype(np.float32)
    return Verdict(Tensor((*rows, width), dtype, read), parts=parts, name=before + names.weights)


def _other(name: str, names: _Names) -> str:
    return name.removesuffix(names.codes) + names.scale


def _is_common(shape: tuple[int, ...], codes: tuple[int, ...]) -> bool:
    """Whether a scale is one number, or one for each matrix of a stack."""
    size = int(np.prod(shape))
    return size == 1 or (len(codes) == 3 and shape[:1] == codes[:1] and size == codes[0])


def _of_kind(scale: Tensor, block: int, common: bool, mlx: bool) -> bool:
    """Whether scales are of the dtype of MXFP4 or of NVFP4, whose float8 may be stored as bytes."""
    if block == 32:
        return is_powers(scale) and not common
    return scale.dtype in (ml_dtypes.float8_e4m3fn, np.uint8) and (common or mlx)


def _multiplied(codes: Tensor, scale: Tensor, common: Tensor | None, divided: bool, block: int) -> np.ndarray:
    packed = codes.read()
    packed = packed.view(np.uint8) if packed.dtype == np.uint8 else packed.astype("<u4").view(np.uint8)
    numbers = _VALUES[np.stack([packed & 15, packed >> 4], -1)]
    wide = scale.read().view(ml_dtypes.float8_e4m3fn).astype(np.float32) if block == 16 else factors(scale)
    weights = numbers.reshape(*wide.shape, block) * wide[..., None]
    if common is not None:
        one = common.read().astype(np.float32).reshape(-1, *(1,) * (weights.ndim - 1))
        weights = weights / one if divided else weights * one
    return weights.reshape(*wide.shape[:-1], -1)
