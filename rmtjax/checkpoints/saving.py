"""Writes parameters as a safetensors file, with text in its header."""

import os
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from rmtjax import files
from rmtjax.checkpoints.digests import named_leaves
from rmtjax.errors import InputError


def save_safetensors(
    path: str | os.PathLike[str], params: Any, metadata: dict[str, str], dtype: str = "float32"
) -> None:
    """Writes parameters under names such as "head/kernel"; the file is whole or absent.

    Args:
        path: the file to write or replace.
        params: a pytree of arrays.
        metadata: text stored in the file's header, for `read_metadata`.
        dtype: dtype in which floating-point arrays are stored ("float32", "float16", "bfloat16"); other
            arrays keep theirs.

    Raises:
        InputError: a finite value is too large for `dtype`.
    """
    target = np.dtype(getattr(ml_dtypes, dtype, dtype))
    tensors = {name: _stored(name, np.asarray(x), target) for name, x in named_leaves(params).items()}
    with files.atomic(path) as temporary, open(temporary, "wb") as file:
        file.write(safetensors.numpy.save(tensors, metadata=metadata))
        file.flush()
        os.fsync(file.fileno())


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text in the header of a safetensors file. Raises InputError if the file is not whole."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except FileNotFoundError as error:
        raise InputError(f"there is no file {os.fspath(path)!r}") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{os.fspath(path)!r} is not a whole safetensors file: {error}") from error


def _stored(name: str, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if not np.issubdtype(x.dtype, np.floating) and x.dtype != ml_dtypes.bfloat16:
        return np.asarray(x, order="C")
    with np.errstate(over="ignore"):  # checked below
        stored = x.astype(dtype)
    if np.isfinite(x).all() and not np.isfinite(stored).all():
        raise InputError(f"{name} has a value of {np.abs(x).max():.3g}, too large for {dtype}: use float32")
    return np.asarray(stored, order="C")  # safetensors ignores strides
