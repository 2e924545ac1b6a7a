"""A folder of images by class."""

import pathlib
from collections import Counter

import numpy as np
import tensorflow as tf
from absl import logging
from PIL import Image

from rmtjax.data.modalities import unit_tensor
from rmtjax.data.sources import Source, resize_tensor
from rmtjax.errors import InputError

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")
_PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_PARTS |= dict.fromkeys(("val", "valid", "validation", "dev"), "validation")
_OTHER_IMAGES = (".webp", ".gif", ".tif", ".tiff", ".heic", ".avif", ".jp2", ".ppm", ".pgm")
_GREY = ("1", "L", "LA", "I;16")


def parts(path: str, image_size: int) -> dict[str, Source]:
    """The sources in a folder: "all", or "train" and, if they exist, "validation" and "test".

    Args:
      path: a folder whose sub-folders are classes, or are train/, val/ (valid/, validation/, dev/) and test/
        with the classes inside, in capitals or not. Images are PNG, JPEG or BMP. Hidden files and folders are
        passed over, and so are files of other kinds, which a warning counts. If not all images are grey, all
        become colour.
      image_size: images are resized to this side.

    Raises:
      InputError: there is no such folder, it has no classes, two of its folders are one part, a class has
        no images, or the header of an image is damaged. (Damage in the rest of an image is found when it is
        decoded; for sets below 1 GiB that is also before training.)
    """
    root = pathlib.Path(path)
    if not root.is_dir():
        raise InputError(f"folder:{path}: there is no such folder")
    divided: dict[str, pathlib.Path] = {}
    for sub in _subfolders(root):
        part = _PARTS.get(sub.name.lower())
        if part in divided:
            raise InputError(f"folder:{path} has {divided[part].name}/ and {sub.name}/: keep one of them")
        if part is not None:
            divided[part] = sub
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
    _say_what_is_passed_over(root)
    files = {part: _files(folder, classes) for part, folder in divided.items()}
    grey = all(_is_grey(file) for found in files.values() for file, _ in found)
    return {
        part: _source(f"folder:{path}", found, classes, 1 if grey else 3, image_size)
        for part, found in files.items()
    }


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not _is_hidden(sub, folder))


def _is_hidden(path: pathlib.Path, root: pathlib.Path) -> bool:
    """Whether a file is hidden or in a hidden folder, as `._a.png` and `__MACOSX/` of archives made on a Mac
    and `.ipynb_checkpoints/` are.
    """
    parts = path.relative_to(root).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _say_what_is_passed_over(root: pathlib.Path) -> None:
    others = [file for file in root.rglob("*") if file.suffix.lower() in _OTHER_IMAGES]
    kinds = Counter(file.suffix.lower() for file in others if not _is_hidden(file, root))
    if kinds:
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        logging.warning(
            "folder:%s: %d images are passed over (%s): convert them to PNG to use them",
            root, kinds.total(), counts,
        )  # fmt: skip


def _files(folder: pathlib.Path, classes: list[str]) -> list[tuple[str, int]]:
    found = []
    for sub in _subfolders(folder):
        if sub.name not in classes:
            raise InputError(f"{sub}: train/ has no class {sub.name!r}: add it there or remove it here")
        found_here = (file for file in sub.rglob("*") if file.suffix.lower() in _ENDINGS)
        images = sorted(str(file) for file in found_here if not _is_hidden(file, sub))
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
