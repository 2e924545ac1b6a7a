"""What noise shows: each metric for i.i.d. Gaussian entries with the shape and the norm of the matrix.

Closed forms for large matrices where they are known; alpha from a table of simulated values, since for noise (10
for 768 x 768, 5 for 128 x 128) it has none. Without them a square matrix of noise passes for "heavy-tailed".
"""

import functools
import importlib.resources
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rmtjax.spectra import eigensolver, laws, tails

ALPHA_LEVELS = np.r_[0.005, 0.01, np.arange(0.025, 0.98, 0.025), 0.99, 0.995]
_FEWEST = 3  # eigenvalues
_ROWS, _FITS = 256, 64  # tridiagonal matrices solved, and spectra fitted, in one call


def closed_forms(slices: Any, N: Any, M: Any) -> dict[str, np.ndarray]:
    """Expected metrics of noise, arrays of the length of the arguments; slices pooled, c = M/N.

    stable_rank: from the mean of the largest eigenvalue (Tracy-Widom), of the largest of the slices.
    effective_rank: slices M exp(-c/2), of the Marchenko-Pastur law. entropy: its logarithm, normalised.
    participation_ratio: (n + 2) / (N + M + 1) with n the number of entries, exact.
    mp_softrank: the edge over the mean of the largest eigenvalue.
    alpha_hill: Hill's exponent of the upper half of the Marchenko-Pastur law. effective_rank_sv, nuclear_share
    (nuclear norm over √(n norm)), num_ERG_spikes: integrals over that law. condition_number: of its edges (none for
    c = 1). ks_mp: 95 % quantile, fitted to simulations within a tenth for M from 16 to 768 and up to 9 slices;
    eigenvalues repel each other, so that it falls as ln(n) / n and not as 1 / √n.
    """
    slices, N, M = (np.asarray(value, np.float64) for value in (slices, N, M))
    c, entries, count = M / N, slices * N * M, slices * M
    centre, scale = laws.largest_eigenvalue_scale(N, M)
    largest = centre + scale * laws.tracy_widom_mean_of_largest(slices)
    effective_rank = count * np.exp(-c / 2)
    levels = (np.arange(1024) + 0.5) / 1024
    x = laws.marchenko_pastur_quantile(levels, c[..., None])
    spread = np.log(x[..., 512:]).mean(-1) - np.log(laws.marchenko_pastur_quantile(0.5, c))
    root = np.sqrt(x)
    p = root / root.mean(-1, keepdims=True)
    product = np.cumsum(np.log(x)[..., ::-1], -1) < 0
    participation = (entries + 2) / (N + M + 1)
    stable = np.clip(entries / largest, 1.0, count)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_count = np.where(count > 1, np.log(count), np.nan)
        expected = {
            "stable_rank": stable,
            "effective_rank": effective_rank,
            "effective_rank_sv": count * np.exp(-(p * np.log(p)).mean(-1)),
            "participation_ratio": participation,
            "entropy": np.log(effective_rank) / log_count,
            "renyi_entropy_2": np.log(participation) / log_count,
            "renyi_entropy_inf": np.log(stable) / log_count,
            "nuclear_share": root.mean(-1),
            "condition_number": np.where(c < 1, (1 + np.sqrt(c)) / (1 - np.sqrt(c)), np.nan),
            "mp_softrank": N * (1 + np.sqrt(c)) ** 2 / largest,
            "alpha_hill": 1 + 1 / spread,
            "num_ERG_spikes": count * np.where(product.any(-1), product.argmax(-1) + 1, 1024) / 1024,
            "ks_mp": (0.7 + 0.57 * np.log(M)) * slices**0.6 / count,
        }
    return {name: np.asarray(value) for name, value in expected.items()}


def alpha_quantiles(slices: Any, N: Any, M: Any) -> np.ndarray:
    """Quantiles (`ALPHA_LEVELS`) of the power-law exponent of noise, `[shapes, levels]`.

    Read off a table of simulated values (`make_tables`), the logarithm of the exponent linearly in those of the number
    of eigenvalues, of Q and of the number of slices; outside the table its nearest edge is taken: more than 4096
    eigenvalues, Q above 4096, more than 49 slices. NaN for fewer than 3 eigenvalues, which have no tail to choose.
    """
    slices, N, M = (np.atleast_1d(np.asarray(value, np.float64)) for value in (slices, N, M))
    axes, values = _alpha_table()
    at = (np.log(slices), np.log(slices * M), np.log(N / M))
    inside = [np.clip(x, axis[0], axis[-1]) for x, axis in zip(at, axes, strict=True)]
    found = np.exp(_linear(axes, np.log(values), inside))
    return np.where((slices * M < _FEWEST)[:, None], np.nan, found)


