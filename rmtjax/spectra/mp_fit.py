"""WeightWatcher's fit of the Marchenko-Pastur law to a kernel density, for comparison with `bulk`.

As coded in its release 0.7.7: eigenvalues are scaled to mean 1 (for square matrices their square roots are
taken); a triangular kernel of width 0.1 gives a density at 1000 points; where it is above 0.01 the law is
fitted to it by least squares, in σ alone. Two weaknesses are known: for square matrices the support does not
move with σ, and 1000 points over a spectrum with large spikes do not resolve the bulk. The kernel density is
computed here by prefix sums.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_POINTS, _WIDTH, _LEAST = 1000, 0.1, 0.01
_GRID = np.arange(0.05, 2.0, 0.01)


def fit_density(
    eigenvalues: Float[Array, "layers size"],
    count: Int[Array, " layers"],
    N: Float[Array, " layers"],
    M: Float[Array, " layers"],
) -> dict[str, Float[Array, " layers"]]:
    """The fit of each spectrum.

    Args:
      eigenvalues: of W^T W, ascending, right-aligned; slices pooled.
      count: number of eigenvalues in each row.
      N, M: sides of the matrices.

    Returns, NaN for a spectrum of zeros:
      sigma_mp: for eigenvalues of mean 1, as in WeightWatcher.
      bulk_min_mp_fit, bulk_max_mp_fit: edges of the bulk, in units of λ.
      num_spikes_mp_fit, mp_softrank_mp_fit.

    >>> from rmtjax.spectra import laws
    >>> noise = 512 * laws.marchenko_pastur_quantile((jnp.arange(128) + 0.5) / 128, 0.25)[None]
    >>> fit = fit_density(noise, jnp.array([128]), jnp.array([512.0]), jnp.array([128.0]))
    >>> float(fit["sigma_mp"][0].round(1)), float(fit["num_spikes_mp_fit"][0])
    (1.0, 0.0)
    """
    fitted: dict[str, Array] = jax.vmap(_fit)(eigenvalues, count, N / M, M)
    return fitted


def _fit(eigenvalues: Array, count: Array, Q: Array, M: Array) -> dict[str, Array]:
    size = eigenvalues.shape[0]
    used = jnp.arange(size, dtype=count.dtype) >= size - count
    scale = count.astype(eigenvalues.dtype) / eigenvalues.sum()  # the square of WeightWatcher's W_scale
    mu = eigenvalues * scale
    square = Q == 1
    t = jnp.where(used, jnp.where(square, jnp.sqrt(mu), mu), -1.0)
    x = jnp.linspace(0.0, 1.0, _POINTS, dtype=mu.dtype) * (t[-1] + 0.5)
    density = _density(t, used, x, count)
    kept = density > _LEAST
    root = jnp.sqrt(jnp.where(square, 1.0, 1 / Q))

    peak = x[density.argmax()]
    farthest = jnp.where(kept, x, 0.0).max()
    safe = jnp.where(x > 0, x, 1.0)

    def objective(sigmas: Array) -> Array:
        sigma, at = sigmas[:, None], x[None]
        lower, upper = (sigma * (1 - root)) ** 2, (sigma * (1 + root)) ** 2
        law = (
            Q * jnp.sqrt(jnp.maximum((upper - at) * (at - lower), 0.0)) / (2 * np.pi * sigma**2 * safe[None])
        )
        outside = ((upper < peak) | (upper > farthest) | (lower > peak))[:, 0]
        misfit = jnp.where(kept[None], jnp.square(law - density[None]), 0.0).sum(-1)
        return jnp.where(outside, 1e6 * kept.sum().astype(mu.dtype), misfit)

    start = jnp.sqrt(mu[-1]) / (1 + jnp.sqrt(1 / Q))
    grid = start * jnp.asarray(_GRID, mu.dtype)
    best = grid[objective(grid).argmin()]

    def refine(_: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        best, width = state
        near = best + width * jnp.linspace(-1.0, 1.0, 9, dtype=mu.dtype)
        return near[objective(near).argmin()], width / 4

    sigma, _ = jax.lax.fori_loop(0, 8, refine, (best, 0.01 * start))
    circle = jnp.sqrt(jnp.maximum(4 - x**2, 0.0)) / np.pi
    quarter = jnp.where(kept, circle**2, 0.0).sum() / jnp.where(kept, circle * density, 0.0).sum()
    sigma = jnp.where(square, jnp.sqrt(quarter), sigma)
    upper = (sigma * (1 + root)) ** 2
    margin = jnp.sqrt(root * upper ** (2 / 3) * M ** (-2 / 3))
    return {
        "sigma_mp": sigma,
        "num_spikes_mp_fit": (used & (mu > upper + margin)).sum().astype(mu.dtype),
        "mp_softrank_mp_fit": upper / mu[-1],
        "bulk_min_mp_fit": (sigma * (1 - root)) ** 2 / scale,
        "bulk_max_mp_fit": upper / scale,
    }


def _density(t: Array, used: Array, x: Array, count: Array) -> Array:
    """Density at x with the triangular kernel: prefix sums give the sums over the points on either side."""
    sums = jnp.concatenate([jnp.zeros(1, t.dtype), jnp.cumsum(jnp.where(used, t, 0.0))])
    first, middle, last = (jnp.searchsorted(t, at, side="right") for at in (x - _WIDTH, x, x + _WIDTH))
    first = jnp.maximum(first, t.shape[0] - count)
    middle, last = jnp.maximum(middle, first), jnp.maximum(last, first)
    num_left, num_right = (middle - first).astype(t.dtype), (last - middle).astype(t.dtype)
    left = num_left * (1 - x / _WIDTH) + (sums[middle] - sums[first]) / _WIDTH
    right = num_right * (1 + x / _WIDTH) - (sums[last] - sums[middle]) / _WIDTH
    return (left + right) / (count.astype(t.dtype) * _WIDTH)
