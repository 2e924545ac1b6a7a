"""The int8 layout of bitsandbytes, with one scale for each row."""

import functools

import numpy as np

from rmtjax.checkpoints.contents import Tensor, Verdict
from rmtjax.checkpoints.quantised_layouts.stored import Stored, is_eight_bits


def judge(name: str, tensors: Stored, layout: str) -> Verdict | None:
    """Multiplies an int8 `weight` by `SCB / 127`, row by row."""
    tensor, before = tensors[name], name.removesuffix("weight")
    rows = next((rows for rows in (f"{before}SCB", f"{name}.SCB") if rows in tensors), None)
    if not (name.endswith("weight") and rows and tensor.dtype == np.int8 and is_eight_bits(tensor)):
        return None
    parts = frozenset({rows, f"{before}weight_format", f"{name}.weight_format"})
    if len(tensor.shape) != 2 or tensors[rows].shape != tensor.shape[:1]:
        reason = f"its SCB has shape {tensors[rows].shape}, which does not fit {tensor.shape}"
        return Verdict(None, reason, parts)
    read = functools.partial(_multiplied, tensor, tensors[rows])
    return Verdict(Tensor(tensor.shape, np.dtype(np.float32), read), parts=parts)


def _multiplied(tensor: Tensor, scale: Tensor) -> np.ndarray:
    return tensor.read().astype(np.float32) * (scale.read().astype(np.float32).reshape(-1, 1) / 127)
