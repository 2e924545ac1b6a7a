"""The int8 layout of bitsandbytes, with one scale for each row."""

import functools
from collections.abc import Mapping

import numpy as np

from rmtjax.checkpoints.contents import Tensor, Verdict
from rmtjax.checkpoints.quantised_layouts import eight_bits


def judge(name: str, tensors: Mapping[str, Tensor], layout: str) -> Verdict | None:
    """Multiplies an int8 `weight` by `SCB / 127`, row by row."""
    tensor, before = tensors[name], name.removesuffix("weight")
    rows = f"{before}SCB"
    if not (name.endswith("weight") and rows in tensors and tensor.dtype == np.int8):
        return None
    if not eight_bits.is_matrix(tensor) or eight_bits.scale_of(name, tensors) is not None:
        return None
    read = functools.partial(_multiplied, tensor, tensors[rows])
    parts = frozenset({rows, f"{before}weight_format"})
    return Verdict(Tensor(tensor.shape, np.dtype(np.float32), read), parts=parts)


def _multiplied(tensor: Tensor, scale: Tensor) -> np.ndarray:
    return tensor.read().astype(np.float32) * (scale.read().astype(np.float32).reshape(-1, 1) / 127)
