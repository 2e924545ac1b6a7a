"""Handwritten digits: the 1,797 digits of UCI's optical recognition test set, which scikit-learn contains."""

import functools

import numpy as np
from jaxtyping import Float

from rmtjax.data.sources import Source, from_arrays, resize

CLASSES = tuple("0123456789")


@functools.lru_cache(maxsize=4)
def handwritten(image_size: int) -> Source:
    """All 1,797 digits, white on black."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return from_arrays("digits", from_counts(digits.images, image_size), digits.target, CLASSES)


def from_counts(
    counts: Float[np.ndarray, "n 8 8"], image_size: int
) -> Float[np.ndarray, "n {image_size} {image_size} 1"]:
    """Converts UCI's counts of black pixels (0..16 in each 4 x 4 block of a bitmap) to images in [0, 1]."""
    return resize((counts / 16).astype(np.float32)[..., None], image_size)
