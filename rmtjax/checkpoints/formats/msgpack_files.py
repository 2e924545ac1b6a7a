"""The msgpack format of Flax, as `flax.serialization` writes it."""

import pathlib
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from rmtjax.checkpoints.contents import Contents, Tensor
from rmtjax.errors import InputError


def read(path: pathlib.Path) -> Contents:
    """Reads arrays (extension type 1) and numpy scalars (type 3); large arrays are stored in chunks."""
    import msgpack

    def extension(code: int, data: bytes) -> Any:
        if code not in (1, 3):
            return complex(*msgpack.unpackb(data)) if code == 2 else None
        shape, name, raw = msgpack.unpackb(data, raw=True)
        name = name.decode()
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        return np.frombuffer(raw, dtype).reshape(shape)

    try:
        tree = msgpack.unpackb(path.read_bytes(), ext_hook=extension, raw=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise InputError(f"{str(path)!r} is not a whole msgpack file: {error}") from error
    return Contents({name: _in_memory(array) for name, array in _flat(tree, "")}, "flax")


def _in_memory(array: np.ndarray) -> Tensor:
    return Tensor(array.shape, array.dtype, lambda: array)


def _flat(node: Any, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a tree, with slashes in their names; chunks of one array are joined."""
    if isinstance(node, dict) and node.get("__msgpack_chunked_array__"):
        parts = [node["chunks"][str(i)] for i in range(len(node["chunks"]))]
        shape = [node["shape"][str(i)] for i in range(len(node["shape"]))]
        yield prefix, np.concatenate(parts).reshape(shape)
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from _flat(child, f"{prefix}/{key}" if prefix else str(key))
    elif isinstance(node, np.ndarray):
        yield prefix, node
