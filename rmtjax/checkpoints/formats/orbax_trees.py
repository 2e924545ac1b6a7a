"""Orbax checkpoints that other programs saved; each holds one pytree.

`_METADATA` lists the keys of every leaf; before it existed, the msgpack file `checkpoint` held the tree, with
`PLACEHOLDER://<name>` in place of an array. Both are read here, and the arrays with TensorStore (see
`steps`): Orbax prints tracebacks for damaged files, and knows only devices like those that saved.
"""

import contextlib
import functools
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from rmtjax.checkpoints import guard, steps
from rmtjax.checkpoints.contents import Contents, Tensor
from rmtjax.checkpoints.formats import msgpack_files
from rmtjax.errors import InputError

_METADATA, _BEFORE_METADATA = "_METADATA", "checkpoint"
_PLACEHOLDER = "PLACEHOLDER://"
_SEQUENCE = 1  # the type of a key that is a position in a list
_ARRAYS = ("jax.Array", "np.ndarray", "scalar")  # types of leaves; others are text and empty nodes


def is_tree(folder: pathlib.Path) -> bool:
    """Whether a folder holds a pytree itself."""
    return (folder / _METADATA).is_file() or _is_old(folder)


def read(folder: pathlib.Path) -> Contents:
    """Reads the names of all arrays, and shapes and dtypes from the metadata of each.

    Raises:
      InputError: a file is damaged, is no regular file, or claims more than it can hold.
    """
    for path in folder.rglob("*"):
        if not (path.is_file() or path.is_dir()):
            raise InputError(f"{str(path)!r} is neither a file nor a folder, so it is not opened")
    damaged = f"the Orbax checkpoint {str(folder)!r} is damaged"
    try:
        if _is_old(folder):
            zarr3, names, tensors = False, *_old_leaves(folder)
        else:
            metadata = json.loads((folder / _METADATA).read_text(encoding="utf-8"))
            zarr3, names, tensors = metadata.get("use_zarr3", False), _leaves(metadata["tree_metadata"]), {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{damaged}: its metadata cannot be read") from error
    stored = steps.Arrays(folder, zarr3)
    for name, key in names.items():
        if ".." in key.split("/"):
            raise InputError(f"{damaged}: it names {key!r}, which is outside of its folder")
        shape, dtype, chunk = _described(stored, name, key)
        if math.prod(chunk) > max(guard.HARMLESS, 2 * math.prod(shape)):
            raise InputError(f"{damaged}: {name!r} of shape {shape} is stored in chunks of {chunk}")
        tensors[name] = Tensor(shape, dtype, functools.partial(_array, stored, name, key))
    return Contents(tensors, "flax")


def _is_old(folder: pathlib.Path) -> bool:
    old = folder / _BEFORE_METADATA
    return old.is_file() and not (folder / _METADATA).is_file()


def _leaves(tree: dict[str, Any]) -> dict[str, str]:
    """The arrays in the order of the pytree: their names, and those under which they are stored."""
    found = {}
    for leaf in tree.values():
        if leaf["value_metadata"]["value_type"] in _ARRAYS:
            path = [(part["key"], part["key_type"] == _SEQUENCE) for part in leaf["key_metadata"]]
            found[tuple(int(key) if number else str(key) for key, number in path)] = path
    keys = [[str(key) for key, _ in found[place]] for place in sorted(found)]
    names = {"/".join(path): ".".join(path) for path in keys}
    if len(names) < len(keys):
        raise ValueError("two arrays have the same name")
    return names


def _old_leaves(folder: pathlib.Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The same in the layout before `_METADATA`, and the small arrays that its file holds itself."""
    tree = msgpack_files.tree(folder / _BEFORE_METADATA)
    texts = {"/".join(path): leaf for path, leaf in msgpack_files.leaves(tree) if isinstance(leaf, str)}
    names = {name: x.removeprefix(_PLACEHOLDER) for name, x in texts.items() if x.startswith(_PLACEHOLDER)}
    return names, msgpack_files.tensors(tree)


def _described(
    stored: steps.Arrays, name: str, key: str
) -> tuple[tuple[int, ...], np.dtype, tuple[int, ...]]:
    with _damage(stored):
        return stored.describe(name, key)


def _array(stored: steps.Arrays, name: str, key: str) -> np.ndarray:
    with _damage(stored):
        return stored.read(name, key)


@contextlib.contextmanager
def _damage(stored: steps.Arrays) -> Iterator[None]:
    try:
        yield
    except steps.DamagedError as error:
        raise InputError(f"the Orbax checkpoint {str(stored.folder)!r} is damaged: {error}") from error
