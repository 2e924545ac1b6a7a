"""The same weights in random order: what of a spectrum comes from correlations, and what from the entries alone.

Outliers that survive the shuffle ("traps") come from single large entries. Names as in WeightWatcher; one shuffle
serves all of them, where it draws two, and it comes from a seed.
"""

import functools
import zlib

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rmtjax.spectra.matrices import Matrix


def shuffled(matrix: Matrix, seed: int) -> Matrix:
    """A matrix whose entries, over all slices, are those of `matrix` in another order; the same for a name and seed."""
    return matrix._replace(load=functools.partial(_shuffle, matrix, seed))


def _shuffle(matrix: Matrix, seed: int) -> np.ndarray:
    weights = np.array(matrix.load(), order="C")  # a copy
    np.random.default_rng([seed, zlib.crc32(matrix.name.encode())]).shuffle(weights.reshape(-1))
    return weights


def against_shuffled(
    eigenvalues: Float[Array, "layers size"], shuffled: Float[Array, "layers size"]
) -> dict[str, Float[Array, " layers"]]:
    """How far a spectrum is from that of the same entries in random order; both ascending and right-aligned.

    Returns:
      max_rand_eval: the largest eigenvalue after the shuffle. ww_softrank: over the largest before.
      ww_maxdist: the difference of the two. rand_distance: √ of the Jensen-Shannon divergence (natural logarithm)
        of the two sorted lists of eigenvalues, each divided by its sum; not a distance of densities.
    """
    before, after = eigenvalues[:, -1], shuffled[:, -1]
    p, q = (values / values.sum(-1, keepdims=True) for values in (eigenvalues, shuffled))
    # WeightWatcher divides the mean of the lists, not of the shares, by its sum.
    m = eigenvalues + shuffled
    m = m / m.sum(-1, keepdims=True)

    def divergence(a: Array) -> Array:
        positive = (a > 0) & (m > 0)
        terms = a * jnp.log(jnp.where(positive, a, 1.0) / jnp.where(positive, m, 1.0))
        return jnp.where(positive, terms, 0.0).sum(-1)

    return {
        "max_rand_eval": after,
        "ww_softrank": after / before,
        "ww_maxdist": before - after,
        "rand_distance": jnp.sqrt(jnp.maximum(divergence(p) + divergence(q), 0.0) / 2),
    }
