"""numpy's `.npz`."""

import functools
import math
import pathlib
import zipfile
from typing import Any

import numpy as np

from rmtjax.checkpoints.contents import Contents, Tensor, named_bits
from rmtjax.errors import InputError

_FLOAT8 = "<f1"


def read(path: pathlib.Path) -> Contents:
    """Reads all arrays; an array of Python objects is an error, since reading it means unpickling."""
    tensors, refused = {}, {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                refused[name] = "no array: its name does not end in .npy"
                continue
            with archive.open(member) as file:
                try:
                    shape, dtype = header(file)
                except ValueError as error:
                    if _FLOAT8 not in str(error):
                        raise
                    refused[name] = "a kind of float8 that numpy writes but does not read: save it as float32"
                    continue
                start = file.tell()
            if dtype.hasobject:
                raise InputError(
                    f"{str(path)!r} holds {member.filename!r} as Python objects, which could run any "
                    "program, so it is not opened: save it as an array of numbers"
                )
            check_size(name, shape, dtype, member.file_size - start)
            if name in tensors:
                raise ValueError(f"two arrays are called {name!r}")
            tensors[name] = Tensor(shape, named_bits(dtype), functools.partial(_array, path, member.filename))
    return Contents(tensors, None, refused)


def header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and dtype of an array in numpy's format. Raises ValueError if a side is negative."""
    version = np.lib.format.read_magic(file)
    first = version == (1, 0)
    read_header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if min(shape, default=0) < 0:
        raise ValueError(f"its header claims the shape {shape}")
    return shape, dtype


def check_size(name: str, shape: tuple[int, ...], dtype: np.dtype, size: int) -> None:
    """Raises ValueError if an array is not of `size` bytes."""
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != size:
        raise ValueError(f"{name!r} of shape {shape} claims {claimed:,} bytes, and there are {size:,}")


def _array(path: pathlib.Path, member: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array.view(named_bits(array.dtype))
