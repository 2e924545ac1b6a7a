"""Common corruptions of images at severities 1 to 5, after CIFAR-10-C (Hendrycks & Dietterich 2019, 1903.12261).

The constants are those of the published CIFAR-10-C generator. What differs from it:

- Constants in pixels (the blur's width) are kept in pixels, so on 16x16 images they are twice as wide, in
  parts of the image, as on the 32x32 they were made for; pixelate's are shares of the side.
- Images stay float32 in [0, 1]: there is no rounding to 256 levels, neither on the way in nor out.
- On images of other than 3 channels, brightness adds to every channel (for grey that is HSV's value).
- Randomness is JAX's, from a key.

Every function is `(images [n, h, w, c] float32 in [0, 1], severity, key) -> images` of the same shape, clipped to
[0, 1]; severity may be traced, so that one compiled program serves all five.
"""

import functools
from collections.abc import Callable
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from rmtjax.errors import InputError

SEVERITIES = (1, 2, 3, 4, 5)

Images = Float[Array, "n h w c"]
Severity = Int[Array, ""]


def _at(severity: Severity, *constants: float) -> Float[Array, ""]:
    return jnp.asarray(constants, jnp.float32)[severity - 1]


def gaussian_noise(images: Images, severity: Severity, key: Array) -> Images:
    """Adds independent normal noise to every value (sensor noise in low light)."""
    scale = _at(severity, 0.04, 0.06, 0.08, 0.09, 0.10)
    return jnp.clip(images + scale * jax.random.normal(key, images.shape, images.dtype), 0, 1)


def shot_noise(images: Images, severity: Severity, key: Array) -> Images:
    """Poisson noise: every value is a count of photons, `rate` of them for white, divided by `rate`."""
    rate = _at(severity, 500.0, 250.0, 100.0, 75.0, 50.0)
    return jnp.clip(jax.random.poisson(key, images * rate).astype(images.dtype) / rate, 0, 1)


def impulse_noise(images: Images, severity: Severity, key: Array) -> Images:
    """Salt and pepper: a share of the values is set to 0 or 1, half of it each (bit errors)."""
    share = _at(severity, 0.01, 0.02, 0.03, 0.05, 0.07)
    uniform = jax.random.uniform(key, images.shape)
    return jnp.where(uniform < share / 2, 0.0, jnp.where(uniform >= 1 - share / 2, 1.0, images))


def gaussian_blur(images: Images, severity: Severity, key: Array) -> Images:
    """Convolution with a Gaussian, cut off at 4 standard deviations; the border's values go on outside."""
    del key
    return _separable(images, _stack(_blur_matrix, images.shape, (0.4, 0.6, 0.7, 0.8, 1.0)), severity)


def contrast(images: Images, severity: Severity, key: Array) -> Images:
    """Shrinks the distance of every value to its channel's mean over the image."""
    del key
    mean = jnp.mean(images, axis=(1, 2), keepdims=True)
    return jnp.clip((images - mean) * _at(severity, 0.75, 0.5, 0.4, 0.3, 0.15) + mean, 0, 1)


def brightness(images: Images, severity: Severity, key: Array) -> Images:
    """Adds to the value of HSV, hue and saturation unchanged; the value of a colour is its largest channel."""
    del key
    shift = _at(severity, 0.05, 0.1, 0.15, 0.2, 0.3)
    if images.shape[-1] != 3:
        return jnp.clip(images + shift, 0, 1)
    value = jnp.max(images, axis=-1, keepdims=True)
    brighter = jnp.clip(value + shift, 0, 1)
    # At fixed hue and saturation the channels are proportional to the value; black has neither and turns grey.
    return jnp.where(value > 0, images * brighter / jnp.where(value > 0, value, 1), brighter)


def pixelate(images: Images, severity: Severity, key: Array) -> Images:
    """Downsamples to a share of the side with a box filter and back up to the nearest pixel."""
    del key
    return _separable(images, _stack(_pixelate_matrix, images.shape, (0.95, 0.9, 0.85, 0.75, 0.65)), severity)


