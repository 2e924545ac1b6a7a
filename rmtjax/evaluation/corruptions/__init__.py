"""Common corruptions of images at severities 1 to 5, after CIFAR-10-C.

Source: Hendrycks & Dietterich 2019, arXiv 1903.12261.

These are the 15 types of the benchmark and its 4 extra ones, with the constants and the semantics of the
published generator (make_cifar_c.py in github.com/hendrycks/robustness), which uses OpenCV, scikit-image,
SciPy, Pillow and ImageMagick. The differences are:

- Constants in pixels (widths of blurs, shifts) stay in pixels. So on 16x16 images they cover twice the share
  of the image that they cover at 32x32, for which they were made. The constants of elastic and pixelate are
  shares of the side in the published generator too.
- Images stay float32 in [0, 1], without rounding to 256 levels before, between or after the steps. Only JPEG
  and the mask of water, which are defined on bytes, round.
- **Frost** is made from photographs that cannot be shipped. In their place we use a random texture with the
  colour, brightness, contrast and spectrum of the photographs; it has no crystals (see `weather.frost`).
- Motion blur, also within snow, implements the kernel of ImageMagick. Interpolation in the affine part of
  elastic is exact, while OpenCV rounds coordinates to 1/32 of a pixel. JPEG is computed in floats, and
  differs from Pillow by a few levels of 256 in a few pixels.
- Glass blur *copies* pixels from their neighbours, although its authors meant to swap the two: in their loop
  numpy assigns through views, and CIFAR-10-C holds its result.
- Grey images [h, w, 1]: brightness adds to the grey level, saturate does nothing, water and mud have the grey
  levels of their colours, JPEG has no chroma.
- Randomness is JAX's. It depends on a key and the number of the example, not on its place in a batch.

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
    """Corrupts images, with one compiled program for each corruption and shape.

    Args:
      images: float in [0, 1], grey or colour.
      name: one of `CORRUPTIONS`.
      severity: 1 (mild) to 5.
      key: a `jax.random.key`; the same key gives an example the same corruption. Corruptions without
        randomness ignore it.
      index: numbers of the examples, which decide their randomness; default: 0 to n - 1.

    Raises:
      InputError: the name is unknown, the severity is out of range, or images are outside [0, 1] or do not
        have 1 or 3 channels.

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
