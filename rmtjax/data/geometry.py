"""Augmentations that move pixels: flips, shifts, crops, rotation and elastic deformation.

Each takes (images float32 [b, h, w, c] in [0, 1], seeds int32 [b, 2], strength), or one image [h, w, c] and
one seed [2].
"""

import math

import numpy as np
import tensorflow as tf

from rmtjax.data import draws
from rmtjax.data.byte_ops import pixels_at
from rmtjax.data.draws import of_batches

SHIFT = 1 / 8  # of the side; 4 pixels of 32 (He et al. 2016)
ROTATION = math.pi / 6  # 30 degrees (AutoAugment, Cubuk et al. 2019)
CROPPED_AREA = 0.08  # the smallest share of the image that is kept (Szegedy et al. 2015)
CROPPED_RATIO = 4 / 3  # width / height in 3/4..4/3 (Szegedy et al. 2015)
ELASTIC_ALPHA, ELASTIC_SIGMA = 40.0, 6.0  # Ba et al. 2024
_TRIES = 10  # at a crop that fits into the image, as in torchvision


@of_batches
def horizontal_flip(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """Exchanges left and right with probability `strength` (.5 is usual)."""
    return _flip(images, seeds, strength, 2)


@of_batches
def vertical_flip(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """Exchanges top and bottom with probability `strength`."""
    return _flip(images, seeds, strength, 1)


def _flip(images: tf.Tensor, seeds: tf.Tensor, strength: float, axis: int) -> tf.Tensor:
    (happens,) = draws.uniform(seeds, 1)
    return draws.choose(happens < strength, tf.reverse(images, [axis]), images)


@of_batches
def shift_crop(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """Pads with black and crops at random: moves by up to strength / 8 of the side along each axis.

    The move is uniform in that range and rounded at random to a whole pixel, with the probabilities that keep
    its mean. So no pixel is interpolated, and small strengths act on some of the images.
    """
    height, width = images.shape[1:3]
    down, right, *rounding = draws.uniform(seeds, 4)
    y = tf.floor((2 * down - 1) * (strength * SHIFT * height) + rounding[0])
    x = tf.floor((2 * right - 1) * (strength * SHIFT * width) + rounding[1])
    rows = tf.range(height) + tf.cast(y, tf.int32)[:, None]
    columns = tf.range(width) + tf.cast(x, tf.int32)[:, None]
    return pixels_at(images, rows[:, :, None], columns[:, None, :])


@of_batches
def random_resized_crop(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """Enlarges a part of the image to the whole, bilinear: torchvision's RandomResizedCrop at strength 1.

    The share of the area is uniform in [1 - .92 strength, 1], the logarithm of width / height in
    +- strength log(4/3). The first of ten draws that fits into the image is used, or else the whole image.
    """
    height, width = images.shape[1:3]
    top, left, *drawn = draws.uniform(seeds, 2 + 2 * _TRIES)
    areas, ratios = tf.stack(drawn[:_TRIES]), tf.stack(drawn[_TRIES:])
    area = (1 - strength * (1 - CROPPED_AREA) * areas) * (height * width)
    # In double precision: an exponential's last bit depends on where in a vector it is computed.
    ratio = tf.exp(tf.cast(2 * ratios - 1, tf.float64) * (strength * math.log(CROPPED_RATIO)))
    ratio = tf.cast(ratio, tf.float32)
    wide, tall = tf.round(tf.sqrt(area * ratio)), tf.round(tf.sqrt(area / ratio))
    fits = (wide >= 1) & (wide <= width) & (tall >= 1) & (tall <= height)
    fitting = tf.argmax(fits, axis=0, output_type=tf.int32)  # the first

    def chosen(sizes: tf.Tensor, whole: int) -> tf.Tensor:
        first = tf.gather(tf.transpose(sizes), fitting, batch_dims=1)
        return tf.where(tf.reduce_any(fits, axis=0), first, float(whole))

    tall, wide = chosen(tall, height), chosen(wide, width)
    top, left = tf.floor(top * (height - tall + 1)), tf.floor(left * (width - wide + 1))
    rows = _stretch(images, top, tall, axis=1)
    return _stretch(rows, left, wide, axis=2)


def _stretch(images: tf.Tensor, start: tf.Tensor, length: tf.Tensor, axis: int) -> tf.Tensor:
    """Stretches entries start..start + length - 1 of an axis to the whole axis by linear interpolation."""
    size = images.shape[axis]
    place = (tf.range(size, dtype=tf.float32) + 0.5) * (length / size)[:, None] - 0.5
    place = tf.clip_by_value(place, 0.0, length[:, None] - 1)
    below = tf.floor(place)
    weight = tf.reshape(place - below, [-1, *(size if k == axis else 1 for k in (1, 2, 3))])
    first = tf.cast(start[:, None] + below, tf.int32)
    second = tf.minimum(first + 1, tf.cast(start + length, tf.int32)[:, None] - 1)
    one = tf.gather(images, first, axis=axis, batch_dims=1)
    other = tf.gather(images, second, axis=axis, batch_dims=1)
    return one + weight * (other - one)


@of_batches
def rotation(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """Rotates about the centre by an angle uniform in +- strength x 30 degrees; bilinear, black outside."""
    height, width = images.shape[1:3]
    angle = draws.uniform(seeds, 1, -1.0, 1.0)[0] * (strength * ROTATION)
    # In double precision: a cosine's last bit depends on where in a vector it is computed.
    cos, sin = (tf.cast(f(tf.cast(angle, tf.float64)), tf.float32) for f in (tf.cos, tf.sin))
    x, y = (width - 1) / 2, (height - 1) / 2
    # Rows of the map from output to input coordinates (column, row, 1), about the centre.
    zero = tf.zeros_like(cos)
    transforms = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y, zero, zero]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack(transforms, axis=1),
        output_shape=tf.constant([height, width]),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


@of_batches
def elastic(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """Moves pixels by smooth random amounts; bilinear, black outside: torchvision's ElasticTransform(40, 6).

    Along each axis the displacement is alpha / 2 pixels times noise that is uniform in [-1, 1] and smoothed
    by a Gaussian of standard deviation 6 pixels, with alpha = 40 strength (torchvision divides by the side,
    in a frame of width 2). At strength 1 its standard deviation is about half a pixel at every size: .24 %
    of the 224 pixels of the paper's models, and 1.7 % of 32.
    """
    height, width = images.shape[1:3]
    noise = 2 * draws.uniform_images(seeds, (2, height, width)) - 1
    smooth = tf.matmul(tf.matmul(_smoothing(height), noise), _smoothing(width), transpose_b=True)
    moved = smooth * (strength * ELASTIC_ALPHA / 2)
    y = tf.range(height, dtype=tf.float32)[:, None] + moved[:, 0]
    x = tf.range(width, dtype=tf.float32) + moved[:, 1]
    return _interpolate(images, y, x)


def _smoothing(size: int) -> tf.Tensor:
    """The matrix [size, size] of a Gaussian filter over 8 sigma pixels, with mirrored edges."""
    radius = int(8 * ELASTIC_SIGMA + 1) // 2
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / ELASTIC_SIGMA) ** 2)
    mirrored = np.pad(np.eye(size), ((radius, radius), (0, 0)), mode="reflect" if size > 1 else "edge")
    rows = [kernel / kernel.sum() @ mirrored[k : k + 2 * radius + 1] for k in range(size)]
    return tf.constant(np.stack(rows), tf.float32)


def _interpolate(images: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Interpolates images at float32 [b, h, w] rows and columns; bilinear, black outside."""
    top, left = tf.floor(y), tf.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    row, column = tf.cast(top, tf.int32), tf.cast(left, tf.int32)
    above, below = (
        pixels_at(images, r, column) * (1 - right) + pixels_at(images, r, column + 1) * right
        for r in (row, row + 1)
    )
    return above * (1 - down) + below * down
