"""What noise shows: each metric for i.i.d. Gaussian entries, with the shape and the norm of the matrix.

Closed forms for large matrices where they are known. For alpha there is none (its median in noise is 11 for
768 x 768 and 5 for 128 x 128), so its quantiles come from a table of simulated values. Without nulls a square
matrix of noise would pass for "heavy-tailed".
"""

import functools
import importlib.resources
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float

from rmtjax.spectra import eigensolver, laws, tails

ALPHA_LEVELS = np.r_[0.005, 0.01, np.arange(0.025, 0.98, 0.025), 0.99, 0.995]
_FEWEST = 3  # eigenvalues for which alpha has a null
KNOWN_SHAPES = "up to 49 slices, 131,072 eigenvalues and Q = 2^20"  # of the table of alpha, extended
_FITS = 64  # spectra that are fitted in one call


def closed_forms(slices: Any, N: Any, M: Any) -> dict[str, np.ndarray]:
    """Expected metrics of noise, for large matrices; slices pooled, c = M / N.

    Args:
      slices, N, M: arrays of the same length, or numbers.

    Returns, as arrays of that length:
      stable_rank: from the mean of the largest eigenvalue of all slices (Tracy-Widom).
      effective_rank: slices M exp(-c / 2), of the Marchenko-Pastur law.
      entropy, renyi_entropy_2, renyi_entropy_inf: logarithms of effective rank, participation ratio and
        stable rank, over the logarithm of the number of eigenvalues.
      participation_ratio: (n + 2) / (N + M + 1) with n the number of entries; exact.
      mp_softrank: the upper edge over the mean of the largest eigenvalue.
      alpha_hill: Hill's exponent of the upper half of the Marchenko-Pastur law.
      effective_rank_sv, num_ERG_spikes, nuclear_share (nuclear norm over √(n norm)): integrals over that law.
      condition_number: from the edges of that law; NaN for c = 1.
      ERG_gap: num_ERG_spikes less the median size of the power law's tail, which is fitted to simulations of
        up to 1600 eigenvalues to within a third; from about 100 eigenvalues on it is a small part of the gap.
      brody: the mean for one slice, fitted to simulations to within 0.02 for M from 32 to 1024; NaN for
        several. It is below 1, since spacings are divided by the mean of their neighbours, most so at the
        lower end of square matrices, where the density changes fastest; 0.952 for large matrices.

    The two fits are printed by `make_tables.formulas`.

    >>> float(closed_forms(1, 512, 128)["participation_ratio"].round(2))
    102.24
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
    ERG_tail = count * np.where(product.any(-1), product.argmax(-1) + 1, 1024) / 1024
    power_law_tail = np.minimum(5.909 * count**0.328 * np.exp(-0.358 * np.sqrt(c)), count)
    from_zero = M * (1 - np.sqrt(c))  # about the number of eigenvalues that fit below the bulk
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
            "num_ERG_spikes": ERG_tail,
            "ERG_gap": ERG_tail - power_law_tail,
            "brody": np.where(slices == 1, 0.952 - 9.275 / (1 + from_zero / 2.295) / M, np.nan),
        }
    return {name: np.asarray(value) for name, value in expected.items()}


class Noise(NamedTuple):
    """Shapes of matrices, `[rows]` each, and the metrics of noise of these shapes (`closed_forms`)."""

    slices: np.ndarray
    N: np.ndarray
    M: np.ndarray
    closed_forms: dict[str, np.ndarray]


# What noise shows of one metric, given the shapes and the columns of the metrics: `[rows]`.
Null = Callable[[Noise, Mapping[str, np.ndarray]], np.ndarray]


def nuclear_norm(noise: Noise, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of noise with the same Frobenius norm."""
    share = noise.closed_forms["nuclear_share"]
    return np.asarray(share * np.sqrt(noise.slices * noise.M) * np.sqrt(columns["norm"]))


