"""Blur: gaussian, defocus, glass, motion and zoom."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from rmtjax.evaluation.corruptions.filters import (
    Image,
    Severity,
    at,
    between,
    correlate,
    gaussian_matrix,
    motion,
    separable,
    zoom_matrix,
)

_DISKS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))  # radius, deviation of the antialiasing
_ZOOMED_TO = (1.06, 1.11, 1.16, 1.21, 1.26)


def gaussian_blur(image: Image, severity: Severity, key: Array) -> Image:
    """Convolution with a Gaussian, cut off at 4 standard deviations; the border is repeated outside."""
    del key
    return jnp.clip(_gaussian(image, severity, (0.4, 0.6, 0.7, 0.8, 1.0)), 0, 1)


def _gaussian(image: Image, severity: Severity, sigmas: tuple[float, ...]) -> Image:
    return separable(image, severity, lambda s, side: gaussian_matrix(side, sigmas[s - 1]))


def defocus_blur(image: Image, severity: Severity, key: Array) -> Image:
    """Correlation with a slightly blurred disk (against aliasing); the image is mirrored at its border."""
    del key
    kernels = np.stack([_disk(radius, sigma) for radius, sigma in _DISKS])
    return jnp.clip(correlate(image, jnp.asarray(kernels, jnp.float32)[severity - 1]), 0, 1)


def _disk(radius: float, sigma: float) -> Float[np.ndarray, "5 5"]:
    """A disk of at most 3 x 3 pixels, convolved with a 3 x 3 Gaussian; sums to 1."""
    y, x = np.mgrid[-2:3, -2:3]
    disk = (x**2 + y**2 <= radius**2).astype(float)
    line = np.exp(-0.5 * (np.arange(-1, 2) / sigma) ** 2)
    line /= line.sum()
    for axis in (0, 1):
        disk = np.apply_along_axis(np.convolve, axis, disk, line, "same")
    return np.asarray(disk / disk.sum())


def glass_blur(image: Image, severity: Severity, key: Array) -> Image:
    """Copies each pixel from a random neighbour above or to the left, with a blur before and after."""
    return _glass(image, severity, jax.random.randint(key, (2, 2, *image.shape[:2]), -1, 1))


def _glass(image: Image, severity: Severity, offsets: Int[Array, "2 2 h w"]) -> Image:
    """Moves pixels by `offsets` [round, (y, x), h, w] of -1 or 0; only severities 4 and 5 have round two.

    The published loop runs from the last pixel to the first and stops before the first two rows and columns.
    So a pixel copies a value that has not changed in this round, and all pixels can be copied at once.
    """
    sigmas = (0.05, 0.25, 0.4, 0.25, 0.4)
    y, x = jnp.mgrid[: image.shape[0], : image.shape[1]]
    inside = (y > 1) & (x > 1)
    out = _gaussian(image, severity, sigmas)
    for number, (dy, dx) in enumerate(offsets):
        moves = inside & (severity > 3) if number else inside
        out = out[jnp.where(moves, y + dy, y), jnp.where(moves, x + dx, x)]
    return jnp.clip(_gaussian(out, severity, sigmas), 0, 1)


def motion_blur(image: Image, severity: Severity, key: Array) -> Image:
    """Blur by a camera that moves along a line, within 45 degrees of horizontal (`filters.motion`)."""
    return _motion(image, severity, jax.random.uniform(key, (), minval=-45, maxval=45))


def _motion(image: Image, severity: Severity, angle: Float[Array, ""]) -> Image:
    radius, sigma = at(severity, 6, 6, 6, 8, 9), at(severity, 1, 1.5, 2, 2, 2.5)
    return jnp.clip(motion(image, radius, sigma, angle, longest=9), 0, 1)


def zoom_blur(image: Image, severity: Severity, key: Array) -> Image:
    """The mean of the image zoomed by 1, 1.01, 1.02 and so on, as if the camera moved towards its object."""
    del key
    height, width, _ = image.shape
    factors = np.arange(1, _ZOOMED_TO[-1], 0.01)
    # arange's own count: rounding takes the end in.
    count = at(severity, *(len(np.arange(1, to, 0.01)) for to in _ZOOMED_TO))
    rows, columns = (np.stack([zoom_matrix(side, f) for f in factors]) for side in (height, width))

    def add(total: Image, one: tuple[Array, Array, Array]) -> tuple[Image, None]:
        number, row, column = one
        return total + jnp.where(number.astype(jnp.float32) < count, between(row, image, column), 0), None

    each = (jnp.arange(len(factors)), jnp.asarray(rows, jnp.float32), jnp.asarray(columns, jnp.float32))
    total: Image = jax.lax.scan(add, image, each)[0]
    return jnp.clip(total / (count + 1), 0, 1)
