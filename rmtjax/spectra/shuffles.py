"""The spectrum of the same weights in random order: what their entries explain without correlations.

Outliers that survive the shuffle ("traps") come from single large entries. Names are WeightWatcher's. Here
one shuffle, drawn from a seed, serves all metrics; WeightWatcher draws two.
"""

import functools
import zlib

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rmtjax.spectra.matrices import Matrix


def shuffled(matrix: Matrix, seed: int) -> Matrix:
    """The matrix with the entries of all slices in a random order, which its name and `seed` determine."""
    return matrix._replace(load=functools.partial(_shuffle, matrix, seed))


def _shuffle(matrix: Matrix, seed: int) -> np.ndarray:
    weights = np.array(matrix.load(), order="C")  # a copy, which is shuffled in place
    np.random.default_rng([seed, zlib.crc32(matrix.name.encode())]).shuffle(weights.reshape(-1))
    return weights


def against_shuffled(
    eigenvalues: Float[Array, "layers size"], shuffled: Float[Array, "layers size"]
) -> dict[str, Float[Array, " layers"]]:
    """Compares a spectrum with that of the same entries in random order; both ascending and right-aligned.

    Returns:
      max_rand_eval: the largest eigenvalue after the shuffle.
      ww_softrank: max_rand_eval over the largest eigenvalue before.
      ww_maxdist: the largest eigenvalue before minus max_rand_eval.
      rand_distance: √ of the Jensen-Shannon divergence (natural logarithm) of the two sorted lists of
        eigenvalues, each divided by its sum. It is not a distance between densities.

    >>> found = against_shuffled(jnp.array([[1.0, 4.0]]), jnp.array([[2.0, 3.0]]))
    >>> found["ww_softrank"], found["ww_maxdist"]
    (Array([0.75], dtype=float32), Array([1.], dtype=float32))
    """
    before, after = eigenvalues[:, -1], shuffled[:, -1]
    p, q = (values / values.sum(-1, keepdims=True) for values in (eigenvalues, shuffled))
    # As WeightWatcher: the mean of the two lists is divided by its sum, not the mean of the shares.
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
