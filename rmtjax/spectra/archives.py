"""Arrays in an npz file, under any names."""

import os
import zipfile
from collections.abc import Mapping

import numpy as np

from rmtjax.errors import printable

# `numpy.load` takes a name that ends so for the name of a member, and gives another array.
_ENDING, _ENDING_STORED = ".npy", "%2Enpy"
_LONGEST = 4000


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], compressed: bool = False) -> None:
    """Writes what `numpy.savez` writes, which takes names such as `file` for its own arguments.

    Names are stored as `stored_name` says.
    """
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{stored_name(name)}{_ENDING}", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def stored_name(name: str) -> str:
    r"""The name of an array in a file: without control characters, and not too long for an archive.

    >>> print(stored_name("a\x00b/kernel"), stored_name("a.npy"))
    a\x00b/kernel a%2Enpy
    """
    name = printable(name, _LONGEST)
    return name.removesuffix(_ENDING) + _ENDING_STORED if name.endswith(_ENDING) else name


def original_name(stored: str) -> str:
    """The name of which `stored_name` made a name, as far as it was printable."""
    ended = stored.endswith(_ENDING_STORED)
    return stored.removesuffix(_ENDING_STORED) + _ENDING if ended else stored
