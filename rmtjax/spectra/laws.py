"""Limit laws of random matrices: Marchenko-Pastur for the bulk, Tracy-Widom for the edge.

Conventions: W is `N x M` with N >= M and i.i.d. entries of variance σ²; c = M / N in (0, 1]. The
Marchenko-Pastur law is that of the eigenvalues of W^T W / N. Elsewhere in this package eigenvalues are of
W^T W, N times as large. The Marchenko-Pastur functions take and return numpy arrays (float64) or JAX arrays,
and work under `jit`. The Tracy-Widom law is tabulated, in numpy.

Sources: Marchenko and Pastur, Math. USSR Sb. 1 (1967); Tracy and Widom, Comm. Math. Phys. 177 (1996);
Johnstone, Ann. Statist. 29 (2001); Ma, Bernoulli 18 (2012); Bornemann, Markov Process. Relat. Fields 16
(2010).
"""

import functools
import importlib.resources
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _arrays(*values: Any) -> tuple[Any, ...]:
    """The module to compute with (jnp if any value is a JAX array, else np), and the values as its arrays."""
    if any(isinstance(value, jax.Array) for value in values):
        return (jnp, *(jnp.asarray(value) for value in values))
    return (np, *(np.asarray(value, np.float64) for value in values))


def marchenko_pastur_edges(c: Any, variance: Any = 1.0) -> tuple[Any, Any]:
    """Lower and upper edge of the support: σ² (1 ∓ √c)².

    >>> [float(edge) for edge in marchenko_pastur_edges(0.25)]
    [0.25, 2.25]
    """
    xp, c, variance = _arrays(c, variance)
    root = xp.sqrt(c)
    return variance * (1 - root) ** 2, variance * (1 + root) ** 2


def marchenko_pastur_pdf(x: Any, c: Any, variance: Any = 1.0) -> Any:
    """Density at x. Zero outside the support, and at 0, where it diverges for c = 1."""
    xp, x, c, variance = _arrays(x, c, variance)
    lower, upper = marchenko_pastur_edges(c, variance)
    inside = (x > lower) & (x < upper)
    safe = xp.where(inside, x, (lower + upper) / 2)
    density = xp.sqrt((upper - safe) * (safe - lower)) / (2 * np.pi * c * variance * safe)
    return xp.where(inside, density, 0.0)


def marchenko_pastur_cdf(x: Any, c: Any, variance: Any = 1.0) -> Any:
    """Share of eigenvalues up to x, in closed form.

    >>> float(marchenko_pastur_cdf(1.0, 0.25).round(4))
    0.5534
    """
    xp, x, c, variance = _arrays(x, c, variance)
    lower, upper = marchenko_pastur_edges(c, 1.0)
    x = xp.clip(x / variance, lower, upper)
    # The antiderivative of the density. The two-argument arctangents are finite at both edges and at c = 1.
    root = xp.sqrt((upper - x) * (x - lower))
    middle = xp.arctan2(lower + upper - 2 * x, 2 * root)
    origin = xp.arctan2(2 * lower * upper - (lower + upper) * x, 2 * (1 - c) * root)
    share = 0.5 + (root - (1 + c) * middle + (1 - c) * origin) / (2 * np.pi * c)
    return xp.clip(share, 0.0, 1.0)


def marchenko_pastur_quantile(p: Any, c: Any, variance: Any = 1.0) -> Any:
    """The x below which a share p of the eigenvalues lies, by bisection of the distribution function.

    >>> float(marchenko_pastur_quantile(0.5, 1.0).round(4))
    0.6528
    """
    xp, p, c, variance = _arrays(p, c, variance)
    lower, upper = marchenko_pastur_edges(c, 1.0)
    p, lower, upper = xp.broadcast_arrays(p, lower, upper)
    for _ in range(60):
        middle = (lower + upper) / 2
        below = marchenko_pastur_cdf(middle, c) < p
        lower, upper = xp.where(below, middle, lower), xp.where(below, upper, middle)
    return variance * (lower + upper) / 2


# The constants of `marchenko_pastur_distance` at each level, from `make_tables.formulas`.
DISTANCES = {0.95: (0.798, 0.438, 0.136), 0.99: (1.012, 0.455, 0.143)}


