"""Orbax checkpoints as flat names: this project's own, and other people's nesting."""

import functools
import pathlib
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from rmtjax.checkpoints import (
    quiet,  # noqa: F401
    steps,
)
from rmtjax.checkpoints.digests import named_leaves
from rmtjax.checkpoints.formats import Tensor
from rmtjax.errors import InputError

SINGLE_FILES = (
    ".pt",
    ".pth",
    ".th",
    ".bin",
    ".ckpt",
    ".npz",
    ".keras",
)  # a folder of them is no one checkpoint
Found = dict[str, Tensor]


def tensors(path: pathlib.Path, step: int | None) -> Found:
    """Shape, dtype and reader of every array of a checkpoint, by name.

    Raises:
      InputError: not an Orbax checkpoint, damaged, or without that step.
    """
    if (path / steps.CHECKSUMS).is_file():
        try:
            return _own(path)
        except steps.DamagedError as error:
            raise InputError(f"the checkpoint {str(path)!r} is damaged: {error}") from error
    root = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    numbers = steps.committed(root)
    if numbers:
        if step is not None and step not in numbers:
            raise InputError(f"{str(path)!r} has no step {step}: it has {', '.join(map(str, numbers))}")
        return _newest(root, numbers if step is None else [step])
    if step is not None:
        raise InputError(f"step={step} is given, but {str(path)!r} holds no checkpoints by step")
    for folder in (path, *(path / name for name in ("state", "params", "default", "items", "model"))):
        if (folder / "_METADATA").is_file():
            return _foreign(folder)
    files = sorted(file.name for file in path.iterdir() if file.suffix.lower() in SINGLE_FILES)
    if files:
        raise InputError(
            f"{str(path)!r} is a folder of single files of weights: name one of {', '.join(files)}"
        )
    raise InputError(
        f"{str(path)!r} is not a run's folder, an Orbax checkpoint, or a folder with safetensors, torch or Keras weights"
    )


def _newest(root: pathlib.Path, numbers: list[int]) -> Found:
    problem = ""
    for number in reversed(numbers):
        try:
            return tensors(root / str(number), None)
        except InputError as error:
            problem = problem or str(error)
    raise InputError(f"{str(root)!r} holds no good checkpoint: {problem}")


def _own(path: pathlib.Path) -> Found:
    saved = steps.read_checksums(path)
    steps.check_files(path, saved.files)
    out: Found = {}
    for name, (dtype, shape, _) in saved.arrays.items():
        out[name] = Tensor(
            tuple(shape), np.dtype(dtype), functools.partial(_read, path / steps.STATE, name, False)
        )
    return out


def _foreign(path: pathlib.Path) -> Found:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        metadata = checkpointer.metadata(path).item_metadata
    if metadata is None:  # all that Orbax says of a file that is missing or truncated
        raise InputError(f"the Orbax checkpoint {str(path)!r} is damaged: its metadata cannot be read")
    out: Found = {}
    for name, leaf in named_leaves(metadata.tree).items():
        if getattr(leaf, "shape", None) is not None and getattr(leaf, "dtype", None) is not None:
            read = functools.partial(_read, path, name, metadata.use_zarr3)
            out[name] = Tensor(tuple(leaf.shape), np.dtype(leaf.dtype), read)
    return out


def _read(folder: pathlib.Path, name: str, zarr3: bool) -> np.ndarray:
    try:
        array: Any = steps.read_arrays(folder, [name], zarr3)[name]
    except steps.DamagedError as error:
        raise InputError(f"the Orbax checkpoint {str(folder)!r} is damaged: {error}") from error
    return np.asarray(array)
