"""Orbax checkpoints that other programs saved; each holds one pytree."""

import functools
import pathlib

import numpy as np
import orbax.checkpoint as ocp

from rmtjax.checkpoints import (
    quiet,  # noqa: F401
    steps,
)
from rmtjax.checkpoints.contents import Contents, Tensor
from rmtjax.checkpoints.digests import named_leaves
from rmtjax.errors import InputError


def read(path: pathlib.Path) -> Contents:
    """Reads the structure with Orbax, and the arrays as in our own checkpoints."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        metadata = checkpointer.metadata(path).item_metadata
    if metadata is None:  # Orbax returns this if a file is missing or truncated
        raise InputError(f"the Orbax checkpoint {str(path)!r} is damaged: its metadata cannot be read")
    stored = steps.Arrays(path, metadata.use_zarr3)
    tensors = {
        name: Tensor(tuple(leaf.shape), np.dtype(leaf.dtype), functools.partial(_array, stored, name))
        for name, leaf in named_leaves(metadata.tree).items()
        if getattr(leaf, "shape", None) is not None and getattr(leaf, "dtype", None) is not None
    }
    return Contents(tensors, "flax")


def _array(stored: steps.Arrays, name: str) -> np.ndarray:
    try:
        return stored.read(name)
    except steps.DamagedError as error:
        raise InputError(f"the Orbax checkpoint {str(stored.folder)!r} is damaged: {error}") from error
