"""Images and labels in an npz file."""

import dataclasses
import re

import numpy as np
from absl import logging

from rmtjax import files
from rmtjax.data.modalities import unit_floats
from rmtjax.data.part_names import part_of
from rmtjax.data.sources import Source, from_arrays, resize
from rmtjax.errors import InputError

_ARRAY = re.compile(r"(image|label)s?(?:_(.+))?")
MOST_CLASSES = 100_000  # of label numbers without names; more than any set of images has


def parts(path: str, image_size: int) -> dict[str, Source]:
    """The sources in an npz file: "all", or "train" and, if they exist, "validation" and "test".

    Args:
      path: path of a file with `image` or `images` [n, h, w] or [n, h, w, c], uint8 or floats in [0, 1], and
        `label` or `labels` [n], integers from 0. Names may end in `_train`, `_validation`, `_test`, or in
        another usual name of a part (`part_names.part_of`). `classes` [k], if there, names the classes;
        without it labels are below 100,000. Nothing is unpickled. Other arrays are passed over; a warning
        names them.
      image_size: images are resized to this side.

    Raises:
      InputError: the file is missing or damaged, or a key, a shape or a type is wrong.
    """
    arrays = _read(path)
    pairs = _pairs(path, arrays)
    if not {"all", "train"} & pairs.keys():
        raise InputError(
            f"npz:{path} has the arrays {', '.join(arrays) or '(none)'}: it must have image and label, or "
            "image_train and label_train"
        )
    if "all" in pairs and len(pairs) > 1:
        others = ", ".join(part for part in pairs if part != "all")
        raise InputError(f"npz:{path} has both undivided arrays and {others}: keep one or the other")
    classes = _classes(path, arrays.get("classes"), [label for _, label in pairs.values()])
    sources = {part: _source(f"npz:{path}", *pair, classes, image_size) for part, pair in pairs.items()}
    if len({source.shape for source in sources.values()}) > 1:
        raise InputError(f"npz:{path}: its parts differ in the number of channels: make them alike")
    return sources


def _read(path: str) -> dict[str, np.ndarray]:
    try:
        arrays = files.read_arrays(path)
    except FileNotFoundError as error:
        raise InputError(f"npz:{path}: there is no such file") from error
    except ValueError as error:
        raise InputError(
            f"npz:{path} cannot be read as an npz file of plain arrays: save it with numpy.savez ({error})"
        ) from error
    if "" in arrays:
        raise InputError(f"npz:{path} cannot be read as an npz file of plain arrays: it is a single array")
    return arrays


def _pairs(path: str, arrays: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels of each part."""
    found: dict[str, dict[str, list[str]]] = {}
    others = []
    for key in arrays:
        match = _ARRAY.fullmatch(key)
        part = part_of(match[2]) if match and match[2] else "all"
        if match and part:
            found.setdefault(part, {"image": [], "label": []})[match[1]].append(key)
        elif key != "classes":
            others.append(key)
    pairs = {}
    for part in sorted(found, key=["all", "train", "validation", "test"].index):
        images, labels = found[part].values()
        if len(images) != 1 or len(labels) != 1:
            raise InputError(
                f"npz:{path} has {', '.join(images + labels)}: one array of images and one of labels are "
                "wanted"
            )
        pairs[part] = arrays[images[0]], arrays[labels[0]]
    if pairs and others:
        logging.warning("npz:%s: other arrays are passed over (%s)", path, ", ".join(others))
    return pairs


def _classes(path: str, named: np.ndarray | None, labels: list[np.ndarray]) -> list[str]:
    """The names of the classes; `from_arrays` judges the labels."""
    if named is not None:
        if named.ndim != 1:
            raise InputError(f"npz:{path}: classes have shape {list(named.shape)}: give a name for each, [k]")
        return [str(name) for name in named]
    whole = [label for label in labels if np.issubdtype(label.dtype, np.integer)]
    most = max((int(label.max(initial=0)) for label in whole), default=0)
    if most >= MOST_CLASSES:
        raise InputError(
            f"npz:{path} has the label {most}: labels are numbers of classes and must be below "
            f"{MOST_CLASSES:,}, so number the classes from 0, or name them in `classes`"
        )
    return [str(number) for number in range(most + 1)]


def _source(name: str, images: np.ndarray, labels: np.ndarray, classes: list[str], image_size: int) -> Source:
    images = images[..., None] if images.ndim == 3 else images
    source = from_arrays(name, images, labels, classes)
    if source.shape[:2] == (image_size, image_size):
        return source
    resized = from_arrays(name, resize(unit_floats(source.examples), image_size), labels, classes)
    smaller = max(source.shape[:2]) < image_size
    return dataclasses.replace(resized, stored=source if smaller else None)
