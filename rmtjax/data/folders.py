"""A folder of images by class."""

import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image

from rmtjax.data.modalities import unit_tensor
from rmtjax.data.sources import Source, resize_tensor
from rmtjax.errors import InputError

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")
_PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_GREY = ("1", "L", "LA", "I;16")


def parts(path: str, image_size: int) -> dict[str, Source]:
    """The sources in a folder: "all", or "train" and, if they exist, "validation" and "test".

    Args:
      path: a folder whose sub-folders are classes, or are train/, val/ (or validation/) and test/ with the
        classes inside. Images are PNG, JPEG or BMP; other files are ignored. If not all images are grey, all
        become colour.
      image_size: images are resized to this side.

    Raises:
      InputError: there is no such folder, it has no classes, a class has no images, or the header of an image
        is damaged. (Damage in the rest of an image is found when it is decoded; for sets below 1 GiB that is
        also before training.)
    """
    root = pathlib.Path(path)
    if not root.is_dir():
        raise InputError(f"folder:{path}: there is no such folder")
    divided = {_PARTS[sub.name]: sub for sub in _subfolders(root) if sub.name in _PARTS}
    if divided and "train" not in divided:
        raise InputError(
            f"folder:{path} has {'/, '.join(divided)}/ but no train/: add it, or put the classes at the top"
        )
    divided = divided or {"all": root}
    classes = [sub.name for sub in _subfolders(divided.get("train", root))]
    if not classes:
        raise InputError(
            f"folder:{path} has no sub-folders: put the images of each class into one of its own"
        )
    files = {part: _files(folder, classes) for part, folder in divided.items()}
    grey = all(_is_grey(file) for found in files.values() for file, _ in found)
    return {
        part: _source(f"folder:{path}", found, classes, 1 if grey else 3, image_size)
        for part, found in files.items()
    }


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))


def _files(folder: pathlib.Path, classes: list[str]) -> list[tuple[str, int]]:
    found = []
    for sub in _subfolders(folder):
        if sub.name not in classes:
            raise InputError(f"{sub}: train/ has no class {sub.name!r}: add it there or remove it here")
        images = sorted(str(file) for file in sub.rglob("*") if file.suffix.lower() in _ENDINGS)
        if not images:
            raise InputError(f"{sub} has no images ({', '.join(_ENDINGS)}): add some or remove it")
        found += [(image, classes.index(sub.name)) for image in images]
    if not found:
        raise InputError(f"{folder} has no sub-folders: put the images of each class into one of its own")
    return found


def _is_grey(file: str) -> bool:
    try:
        with Image.open(file) as image:
            mode = image.mode
            image.verify()
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise InputError(f"{file} cannot be read as an image: remove it or put it right") from error
    return mode in _GREY


def _source(
    name: str, files: list[tuple[str, int]], classes: list[str], channels: int, image_size: int
) -> Source:
    paths, labels = zip(*files, strict=True)
    lookup = tf.constant(paths)

    def decode(i: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(tf.io.read_file(lookup[i]), channels=channels, expand_animations=False)
        return resize_tensor(unit_tensor(image), image_size)

    return Source(
        name=name,
        labels=np.array(labels, np.int32),
        classes=tuple(classes),
        shape=(image_size, image_size, channels),
        origin=np.zeros(len(labels), np.int8),
        decode=decode,
        describe=lambda i: paths[i],
    )