CORRUPTIONS: MappingProxyType[str, Callable[[Images, Severity, Array], Images]] = MappingProxyType(
    {
        "gaussian_noise": gaussian_noise,
        "shot_noise": shot_noise,
        "impulse_noise": impulse_noise,
        "gaussian_blur": gaussian_blur,
        "contrast": contrast,
        "brightness": brightness,
        "pixelate": pixelate,
    }
)


def corrupt(
    images: Float[Array | np.ndarray, "n h w c"], name: str, severity: int, key: Array
) -> Float[Array, "n h w c"]:
    """Corrupted images, by one compiled program per corruption and shape.

    Args:
      images: float in [0, 1].
      name: one of `CORRUPTIONS`.
      severity: 1 (mild) to 5.
      key: a `jax.random.key`; the same key gives the same noise, those of no noise ignore it.

    Raises:
      InputError: unknown name, severity out of range, images outside [0, 1].
    """
    if name not in CORRUPTIONS:
        raise InputError(f"unknown corruption {name!r}: choose one of {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise InputError(f"severity={severity!r} is out of range: it must be a whole number from 1 to 5")
    images = jnp.asarray(images, jnp.float32)
    low, high = float(jnp.min(images, initial=1.0)), float(jnp.max(images, initial=0.0))
    if not (low >= 0 and high <= 1):
        raise InputError(f"images to corrupt range from {low:g} to {high:g}: scale them to [0, 1]")
    corrupted: Array = _corrupt(images, jnp.int32(severity), key, name)
    return corrupted


@functools.partial(jax.jit, static_argnames="name")
def _corrupt(images: Images, severity: Severity, key: Array, name: str) -> Images:
    return CORRUPTIONS[name](images, severity, key)


def _separable(
    images: Images,
    matrices: tuple[Float[np.ndarray, "5 h h"], Float[np.ndarray, "5 w w"]],
    severity: Severity,
) -> Images:
    """Applies one matrix to the rows and one to the columns of every channel."""
    rows, columns = (jnp.asarray(stack, jnp.float32)[severity - 1] for stack in matrices)
    mixed = jnp.einsum("ih,jw,nhwc->nijc", rows, columns, images, precision=jax.lax.Precision.HIGHEST)
    return jnp.clip(mixed, 0, 1)


def _stack(
    matrix: Callable[[int, float], Float[np.ndarray, "s s"]],
    shape: tuple[int, ...],
    constants: tuple[float, ...],
) -> tuple[Float[np.ndarray, "5 h h"], Float[np.ndarray, "5 w w"]]:
    _, height, width, _ = shape
    return (
        np.stack([matrix(height, constant) for constant in constants]),
        np.stack([matrix(width, constant) for constant in constants]),
    )


def _blur_matrix(side: int, sigma: float) -> Float[np.ndarray, "s s"]:
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    out = np.arange(side)
    matrix = np.zeros((side, side))
    for offset, weight in zip(offsets, kernel, strict=True):
        matrix[out, np.clip(out + offset, 0, side - 1)] += weight
    return matrix


def _pixelate_matrix(side: int, share: float) -> Float[np.ndarray, "s s"]:
    """Rows: pixels after going down to int(share * side) pixels and up again; weights of the pixels before.

    A pixel belongs to a coarse one if its centre does, as in Pillow's box filter.
    """
    coarse = max(1, int(share * side))
    scale = side / coarse
    centres = (np.arange(coarse) + 0.5) * scale
    distance = (np.arange(side)[None, :] + 0.5 - centres[:, None]) / scale
    down = ((distance > -0.5) & (distance <= 0.5)).astype(np.float64)
    down /= down.sum(axis=1, keepdims=True)
    nearest = np.minimum(((np.arange(side) + 0.5) / scale).astype(int), coarse - 1)
    return np.asarray(down[nearest])
