"""Augmentations of the values of pixels: contrast, brightness, colour, noise and erasing.

Each takes (images float32 [b, h, w, c] in [0, 1], seeds int32 [b, 2], strength), or one image [h, w, c] and
one seed [2]. Images that are stored as bytes enter as byte / 255; nothing is rounded.
"""

import math

import tensorflow as tf

from rmtjax.data import draws
from rmtjax.data.draws import of_batches

NOISE_STD = 0.1  # times strength; the paper's "noise ratio" .1, .3, .5 is strength (Ba et al. 2024)
ENHANCEMENT = 0.9  # factors in 1 +- 0.9 (AutoAugment, Cubuk et al. 2019)
JITTER = 0.8, 0.8, 0.8, 0.2  # of brightness, contrast, saturation and hue (SimCLR, Chen et al. 2020)
LUMINANCE = 0.299, 0.587, 0.114  # of red, green and blue (ITU-R 601-2)
ERASED_AREA = (0.02, 0.4)  # shares of the image (Zhong et al. 2020)
ERASED_RATIO = 0.3  # height / width of the erased part in 0.3..1/0.3 (Zhong et al. 2020)


@of_batches
def contrast_brightness(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """Scales contrast around the mean, then brightness, by factors in 1 +- .9 strength; clips to [0, 1]."""
    width = strength * ENHANCEMENT
    contrast, brightness = (_per_image(f) for f in draws.uniform(seeds, 2, 1 - width, 1 + width))
    mean = _mean(images)
    return tf.clip_by_value((mean + contrast * (images - mean)) * brightness, 0.0, 1.0)


@of_batches
def colour_jitter(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """Brightness, contrast and saturation by factors in 1 +- .8 strength, hue by +- .2 strength; all uniform.

    Operations and magnitudes are those of SimCLR's colour distortion at strength 1, where hue is in turns:
    torchvision's ColorJitter(.8, .8, .8, .2), but in that fixed order, not a random one. After each operation
    values are clipped to [0, 1]. Grey images have neither saturation nor hue.
    """
    widths = [strength * width for width in JITTER]
    drawn = draws.uniform(seeds, 4, -1.0, 1.0)
    *factors, turn = (_per_image(u) * width for u, width in zip(drawn, widths, strict=True))
    brightness, contrast, saturation = (1 + f for f in factors)
    images = tf.clip_by_value(images * brightness, 0.0, 1.0)
    mean = _mean(_grey(images))
    images = tf.clip_by_value(mean + contrast * (images - mean), 0.0, 1.0)
    if images.shape[-1] != 3:
        return images
    grey = _grey(images)
    images = tf.clip_by_value(grey + saturation * (images - grey), 0.0, 1.0)
    hsv = tf.image.rgb_to_hsv(images)
    hue, rest = (hsv[..., :1] + turn) % 1.0, hsv[..., 1:]
    return tf.clip_by_value(tf.image.hsv_to_rgb(tf.concat([hue, rest], axis=-1)), 0.0, 1.0)


@of_batches
def random_erasing(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """With probability `strength`, a rectangle of 2-40 % of the image is replaced by uniform noise."""
    place, content = draws.split(seeds, 2)
    apply, area, ratio, top, left = draws.uniform(place, 5)
    height, width = float(images.shape[1]), float(images.shape[2])
    area = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area) * height * width
    # In double precision: an exponential's last bit depends on where in a vector it is computed.
    ratio = tf.exp(tf.cast((2 * ratio - 1) * math.log(1 / ERASED_RATIO), tf.float64))
    ratio = tf.cast(ratio, tf.float32)
    tall = tf.clip_by_value(tf.round(tf.sqrt(area * ratio)), 1.0, height)
    wide = tf.clip_by_value(tf.round(tf.sqrt(area / ratio)), 1.0, width)
    top, left = tf.floor(top * (height - tall + 1)), tf.floor(left * (width - wide + 1))
    erased = tf.where(apply < strength)[:, 0]
    top, left, tall, wide = (tf.gather(x, erased)[:, None] for x in (top, left, tall, wide))
    rows, columns = tf.range(height), tf.range(width)
    rows = (rows >= top) & (rows < top + tall)
    columns = (columns >= left) & (columns < left + wide)
    inside = (rows[:, :, None] & columns[:, None, :])[..., None]
    noise = draws.uniform_images(tf.gather(content, erased), tuple(images.shape[1:]))
    changed = tf.where(inside, noise, tf.gather(images, erased))
    return tf.tensor_scatter_nd_update(images, erased[:, None], changed)


@of_batches
def gaussian_noise(images: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """Independent normal noise of standard deviation 0.1 strength on every value; clipped to [0, 1]."""
    noise = draws.normal_images(seeds, tuple(images.shape[1:]), NOISE_STD * strength)
    return tf.clip_by_value(images + noise, 0.0, 1.0)


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]


def _mean(images: tf.Tensor) -> tf.Tensor:
    """The mean of each image in double precision; in single it would depend on the number summed at once."""
    mean = tf.reduce_mean(tf.cast(images, tf.float64), (1, 2, 3), keepdims=True)
    return tf.cast(mean, tf.float32)


def _grey(images: tf.Tensor) -> tf.Tensor:
    """Luminance in every channel."""
    if images.shape[-1] != 3:
        return images
    weights = tf.constant([[w] * 3 for w in LUMINANCE])
    return tf.reshape(tf.matmul(tf.reshape(images, (-1, 3)), weights), tf.shape(images))
