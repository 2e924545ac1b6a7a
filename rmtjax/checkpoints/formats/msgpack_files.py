"""The msgpack format of Flax, as `flax.serialization` writes it."""

import pathlib
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np

from rmtjax.checkpoints.contents import Contents, Tensor

_CHUNKED = "__msgpack_chunked_array__"


def read(path: pathlib.Path) -> Contents:
    return Contents(tensors(tree(path)), "flax")


def tree(path: pathlib.Path) -> Any:
    """Reads arrays (extension type 1) and numpy scalars (type 3) in nested dicts."""
    import msgpack

    def extension(code: int, data: bytes) -> Any:
        if code not in (1, 3):
            return complex(*msgpack.unpackb(data)) if code == 2 else None
        shape, name, raw = msgpack.unpackb(data, raw=True)
        name = name.decode()
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        return np.frombuffer(raw, dtype).reshape(shape)

    return msgpack.unpackb(path.read_bytes(), ext_hook=extension, raw=False, strict_map_key=False)


def tensors(node: Any) -> dict[str, Tensor]:
    """The arrays of a tree, with slashes in their names; large arrays are stored in chunks."""
    found: dict[str, Tensor] = {}
    for path, leaf in leaves(node):
        array = _joined(leaf) if isinstance(leaf, dict) else leaf
        if not isinstance(array, np.ndarray):
            continue
        name = "/".join(path)
        if name in found:
            raise ValueError(f"two arrays are called {name!r}")
        found[name] = _in_memory(array)
    return found


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What is in the dicts of a tree, with the keys that lead to it; an array in chunks is one leaf."""
    if isinstance(node, dict) and not node.get(_CHUNKED):
        for key, child in node.items():
            yield from leaves(child, (*path, str(key)))
    else:
        yield path, node


def _in_memory(array: np.ndarray) -> Tensor:
    return Tensor(array.shape, array.dtype, lambda: array)


def _joined(node: dict[str, Any]) -> np.ndarray:
    parts = [node["chunks"][str(i)] for i in range(len(node["chunks"]))]
    shape = [node["shape"][str(i)] for i in range(len(node["shape"]))]
    return np.concatenate(parts).reshape(shape)
