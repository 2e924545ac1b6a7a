"""GGUF files of llama.cpp, dequantised by the package gguf to float32.

llama.cpp permutes the rows of queries and keys within their heads, which changes no singular value.
"""

import functools
import math
import pathlib
from typing import Any

import numpy as np

from rmtjax.checkpoints import guard
from rmtjax.checkpoints.contents import Contents, Tensor

_PLAIN = ("F64", "F32", "F16", "I64", "I32", "I16", "I8")  # of which the reader makes arrays of numpy


def read(path: pathlib.Path) -> Contents:
    """Maps the file, so that reading a tensor loads and dequantises only its own pages."""
    with guard.optional(path, "a GGUF file", "gguf", "gguf"):
        import gguf

    class Reader(gguf.GGUFReader):
        """One that stops at the end of the file; the package's loops over counts that are not there."""

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            if offset + np.dtype(dtype).itemsize * int(count) > self.data.size:
                raise ValueError("it ends before the data that its header announces")
            return super()._get(offset, dtype, count, override_order)

    reader = Reader(path)
    tensors, refused = {}, {}
    for stored in reader.tensors:
        kind, shape = stored.tensor_type, tuple(int(side) for side in reversed(stored.shape))
        if kind.name in _PLAIN:
            dtype, as_numpy = stored.data.dtype, functools.partial(_plain, stored.data, shape)
        elif not _dequantises(gguf, kind):
            refused[stored.name] = f"stored as {kind.name}, which the package gguf does not dequantise"
            continue
        elif reader.byte_order == "S":
            refused[stored.name] = f"stored as {kind.name} in the byte order of another machine"
            continue
        else:
            dtype, as_numpy = np.dtype(np.float32), functools.partial(_dequantised, gguf, stored, shape)
        if math.prod(shape) != int(stored.n_elements):
            raise ValueError(f"{stored.name!r} claims the shape {shape}")
        tensors[stored.name] = Tensor(shape, dtype, as_numpy)
    return Contents(tensors, "torch", refused)


def _dequantises(gguf: Any, kind: Any) -> bool:
    _, size = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.quants.dequantize(np.zeros((1, size), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _plain(data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return data.view(np.ndarray).reshape(shape)


def _dequantised(gguf: Any, stored: Any, shape: tuple[int, ...]) -> np.ndarray:
    array: np.ndarray = gguf.quants.dequantize(stored.data.view(np.ndarray), stored.tensor_type)
    return array.reshape(shape)
