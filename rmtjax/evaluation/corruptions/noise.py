"""Noise: gaussian, shot, impulse and speckle."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from rmtjax.evaluation.corruptions.filters import Image, Severity, at


def gaussian_noise(image: Image, severity: Severity, key: Array) -> Image:
    """Adds independent normal noise to every value (sensor noise in low light)."""
    scale = at(severity, 0.04, 0.06, 0.08, 0.09, 0.10)
    return jnp.clip(image + scale * jax.random.normal(key, image.shape, image.dtype), 0, 1)


def shot_noise(image: Image, severity: Severity, key: Array) -> Image:
    """Poisson noise: every value is a count of photons, `rate` of them for white, divided by `rate`."""
    rate = at(severity, 500.0, 250.0, 100.0, 75.0, 50.0)
    return jnp.clip(poisson(jax.random.uniform(key, image.shape), image * rate) / rate, 0, 1)


def poisson(uniform: Float[Array, "*shape"], mean: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Poisson counts as quantiles of uniform numbers in [0, 1).

    They need one draw each; rejection sampling needs some thirty. For a mean below 10 the distribution
    function is summed up. From 10 on it is the Cornish-Fisher expansion to order 1 / mean (as in Giles 2016,
    ACM TOMS algorithm 955), whose total variation distance from Poisson is below 2e-4.
    """
    uniform = uniform * (1 - 2.0**-22)  # sums of float32 do not reach 1

    def count(k: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        counts, probability, total = state
        counts += (uniform > total).astype(jnp.float32)
        probability *= small / (k + 1).astype(jnp.float32)
        return counts, probability, total + probability

    small = jnp.minimum(mean, 10)
    first = jnp.exp(-small)
    summed = jax.lax.fori_loop(0, 40, count, (jnp.zeros_like(mean), first, first), unroll=10)[0]

    large = jnp.maximum(mean, 10)
    w, root = jax.scipy.special.ndtri(jnp.maximum(uniform, 2.0**-24)), jnp.sqrt(large)
    quantile = large + root * w + 1 / 3 + w**2 / 6 - (w / 36 + w**3 / 72) / root
    quantile += (-8 / 405 + 7 * w**2 / 810 + w**4 / 270) / large
    return jnp.where(mean < 10, summed, jnp.maximum(jnp.floor(quantile), 0))


def impulse_noise(image: Image, severity: Severity, key: Array) -> Image:
    """Salt and pepper: a share of the values is set to 0 or 1, half of them each (bit errors)."""
    share = at(severity, 0.01, 0.02, 0.03, 0.05, 0.07)
    uniform = jax.random.uniform(key, image.shape)
    return jnp.where(uniform < share / 2, 0.0, jnp.where(uniform >= 1 - share / 2, 1.0, image))


def speckle_noise(image: Image, severity: Severity, key: Array) -> Image:
    """Normal noise in proportion to the value itself (coherent imaging)."""
    scale = at(severity, 0.06, 0.1, 0.12, 0.16, 0.2)
    return jnp.clip(image * (1 + scale * jax.random.normal(key, image.shape, image.dtype)), 0, 1)
