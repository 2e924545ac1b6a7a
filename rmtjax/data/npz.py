"""Images and labels in an npz file."""

import dataclasses
import zipfile

import numpy as np

from rmtjax.data.modalities import unit_floats
from rmtjax.data.sources import Source, from_arrays, resize
from rmtjax.errors import InputError

_PARTS = {"": "all", "_train": "train", "_validation": "validation", "_test": "test"}


def parts(path: str, image_size: int) -> dict[str, Source]:
    """The sources in an npz file: "all", or "train" and, if they exist, "validation" and "test".

    Args:
      path: path of a file with `image` or `images` [n, h, w] or [n, h, w, c], uint8 or floats in [0, 1], and
        `label` or `labels` [n], integers from 0. Names may end in `_train`, `_validation`, `_test`.
        `classes`, if there, names the classes. Nothing is unpickled.
      image_size: images are resized to this side.

    Raises:
      InputError: the file is missing or damaged, or a key, a shape or a type is wrong.
    """
    arrays = _read(path)
    pairs = {
        part: pair for ending, part in _PARTS.items() if (pair := _pair(path, arrays, ending)) is not None
    }
    if not {"all", "train"} & pairs.keys():
        raise InputError(
            f"npz:{path} has the arrays {', '.join(arrays) or '(none)'}: it must have image and label, or "
            "image_train and "
            f"label_train"
        )
    if "all" in pairs and len(pairs) > 1:
        raise InputError(
            f"npz:{path} has both undivided arrays and {', '.join(list(pairs)[1:])}: keep one or the other"
        )
    most = max(int(label.max(initial=0)) for _, label in pairs.values())
    classes = [str(name) for name in arrays.get("classes", range(most + 1))]  # from_arrays judges the labels
    sources = {part: _source(f"npz:{path}", *pair, classes, image_size) for part, pair in pairs.items()}
    if len({source.shape for source in sources.values()}) > 1:
        raise InputError(f"npz:{path}: its parts differ in the number of channels: make them alike")
    return sources


def _read(path: str) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except FileNotFoundError as error:
        raise InputError(f"npz:{path}: there is no such file") from error
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"npz:{path} cannot be read as an npz file of plain arrays: save it with numpy.savez ({error})"
        ) from error


def _pair(path: str, arrays: dict[str, np.ndarray], ending: str) -> tuple[np.ndarray, np.ndarray] | None:
    images = [key for key in (f"image{ending}", f"images{ending}") if key in arrays]
    labels = [key for key in (f"label{ending}", f"labels{ending}") if key in arrays]
    if len(images) != len(labels) or len(images) > 1:
        raise InputError(
            f"npz:{path} has {', '.join(images + labels)}: one array of images and one of labels are wanted"
        )
    return (arrays[images[0]], arrays[labels[0]]) if images else None


def _source(name: str, images: np.ndarray, labels: np.ndarray, classes: list[str], image_size: int) -> Source:
    images = images[..., None] if images.ndim == 3 else images
    source = from_arrays(name, images, labels, classes)
    if source.shape[:2] == (image_size, image_size):
        return source
    resized = from_arrays(name, resize(unit_floats(source.examples), image_size), labels, classes)
    smaller = max(source.shape[:2]) < image_size
    return dataclasses.replace(resized, stored=source if smaller else None)
