"""The operations of augmentation policies, on bytes, with an own operation for each image of a batch.

They give the same bytes as Pillow (`ImageOps`, `ImageEnhance`, `Image.transform`), with which AutoAugment and
its successors were published. A table lists the operations that a policy may choose, with their magnitudes,
and prepares them once as lookup tables and fixed-point maps. Images are then grouped by kind of operation,
and each kind is computed at once.

As in Pillow, operations on colour do not change grey images (one channel).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rmtjax.errors import InputError

_FIXED = 65536.0  # coordinates are fixed-point numbers with 16 bits behind the point, as Pillow's
_LUMINANCE = (19595, 38470, 7471)  # of red, green and blue, in 1 / 65536 (ITU-R 601-2)


class Table(NamedTuple):
    """Operations by number.

    Attributes:
      kind: [n], names in `_KINDS`.
      lookup: uint8 [n, 256], the new value of each byte.
      map: int32 [n, 6] in fixed point, from output to input pixels; rows of Pillow's AFFINE.
      factor: float32 [n], factor of an enhancement: 0 gives the degenerate image, 1 the image itself.
    """

    kind: tuple[str, ...]
    lookup: np.ndarray
    map: np.ndarray
    factor: np.ndarray


def table(operations: Sequence[tuple[str, float]], height: int, width: int) -> Table:
    """The table of (name, magnitude) pairs, for images of one size.

    The magnitudes of the names are: identity, autocontrast, equalize, invert: any; posterize: bits that are
    kept; solarize: the lowest byte that is inverted; brightness, color, contrast, sharpness: factor - 1;
    shear_x, shear_y: pixels along one axis for each pixel of the other; translate_x, translate_y: pixels to
    the right or down; rotate: degrees anticlockwise. Moved images use nearest neighbours, black outside.
    """
    byte, n = np.arange(256), len(operations)
    lookup, maps = np.tile(byte.astype(np.uint8), (n, 1)), np.zeros((n, 6), np.int32)
    factor, kinds = np.ones(n, np.float32), []
    for k, (name, magnitude) in enumerate(operations):
        kind = name
        if name in ("posterize", "solarize", "invert", "brightness"):
            kind = "lookup"
            lookup[k] = {
                "posterize": lambda m: byte & ~(2 ** (8 - int(m)) - 1),
                "solarize": lambda m: np.where(byte < m, byte, 255 - byte),
                "invert": lambda m: 255 - byte,
                "brightness": lambda m: np.clip(np.float32(1 + m) * byte.astype(np.float32), 0, 255),
            }[name](magnitude)
        elif name in ("contrast", "color", "sharpness"):
            factor[k] = 1 + magnitude
        elif name in _MAPS:
            kind = "affine"
            a, b, c, d, e, f = _MAPS[name](magnitude, height, width)
            # From the centre of the first pixel to that of the pixel it is.
            corner = (a, b, c + 0.5 * a + 0.5 * b, d, e, f + 0.5 * d + 0.5 * e)
            maps[k] = [math.floor(value * _FIXED + 0.5) for value in corner]
        kinds.append(kind)
    return Table(tuple(kinds), lookup, maps, factor)


def apply(images: tf.Tensor, chosen: tf.Tensor, operations: Table) -> tf.Tensor:
    """Applies to each image its chosen operation: uint8 [b, h, w, c] from uint8 [b, h, w, c] and int32 [b].

    Raises:
      InputError: images have neither one nor three channels.
    """
    if images.shape[-1] not in (1, 3):
        raise InputError(
            f"images of {images.shape[-1]} channels cannot be augmented by a policy: they must be grey or RGB"
        )
    present = sorted(set(operations.kind), key=list(_KINDS).index)
    group = tf.gather(tf.constant([present.index(kind) for kind in operations.kind]), chosen)
    parts = tf.dynamic_partition(images, group, len(present))
    choices = tf.dynamic_partition(chosen, group, len(present))
    places = tf.dynamic_partition(tf.range(tf.shape(images)[0]), group, len(present))
    done = [
        _KINDS[kind](part, choice, operations)
        for kind, part, choice in zip(present, parts, choices, strict=True)
    ]
    return tf.reshape(tf.dynamic_stitch(places, done), tf.shape(images))


def _rotated(degrees: float, height: int, width: int) -> tuple[float, ...]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


_MAPS: dict[str, Callable[[float, int, int], tuple[float, ...]]] = {
    "shear_x": lambda m, h, w: (1, m, 0, 0, 1, 0),
    "shear_y": lambda m, h, w: (1, 0, 0, m, 1, 0),
    "translate_x": lambda m, h, w: (1, 0, -int(m), 0, 1, 0),
    "translate_y": lambda m, h, w: (1, 0, 0, 0, 1, -int(m)),
    "rotate": _rotated,
}


def _identity(images: tf.Tensor, chosen: tf.Tensor, operations: Table) -> tf.Tensor:
    return images


def _lookup(images: tf.Tensor, chosen: tf.Tensor, operations: Table) -> tf.Tensor:
    return _looked_up(images, tf.gather(tf.constant(operations.lookup), chosen)[:, None])


def _autocontrast(images: tf.Tensor, chosen: tf.Tensor, operations: Table) -> tf.Tensor:
    """Stretches each channel to 0..255; as in Pillow in double precision and rounded down."""
    low = tf.cast(tf.reduce_min(images, (1, 2)), tf.float64)[..., None]
    high = tf.cast(tf.reduce_max(images, (1, 2)), tf.float64)[..., None]
    scale = 255 / tf.where(high > low, high - low, 1.0)
    byte = tf.range(256, dtype=tf.float64)
    stretched = tf.where(high > low, byte * scale + -low * scale, byte)
    return _looked_up(images, _bytes(stretched))


def _equalize(images: tf.Tensor, chosen: tf.Tensor, operations: Table) -> tf.Tensor:
    """Equalises the histogram of each channel as far as a map of bytes can."""
    number, channels = tf.shape(images)[0], images.shape[-1]
    cells = number * channels * 256
    counts = tf.math.bincount(tf.reshape(_cells(images, channels), [-1]), minlength=cells, maxlength=cells)
    counts = tf.reshape(counts, (number, channels, 256))
    below = tf.cumsum(counts, axis=-1, exclusive=True)
    # The highest byte present is left out: it becomes 255 whatever its count.
    step = tf.reduce_max(tf.where(counts > 0, below, 0), axis=-1, keepdims=True) // 255
    equal = (step // 2 + below) // tf.maximum(step, 1)
    return _looked_up(images, tf.cast(tf.minimum(tf.where(step > 0, equal, tf.range(256)), 255), tf.uint8))


def _affine(images: tf.Tensor, chosen: tf.Tensor, operations: Table) -> tf.Tensor:
    height, width = images.shape[1], images.shape[2]
    a, b, c, d, e, f = tf.unstack(tf.gather(tf.constant(operations.map), chosen)[..., None, None], axis=1)
    y, x = tf.range(height)[:, None], tf.range(width)
    column = tf.bitwise.right_shift(a * x + (b * y + c), 16)
    row = tf.bitwise.right_shift(d * x + (e * y + f), 16)
    return pixels_at(images, row, column)


def _contrast(images: tf.Tensor, chosen: tf.Tensor, operations: Table) -> tf.Tensor:
    grey = _grey(tf.cast(images, tf.float32))[..., 0]
    mean = tf.floor(tf.reduce_mean(tf.cast(grey, tf.float64), (1, 2)) + 0.5)
    return _looked_up(
        images, _enhance(tf.cast(mean, tf.float32)[:, None, None], tf.range(256.0), chosen, operations)
    )


def _color(images: tf.Tensor, chosen: tf.Tensor, operations: Table) -> tf.Tensor:
    if images.shape[-1] == 1:
        return images
    values = tf.cast(images, tf.float32)
    return _enhance(_grey(values), values, chosen, operations)


def _sharpness(images: tf.Tensor, chosen: tf.Tensor, operations: Table) -> tf.Tensor:
    """Moves away from the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13; pixels at the edge do not change."""
    _, height, width, channels = images.shape
    if height < 3 or width < 3:
        return images
    values = tf.reshape(tf.cast(images, tf.float32), (-1, height, width * channels))
    total = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    total = total[..., : -2 * channels] + total[..., channels:-channels] + total[..., 2 * channels :]
    inner = values[:, 1:-1, channels:-channels]
    smooth = tf.floor((total + 4 * inner) / 13 + 0.5)
    padded = tf.pad(inner - smooth, [[0, 0], [1, 1], [channels, channels]])
    enhanced = _enhance(values - padded, values, chosen, operations)
    return tf.reshape(enhanced, tf.shape(images))


_KINDS: dict[str, Callable[[tf.Tensor, tf.Tensor, Table], tf.Tensor]] = {
    "identity": _identity, "lookup": _lookup, "autocontrast": _autocontrast, "equalize": _equalize,
    "affine": _affine, "contrast": _contrast, "color": _color, "sharpness": _sharpness,
}  # fmt: skip


def pixels_at(images: tf.Tensor, row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """The pixels at int32 [b, h', w'] rows and columns of images [b, h, w, c]; black outside.

    Rows and columns may be of any shapes that broadcast to [b, h', w'].
    """
    number, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = tf.range(number)[:, None, None] * (height * width) + row * width + column
    black = number * height * width
    pixels = tf.concat([tf.reshape(images, (-1, channels)), tf.zeros((1, channels), images.dtype)], axis=0)
    return tf.gather(pixels, tf.where(inside, place, black))


def _cells(images: tf.Tensor, tables: int) -> tf.Tensor:
    """The position of each value in a row of tables [b, 1 or c, 256], flattened: int32 [b, h * w * c]."""
    number, (height, width, channels) = tf.shape(images)[0], images.shape[1:]
    values = tf.cast(tf.reshape(images, (number, height * width * channels)), tf.int32)
    first = tf.range(number)[:, None] * (tables * 256)
    if tables == 1:
        return values + first
    return values + (first + np.tile(256 * np.arange(channels, dtype=np.int32), height * width))


def _looked_up(images: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
    """Maps bytes by tables uint8 [b, 1 or c, 256]."""
    flat = tf.gather(tf.reshape(tables, [-1]), _cells(images, tables.shape[1]))
    return tf.reshape(flat, tf.shape(images))


def _grey(values: tf.Tensor) -> tf.Tensor:
    """Luminance of float32 [b, h, w, c] whole numbers, rounded as in Pillow, in every channel."""
    if values.shape[-1] == 1:
        return values
    # Whole numbers below 2^24, so exact in float32.
    weights = np.repeat(np.array(_LUMINANCE, np.float32)[:, None], 3, axis=1)
    total = tf.matmul(tf.reshape(values, (-1, 3)), weights)
    return tf.reshape(tf.floor((total + 32768.0) / _FIXED), tf.shape(values))


def _enhance(degenerate: tf.Tensor, values: tf.Tensor, chosen: tf.Tensor, operations: Table) -> tf.Tensor:
    """Pillow's blend: from the degenerate image (0) through the image (1) and beyond, clipped to bytes."""
    factor = tf.gather(tf.constant(operations.factor), chosen)
    factor = tf.reshape(factor, [-1] + [1] * (len(degenerate.shape) - 1))
    return _bytes(degenerate + factor * (values - degenerate))


def _bytes(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(values, 0, 255), tf.uint8)
