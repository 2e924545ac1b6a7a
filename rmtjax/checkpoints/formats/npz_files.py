"""numpy's `.npz`."""

import functools
import pathlib
import zipfile

import numpy as np

from rmtjax import files
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
                    shape, dtype = files.npy_header(file)
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
            files.check_length(name, shape, dtype, member.file_size - start)
            if name in tensors:
                raise ValueError(f"two arrays are called {name!r}")
            tensors[name] = Tensor(shape, named_bits(dtype), functools.partial(_array, path, member.filename))
    return Contents(tensors, None, refused)


def _array(path: pathlib.Path, member: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array.view(named_bits(array.dtype))
