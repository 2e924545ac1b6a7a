"""The operations of augmentation policies, each against Pillow, byte by byte."""

import numpy as np
import pytest
import tensorflow as tf
from pillow_ops import pillow

from rmtjax.data import byte_ops
from rmtjax.errors import InputError

SIZES = [(32, 32), (17, 24)]


def pictures(height, width, channels):
    """Noise, a dark ramp, two levels, one level, and a coarse pattern of few levels."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(20, 90, height * width * channels)
    out = [
        rng.integers(0, 256, (height, width, channels)),
        ramp.reshape(height, width, channels) + rng.integers(0, 3, (height, width, channels)),
        rng.choice([3, 250], (height, width, channels)),
        np.full((height, width, channels), 77),
        rng.choice([10, 11, 12, 200], (height // 4 + 1, width // 4 + 1, channels))
        .repeat(4, 0)
        .repeat(4, 1)[:height, :width],
    ]
    return np.stack(out).astype(np.uint8)


CASES = [
    *[(name, 0.0) for name in ("autocontrast", "equalize", "invert")],
    *[("posterize", bits) for bits in (8.0, 7.0, 4.0, 2.0)],
    *[("solarize", threshold) for threshold in (255.0, 198.3, 128.0, 0.0)],
    *[
        (n, m)
        for n in ("brightness", "contrast", "color", "sharpness")
        for m in (-0.99, -0.54, -0.1, 0.0, 0.37, 0.9)
    ],
    *[(n, m) for n in ("shear_x", "shear_y") for m in (-0.99, -0.3, -0.1, 0.0, 0.07, 0.233)],
    *[(n, m) for n in ("translate_x", "translate_y") for m in (-32.0, -7.9, 0.0, 0.9, 1.0, 13.05)],
    *[("rotate", m) for m in (-135.0, -30.0, -3.3, 0.0, 9.0, 26.67, 90.0)],
]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_is_pillow_s(channels, size):
    images = pictures(*size, channels)
    operations = byte_ops.table(CASES, *size)
    # All operations on all images, in one batch in which they are mixed.
    chosen = np.tile(np.arange(len(CASES), dtype=np.int32), len(images))
    batch = images.repeat(len(CASES), 0)
    out = byte_ops.apply(tf.constant(batch), tf.constant(chosen), operations).numpy()
    assert out.dtype == np.uint8
    for image, k, result in zip(batch, chosen, out, strict=True):
        expected = pillow(*CASES[k], image)
        if CASES[k] == ("rotate", 90.0) and size[0] == size[1]:
            # Pillow turns by 90 degrees exactly; the fixed-point map may miss the outermost row by a
            # rounding.
            expected, result = expected[1:-1, 1:-1], result[1:-1, 1:-1]
        np.testing.assert_array_equal(result, expected, err_msg=f"{CASES[k]} on {size} x {channels}")
    changed = (out != batch).any(axis=(1, 2, 3))
    for k, (name, magnitude) in enumerate(CASES):
        nothing = magnitude == 0 and name not in ("autocontrast", "equalize", "invert", "solarize")
        nothing |= (name, magnitude) in (("posterize", 8.0), ("translate_x", 0.9), ("translate_y", 0.9))
        nothing |= name == "color" and channels == 1
        assert changed[chosen == k].any() != nothing, (name, magnitude)


def test_an_operation_that_no_image_has_and_a_batch_of_one():
    operations = byte_ops.table([("identity", 0.0), *CASES], 8, 8)
    image = pictures(8, 8, 3)[:1]
    for k in (0, 1, len(CASES)):
        out = byte_ops.apply(tf.constant(image), tf.constant([k], tf.int32), operations).numpy()
        expected = image[0] if k == 0 else pillow(*CASES[k - 1], image[0])
        np.testing.assert_array_equal(out[0], expected)


def test_images_that_are_neither_grey_nor_rgb_are_refused():
    operations = byte_ops.table([("identity", 0.0)], 4, 4)
    with pytest.raises(InputError, match="images of 2 channels cannot be augmented by a policy"):
        byte_ops.apply(tf.zeros((1, 4, 4, 2), tf.uint8), tf.zeros(1, tf.int32), operations)
