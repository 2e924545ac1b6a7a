"""Files of torch: a state dict, alone or inside the checkpoint of a training run."""

import functools
import pathlib
import pickle
import warnings
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

from rmtjax.checkpoints import guard, weights_inside
from rmtjax.checkpoints.contents import Contents, Tensor
from rmtjax.errors import InputError


def read(path: pathlib.Path) -> Contents:
    """Unpickles only tensors (`weights_only`); anything else in the file is an error."""
    with guard.optional(path, "a torch file", "torch", "formats"):
        import torch  # noqa: F401
    return of_loaded(_loaded(path))


def of_loaded(loaded: Any) -> Contents:
    """The weights of a state dict, or of the nested dict that `torch.load` returns. Nothing is copied."""
    import torch

    flat, refused = weights_inside.of_torch(loaded, (torch.Tensor, np.ndarray))
    tensors = {}
    for name, tensor in flat.items():
        if isinstance(tensor, np.ndarray):
            tensors[name] = Tensor(tensor.shape, tensor.dtype, functools.partial(np.asarray, tensor))
            continue
        if tensor.is_meta:
            refused[name] = "stored without its numbers (device meta)"
            continue
        stored = str(tensor.dtype).removeprefix("torch.")
        dtype = getattr(ml_dtypes, stored, None) or getattr(np, {"bool": "bool_"}.get(stored, stored), None)
        if tensor.is_quantized or tensor.layout != torch.strided or dtype is None:
            if tensor.layout != torch.strided:
                stored = str(tensor.layout).removeprefix("torch.")
            refused[name] = f"stored as {stored}, which is not read"
            continue
        as_numpy = functools.partial(_as_numpy, tensor, np.dtype(dtype))
        tensors[name] = Tensor(tuple(tensor.shape), np.dtype(dtype), as_numpy, _storage(tensor))
    return Contents(tensors, "torch", refused)


def _numbers_of_numpy() -> list[Any]:
    """What builds scalars and arrays of numpy, under the names of numpy 1 and 2. None of it runs code."""
    numpy = np._core.multiarray
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    builders = [
        (getattr(numpy, name), f"{module}.{name}")
        for module in modules
        for name in ("scalar", "_reconstruct")
    ]
    kinds = {type(np.dtype(char)) for char in "?bBhHiIlLqQefdgFDG"}
    return [*builders, np.ndarray, np.dtype, *kinds]


def _loaded(path: pathlib.Path) -> Any:
    import torch

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                guard.check_expansion(member.filename, member.file_size, member.compress_size)
    for mmap in (True, False):  # the old format cannot be mapped
        try:
            with torch.serialization.safe_globals(_numbers_of_numpy()), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about kinds of tensors that are refused below
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{str(path)!r} holds more than tensors, or is not a torch file. It is not opened, since "
                "unpickling could run any program: save its state_dict"
            ) from error
        except Exception as error:  # torch raises many kinds for truncated files and other formats
            if not mmap:
                raise InputError(
                    f"{str(path)!r} is not a whole torch file: it is truncated, or not of the kind that "
                    "its name says"
                ) from error
    return None


def _storage(tensor: Any) -> tuple[Any, ...]:
    """What a tensor and its transpose share, and no other part of their storage has."""
    axes = sorted(zip(tensor.shape, tensor.stride(), strict=True))
    return (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.dtype, *axes)


def _as_numpy(tensor: Any, dtype: np.dtype) -> np.ndarray:
    import torch

    tensor = tensor.detach().cpu().resolve_neg().resolve_conj().contiguous()
    if dtype.kind == "V" or hasattr(ml_dtypes, dtype.name):  # numpy has no such dtype: pass the bits
        size = {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
        return tensor.view(size).numpy().view(dtype)
    return tensor.numpy()
