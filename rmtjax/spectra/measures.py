"""Norms, ranks and entropies of a spectrum.

All take eigenvalues of W^T W, not divided by N, ascending, `[layers, size]`, with zeros in front where a
layer has fewer of them. Names and formulas are WeightWatcher's where it has the metric (log_norm is of the
*squared* Frobenius norm, spectral_norm the largest eigenvalue, not the largest singular value).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rmtjax.spectra import eigen


def measures(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"], rank_cut: Float[Array, " layers"]
) -> dict[str, Float[Array, " layers"]]:
    """Norms, ranks and entropies.

    Args:
      eigenvalues: ascending, right-aligned.
      count: how many there are in each row.
      rank_cut: eigenvalues above this share of the largest count for the rank.

    Returns, with p = λ / Σλ:
      norm: Σλ = ||W||_F². spectral_norm: λ_max.
      stable_rank: Σλ / λ_max. participation_ratio: (Σλ)² / Σλ².
      effective_rank: exp(-Σ p ln p). Roy and Vetterli (2007) take p from singular values: the same word,
        another number.
      matrix_rank: the number of eigenvalues above `rank_cut` λ_max.
      entropy: -Σ p ln p / ln(matrix_rank), in [0, 1]; NaN where the rank is below 2.
      Ranks and entropy are NaN for a matrix of zeros.
    """
    norm = eigenvalues.sum(-1)
    largest = eigenvalues[:, -1]
    entropy = jax.scipy.special.entr(eigenvalues / norm[:, None]).sum(-1)
    nonzero = nonzero_eigenvalues(eigenvalues, count, rank_cut)
    rank = nonzero.astype(eigenvalues.dtype)
    return {
        "norm": norm,
        "spectral_norm": largest,
        "stable_rank": norm / largest,
        "effective_rank": jnp.exp(entropy),
        "participation_ratio": norm**2 / jnp.square(eigenvalues).sum(-1),
        "matrix_rank": rank,
        "entropy": jnp.where(nonzero > 1, entropy / jnp.log(rank), jnp.nan),
    }


def nonzero_eigenvalues(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"], rank_cut: Float[Array, " layers"]
) -> Int[Array, " layers"]:
    """How many eigenvalues exceed `rank_cut` times the largest: the numerical rank."""
    above = eigenvalues > rank_cut[:, None] * eigenvalues[:, -1:]
    return (above & eigen.used(count, eigenvalues.shape[1])).sum(-1).astype(jnp.int32)
