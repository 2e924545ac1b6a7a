"""A folder of images by class, with the pixels that Pillow reads."""

import os
import pathlib
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging
from PIL import ExifTags, Image, ImageOps

from rmtjax.data.modalities import unit_tensor
from rmtjax.data.part_names import look_like_parts, part_of
from rmtjax.data.sources import Source, resize_tensor
from rmtjax.errors import InputError

_ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff",
            ".ppm", ".pgm", ".pbm")  # fmt: skip
# No others, whatever the ending says: Pillow would start Ghostscript for an EPS file.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "GIF", "TIFF", "PPM")
_GREY = ("1", "L", "LA", "La")


class _Facts(NamedTuple):
    """What the header of an image says."""

    grey: bool
    moving: bool  # it has several pictures, of which the first is read


def parts(path: str, image_size: int) -> dict[str, Source]:
    """The sources in a folder: "all", or "train" and, if they exist, "validation" and "test".

    Images are PNG, JPEG, BMP, WebP, GIF, TIFF, PPM or PGM, whatever their ending says. They have the pixels
    that Pillow shows: turned as EXIF says, palettes looked up, CMYK converted, transparency left out, and of
    several pictures the first. Of 16 bits the upper 8 are kept, as Pillow does for colour (for grey its
    `convert` would make white of all above 255). If not all images are grey, all become colour.

    Hidden files and folders are passed over, and so are files of other kinds; a warning counts them.

    Args:
      path: a folder whose sub-folders are classes, or are train/, val/ and test/ with the classes inside.
        These three may have other usual names (`part_names.part_of`).
      image_size: images are resized to this side.

    Raises:
      InputError: there is no such folder, it has no classes, two of its folders are one part, parts or
        classes stand where they cannot be meant, a class has no images, or an image is too large, holds
        numbers without a white, or has a damaged header. (Damage in the rest of an image is found when it is
        decoded; for sets below 1 GiB that is also before training.)
    """
    root = pathlib.Path(path)
    if not root.is_dir():
        raise InputError(f"folder:{path}: there is no such folder")
    divided = _parts_of(root)
    classes = [sub.name for sub in _subfolders(divided.get("train", root))]
    if not classes:
        raise InputError(
            f"folder:{path} has no sub-folders: put the images of each class into one of its own"
        )
    for folder in divided.values():
        _check_levels(folder, whole=folder == root)
    files = {part: _files(folder, classes) for part, folder in divided.items()}
    _say_what_is_passed_over(root, {file for found in files.values() for file, _ in found})
    facts = [_facts(file) for found in files.values() for file, _ in found]
    if moving := sum(image.moving for image in facts):
        logging.warning("folder:%s: of %d images with several pictures the first is read", root, moving)
    channels = 1 if all(image.grey for image in facts) else 3
    return {
        part: _source(f"folder:{path}", found, classes, channels, image_size) for part, found in files.items()
    }


def _parts_of(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """The folders of the parts, or the folder itself as "all"."""
    divided: dict[str, pathlib.Path] = {}
    others = []
    for sub in _subfolders(root):
        part = part_of(sub.name)
        if part in divided:
            raise InputError(f"folder:{root} has {divided[part].name}/ and {sub.name}/: keep one of them")
        if part is None:
            others.append(sub.name)
        else:
            divided[part] = sub
    if divided and "train" not in divided:
        names = "/, ".join(folder.name for folder in divided.values())
        raise InputError(
            f"folder:{root} has {names}/ but no train/: add it, or rename what is a class and no part"
        )
    if not divided and look_like_parts(others):
        raise InputError(
            f"folder:{root} has {'/, '.join(others)}/, which look like parts and not like classes: name them "
            "train/, val/ and test/"
        )
    return divided or {"all": root}


def _check_levels(folder: pathlib.Path, *, whole: bool) -> None:
    """Refuses a folder with the classes or the parts a level too deep, where all would be taken for one.

    Args:
      whole: the folder is a whole set and not a part of it.
    """
    classes = _subfolders(folder)
    for one in classes:
        inside = _subfolders(one)
        if any(part_of(sub.name) == "train" for sub in inside):
            names = "/, ".join(sub.name for sub in inside)
            mend = f"name folder:{one}" if whole and len(classes) == 1 else "put them above the classes"
            raise InputError(f"{one} has {names}/ inside: if these are the parts of the set, {mend}")
        direct = any(file.suffix.lower() in _ENDINGS for file in one.iterdir() if file.is_file())
        if len(classes) == 1 and len(inside) > 1 and not direct:
            names = ", ".join(sub.name for sub in inside[:3])
            mend = f"name folder:{one}" if whole else f"put them into {folder.name}/"
            raise InputError(
                f"{folder} has one class, {one.name!r}, with folders of its own ({names}): if these are the "
                f"classes, {mend}"
            )


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not _is_hidden(sub.name))


