"""numpy's `.npy`: one array."""

import functools
import pathlib

import numpy as np

from rmtjax import files
from rmtjax.checkpoints.contents import Contents, Tensor, named_bits
from rmtjax.errors import InputError


def read(path: pathlib.Path) -> Contents:
    """Reads the array, under the name `matrix`."""
    with path.open("rb") as file:
        shape, dtype = files.npy_header(file)
        start = file.tell()
    if dtype.hasobject:
        raise InputError(
            f"{str(path)!r} holds Python objects, which could run any program, so it is not opened: "
            "save it as an array of numbers"
        )
    files.check_length("matrix", shape, dtype, path.stat().st_size - start)
    return Contents({"matrix": Tensor(shape, named_bits(dtype), functools.partial(_array, path))}, None)


def _array(path: pathlib.Path) -> np.ndarray:
    array = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    return array.view(named_bits(array.dtype))
