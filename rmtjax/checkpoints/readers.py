"""Weights from disk, whatever wrote them, as a nested dict of numpy arrays."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from rmtjax.checkpoints import (
    quiet,  # noqa: F401
    steps,
)
from rmtjax.checkpoints.digests import named_leaves
from rmtjax.checkpoints.safetensors_files import read_safetensors
from rmtjax.errors import InputError


def load_params(path: str | os.PathLike[str], say: Callable[[str], None] = logging.warning) -> dict[str, Any]:
    """Reads a model's parameters into host memory; nothing on disk is changed.

    Args:
        path: one of
            a run directory (its newest good checkpoint; damaged ones are passed over),
            one checkpoint of a run, `<workdir>/checkpoints/<step>`,
            an Orbax checkpoint of parameters, or of a state with `params` inside,
            a `.safetensors` file, with names such as "head/kernel" or "head.kernel".
        say: gets one sentence for every damaged checkpoint that was passed over.

    Returns:
        A nested dict of numpy arrays; float16 and bfloat16 come as float32, others as stored.

    Raises:
        InputError: nothing there, not one of these, or damaged.
    """
    path = pathlib.Path(os.path.abspath(path))
    if not path.exists():
        raise InputError(f"there are no weights at {str(path)!r}: no such file or directory")
    if path.is_file():
        if path.suffix != ".safetensors":
            raise InputError(
                f"{str(path)!r} is not a run directory, an Orbax checkpoint or a .safetensors file"
            )
        return _widened(nested(read_safetensors(path), path))
    return _widened(_load_directory(path, say, "params"))


def load_model_state(
    path: str | os.PathLike[str], say: Callable[[str], None] = logging.warning
) -> dict[str, Any]:
    """Reads what a model keeps beside its parameters (batch statistics) from a run or one of its checkpoints.

    Args and errors: as `load_params`. Files of other kinds hold parameters alone: {}.
    """
    return _load_directory(pathlib.Path(os.path.abspath(path)), say, "model_state") if is_own(path) else {}


def is_own(path: str | os.PathLike[str]) -> bool:
    """Is it a run's folder or one of its checkpoints, with model state beside the parameters?"""
    path = pathlib.Path(path)
    return (path / steps.CHECKSUMS).is_file() or (path / "checkpoints").is_dir()


def nested(flat: dict[str, Any], source: pathlib.Path) -> dict[str, Any]:
    """Nests names by "/", or by "." if no name has a "/"."""
    separator = "/" if any("/" in name for name in flat) else "."
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, last = name.split(separator)
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                raise InputError(f"{str(source)!r} names both {folder!r} and {name!r}: they cannot be nested")
        if last in node:
            raise InputError(
                f"{str(source)!r} names both {name!r} and something inside it: they cannot be nested"
            )
        node[last] = value
    return tree


def _load_directory(path: pathlib.Path, say: Callable[[str], None], item: str) -> dict[str, Any]:
    if (path / steps.CHECKSUMS).is_file():
        try:
            return _load_step(path, item)
        except steps.DamagedError as error:
            raise InputError(f"the checkpoint {str(path)!r} is damaged: {error}") from error
    if (path / "checkpoints").is_dir():
        return _load_newest(path / "checkpoints", say, item)
    for folder in (path, path / "state", path / "params", path / "default"):
        if (folder / "_METADATA").is_file():
            return _load_foreign(folder)
    raise InputError(f"{str(path)!r} is not a run directory, an Orbax checkpoint or a .safetensors file")


def _load_newest(root: pathlib.Path, say: Callable[[str], None], item: str) -> dict[str, Any]:
    for step in reversed(steps.committed(root)):
        try:
            return _load_step(root / str(step), item)
        except steps.DamagedError as error:
            say(f"checkpoint {step} in {str(root)!r} is damaged ({error}): the one before it is read")
    raise InputError(f"{str(root)!r} holds no good checkpoint")


def _load_step(path: pathlib.Path, item: str) -> dict[str, Any]:
    arrays = steps.read_verified(path, lambda name: name.startswith(f"{item}/"))
    return nested({name.removeprefix(f"{item}/"): x for name, x in arrays.items()}, path)


def _load_foreign(path: pathlib.Path) -> dict[str, Any]:
    """Reads an Orbax pytree that another program saved: its structure by Orbax, its arrays as our own."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        metadata = checkpointer.metadata(path).item_metadata
    if metadata is None:  # all that Orbax says of a file that is missing or truncated
        raise InputError(f"the Orbax checkpoint {str(path)!r} is damaged: its metadata cannot be read")
    tree, prefix = metadata.tree, ""
    while isinstance(tree, dict) and "params" in tree:
        tree, prefix = tree["params"], f"{prefix}params/"
    names = [name for name, leaf in named_leaves(tree).items() if getattr(leaf, "shape", None) is not None]
    try:
        arrays = steps.read_arrays(path, [prefix + name for name in names], metadata.use_zarr3)
    except steps.DamagedError as error:
        raise InputError(f"the Orbax checkpoint {str(path)!r} is damaged: {error}") from error
    return nested({name: arrays[prefix + name] for name in names}, path)


def _widened(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _widened(child) for name, child in tree.items()}
    narrow = tree.dtype in (np.float16, ml_dtypes.bfloat16)
    return tree.astype(np.float32) if narrow else tree
