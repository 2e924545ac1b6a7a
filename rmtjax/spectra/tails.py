"""Power-law tails: the maximum-likelihood fit of least Kolmogorov-Smirnov distance, and Hill's exponent.

All functions take eigenvalues ascending and right-aligned, `[layers, size]`. The density is p(x) ~ x^-alpha
for x >= xmin. Sources: Clauset, Shalizi and Newman, SIAM Review 51 (2009); Hill, Ann. Statist. 3 (1975). The
conventions and numbers are those of WeightWatcher 0.7.7, with one exception: the fit leaves out eigenvalues
that are zero to within rounding error, where WeightWatcher leaves out those below 1e-5. So the fit does not
depend on the scale of W.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

SMALL_SAMPLE, SMALL_TAIL = 20, 8
# A tail of equal eigenvalues has no exponent: the mean of ln(x / xmin) must exceed this.
LEAST_SPREAD = 1e-6
# Eigenvalues closer than so many roundings are one value, which a solver returns with its rounding errors.
_TIE = {"float64": 256, "float32": 8}


def power_law(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"]
) -> dict[str, Float[Array, " layers"]]:
    """Fits the `count` largest eigenvalues of each row; all of them but the largest are candidates for xmin.

    For the tail xmin = x_1 <= ... <= x_n the exponent is alpha = 1 + n / Σ ln(x_i / xmin), and
    D = max_i |1 - (x_i / xmin)^(1 - alpha) - (i - 1) / n|. The tail with the least D is chosen. With fewer
    than 20 eigenvalues, only tails of at least 8 are candidates, and alpha is unbiased: n - 1 replaces n.
    A tail holds all eigenvalues equal to its smallest one, as its density does: it starts at the first.

    Args:
      eigenvalues: ascending, right-aligned; the `count` largest must be positive.
      count: number of eigenvalues to use.

    Returns:
      alpha, D, xmin.
      num_pl_spikes: n, the size of the tail. If no tail can be fitted it is 0, and the others are NaN.
      alpha_se: (alpha - 1) / √n. This is the standard error for independent data and a given xmin.
        Eigenvalues repel each other and xmin is chosen, so it is only an order of magnitude.

    >>> survival = (jnp.arange(100, 0, -1) - 0.5) / 100
    >>> fit = power_law(survival[None] ** -0.5, jnp.array([100]))  # quantiles of a power law with alpha 3
    >>> round(float(fit["alpha"][0]), 1)
    3.0
    """
    size, dtype = eigenvalues.shape[1], eigenvalues.dtype
    place = jnp.arange(size, dtype=count.dtype)[None]
    within = place >= size - count[:, None]
    logs = jnp.where(within, jnp.log(jnp.where(within, eigenvalues, 1.0) / eigenvalues[:, -1:]), 0.0)
    n = jnp.broadcast_to((size - place).astype(dtype), logs.shape)  # size of the tail from each place on
    spread = jnp.cumsum(logs[:, ::-1], -1)[:, ::-1] - n * logs
    small = (count < SMALL_SAMPLE)[:, None]
    least = jnp.where(small, jnp.minimum(SMALL_TAIL, count[:, None]), 2)
    candidate = (
        within
        & ~_tied(eigenvalues, within)
        & (size - place >= jnp.maximum(least, 2))
        & (spread > LEAST_SPREAD * n)
    )
    slope = jnp.where(candidate, (n - small.astype(dtype)) / jnp.where(candidate, spread, 1.0), 0.0)
    distances = jnp.where(candidate, _ks_distances(logs, slope), jnp.inf)
    best = distances.argmin(-1)

    def pick(values: Array) -> Array:
        return jnp.take_along_axis(values, best[:, None], -1)[:, 0]

    found = pick(candidate)
    chosen = jnp.where(found, pick(n), 0.0)
    exponent = pick(slope)
    result = {
        "alpha": 1 + exponent,
        "D": pick(distances),
        "xmin": pick(eigenvalues),
        "alpha_se": exponent / jnp.sqrt(chosen),
    }
    masked = {name: jnp.where(found, value, jnp.nan) for name, value in result.items()}
    return masked | {"num_pl_spikes": chosen}


def _tied(
    eigenvalues: Float[Array, "layers size"], within: Bool[Array, "layers size"]
) -> Bool[Array, "layers size"]:
    """Whether an eigenvalue equals the one before it, to within rounding errors.

    These are relative to the largest eigenvalue. In single precision so wide a margin would hold true
    distances as well, and they are taken relative to the eigenvalue itself.
    """
    name = eigenvalues.dtype.name
    margin = _TIE[name] * float(np.finfo(eigenvalues.dtype).eps)
    size = eigenvalues[:, -1:] if name == "float64" else eigenvalues
    distance = jnp.diff(eigenvalues, axis=1, prepend=-jnp.inf)
    before = jnp.pad(within[:, :-1], ((0, 0), (1, 0)))
    return within & before & (distance <= margin * size)


def _ks_distances(
    logs: Float[Array, "layers size"], slope: Float[Array, "layers size"]
) -> Float[Array, "layers size"]:
    """D of the tail from each place on, for the exponent 1 + slope there: O(size²), one start at a time."""
    size = logs.shape[1]
    place = jnp.arange(size)

    def distance(start: Int[Array, ""]) -> Float[Array, " layers"]:
        model = -jnp.expm1(-slope[:, start, None] * (logs - logs[:, start, None]))
        empirical = (place - start).astype(logs.dtype) / (size - start).astype(logs.dtype)
        return jnp.where((place >= start)[None], jnp.abs(model - empirical[None]), 0.0).max(-1)

    distances: Array = jax.lax.map(distance, place, batch_size=min(size, 16))
    return distances.T


def hill(eigenvalues: Float[Array, "layers size"], tail: Int[Array, " layers"]) -> Float[Array, " layers"]:
    """Hill's exponent of the k = `tail` largest: 1 + k / Σ ln(x_i / x_0); x_0 is the next smaller eigenvalue.

    NaN where x_0 is zero or missing, or where all of the tail are equal.

    >>> hill(jnp.exp(jnp.arange(3.0))[None], jnp.array([2]))  # 1 + 2 / (1 + 2)
    Array([1.6666667], dtype=float32)
    """
    size, dtype = eigenvalues.shape[1], eigenvalues.dtype
    start = jnp.clip(size - tail - 1, 0, size - 1)
    threshold = jnp.take_along_axis(eigenvalues, start[:, None], -1)
    kept: Bool[Array, "layers size"] = jnp.arange(size, dtype=tail.dtype)[None] >= size - tail[:, None]
    fits = (tail > 0) & (tail < size) & (threshold[:, 0] > 0)
    ratio = jnp.where(kept & fits[:, None], eigenvalues / jnp.where(threshold > 0, threshold, 1.0), 1.0)
    spread = jnp.log(ratio).sum(-1)
    k = tail.astype(dtype)
    fits &= spread > LEAST_SPREAD * k
    return jnp.where(fits, 1 + k / jnp.where(fits, spread, 1.0), jnp.nan)


def hill_curve(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"]
) -> Float[Array, "layers size"]:
    """Hill's exponent of every tail: at place i that of the eigenvalues above the i-th, or NaN."""
    size, dtype = eigenvalues.shape[1], eigenvalues.dtype
    place = jnp.arange(size, dtype=count.dtype)[None]
    k = (size - 1 - place).astype(dtype)
    within = (place >= size - count[:, None]) & (eigenvalues > 0)
    logs = jnp.where(within, jnp.log(jnp.where(within, eigenvalues, 1.0) / eigenvalues[:, -1:]), 0.0)
    spread = jnp.cumsum(logs[:, ::-1], -1)[:, ::-1] - logs - k * logs
    fits = within & (k > 0) & (spread > LEAST_SPREAD * k)
    return jnp.where(fits, 1 + k / jnp.where(fits, spread, 1.0), jnp.nan)


def log_power_sum(
    eigenvalues: Float[Array, "layers size"], power: Float[Array, " layers"]
) -> Float[Array, " layers"]:
    """log10 Σ λ^power over the positive eigenvalues, without overflow (WeightWatcher's `log_alpha_norm`).

    >>> log_power_sum(jnp.array([[0.0, 10.0]]), jnp.array([200.0]))
    Array([200.], dtype=float32)
    """
    positive = eigenvalues > 0
    logs = power[:, None] * jnp.log(jnp.where(positive, eigenvalues, 1.0))
    return jax.nn.logsumexp(jnp.where(positive, logs, -jnp.inf), axis=-1) / jnp.log(10.0)
