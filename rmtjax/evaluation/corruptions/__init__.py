"""Common corruptions of images at severities 1 to 5, after CIFAR-10-C.

Source: Hendrycks & Dietterich 2019, arXiv 1903.12261.

The 15 types of its benchmark and its 4 extra ones, with the constants and the semantics of the published
generator (make_cifar_c.py in github.com/hendrycks/robustness), where OpenCV, scikit-image, SciPy, Pillow and
ImageMagick do the work. What differs from it:

- Constants in pixels (widths of blurs, shifts) are kept in pixels, so on 16x16 images they are twice as wide,
  in parts of the image, as on the 32x32 they were made for. Elastic's and pixelate's are shares of the side
  there too.
- Images stay float32 in [0, 1]: there is no rounding to 256 levels, neither on the way in nor out nor between
  two steps, but inside JPEG and in the mask of water, which are defined on bytes.
- **Frost** is laid on from photographs that cannot be shipped. In their place stands a random texture with
  the colour, brightness, contrast and spectrum measured on them; it has no crystals (see `weather.frost`).
- Motion blur, in snow as well, is ImageMagick's kernel written out; interpolation in elastic's affine part is
  exact, where OpenCV rounds coordinates to 1/32 of a pixel. JPEG is computed in floats, and differs from
  Pillow's file by a few levels of 256 in a few pixels.
- Glass blur *takes* pixels from their neighbours where its authors meant to swap the two: in the published
  loop numpy assigns through views, and what it did is what CIFAR-10-C holds.
- Grey images, [h, w, 1]: brightness adds to the grey level, saturate leaves them as they are, water and mud
  have their grey levels, JPEG has no chroma.
- Randomness is JAX's, from a key and the example's number alone: not from its place in a batch.

Every function is `(image [h, w, c] float32 in [0, 1], severity, key) -> image` of the same shape in [0, 1], c
= 1 or 3; severity may be traced, so that one compiled program serves all five.
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
from rmtjax.evaluation.corruptions.blur import defocus_blur, gaussian_blur, glass_blur, motion_blur, zoom_blur
from rmtjax.evaluation.corruptions.digital import elastic_transform, jpeg_compression, pixelate
from rmtjax.evaluation.corruptions.drops import spatter
from rmtjax.evaluation.corruptions.filters import Image, Severity
from rmtjax.evaluation.corruptions.levels import brightness, contrast, saturate
from rmtjax.evaluation.corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from rmtjax.evaluation.corruptions.weather import fog, frost, snow

SEVERITIES = (1, 2, 3, 4, 5)

CORRUPTIONS: MappingProxyType[str, Callable[[Image, Severity, Array], Image]] = MappingProxyType(
    {
        function.__name__: function
        for function in (
            gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur, zoom_blur, snow,
            frost, fog, brightness, contrast, elastic_transform, pixelate, jpeg_compression,
            speckle_noise, gaussian_blur, spatter, saturate,
        )
    }
)  # fmt: skip

_ELEMENTS = 2**20  # values corrupted at a time: bounds the memory


def corrupt(
    images: Float[Array | np.ndarray, "n h w c"],
    name: str,
    severity: int,
    key: Array,
    index: Int[Array | np.ndarray, " n"] | None = None,
) -> Float[Array, "n h w c"]:
    """Corrupted images, by one compiled program per corruption and shape.

    Args:
      images: float in [0, 1], grey or colour.
      name: one of `CORRUPTIONS`.
      severity: 1 (mild) to 5.
      key: a `jax.random.key`; the same key gives an example the same corruption, those of no randomness
        ignore it.
      index: numbers of the examples, from which their randomness comes; default: 0 to n - 1.

    Raises:
      InputError: unknown name, severity out of range, images outside [0, 1] or with channels other than 1 or
        3.

    >>> images = np.full((1, 4, 4, 1), 0.5, np.float32)
    >>> round(float(corrupt(images, "brightness", 3, jax.random.key(0))[0, 0, 0, 0]), 4)
    0.65
    """
    if name not in CORRUPTIONS:
        raise InputError(f"unknown corruption {name!r}: choose one of {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise InputError(f"severity={severity!r} is out of range: it must be a whole number from 1 to 5")
    n, height, width, channels = images.shape
    if channels not in (1, 3):
        raise InputError(f"images to corrupt have {channels} channels: they must have 1 or 3")
    low, high = (float(f(images)) if n else 0.0 for f in (np.min, np.max))
    if not (low >= 0 and high <= 1):
        raise InputError(f"images to corrupt range from {low:g} to {high:g}: scale them to [0, 1]")
    images = jnp.asarray(images, jnp.float32)
    numbers = jnp.arange(n) if index is None else jnp.asarray(index)
    block = max(1, _ELEMENTS // (height * width * channels))
    parts = [images[:0]]
    for start in range(0, n, block):
        part, which = images[start : start + block], numbers[start : start + block]
        missing = block - len(part) if n > block else 0  # all blocks of one shape: one program
        part, which = (jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)) for x in (part, which))
        done = _corrupt(part, which, jnp.int32(severity), key, name)
        parts.append(done[: block - missing])
    return jnp.concatenate(parts)


@functools.partial(jax.jit, static_argnames="name")
def _corrupt(
    images: Float[Array, "n h w c"], numbers: Int[Array, " n"], severity: Severity, key: Array, name: str
) -> Float[Array, "n h w c"]:
    def of_example(image: Image, number: Int[Array, ""]) -> Image:
        return CORRUPTIONS[name](image, severity, jax.random.fold_in(key, number))

    corrupted: Array = jax.vmap(of_example)(images, numbers)
    return corrupted
