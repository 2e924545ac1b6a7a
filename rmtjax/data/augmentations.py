"""Augmentations: stateless functions of an image and a seed, with a strength in [0, 1].

Each takes (image float32 [h, w, c] in [0, 1], seed int32 [2], strength) and returns an image of the same shape and
range; strength 0 returns the image itself. They run the same eagerly and inside tf.data. Where an operation has a
published magnitude, strength is a fraction of it; otherwise it is the probability that the operation is applied.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
from ml_collections import ConfigDict

ImageOp = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

NOISE_STD = 0.1  # times strength; the paper's "noise ratio" .1, .3, .5 is strength (Ba et al. 2024)
SHIFT = 1 / 8  # of the side; 4 pixels of 32 (He et al. 2016)
ROTATION = math.pi / 6  # 30 degrees (AutoAugment, Cubuk et al. 2019)
ENHANCEMENT = 0.9  # factors in 1 +- 0.9 (AutoAugment, Cubuk et al. 2019)
ERASED_AREA = (0.02, 0.4)  # shares of the image (Zhong et al. 2020)
ERASED_RATIO = 0.3  # height / width of the erased part in 0.3..1/0.3 (Zhong et al. 2020)


class Augmentation(NamedTuple):
    """What `train_batches` does to examples: an operation on single images, and mixup's alpha (0: no mixup)."""

    image: ImageOp | None = None
    mixup: float = 0.0


def augmentation(config: ConfigDict) -> Augmentation | None:
    """The augmentation of a config's `augment` section; None where all strengths are 0.

    Operations follow each other in the order of `OPERATIONS`. Each draws from its own seed, so that switching one on
    leaves the others' draws as they were.
    """
    active = [(k, op, float(config[op.__name__])) for k, op in enumerate(OPERATIONS) if config[op.__name__]]

    def image_op(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        for k, op, strength in active:
            image = op(image, tf.random.experimental.stateless_fold_in(seed, k), strength)
        return image

    if not active and not config.mixup:
        return None
    return Augmentation(image_op if active else None, float(config.mixup))


def rotation(image: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Turned about the centre by an angle uniform in +- strength x 30 degrees; bilinear, black outside."""
    if not strength:
        return image
    angle = tf.random.stateless_uniform((), seed, -1.0, 1.0) * (strength * ROTATION)
    height, width = image.shape[0], image.shape[1]
    cos, sin = tf.cos(angle), tf.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2
    # Rows of the map from output to input coordinates (column, row, 1), about the centre.
    transform = [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y, 0.0, 0.0]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack(transform)[None],
        output_shape=tf.constant([height, width]),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]


def shift_crop(image: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Padded with black and cropped at random: moved by up to strength / 8 of the side along each axis.

    The move is uniform in that range and rounded at random to a whole pixel, up or down in proportion: no pixel is
    interpolated, and small strengths act on some of the images.
    """
    if not strength:
        return image
    height, width = image.shape[0], image.shape[1]
    largest = strength * SHIFT * tf.constant([height, width], tf.float32)
    draws = tf.random.stateless_uniform((2, 2), seed)
    move = tf.cast(tf.floor((2 * draws[0] - 1) * largest + draws[1]), tf.int32)
    pad_y, pad_x = math.ceil(strength * SHIFT * height), math.ceil(strength * SHIFT * width)
    padded = tf.pad(image, [[pad_y, pad_y], [pad_x, pad_x], [0, 0]])
    start = tf.stack([pad_y + move[0], pad_x + move[1], 0])
    return tf.ensure_shape(tf.slice(padded, start, image.shape), image.shape)


def contrast_brightness(image: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Contrast about the image's mean, then brightness: two factors uniform in 1 +- 0.9 strength; clipped to [0, 1]."""
    if not strength:
        return image
    width = strength * ENHANCEMENT
    factors = tf.random.stateless_uniform((2,), seed, 1 - width, 1 + width)
    mean = tf.reduce_mean(image)
    return tf.clip_by_value((mean + factors[0] * (image - mean)) * factors[1], 0.0, 1.0)


def random_erasing(image: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """With probability `strength`, a rectangle of 2-40 % of the image is replaced by uniform noise."""
    if not strength:
        return image
    seeds = tf.random.experimental.stateless_split(seed, 2)
    apply, area, ratio, top, left = tf.unstack(tf.random.stateless_uniform((5,), seeds[0]))
    height, width = float(image.shape[0]), float(image.shape[1])
    area = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area) * height * width
    ratio = tf.exp((2 * ratio - 1) * math.log(1 / ERASED_RATIO))
    tall = tf.clip_by_value(tf.round(tf.sqrt(area * ratio)), 1.0, height)
    wide = tf.clip_by_value(tf.round(tf.sqrt(area / ratio)), 1.0, width)
    top, left = tf.floor(top * (height - tall + 1)), tf.floor(left * (width - wide + 1))
    rows, columns = tf.range(height)[:, None, None], tf.range(width)[None, :, None]
    inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    noise = tf.random.stateless_uniform(image.shape, seeds[1])
    return tf.where(inside & (apply < strength), noise, image)


def gaussian_noise(image: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Independent normal noise of standard deviation 0.1 strength on every value; clipped to [0, 1]."""
    if not strength:
        return image
    noise = tf.random.stateless_normal(image.shape, seed, stddev=NOISE_STD * strength)
    return tf.clip_by_value(image + noise, 0.0, 1.0)


OPERATIONS = (rotation, shift_crop, contrast_brightness, random_erasing, gaussian_noise)


def log_odds_of_beta(alpha: float, seed: tf.Tensor) -> tf.Tensor:
    """log(w / (1 - w)) for mixup's weight w ~ Beta(alpha, alpha) (Zhang et al. 2018; alpha 1, uniform, on CIFAR).

    Gamma(alpha) = Gamma(alpha + 1) U^(1 / alpha), taken in logarithms: directly drawn, both Gamma variables of a
    small alpha underflow and w is 0 / 0.
    """
    seeds = tf.random.experimental.stateless_split(seed, 2)
    gamma = tf.random.stateless_gamma((2,), seeds[0], alpha=alpha + 1)
    uniform = 1 - tf.random.stateless_uniform((2,), seeds[1])  # in (0, 1]
    log_gamma = tf.math.log(gamma) + tf.math.log(uniform) / alpha
    return log_gamma[0] - log_gamma[1]
