"""What noise shows: each metric for i.i.d. Gaussian entries with the shape and the norm of the matrix.

Closed forms for large matrices where they are known; alpha by simulation, since its value for noise (10 for
768 x 768, 5 for 128 x 128) has none. Without them a square matrix of noise passes for "heavy-tailed".
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rmtjax.spectra import eigen, laws, tails

REPLICATES = 96  # of shapes with up to 1024 eigenvalues; larger ones down to 32
_ROWS = 256  # tridiagonal matrices solved in one call


def closed_forms(slices: Any, N: Any, M: Any) -> dict[str, np.ndarray]:
    """Expected metrics of noise, arrays of the length of the arguments; slices pooled, c = M/N.

    stable_rank: from the mean of the largest eigenvalue (Tracy-Widom), of the largest of the slices.
    effective_rank: slices M exp(-c/2), of the Marchenko-Pastur law. entropy: its logarithm, normalised.
    participation_ratio: (n + 2) / (N + M + 1) with n the number of entries, exact.
    mp_softrank: the edge over the mean of the largest eigenvalue.
    alpha_hill: Hill's exponent of the upper half of the Marchenko-Pastur law.
    """
    slices, N, M = (np.asarray(value, np.float64) for value in (slices, N, M))
    c, entries = M / N, slices * N * M
    centre, scale = laws.largest_eigenvalue_scale(N, M)
    largest = centre + scale * laws.tracy_widom_mean_of_largest(slices)
    effective_rank = slices * M * np.exp(-c / 2)
    upper_half = 0.5 + (np.arange(512) + 0.5) / 1024
    logs = np.log(laws.marchenko_pastur_quantile(upper_half, c[..., None]))
    spread = logs.mean(-1) - np.log(laws.marchenko_pastur_quantile(0.5, c))
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where(slices * M > 1, np.log(effective_rank) / np.log(slices * M), np.nan)
    expected = {
        "stable_rank": np.clip(entries / largest, 1.0, slices * M),
        "effective_rank": effective_rank,
        "participation_ratio": (entries + 2) / (N + M + 1),
        "entropy": entropy,
        "mp_softrank": N * (1 + np.sqrt(c)) ** 2 / largest,
        "alpha_hill": 1 + 1 / spread,
    }
    return {name: np.asarray(value) for name, value in expected.items()}


@functools.cache
def simulated_alpha(slices: int, N: int, M: int) -> np.ndarray:
    """alpha of 32 to 96 matrices of noise of this shape, ascending; NaN (last) where none can be fitted.

    The same for the same shape always (fixed seed), and computed once in a process.
    """
    replicates = int(np.clip(REPLICATES * (1024 / (slices * M)) ** 2, REPLICATES // 3, REPLICATES))
    rng = np.random.default_rng([slices, N, M])
    diagonal, off_diagonal = bidiagonal_wishart(rng, replicates * slices, N, M)
    rung = _rung(M, 128)
    rows = -(-len(diagonal) // _ROWS) * _ROWS
    diagonal = np.pad(diagonal / N, ((0, rows - len(diagonal)), (0, 0)))
    off_diagonal = np.pad(off_diagonal / N, ((0, rows - len(off_diagonal)), (0, 0)))
    roots = [
        _solve(diagonal[i : i + _ROWS], off_diagonal[i : i + _ROWS], rung) for i in range(0, rows, _ROWS)
    ]
    pooled = np.concatenate(roots)[: replicates * slices, rung - M :].reshape(replicates, slices * M)
    pooled = np.sort(np.maximum(pooled, 0.0), -1)
    size = _rung(slices * M, 512)
    aligned = np.pad(pooled, ((0, 0), (size - slices * M, 0)))
    count = (aligned > eigen.resolution(M, np.float32) * aligned[:, -1:]).sum(-1)
    return np.sort(np.asarray(_fit(aligned, count.astype(np.int32))))


def bidiagonal_wishart(
    rng: np.random.Generator, replicates: int, N: int, M: int
) -> tuple[Float[np.ndarray, "replicates M"], Float[np.ndarray, "replicates M-1"]]:
    """Tridiagonal matrices with exactly the eigenvalues' law of W^T W, W of N x M standard normal entries.

    B B^T with B lower bidiagonal, χ_N, χ_(N-1), ... on the diagonal and χ_(M-1), χ_(M-2), ... below it
    (Dumitriu and Edelman, J. Math. Phys. 43 (2002)): noise spectra for O(M²) instead of O(N M²).
    """
    main = rng.chisquare(N - np.arange(M), (replicates, M))
    side = rng.chisquare(np.arange(M - 1, 0, -1), (replicates, M - 1)) if M > 1 else np.zeros((replicates, 0))
    diagonal = main + np.pad(side, ((0, 0), (1, 0)))
    return diagonal.astype(np.float32), np.sqrt(main[:, : M - 1] * side).astype(np.float32)


def _rung(size: int, least: int) -> int:
    """The power of two to pad to: few programs serve all shapes, and a small matrix costs next to nothing."""
    return max(least, 1 << (size - 1).bit_length())


def _solve(diagonal: np.ndarray, off_diagonal: np.ndarray, rung: int) -> np.ndarray:
    extra = rung - diagonal.shape[1]
    below = np.broadcast_to(-diagonal.max(-1, keepdims=True), (len(diagonal), extra))
    padded = np.concatenate([diagonal, below], -1), np.pad(off_diagonal, ((0, 0), (0, extra)))
    return np.asarray(_roots(*padded))


_roots = jax.jit(eigen.tridiagonal_eigenvalues)


@jax.jit
def _fit(eigenvalues: Float[Array, "replicates size"], count: Array) -> Float[Array, " replicates"]:
    return jnp.asarray(tails.power_law(eigenvalues, count)["alpha"])