def _linear(axes: Sequence[np.ndarray], values: np.ndarray, at: Sequence[np.ndarray]) -> np.ndarray:
    """Multilinear interpolation of `values[*axes, ...]` at points inside (scipy.interpolate takes long to import)."""
    cells = [
        np.clip(np.searchsorted(axis, x, "right") - 1, 0, len(axis) - 2)
        for axis, x in zip(axes, at, strict=True)
    ]
    shares = [(x - axis[i]) / (axis[i + 1] - axis[i]) for axis, x, i in zip(axes, at, cells, strict=True)]
    total = np.zeros(())
    for corner in itertools.product((0, 1), repeat=len(axes)):
        weight = np.prod([s if up else 1 - s for s, up in zip(shares, corner, strict=True)], axis=0)
        total = total + weight[:, None] * values[tuple(i + up for i, up in zip(cells, corner, strict=True))]
    return total


def alpha_p(alpha: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """How often noise has so small an exponent, from the quantiles of each row; at the ends half a step beyond."""
    lowest = ALPHA_LEVELS[0] / 2
    p = [
        np.interp(a, q, ALPHA_LEVELS, left=lowest, right=1 - lowest) if np.isfinite(a) else np.nan
        for a, q in zip(alpha, quantiles, strict=True)
    ]
    return np.array(p)


@functools.cache
def _alpha_table() -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    file = importlib.resources.files("rmtjax.spectra") / "assets" / "alpha_null.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as table:
        axes = tuple(np.log(table[name]) for name in ("slices", "n", "Q"))
        return axes, table["alpha"].astype(np.float64)


def simulated_alpha(slices: int, N: int, M: int, replicates: int, seed: int = 0) -> np.ndarray:
    """alpha of that many matrices of noise of this shape, ascending; NaN (last) where none can be fitted."""
    spectra = simulated_spectra(slices, N, M, replicates, seed)
    size = _rung(slices * M, 512)
    rows = -(-len(spectra) // _FITS) * _FITS
    aligned = np.pad(spectra, ((0, rows - len(spectra)), (size - slices * M, 0)))
    count = (aligned > eigensolver.resolution(M, np.float32) * aligned[:, -1:]).sum(-1).astype(np.int32)
    fits = [np.asarray(_fit(aligned[i : i + _FITS], count[i : i + _FITS])) for i in range(0, rows, _FITS)]
    return np.sort(np.concatenate(fits)[: len(spectra)])


def simulated_spectra(
    slices: int, N: int, M: int, replicates: int, seed: int = 0
) -> Float[np.ndarray, "replicates eigenvalues"]:
    """Eigenvalues of W^T W of noise of unit variance and of this shape, slices pooled, ascending, float32.

    The same for the same shape and seed always.
    """
    rng = np.random.default_rng([seed, slices, N, M])
    diagonal, off_diagonal = bidiagonal_wishart(rng, replicates * slices, N, M)
    rung = _rung(M, 128)
    rows = -(-len(diagonal) // _ROWS) * _ROWS
    diagonal = np.pad(diagonal / N, ((0, rows - len(diagonal)), (0, 0)))
    off_diagonal = np.pad(off_diagonal / N, ((0, rows - len(off_diagonal)), (0, 0)))
    roots = [
        _solve(diagonal[i : i + _ROWS], off_diagonal[i : i + _ROWS], rung) for i in range(0, rows, _ROWS)
    ]
    pooled = np.concatenate(roots)[: replicates * slices, rung - M :].reshape(replicates, slices * M)
    spectra: np.ndarray = np.sort(np.maximum(N * pooled, 0.0), -1)
    return spectra


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


_roots = jax.jit(eigensolver.tridiagonal_eigenvalues)


@jax.jit
def _fit(eigenvalues: Float[Array, "replicates size"], count: Array) -> Float[Array, " replicates"]:
    return jnp.asarray(tails.power_law(eigenvalues, count)["alpha"])