def log_det(noise: Noise, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of Gaussian noise with the same Frobenius norm: the mean of the logarithm of a Wishart determinant.

    Per slice it is Σ ψ((N - i) / 2) + M ln 2σ² over i < M (Anderson, An Introduction to Multivariate
    Statistical Analysis, section 7.5).
    """
    slices, N, M = noise.slices, noise.N, noise.M
    of_slice = [scipy.special.digamma((n - np.arange(m)) / 2).sum() for n, m in zip(N, M, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(slices * (of_slice + M * np.log(2 * columns["norm"] / (slices * N * M))))


def log_spectral_norm(noise: Noise, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of noise with the same Frobenius norm."""
    return np.asarray(columns["log_norm"] - np.log10(noise.closed_forms["stable_rank"]))


def ks_mp(noise: Noise, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The 95 % quantile, for noise without the spikes that were left out of the fit (`num_removed`)."""
    lost = np.nan_to_num(columns["num_removed"]) / noise.slices
    return np.asarray(laws.marchenko_pastur_distance(noise.slices, noise.M - lost, 0.95))


def of_one_slice(value: float) -> Null:
    """A value that holds for the eigenvalues of one matrix, and not for those of several slices pooled."""
    return lambda noise, columns: np.where(noise.slices == 1, value, np.nan)


def alpha_quantiles(slices: Any, N: Any, M: Any) -> np.ndarray:
    """Quantiles of the power-law exponent of noise at `ALPHA_LEVELS`: `[shapes, levels]`.

    They are interpolated in a table of simulated values (`make_tables`): the logarithm of the exponent is
    linear in the logarithms of the number of eigenvalues, of Q and of the number of slices. The table ends at
    4096 eigenvalues and Q = 4096; `_extended` continues it to 131,072 eigenvalues and Q = 2^20. NaN beyond
    that, for more than 49 slices, and for fewer than 3 eigenvalues, for which there is no choice of a tail.

    >>> float(np.interp(0.5, ALPHA_LEVELS, alpha_quantiles(1, 768, 768)[0]).round())  # the median
    11.0
    """
    slices, N, M = (np.atleast_1d(np.asarray(value, np.float64)) for value in (slices, N, M))
    axes, logs = _alpha_table()
    at = (np.log(slices), np.log(slices * M), np.log(N / M))
    inside = [np.clip(x, axis[0], axis[-1]) for x, axis in zip(at, axes, strict=True)]
    known = (slices * M >= _FEWEST) & np.all([x <= axis[-1] for x, axis in zip(at, axes, strict=True)], 0)
    return np.where(known[:, None], np.exp(_linear(axes, logs, inside)), np.nan)


def _extended(
    axes: Sequence[np.ndarray], logs: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """The table of ln alpha with points beyond its ends in the number n of eigenvalues and in Q.

    In n: each quantile is a power of n, as in its last four points, from 512 to 4096; the exponent is fitted
    to all Q together (0.44 at the median of one slice), the factor to each alone. Of 8192 x 8192 this gives
    a median of 30.4, and 60 simulated matrices had 29.4.
    In Q: as √Q. For tall matrices W^T W is near N times the identity, and ln λ spreads as 1 / √Q.
    """
    slices, n, q = axes
    centred = n[-4:] - n[-4:].mean()
    exponent = (logs[:, -4:] * centred[:, None, None]).sum(1).mean(1) / (centred**2).sum()
    many = np.log([2.0**13, 2.0**17])
    beyond = logs[:, -4:].mean(1)[:, None] + exponent[:, None, None] * (many - n[-4:].mean())[:, None, None]
    logs = np.concatenate([logs, beyond], 1)
    tall = np.log(2.0**20)
    logs = np.concatenate([logs, logs[:, :, -1:] + (tall - q[-1]) / 2], 2)
    return (slices, np.append(n, many), np.append(q, tall)), logs


def _linear(axes: Sequence[np.ndarray], values: np.ndarray, at: Sequence[np.ndarray]) -> np.ndarray:
    """Multilinear interpolation of `values[*axes, ...]` at inner points: scipy.interpolate loads slowly."""
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
    """Probability of an exponent this small or smaller in noise, from the quantiles of each row.

    Beyond the outermost quantiles it is half the lowest level, or 1 minus that.
    """
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
        return _extended(axes, np.log(table["alpha"].astype(np.float64)))


def simulated_alpha(slices: int, N: int, M: int, replicates: int, seed: int = 0) -> np.ndarray:
    """alpha of `replicates` noise matrices of this shape, ascending; NaN, at the end, if there is no fit."""
    spectra = simulated_spectra(slices, N, M, replicates, seed)
    # Padded to powers of two: few programs then serve all shapes, and small matrices cost little.
    size = max(512, 1 << (slices * M - 1).bit_length())
    rows = -(-len(spectra) // _FITS) * _FITS
    aligned = np.pad(spectra, ((0, rows - len(spectra)), (size - slices * M, 0)))
    count = (aligned > eigensolver.resolution(M, np.float32) * aligned[:, -1:]).sum(-1).astype(np.int32)
    fits = [np.asarray(_fit(aligned[i : i + _FITS], count[i : i + _FITS])) for i in range(0, rows, _FITS)]
    return np.sort(np.concatenate(fits)[: len(spectra)])


def simulated_spectra(
    slices: int, N: int, M: int, replicates: int, seed: int = 0
) -> Float[np.ndarray, "replicates eigenvalues"]:
    """Eigenvalues of W^T W of noise of unit variance and this shape; slices pooled, ascending, float32.

    The same shape and seed always give the same spectra.
    """
    rng = np.random.default_rng([seed, slices, N, M])
    diagonal, off_diagonal = bidiagonal_wishart(rng, replicates * slices, N, M)
    roots = [
        scipy.linalg.eigvalsh_tridiagonal(*one, lapack_driver="sterf", check_finite=False)
        for one in zip(diagonal, off_diagonal, strict=True)
    ]
    pooled = np.maximum(np.reshape(roots, (replicates, slices * M)), 0.0)
    return np.sort(pooled, -1).astype(np.float32)


def simulated_products(
    left: int, right: int, inner: int, replicates: int, seed: int = 0
) -> Float[np.ndarray, "replicates eigenvalues"]:
    """Nonzero eigenvalues of W^T W, ascending, for W = L R^T of noise L `left x inner`, R `right x inner`.

    The entries of L have the variance 1 / left, those of R 1 / right. Of either factor only the triangle of
    its QR decomposition is drawn: entries are normal, and χ_n, χ_(n-1), ... stand on the diagonal (Bartlett).
    """
    rng = np.random.default_rng([seed, left, right, inner])
    one, other = (_triangles(rng, replicates, rows, inner) / math.sqrt(rows) for rows in (left, right))
    products = one @ other.swapaxes(1, 2)
    values = np.linalg.eigvalsh(products @ products.swapaxes(1, 2))
    spectra: np.ndarray = np.maximum(values[:, -min(products.shape[1:]) :], 0.0)
    return spectra


def _triangles(rng: np.random.Generator, replicates: int, rows: int, columns: int) -> np.ndarray:
    size = min(rows, columns)
    out = np.triu(rng.standard_normal((replicates, size, columns)))
    out[:, range(size), range(size)] = np.sqrt(rng.chisquare(rows - np.arange(size), (replicates, size)))
    return out


def bidiagonal_wishart(
    rng: np.random.Generator, replicates: int, N: int, M: int
) -> tuple[Float[np.ndarray, "replicates M"], Float[np.ndarray, "replicates M-1"]]:
    """Tridiagonal matrices whose eigenvalues have exactly the law of those of W^T W for standard normal W.

    They are B B^T with B lower bidiagonal: χ_N, χ_(N-1), ... on the diagonal and χ_(M-1), χ_(M-2), ... below
    it (Dumitriu and Edelman, J. Math. Phys. 43 (2002)). A spectrum costs O(M²) operations instead of O(N M²).

    Returns:
      The diagonals and the off-diagonals.
    """
    main = rng.chisquare(N - np.arange(M), (replicates, M))
    side = rng.chisquare(np.arange(M - 1, 0, -1), (replicates, M - 1)) if M > 1 else np.zeros((replicates, 0))
    diagonal = main + np.pad(side, ((0, 0), (1, 0)))
    return diagonal, np.sqrt(main[:, : M - 1] * side)


@jax.jit
def _fit(eigenvalues: Float[Array, "replicates size"], count: Array) -> Float[Array, " replicates"]:
    return jnp.asarray(tails.power_law(eigenvalues, count)["alpha"])
