"""Power-law tails: maximum likelihood with the tail's start chosen by Kolmogorov-Smirnov distance, and Hill.

All take eigenvalues ascending and right-aligned, `[layers, size]`. The density is p(x) ~ x^-alpha above xmin.
Sources: Clauset, Shalizi and Newman, SIAM Review 51 (2009); Hill, Ann. Statist. 3 (1975); conventions of
WeightWatcher 0.7.7, whose numbers these are, except that eigenvalues are left out of the fit when they are
zero to rounding, instead of below 1e-5 in absolute terms: the fit does not depend on the scale of W.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

SMALL_SAMPLE, SMALL_TAIL = 20, 8
# Tails in which all eigenvalues are equal have no exponent; this is the least mean log-spread.
LEAST_SPREAD = 1e-6


def power_law(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"]
) -> dict[str, Float[Array, " layers"]]:
    """Fits the largest `count` eigenvalues of each row, with every one but the last as candidate for xmin.

    For the tail x_1 <= ... <= x_n from xmin = x_1 on, alpha = 1 + n / Σ ln(x_i / xmin), and
    D = max_i |1 - (x_i / xmin)^(1 - alpha) - (i - 1) / n|; the tail with the least D is taken. With fewer
    than 20 eigenvalues, tails of at least 8 and the unbiased alpha = 1 + (n - 1) / Σ ln(x_i / xmin).

    Args:
      eigenvalues: ascending, right-aligned; the ones used must be positive.
      count: how many to use.

    Returns:
      alpha, D, xmin, num_pl_spikes (n) and alpha_se = (alpha - 1) / √n, the standard error for independent
      data at a given xmin: eigenvalues repel each other and xmin is chosen, so it is only a scale. All but
      num_pl_spikes (0) are NaN where no tail can be fitted.
    """
    size = eigenvalues.shape[1]
    place = jnp.arange(size)
    within = place >= size - count[:, None]
    logs = jnp.where(within, jnp.log(jnp.where(within, eigenvalues, 1.0) / eigenvalues[:, -1:]), 0.0)
    tail = jnp.broadcast_to(size - place, logs.shape)
    spread = jnp.cumsum(logs[:, ::-1], -1)[:, ::-1] - tail * logs
    small = (count < SMALL_SAMPLE)[:, None]
    least = jnp.where(small, jnp.minimum(SMALL_TAIL, count[:, None]), 2)
    candidate = within & (tail >= jnp.maximum(least, 2)) & (spread > LEAST_SPREAD * tail)
    slope = jnp.where(candidate, (tail - small) / jnp.where(candidate, spread, 1.0), 0.0)
    distances = jnp.where(candidate, _ks_distances(logs, slope), jnp.inf)
    best = distances.argmin(-1)

    def pick(values: Array) -> Array:
        return jnp.take_along_axis(values, best[:, None], -1)[:, 0]

    found = pick(candidate)
    chosen = jnp.where(found, pick(tail), 0)
    exponent = pick(slope)
    result = {
        "alpha": 1 + exponent,
        "D": pick(distances),
        "xmin": pick(eigenvalues),
        "alpha_se": exponent / jnp.sqrt(chosen),
    }
    masked = {name: jnp.where(found, value, jnp.nan) for name, value in result.items()}
    return masked | {"num_pl_spikes": chosen.astype(eigenvalues.dtype)}


def _ks_distances(
    logs: Float[Array, "layers size"], slope: Float[Array, "layers size"]
) -> Float[Array, "layers size"]:
    """D of the tail from each place on, with exponent 1 + slope there: O(size²), one candidate a step."""
    size = logs.shape[1]
    place = jnp.arange(size)

    def distance(start: Int[Array, ""]) -> Float[Array, " layers"]:
        model = -jnp.expm1(-slope[:, start, None] * (logs - logs[:, start, None]))
        empirical = (place - start) / (size - start)
        return jnp.where(place >= start, jnp.abs(model - empirical), 0.0).max(-1)

    distances: Array = jax.lax.map(distance, place, batch_size=min(size, 16))
    return distances.T


def hill(eigenvalues: Float[Array, "layers size"], tail: Int[Array, " layers"]) -> Float[Array, " layers"]:
    """Hill's exponent from the `tail` largest: 1 + k / Σ ln(x_i / x_0), x_0 the next one below the tail.

    NaN where x_0 is zero or missing, or the tail is constant.
    """
    size = eigenvalues.shape[1]
    start = jnp.clip(size - tail - 1, 0, size - 1)
    threshold = jnp.take_along_axis(eigenvalues, start[:, None], -1)
    kept: Bool[Array, "layers size"] = jnp.arange(size) >= size - tail[:, None]
    fits = (tail > 0) & (tail < size) & (threshold[:, 0] > 0)
    ratio = jnp.where(kept & fits[:, None], eigenvalues / jnp.where(threshold > 0, threshold, 1.0), 1.0)
    spread = jnp.log(ratio).sum(-1)
    fits &= spread > LEAST_SPREAD * tail
    return jnp.where(fits, 1 + tail / jnp.where(fits, spread, 1.0), jnp.nan)


def hill_curve(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"]
) -> Float[Array, "layers size"]:
    """Hill's exponent for every tail: at place i that of all eigenvalues above the i-th, NaN where there is none."""
    size = eigenvalues.shape[1]
    place = jnp.arange(size)
    tail = size - 1 - place
    within = (place >= size - count[:, None]) & (eigenvalues > 0)
    logs = jnp.where(within, jnp.log(jnp.where(within, eigenvalues, 1.0) / eigenvalues[:, -1:]), 0.0)
    spread = jnp.cumsum(logs[:, ::-1], -1)[:, ::-1] - logs - tail * logs
    fits = within & (tail > 0) & (spread > LEAST_SPREAD * tail)
    return jnp.where(fits, 1 + tail / jnp.where(fits, spread, 1.0), jnp.nan)


def log_power_sum(
    eigenvalues: Float[Array, "layers size"], power: Float[Array, " layers"]
) -> Float[Array, " layers"]:
    """log10 Σ λ^power over the positive eigenvalues, without overflow (WeightWatcher's log_alpha_norm)."""
    positive = eigenvalues > 0
    logs = power[:, None] * jnp.log(jnp.where(positive, eigenvalues, 1.0))
    return jax.nn.logsumexp(jnp.where(positive, logs, -jnp.inf), axis=-1) / jnp.log(10.0)
