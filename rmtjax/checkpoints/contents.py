"""What a reader of a format gives: names, shapes and dtypes at once, numbers when they are asked for."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes
import numpy as np


class Tensor(NamedTuple):
    """An array on disk: its shape and dtype, and how to read it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


class Contents(NamedTuple):
    """What a reader gives.

    Attributes:
      tensors: by name, in the file's order.
      layout: "flax", "keras" or "torch"; None: only the names tell.
      refused: name of a tensor, or of a group that holds no weights -> why it is not read.
    """

    tensors: dict[str, Tensor]
    layout: str | None
    refused: dict[str, str] = {}  # noqa: RUF012 (never changed)


Reader = Callable[[pathlib.Path], Contents]


class Verdict(NamedTuple):
    """What a quantised layout says of a tensor that it knows.

    Attributes:
      tensor: the weights, multiplied out when they are read; None: they are refused.
      reason: why they are refused.
      parts: names of the tensors that belong to it, such as its scales, and are no weights themselves.
    """

    tensor: Tensor | None
    reason: str = ""
    parts: frozenset[str] = frozenset()


def named_bits(dtype: np.dtype) -> np.dtype:
    """The dtype; bfloat16 where two bytes have no name, which is how numpy stores it."""
    return np.dtype(ml_dtypes.bfloat16) if dtype.kind == "V" and dtype.itemsize == 2 else dtype
