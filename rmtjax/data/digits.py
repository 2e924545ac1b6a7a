"""Handwritten digits: the 1,797 of UCI's optical recognition test set that scikit-learn carries."""

import functools

import numpy as np

from rmtjax.data.sources import Source, from_arrays, resize

CLASSES = tuple("0123456789")


@functools.lru_cache(maxsize=4)
def handwritten(image_size: int) -> Source:
    """All 1,797 digits, white on black: 8 x 8 counts of 0..16, divided by 16, then resized."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[..., None]
    return from_arrays("digits", resize(images, image_size), digits.target, CLASSES)
