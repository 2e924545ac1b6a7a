"""Files that are either whole or absent, and where a name in a config says they are."""

import contextlib
import importlib.util
import json
import math
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rmtjax.errors import InputError

if TYPE_CHECKING:
    import numpy as np

# An archive that unpacks to more than this, and to more than a hundred times its size, is a bomb.
_HARMLESS = 2**30


def located(name: str) -> pathlib.Path:
    """The path that a name in a config means.

    Args:
      name: `data:PATH` is below the folder that RMTJAX_DATA names, `package:NAME/PATH` is inside an installed
        Python package (which is not imported); anything else is a path.

    Raises:
      InputError: RMTJAX_DATA is not set, no such package, or nothing is there.
    """
    kind, separator, rest = name.partition(":")
    if not separator or kind not in ("data", "package"):
        return pathlib.Path(name)
    if kind == "data":
        root = os.environ.get("RMTJAX_DATA")
        if not root:
            raise InputError(
                f"{name!r} is below the folder that the environment variable RMTJAX_DATA names, "
                "and it is not set: "
                "set it, and put the file there from where the config's docstring says it comes"
            )
        path, mend = pathlib.Path(root, rest), "put it there from where the config's docstring says it comes"
    else:
        package, _, inside = rest.partition("/")
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        folders = list(spec.submodule_search_locations or []) if spec else []
        if not folders:
            raise InputError(
                f"{name!r} is inside the Python package {package!r}, which is not installed: install it"
            )
        path, mend = pathlib.Path(folders[0], inside), f"install a version of {package} that has it"
    if not path.exists():
        raise InputError(f"{name!r} is not there: {str(path)!r} does not exist; {mend}")
    return path


def read_arrays(path: str | os.PathLike[str]) -> "dict[str, np.ndarray]":
    """All arrays of an npz file, or that of an npy file under the name "". Nothing is unpickled.

    The sizes that headers claim are compared with those of the file before memory is taken.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: what is there is no whole file of plain arrays.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(path)
    if not os.path.isfile(path):
        raise ValueError("it is no file")
    size = os.path.getsize(path)
    try:
        if not zipfile.is_zipfile(path):
            with open(path, "rb") as file:
                return {"": _array(file, size)}
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            unpacked = sum(member.file_size for member in members)
            if unpacked > max(_HARMLESS, 100 * size):
                raise ValueError(f"its {size:,} bytes unpack to {unpacked:,}: save it without compression")
            found = {}
            for member in members:
                with archive.open(member) as file:
                    found[member.filename.removesuffix(".npy")] = _array(file, member.file_size)
            return found
    except Exception as error:  # those of damaged archives and headers are of many kinds
        raise ValueError(str(error).split("\n")[0] or type(error).__name__) from error


def _array(file: Any, size: int) -> "np.ndarray":
    """The array in an npy file of `size` bytes."""
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(file)
    claimed = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and claimed != size - file.tell():
        raise ValueError(f"an array of shape {shape} claims {claimed:,} bytes, not {size - file.tell():,}")
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path in the same folder (same ending), renamed to `path` if the block succeeds."""
    target = pathlib.Path(path)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """JSON with non-finite numbers as null, which every reader takes."""
    write_text(path, json.dumps(_finite(content), indent=2) + "\n")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not abs(content) < float("inf"):
        return None
    return content
