"""Norms, ranks and entropies of a spectrum.

All take eigenvalues of W^T W, not divided by N, ascending, `[layers, size]`, with zeros in front where a
layer has fewer of them. Names and formulas are WeightWatcher's where it has the metric (log_norm is of the
*squared* Frobenius norm, spectral_norm the largest eigenvalue, not the largest singular value).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rmtjax.spectra import eigensolver


def norms_and_ranks(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"], rank_cut: Float[Array, " layers"]
) -> dict[str, Float[Array, " layers"]]:
    """Norms, ranks and entropies.

    Args:
      eigenvalues: ascending, right-aligned.
      count: how many there are in each row.
      rank_cut: eigenvalues above this share of the largest count for the rank.

    Returns, with p = λ / Σλ:
      norm: Σλ = ||W||_F². spectral_norm: λ_max. nuclear_norm: Σ √λ. sv_max, sv_min: √λ_max, √λ_min.
      condition_number: sv_max / sv_min; infinite where the rank is not full.
      stable_rank: Σλ / λ_max. participation_ratio: (Σλ)² / Σλ².
      effective_rank: exp(-Σ p ln p). effective_rank_sv: the same with p = √λ / Σ√λ (Roy and Vetterli, 2007).
      renyi_entropy_2, renyi_entropy_inf: -ln Σ p² and -ln max p, normalised as `entropy`; their exponentials are
        participation ratio and stable rank.
      matrix_rank: the number of eigenvalues above `rank_cut` λ_max. rank_loss: how many there are not.
      entropy: -Σ p ln p / ln(matrix_rank), in [0, 1]; NaN where the rank is below 2.
      Ranks and entropy are NaN for a matrix of zeros.
    """
    norm = eigenvalues.sum(-1)
    largest = eigenvalues[:, -1]
    entropy = jax.scipy.special.entr(eigenvalues / norm[:, None]).sum(-1)
    roots = jnp.sqrt(eigenvalues)
    nuclear = roots.sum(-1)
    nonzero = nonzero_eigenvalues(eigenvalues, count, rank_cut)
    rank = nonzero.astype(eigenvalues.dtype)
    smallest = jnp.take_along_axis(roots, (eigenvalues.shape[1] - count)[:, None], -1)[:, 0]
    spread = norm**2 / jnp.square(eigenvalues).sum(-1)

    def normalised(value: Array) -> Array:
        return jnp.where(nonzero > 1, value / jnp.log(rank), jnp.nan)

    return {
        "norm": norm,
        "spectral_norm": largest,
        "nuclear_norm": nuclear,
        "sv_max": roots[:, -1],
        "sv_min": smallest,
        "condition_number": jnp.where(nonzero < count, jnp.inf, roots[:, -1] / smallest),
        "stable_rank": norm / largest,
        "effective_rank": jnp.exp(entropy),
        "effective_rank_sv": jnp.exp(jax.scipy.special.entr(roots / nuclear[:, None]).sum(-1)),
        "participation_ratio": spread,
        "matrix_rank": rank,
        "rank_loss": count - rank,
        "entropy": normalised(entropy),
        "renyi_entropy_2": normalised(jnp.log(spread)),
        "renyi_entropy_inf": normalised(jnp.log(norm / largest)),
    }


def nonzero_eigenvalues(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"], rank_cut: Float[Array, " layers"]
) -> Int[Array, " layers"]:
    """How many eigenvalues exceed `rank_cut` times the largest: the numerical rank."""
    above = eigenvalues > rank_cut[:, None] * eigenvalues[:, -1:]
    return (above & eigensolver.used(count, eigenvalues.shape[1])).sum(-1).astype(jnp.int32)
