"""Weather: fog, frost and snow."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from rmtjax.evaluation.corruptions.filters import (
    Image,
    Plane,
    Severity,
    at,
    grey,
    motion,
    separable,
    zoom_matrix,
)


def fog(image: Image, severity: Severity, key: Array) -> Image:
    """Adds a plasma fractal (diamond-square) and scales the brightest value back to what it was."""
    levels = int(np.ceil(np.log2(max(image.shape[:2]))))
    return _fog(image, severity, jax.random.uniform(key, (4**levels - 1,), minval=-1, maxval=1))


def _fog(image: Image, severity: Severity, noise: Float[Array, " m"]) -> Image:
    thickness, decay = at(severity, 0.2, 0.5, 0.75, 1, 1.5), at(severity, 3, 3, 2.5, 2, 1.75)
    height, width, _ = image.shape
    brightest = jnp.max(image)
    foggy = image + thickness * _plasma(noise, decay)[:height, :width, None]
    return jnp.clip(foggy * brightest / (brightest + thickness), 0, 1)


def _plasma(noise: Float[Array, " m"], decay: Float[Array, ""]) -> Plane:
    """A height map on a torus by diamond-square, in [0, 1].

    Args:
      noise: 4^levels - 1 numbers in [-1, 1] for a side of 2^levels: for each doubling of the side those of
        the centres, then of the middles of horizontal and of vertical edges. The amplitude is
        (100 / decay^level)^2, as published.
      decay: decay of the roughness.
    """
    heights = jnp.zeros((1, 1))
    while heights.size <= noise.size:
        side, level = len(heights), int(np.log2(len(heights)))
        wibble = noise[side**2 - 1 : 4 * side**2 - 1].reshape(3, side, side)
        amplitude = (100 / decay**level) ** 2
        right, below = jnp.roll(heights, -1, 1), jnp.roll(heights, -1, 0)
        corners = heights + right + below + jnp.roll(right, -1, 0)
        centre = corners / 4 + amplitude * wibble[0]
        horizontal = (heights + right + centre + jnp.roll(centre, 1, 0)) / 4 + amplitude * wibble[1]
        vertical = (heights + below + centre + jnp.roll(centre, 1, 1)) / 4 + amplitude * wibble[2]
        even, odd = jnp.stack([heights, horizontal], -1), jnp.stack([vertical, centre], -1)
        heights = jnp.stack([even, odd], 1).reshape(2 * side, 2 * side)
    heights -= jnp.min(heights)
    return heights / jnp.max(heights)


# Means of red, green and blue; deviation of a crop's mean; deviation within a crop; decay of the amplitude
# with the frequency: of 400 crops of 32 x 32 pixels from each of the five photographs, scaled to a fifth as
# the generator does.
_FROST = (
    (0.305, 0.582, 0.647, 0.042, 0.056, 1.04),
    (0.777, 0.795, 0.831, 0.034, 0.071, 0.77),
    (0.777, 0.795, 0.831, 0.034, 0.071, 0.77),
    (0.562, 0.619, 0.669, 0.041, 0.102, 0.64),
    (0.402, 0.446, 0.492, 0.061, 0.136, 0.67),
)


def frost(image: Image, severity: Severity, key: Array) -> Image:
    """Mixes in a texture of frost: a random field in place of a crop of one of five photographs.

    The field is normal, has one hue, and its spectrum is a power law. It lacks the crystals, veins and hues
    of the photographs, so the errors that it causes may differ from those of the frost of CIFAR-10-C.
    """
    which, field, level = jax.random.split(key, 3)
    colour_and_spread = jnp.asarray(_FROST)[jax.random.randint(which, (), 0, len(_FROST))]
    white = jax.random.normal(field, image.shape[:2])
    return _frost(
        image, severity, _texture(colour_and_spread, white, jax.random.normal(level), image.shape[-1])
    )


def _frost(image: Image, severity: Severity, texture: Image) -> Image:
    return jnp.clip(
        at(severity, 1, 1, 0.9, 0.85, 0.75) * image + at(severity, 0.2, 0.3, 0.4, 0.4, 0.45) * texture, 0, 1
    )


def _texture(row: Float[Array, " 6"], white: Plane, level: Float[Array, ""], channels: int) -> Image:
    """A texture from a row of `_FROST`, white noise and a standard normal number."""
    colour, between, within, decay = row[:3], row[3], row[4], row[5]
    height, width = white.shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    amplitude = jnp.asarray(frequency, jnp.float32) ** -decay
    field = jnp.fft.irfft2(jnp.fft.rfft2(white) * amplitude.astype(jnp.complex64), s=white.shape)
    field *= within / jnp.std(field)
    base = colour if channels == 3 else grey(colour[None, None])[0]
    return jnp.clip(base[None, None] + (field + between * level)[..., None], 0, 1)


def snow(image: Image, severity: Severity, key: Array) -> Image:
    """Snowflakes (thresholded noise, zoomed and motion-blurred) over a whitened image."""
    layer, wind = jax.random.split(key)
    angle = jax.random.uniform(wind, (), minval=-135, maxval=-45)
    return _snow(image, severity, jax.random.normal(layer, image.shape[:2]), angle)


def _snow(image: Image, severity: Severity, white: Plane, angle: Float[Array, ""]) -> Image:
    zooms = (1.0, 1.0, 1.75, 2.25, 1.25)
    layer = at(severity, 0.1, 0.1, 0.15, 0.25, 0.3) + at(severity, 0.2, 0.2, 0.3, 0.3, 0.3) * white
    layer = separable(layer[..., None], severity, lambda s, side: zoom_matrix(side, zooms[s - 1]))
    layer = jnp.where(layer < at(severity, 0.6, 0.5, 0.55, 0.6, 0.65), 0, jnp.clip(layer, 0, 1))
    radius, sigma = at(severity, 8, 10, 10, 12, 14), at(severity, 3, 4, 4, 6, 12)
    flakes = motion(layer, radius, sigma, angle, longest=14)
    kept = at(severity, 0.95, 0.9, 0.9, 0.85, 0.8)
    whitened = jnp.maximum(image, grey(image)[..., None] * 1.5 + 0.5)
    return jnp.clip(kept * image + (1 - kept) * whitened + flakes + flakes[::-1, ::-1], 0, 1)
