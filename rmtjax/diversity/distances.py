"""Distances between two sets of features: the Frechet distance and the kernel distance of FID and KID.

FID and KID are these distances for the features of Inception-v3. Other features give other numbers, so a
result must name its model. Both distances approach 0 as the two distributions agree. The kernel distance is
unbiased. The Frechet distance is biased upwards at finite n (by hundreds if n is near d), so it is shown
beside the value of as many real images.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from rmtjax.diversity.neighbours import check_finite


def frechet_distance(a: Float[Array | np.ndarray, "n d"], b: Float[Array | np.ndarray, "m d"]) -> float:
    """Frechet distance, |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Heusel et al. 2017).

    arXiv 1706.08500. The covariances divide by n - 1. It is the squared 2-Wasserstein distance between the
    normal distributions with these moments, computed in float64; values below 0, from rounding, become 0.

    Raises:
      ValueError: fewer than two examples, or features that are not finite.

    >>> a = np.array([[0.0], [2.0]])
    >>> round(frechet_distance(a, a + 3), 6)
    9.0
    """
    _check(a, b)
    with jax.enable_x64(True):
        return float(_frechet(jnp.asarray(a, jnp.float64), jnp.asarray(b, jnp.float64)))


def kernel_distance(a: Float[Array | np.ndarray, "n d"], b: Float[Array | np.ndarray, "m d"]) -> float:
    """Kernel distance (Binkowski et al. 2018, 1801.01401).

    The unbiased squared maximum mean discrepancy under k(x, y) = (x . y / d + 1)^3. It is
    computed in float64 over all pairs at once, not over blocks of 1,000, and may be negative.

    Raises:
      ValueError: fewer than two examples, or features that are not finite.
    """
    _check(a, b)
    with jax.enable_x64(True):
        return float(_kernel(jnp.asarray(a, jnp.float64), jnp.asarray(b, jnp.float64)))


@jax.jit
def _frechet(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, ""]:
    def root(x: Array) -> Array:
        """R with R^T R = C. Unlike a root of C itself, it takes no root of rounding errors if n < d."""
        made: Array = jnp.linalg.qr((x - x.mean(0)[None]) / jnp.sqrt(len(x) - 1), mode="r")
        return made

    roots = root(a), root(b)
    # tr (C_a C_b)^(1/2) is the sum of the singular values of R_a R_b^T.
    cross = jnp.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    traces = sum(jnp.sum(r**2) for r in roots)
    distance = jnp.sum((a.mean(0) - b.mean(0)) ** 2) + traces - 2 * cross
    rounding = 10 * a.shape[1] * np.finfo(np.float64).eps * traces
    return jnp.where(distance < -rounding, distance, jnp.maximum(distance, 0.0))


@jax.jit
def _kernel(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, ""]:
    def sums(x: Array, y: Array) -> Array:
        # Row by row in blocks, so that no matrix of all pairs is made.
        one = lambda row: jnp.sum((y @ row / x.shape[1] + 1) ** 3)  # noqa: E731
        return jnp.sum(jax.lax.map(one, x, batch_size=256))

    def within(x: Array) -> Array:
        own = jnp.sum((jnp.sum(x**2, 1) / x.shape[1] + 1) ** 3)
        return (sums(x, x) - own) / (len(x) * (len(x) - 1))

    return within(a) + within(b) - 2 * sums(a, b) / (len(a) * len(b))


def _check(a: Float[Array | np.ndarray, "n d"], b: Float[Array | np.ndarray, "m d"]) -> None:
    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"sets of {len(a)} and {len(b)} examples: a distance of laws needs two of each at least"
        )
    check_finite(a, b)
