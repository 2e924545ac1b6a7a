"""CIFAR-10.1: a new test set for CIFAR-10 (Recht et al. 2018, 1806.00451), from its own files."""

import pathlib

import numpy as np

from rmtjax import files
from rmtjax.data.modalities import unit_floats
from rmtjax.data.sources import Source, from_arrays, resize
from rmtjax.data.tfds_sets import CIFAR10
from rmtjax.errors import InputError

_DATA, _LABELS = "_data.npy", "_labels.npy"


def parts(path: str, image_size: int) -> dict[str, Source]:
    """The set as its authors publish it, a "test" part with the classes of CIFAR-10.

    Args:
      path: path of `cifar10.1_v4_data.npy` or `cifar10.1_v6_data.npy` [n, 32, 32, 3] uint8, or of a folder
        with one of them; the labels [n] are beside it in `cifar10.1_v6_labels.npy`. Nothing is unpickled.
      image_size: images are resized to this side.

    Raises:
      InputError: a file is missing or of another kind, or a folder holds several versions.
    """
    name = f"cifar10_1:{path}"
    data = _data_file(name, pathlib.Path(path))
    labels = _read(name, data.with_name(data.name.removesuffix(_DATA) + _LABELS))
    source = from_arrays(name, _read(name, data), labels, CIFAR10)
    if source.shape[:2] != (image_size, image_size):
        source = from_arrays(name, resize(unit_floats(source.examples), image_size), labels, CIFAR10)
    return {"test": source}


def _data_file(name: str, path: pathlib.Path) -> pathlib.Path:
    found = sorted(path.glob("*" + _DATA)) if path.is_dir() else [path]
    if len(found) > 1:
        raise InputError(f"{name} has {', '.join(file.name for file in found)}: name one of them")
    if not found or not found[0].name.endswith(_DATA):
        raise InputError(
            f"{name}: the path must be of cifar10.1_v6_data.npy, or of its folder, with the labels beside it"
        )
    return found[0]


def _read(name: str, file: pathlib.Path) -> np.ndarray:
    try:
        arrays = files.read_arrays(file)
    except FileNotFoundError as error:
        raise InputError(
            f"{name}: {file} is not there; download it from github.com/modestyachts/CIFAR-10.1, folder "
            "datasets"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{name}: {file} cannot be read as an npy file of plain numbers ({error})"
        ) from error
    if "" not in arrays:
        raise InputError(f"{name}: {file} cannot be read as an npy file of plain numbers (it is an archive)")
    return arrays[""]