def _is_hidden(name: str) -> bool:
    """As `._a.png` and `__MACOSX/` of archives made on a Mac and `.ipynb_checkpoints/` are."""
    return name.startswith(".") or name == "__MACOSX"


def _walk(folder: pathlib.Path) -> Iterator[tuple[str, bool]]:
    """All files below a folder, in order, and whether they are hidden."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        hidden = any(map(_is_hidden, pathlib.Path(place).relative_to(folder).parts))
        for name in sorted(names):
            yield os.path.join(place, name), hidden or _is_hidden(name)


def _is_image(file: str) -> bool:
    """Judged by its ending. A pipe or a link that leads nowhere is none."""
    return file.lower().endswith(_ENDINGS) and os.path.isfile(file)


def _say_what_is_passed_over(root: pathlib.Path, used: set[str]) -> None:
    kinds: Counter[str] = Counter()
    for file, hidden in _walk(root):
        if not hidden and file not in used:
            kinds[pathlib.Path(file).suffix.lower() or "without ending"] += 1
        elif hidden and file.lower().endswith(_ENDINGS):
            kinds["hidden"] += 1
    if kinds:
        number = kinds.total()
        logging.warning(
            "folder:%s: %d %s passed over (%s): images are read if they are in the folder of a class and end "
            "in %s",
            root,
            number,
            "file is" if number == 1 else "files are",
            ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
            ", ".join(_ENDINGS),
        )


def _files(folder: pathlib.Path, classes: list[str]) -> list[tuple[str, int]]:
    found = []
    for sub in _subfolders(folder):
        if sub.name not in classes:
            raise InputError(f"{sub}: train/ has no class {sub.name!r}: add it there or remove it here")
        images = [file for file, hidden in _walk(sub) if not hidden and _is_image(file)]
        if not images:
            raise InputError(f"{sub} has no images ({', '.join(_ENDINGS)}): add some or remove it")
        found += [(image, classes.index(sub.name)) for image in images]
    if not found:
        raise InputError(f"{folder} has no sub-folders: put the images of each class into one of its own")
    return found


def _facts(file: str) -> _Facts:
    try:
        with warnings.catch_warnings(), Image.open(file, formats=_FORMATS) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            facts = _Facts(_is_grey(image), image.format != "MPO" and getattr(image, "is_animated", False))
            mode = image.mode
            image.verify()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{file} has more pixels than Pillow takes for safe ({Image.MAX_IMAGE_PIXELS:,}): make it smaller"
        ) from error
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise InputError(f"{file} cannot be read as an image: remove it or put it right") from error
    if mode == "F" or (mode == "I" and not facts.grey):
        raise InputError(
            f"{file} holds numbers of 32 bits, of which none is known to be white: save it with 8 or 16 bits"
        )
    return facts


def _has_16_bits(image: Image.Image) -> bool:
    """Whether an image is grey with 16 bits, which Pillow also gives as whole numbers."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _is_grey(image: Image.Image) -> bool:
    return image.mode in _GREY or _has_16_bits(image)


def _pixels(file: str, channels: int) -> np.ndarray:
    """The pixels of an image as Pillow shows it, uint8 [h, w, channels]. Raises what Pillow raises."""
    mode = "L" if channels == 1 else "RGB"
    with Image.open(file, formats=_FORMATS) as opened:
        opened.info.pop("transparency", None)  # which is left out; Pillow would warn of it
        image = ImageOps.exif_transpose(opened) if _is_turned(opened) else opened
        if _has_16_bits(opened):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(*pixels.shape[:2], channels)


def _is_turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # damaged notes about an image, which itself may be whole
        return False


def _source(
    name: str, files: list[tuple[str, int]], classes: list[str], channels: int, image_size: int
) -> Source:
    paths, labels = zip(*files, strict=True)

    def pixels(i: Any) -> np.ndarray:
        return _pixels(paths[int(i)], channels)

    def decode(i: tf.Tensor) -> tf.Tensor:
        # Not TensorFlow's decoders, which know neither palettes of BMP nor EXIF, and read JPEG less exactly.
        image = tf.numpy_function(pixels, [i], tf.uint8, stateful=False)
        return resize_tensor(unit_tensor(tf.ensure_shape(image, (None, None, channels))), image_size)

    return Source(
        name=name,
        labels=np.array(labels, np.int32),
        classes=tuple(classes),
        shape=(image_size, image_size, channels),
        origin=np.zeros(len(labels), np.int8),
        decode=decode,
        describe=lambda i: paths[i],
    )