def marchenko_pastur_distance(slices: Any, M: Any, level: float) -> Any:
    """Quantile, at level 0.95 or 0.99, of the largest difference between the law and eigenvalues of noise.

    Fitted to simulations (`make_tables.formulas`) to within 9 %, for M from 8 to 1024 and up to 49 slices. σ²
    is that of the regression in `bulk`. Eigenvalues repel each other, so the distance decreases as ln(M) / M
    and not as 1 / √M; slices are independent, and have a bias of order 1 / M in common.

    >>> float(marchenko_pastur_distance(1, 500, 0.95).round(4))
    0.007
    """
    xp, slices, M = _arrays(slices, M)
    a, b, bias = DISTANCES[level]
    return ((a + b * xp.log(M)) * xp.sqrt(slices) + bias * (slices - 1)) / (slices * M)


def bbp_singular_value(theta: Any, c: Any) -> Any:
    """Singular value of a rank-one signal of strength θ in noise, in units of σ √N; the edge if θ <= c^(1/4).

    Baik, Ben Arous and Péché (2005); Benaych-Georges and Nadakuditi, J. Multivar. Anal. 111 (2012).
    """
    xp, theta, c = _arrays(theta, c)
    outside = theta > c**0.25
    safe = xp.where(outside, theta, 1.0)
    return xp.where(outside, xp.sqrt((1 + safe**2) * (c + safe**2)) / safe, 1 + xp.sqrt(c))


def bbp_strength(s: Any, c: Any) -> tuple[Any, Any, Any]:
    """The inverse of `bbp_singular_value`, and how close the observed singular vectors are to the true ones.

    Args:
      s: a singular value in units of σ √N.
      c: M / N.

    Returns:
      θ, and the squared cosines between true and observed singular vectors of length N and of length M; NaN
      for s inside the bulk.

    >>> theta, along_N, along_M = bbp_strength(bbp_singular_value(2.0, 0.25), 0.25)
    >>> float(theta.round(6)), float(along_N.round(4)), float(along_M.round(4))
    (2.0, 0.7875, 0.9265)
    """
    xp, s, c = _arrays(s, c)
    outside = s > 1 + xp.sqrt(c)
    excess = xp.where(outside, s**2 - 1 - c, 2.0)
    square = xp.where(outside, (excess + xp.sqrt(xp.maximum(excess**2 - 4 * c, 0.0))) / 2, 1.0)
    along_N = 1 - (c + square) / (square * (square + 1))
    along_M = 1 - c * (1 + square) / (square * (square + c))
    return tuple(xp.where(outside, value, xp.nan) for value in (xp.sqrt(square), along_N, along_M))


def gavish_donoho_threshold(c: Any) -> Any:
    """Optimal hard threshold on singular values, in units of σ √N, for known σ (arXiv 1305.5870, eq. 11).

    >>> float(gavish_donoho_threshold(1.0).round(4))  # 4 / √3
    2.3094
    """
    xp, c = _arrays(c)
    return xp.sqrt(2 * (c + 1) + 8 * c / (c + 1 + xp.sqrt(c**2 + 14 * c + 1)))


def gavish_donoho_omega(c: Any) -> Any:
    """The same threshold for noise of unknown σ, in units of the median singular value.

    >>> float(gavish_donoho_omega(1.0).round(3))
    2.858
    """
    xp, c = _arrays(c)
    return gavish_donoho_threshold(c) / xp.sqrt(marchenko_pastur_quantile(0.5, c))


def largest_eigenvalue_scale(N: Any, M: Any) -> tuple[Any, Any]:
    """Centre and scale of the largest eigenvalue of W^T W for σ = 1.

    (λ_max - centre) / scale follows the Tracy-Widom law with β = 1. These are Johnstone's constants with
    N - 1/2 and M - 1/2, which are accurate to second order (Ma 2012).
    """
    xp, N, M = _arrays(N, M)
    n, m = xp.sqrt(N - 0.5), xp.sqrt(M - 0.5)
    return (n + m) ** 2, (n + m) * (1 / n + 1 / m) ** (1 / 3)


def tracy_widom_cdf(x: Any) -> np.ndarray:
    """Distribution function of the Tracy-Widom law for real matrices (β = 1).

    >>> float(tracy_widom_cdf(0.9793).round(3))
    0.95
    """
    return np.asarray(-np.expm1(_log_survival(x)))


def tracy_widom_sf(x: Any) -> np.ndarray:
    """1 minus the distribution function, accurate far into the upper tail: the p-value of λ_max."""
    return np.asarray(np.exp(_log_survival(x)))


