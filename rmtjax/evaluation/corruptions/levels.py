"""Levels and colours of the pixels, each by itself: brightness, contrast, saturation."""

import jax.numpy as jnp
from jax import Array

from rmtjax.evaluation.corruptions.filters import Image, Severity, at


def brightness(image: Image, severity: Severity, key: Array) -> Image:
    """Adds to the value of HSV (the largest channel); hue and saturation stay."""
    del key
    shift = at(severity, 0.05, 0.1, 0.15, 0.2, 0.3)
    if image.shape[-1] != 3:
        return jnp.clip(image + shift, 0, 1)
    value = jnp.max(image, axis=-1, keepdims=True)
    brighter = jnp.clip(value + shift, 0, 1)
    # At fixed hue and saturation the channels are proportional to the value; black has neither and turns
    # grey.
    return jnp.where(value > 0, image * brighter / jnp.where(value > 0, value, 1), brighter)


def contrast(image: Image, severity: Severity, key: Array) -> Image:
    """Shrinks the distance of every value to its channel's mean over the image."""
    del key
    mean = jnp.mean(image, axis=(0, 1), keepdims=True)
    return jnp.clip((image - mean) * at(severity, 0.75, 0.5, 0.4, 0.3, 0.15) + mean, 0, 1)


def saturate(image: Image, severity: Severity, key: Array) -> Image:
    """Scales and shifts the saturation of HSV: down at severities 1 and 2, up from 3. Grey images stay."""
    del key
    if image.shape[-1] != 3:
        return image
    value = jnp.max(image, axis=-1, keepdims=True)
    # Each channel's distance to the value is saturation * value * a number that depends on the hue.
    below = value - image
    saturation = jnp.max(below, axis=-1, keepdims=True) / jnp.where(value > 0, value, 1)
    wanted = jnp.clip(
        saturation * at(severity, 0.3, 0.1, 1.5, 2, 2.5) + at(severity, 0, 0, 0, 0.1, 0.2), 0, 1
    )
    # A grey pixel has hue 0, which is red.
    red = value * wanted * jnp.asarray([[[0.0, 1.0, 1.0]]])
    scaled = below * wanted / jnp.where(saturation > 0, saturation, 1)
    return jnp.clip(value - jnp.where(saturation > 0, scaled, red), 0, 1)
