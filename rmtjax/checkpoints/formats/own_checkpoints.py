"""One checkpoint of a run of this project, verified by its checksums."""

import functools
import pathlib

import numpy as np

from rmtjax.checkpoints import steps
from rmtjax.checkpoints.contents import Contents, Tensor
from rmtjax.checkpoints.digests import digest_tree
from rmtjax.errors import InputError


def read(path: pathlib.Path) -> Contents:
    """Reads the whole state: `params/head/kernel`, `model_state/...`, `opt_state/...` and so on.

    All files are verified here, each array when it is read.

    Raises:
      DamagedError: a file is missing, or is not what was saved.
    """
    saved = steps.read_checksums(path)
    steps.check_files(path, saved.files)
    stored = steps.Arrays(path / steps.STATE)
    tensors = {
        name: Tensor(shape, np.dtype(dtype), functools.partial(_verified, path, stored, saved, name))
        for name, (dtype, shape, _) in saved.arrays.items()
    }
    return Contents(tensors, "flax")


def _verified(path: pathlib.Path, stored: steps.Arrays, saved: steps.Checksums, name: str) -> np.ndarray:
    try:
        array = stored.read(name)
        steps.verify(saved.arrays, digest_tree({name: array}))
    except steps.DamagedError as error:
        raise InputError(f"the checkpoint {str(path)!r} is damaged: {error}") from error
    return array
