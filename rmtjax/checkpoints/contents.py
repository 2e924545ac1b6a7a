"""What a reader of a format returns: names, shapes and dtypes at once, numbers when they are asked for."""

import pathlib
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

import ml_dtypes
import numpy as np


class Tensor(NamedTuple):
    """An array on disk.

    Attributes:
      shape, dtype: known without reading it.
      read: reads it.
      storage: equal for two tensors that are the same numbers in the file, perhaps transposed; None: unknown.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    storage: Hashable = None


class Contents(NamedTuple):
    """What a reader returns.

    Attributes:
      tensors: the tensors by name, in the order of the file.
      layout: "flax", "keras" or "torch"; None if only the names decide.
      refused: name of a tensor, or of a group that holds no weights -> the reason why it is not read.
      beside: bytes of other files that hold numbers of this one.
    """

    tensors: dict[str, Tensor]
    layout: str | None
    refused: dict[str, str] = {}  # noqa: RUF012 (never changed)
    beside: int = 0


Reader = Callable[[pathlib.Path], Contents]


class Verdict(NamedTuple):
    """What a quantised layout decides about a tensor that it recognises.

    Attributes:
      tensor: the weights, dequantised when they are read; None if they are refused.
      reason: why they are refused.
      parts: names of tensors that belong to the layout, such as scales, and are not weights themselves.
      name: of the weights, where it is not that of the tensor (`fc.weight` for `fc.weight_packed`).
    """

    tensor: Tensor | None
    reason: str = ""
    parts: frozenset[str] = frozenset()
    name: str = ""


def named_bits(dtype: np.dtype) -> np.dtype:
    """The dtype; bfloat16 in place of two nameless bytes, as which numpy stores it."""
    return np.dtype(ml_dtypes.bfloat16) if dtype.kind == "V" and dtype.itemsize == 2 else dtype


def layout_from_names(names: Mapping[str, Tensor]) -> str:
    """The layout, for formats that any framework writes: Flax's names have slashes or end in `kernel`."""
    flax = any("/" in name or name.endswith("kernel") for name in names)
    return "flax" if flax else "torch"
