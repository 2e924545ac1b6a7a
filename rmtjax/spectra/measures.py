"""Norms, ranks and entropies of a spectrum.

All functions take eigenvalues of W^T W, not divided by N, ascending, `[layers, size]`, with zeros in front
where a layer has fewer of them. Names and formulas are WeightWatcher's where it has the metric: log_norm is
the logarithm of the *squared* Frobenius norm, and spectral_norm is the largest eigenvalue, not the largest
singular value.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rmtjax.spectra import eigensolver


def norms_and_ranks(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"], rank_cut: Float[Array, " layers"]
) -> dict[str, Float[Array, " layers"]]:
    """Norms, ranks and entropies.

    Args:
      eigenvalues: ascending, right-aligned.
      count: number of eigenvalues in each row.
      rank_cut: the rank counts the eigenvalues above this share of the largest.

    Returns, with p = λ / Σλ:
      norm: Σλ = ||W||_F².
      spectral_norm: λ_max. nuclear_norm: Σ √λ. sv_max, sv_min: √λ_max, √λ_min.
      log_det: Σ ln λ over the eigenvalues that the rank counts.
      condition_number: sv_max / sv_min; infinite where the rank is not full.
      stable_rank: Σλ / λ_max. participation_ratio: (Σλ)² / Σλ².
      effective_rank: exp(-Σ p ln p). effective_rank_sv: the same with p = √λ / Σ√λ (Roy and Vetterli, 2007).
      matrix_rank: number of eigenvalues above `rank_cut` λ_max. rank_loss: number of the others.
      entropy: -Σ p ln p / ln(matrix_rank), in [0, 1]; NaN where the rank is below 2.
      renyi_entropy_2, renyi_entropy_inf: -ln Σ p² and -ln max p, the logarithms of participation ratio and
        stable rank, over ln(matrix_rank) like `entropy`.
    For a matrix of zeros the entropies and all ranks but matrix_rank and rank_loss are NaN.

    >>> found = norms_and_ranks(jnp.array([[0.0, 1.0, 3.0]]), jnp.array([2]), jnp.array([1e-6]))
    >>> {name: round(float(found[name][0]), 3) for name in ("norm", "stable_rank", "matrix_rank", "sv_min")}
    {'norm': 4.0, 'stable_rank': 1.333, 'matrix_rank': 2.0, 'sv_min': 1.0}
    """
    norm = eigenvalues.sum(-1)
    largest = eigenvalues[:, -1]
    entropy = jax.scipy.special.entr(eigenvalues / norm[:, None]).sum(-1)
    roots = jnp.sqrt(eigenvalues)
    nuclear = roots.sum(-1)
    above = _above(eigenvalues, count, rank_cut)
    nonzero = above.sum(-1).astype(jnp.int32)
    rank = nonzero.astype(eigenvalues.dtype)
    smallest = jnp.take_along_axis(roots, (eigenvalues.shape[1] - count)[:, None], -1)[:, 0]
    spread = norm**2 / jnp.square(eigenvalues).sum(-1)

    def normalised(value: Array) -> Array:
        return jnp.where(nonzero > 1, value / jnp.log(rank), jnp.nan)

    return {
        "norm": norm,
        "spectral_norm": largest,
        "nuclear_norm": nuclear,
        "log_det": jnp.where(above, jnp.log(jnp.where(above, eigenvalues, 1.0)), 0.0).sum(-1),
        "sv_max": roots[:, -1],
        "sv_min": smallest,
        "condition_number": jnp.where(nonzero < count, jnp.inf, roots[:, -1] / smallest),
        "stable_rank": norm / largest,
        "effective_rank": jnp.exp(entropy),
        "effective_rank_sv": jnp.exp(jax.scipy.special.entr(roots / nuclear[:, None]).sum(-1)),
        "participation_ratio": spread,
        "matrix_rank": rank,
        "rank_loss": count.astype(rank.dtype) - rank,
        "entropy": normalised(entropy),
        "renyi_entropy_2": normalised(jnp.log(spread)),
        "renyi_entropy_inf": normalised(jnp.log(norm / largest)),
    }


def nonzero_eigenvalues(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"], rank_cut: Float[Array, " layers"]
) -> Int[Array, " layers"]:
    """Number of eigenvalues above `rank_cut` times the largest: the numerical rank."""
    return _above(eigenvalues, count, rank_cut).sum(-1).astype(jnp.int32)


def _above(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"], rank_cut: Float[Array, " layers"]
) -> Bool[Array, "layers size"]:
    above = eigenvalues > rank_cut[:, None] * eigenvalues[:, -1:]
    return above & eigensolver.used(count, eigenvalues.shape[1])