def tracy_widom_quantile(p: Any) -> np.ndarray:
    """The x at which the distribution function is p, for p in (0, 1); at least -10."""
    return tracy_widom_isf(1 - np.asarray(p, np.float64))


def tracy_widom_isf(p: Any) -> np.ndarray:
    """The x that is exceeded with probability p, for p in (0, 1): the threshold of a test at level p.

    >>> float(tracy_widom_isf(0.01).round(3))
    2.023
    """
    target = np.log(np.asarray(p, np.float64))
    lower, upper = np.full(target.shape, -10.0), np.full(target.shape, 200.0)
    for _ in range(60):
        middle = (lower + upper) / 2
        above = _log_survival(middle) > target
        lower, upper = np.where(above, middle, lower), np.where(above, upper, middle)
    return np.asarray((lower + upper) / 2)


def tracy_widom_mean_of_largest(count: Any) -> np.ndarray:
    """Mean of the largest of `count` independent Tracy-Widom variables.

    >>> float(tracy_widom_mean_of_largest(1).round(4))
    -1.2065
    """
    grid = np.linspace(-10, 20, 3001)
    power = tracy_widom_cdf(grid) ** np.asarray(count, np.float64)[..., None]
    return np.asarray(grid[-1] - np.trapezoid(power, grid, axis=-1))


def _log_survival(x: Any) -> np.ndarray:
    """log(1 - F) of the Tracy-Widom law."""
    x = np.asarray(x, np.float64)
    grid, upper, lower = _tracy_widom_table()
    inside = np.clip(x, grid[0], grid[-1])
    near = upper(inside)
    # Below the median F, not 1 - F, is known to relative accuracy.
    low = np.log1p(-np.exp(np.minimum(lower(inside), -0.1)))
    far = np.maximum(x, grid[-1])
    # Leading term, for large x, of the trace of the kernel in tracy_widom_logs.
    tail = -2 / 3 * far**1.5 - 0.75 * np.log(far) - np.log(4 * np.sqrt(np.pi))
    return np.asarray(np.where(x > grid[-1], tail, np.where(x > -1.27, near, low)))


@functools.cache
def _tracy_widom_table() -> tuple[np.ndarray, Callable[[Any], Any], Callable[[Any], Any]]:
    """A grid, and log(1 - F) and log F as cubic splines on it, from the table that `make_tables` stored."""
    file = importlib.resources.files("rmtjax.spectra") / "assets" / "tracy_widom.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as table:
        grid, upper, lower = (table[name] for name in ("grid", "log_survival", "log_f"))
    return grid, functools.partial(_hermite, grid, *upper), functools.partial(_hermite, grid, *lower)


def _hermite(grid: np.ndarray, values: np.ndarray, slopes: np.ndarray, x: np.ndarray | float) -> np.ndarray:
    """The piecewise cubic with these values and slopes on a uniform grid: scipy.interpolate loads slowly."""
    step = grid[1] - grid[0]
    cell = np.clip(((x - grid[0]) / step).astype(int), 0, len(grid) - 2)
    t = (x - grid[cell]) / step
    rise = values[cell + 1] - values[cell]
    left, right = step * slopes[cell] - rise, rise - step * slopes[cell + 1]
    return np.asarray(values[cell] + t * (rise + (1 - t) * ((1 - t) * left + t * right)))


def tracy_widom_logs(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log(1 - F) and log F of the Tracy-Widom law for β = 1, from its determinant; a millisecond per point.

    F(s) is the Fredholm determinant of 1 - V on L²(0, ∞) with V(x, y) = Ai(s + (x + y)/2) / 2 (Ferrari and
    Spohn, J. Phys. A 38 (2005)). Gauss-Legendre quadrature of it converges exponentially (Bornemann). The
    eigenvalues of V give both logarithms without cancellation.
    """
    import scipy.special

    nodes, weights = np.polynomial.legendre.leggauss(40)
    length = 2 * (14.0 - np.minimum(grid, 10.0))[:, None]  # Ai is below 1e-16 beyond s + length / 2
    x, w = (nodes + 1) / 2 * length, np.sqrt(weights / 2 * length)
    kernel = scipy.special.airy(grid[:, None, None] + (x[:, :, None] + x[:, None, :]) / 2)[0] / 2
    eigenvalues = np.linalg.eigvalsh(w[:, :, None] * kernel * w[:, None, :])
    log_f = np.log1p(-np.minimum(eigenvalues, 1 - 1e-16)).sum(-1)
    return np.log(-np.expm1(log_f)), log_f
