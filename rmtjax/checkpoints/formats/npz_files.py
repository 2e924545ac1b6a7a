"""numpy's `.npz`."""

import functools
import pathlib
import zipfile
from typing import Any

import numpy as np

from rmtjax.checkpoints.contents import Contents, Tensor, named_bits
from rmtjax.errors import InputError


def read(path: pathlib.Path) -> Contents:
    """Reads all arrays; an array of Python objects is an error, since reading it means unpickling."""
    tensors = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    shape, dtype = _header(file)
                if dtype.hasobject:
                    raise InputError(
                        f"{str(path)!r} holds {member!r} as Python objects, which could run any program, "
                        "so it is not opened: save it as an array of numbers"
                    )
                name = member.removesuffix(".npy")
                tensors[name] = Tensor(shape, named_bits(dtype), functools.partial(_array, path, name))
    except InputError:
        raise
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise InputError(f"{str(path)!r} is not a whole npz file: {error}") from error
    return Contents(tensors, None)


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and dtype of an array in numpy's format."""
    version = np.lib.format.read_magic(file)
    first = version == (1, 0)
    read_header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    return shape, dtype


def _array(path: pathlib.Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as file:
        array = file[name]
    return array.view(named_bits(array.dtype))
