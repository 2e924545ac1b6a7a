"""Statistics of neighbouring eigenvalues in the bulk: do they repel each other, as those of random matrices do?

A check that the bulk is random, and not a measure of training: the statistics are universal, and trained weights
show them too (Thamm, Staats and Rosenow, Phys. Rev. E 106 (2022)). Spectra pooled over slices have none: eigenvalues
of different slices know nothing of each other.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rmtjax.spectra import laws

SPACING_RATIO_GOE, SPACING_RATIO_POISSON = 0.5307, 0.3863  # Atas et al., Phys. Rev. Lett. 110 (2013)
LENGTHS = (1, 2, 5, 10)
_NEIGHBOURS = 8  # on either side, whose mean distance unfolds a spacing
_BRODY = np.linspace(0.0, 1.6, 161)
_WINDOWS = 256


def number_variance_goe(length: float | int) -> float:
    """Variance of the number of eigenvalues in a window of that mean number, for large windows (Mehta, 16.1)."""
    return float(2 / np.pi**2 * (np.log(2 * np.pi * length) + np.euler_gamma + 1 - np.pi**2 / 8))


def spacing_statistics(
    eigenvalues: Float[Array, "layers size"],
    count: Int[Array, " layers"],
    spikes: Float[Array, " layers"],
    variance: Float[Array, " layers"],
    N: Float[Array, " layers"],
    c: Float[Array, " layers"],
) -> dict[str, Float[Array, " layers"]]:
    """Of one spectrum each; NaN for pooled slices, and where the bulk has fewer than 20 eigenvalues.

    Args:
      eigenvalues: of W^T W, ascending, right-aligned.
      count: how many there are in each row; spikes: of the largest, how many are left out.
      variance, N, c: of the Marchenko-Pastur law whose distribution function unfolds the spectrum.

    Returns:
      spacing_ratio: mean of min(s, s') / max(s, s') over neighbouring spacings (.5307 for random matrices, .3863 for
        independent points), and spacing_ratio_se. brody: exponent of level repulsion, 1 for random matrices, 0 for
        independent points, by maximum likelihood on spacings over the mean of their neighbours'.
      number_variance_1, _2, _5, _10: of the number of eigenvalues in windows of that mean number.
    """
    size = eigenvalues.shape[1]
    place = jnp.arange(size)
    start, stop = size - count, size - spikes.astype(jnp.int32)
    inside = stop - start
    gaps = jnp.diff(eigenvalues, axis=1)
    valid = (place[:-1] >= start[:, None]) & (place[1:] < stop[:, None])
    pairs = valid[:, :-1] & valid[:, 1:]
    low, high = jnp.minimum(gaps[:, :-1], gaps[:, 1:]), jnp.maximum(gaps[:, :-1], gaps[:, 1:])
    ratio = jnp.where(pairs & (high > 0), low / jnp.where(high > 0, high, 1.0), 0.0)
    n = jnp.maximum(pairs.sum(-1), 1)
    mean = ratio.sum(-1) / n
    spread = jnp.sqrt(jnp.where(pairs, jnp.square(ratio - mean[:, None]), 0.0).sum(-1) / n)
    out = {"spacing_ratio": mean, "spacing_ratio_se": spread / jnp.sqrt(n), "brody": _brody(gaps, valid)}
    unit = variance * N
    points = count[:, None] * laws.marchenko_pastur_cdf(eigenvalues / unit[:, None], c[:, None])
    points = jnp.where(place >= start[:, None], points, -jnp.inf)
    for length in LENGTHS:
        last = jnp.take_along_axis(points, stop[:, None] - 1, 1)[:, 0] - length
        begin = jnp.linspace(0.05, 0.95, _WINDOWS, dtype=eigenvalues.dtype) * last[:, None]
        held = jax.vmap(lambda p, b, w=length: jnp.searchsorted(p, b + w) - jnp.searchsorted(p, b))(
            points, begin
        )
        out[f"number_variance_{length}"] = held.astype(eigenvalues.dtype).var(-1)
    enough = (inside >= 20) & (count == jnp.round(N * c)) & (variance > 0)
    return {name: jnp.where(enough, value, jnp.nan) for name, value in out.items()}


def _brody(gaps: Float[Array, "layers gaps"], valid: Array) -> Float[Array, " layers"]:
    used = jnp.where(valid, gaps, 0.0)
    width = 2 * _NEIGHBOURS + 1

    def around(x: Array) -> Array:
        padded = jnp.pad(x, ((0, 0), (_NEIGHBOURS + 1, _NEIGHBOURS)))
        sums = jnp.cumsum(padded, 1)
        return sums[:, width:] - sums[:, :-width]

    neighbours = around(valid.astype(gaps.dtype))
    s = used * neighbours / jnp.where(valid, jnp.maximum(around(used), 1e-30), 1.0)
    good = valid & (s > 0)
    n, logs = good.sum(-1), jnp.where(good, jnp.log(jnp.where(good, s, 1.0)), 0.0)
    b = jnp.asarray(_BRODY, gaps.dtype)
    log_a = (b + 1) * jax.scipy.special.gammaln((b + 2) / (b + 1))

    def likelihood(b: Array, log_a: Array) -> Array:
        powers = jnp.where(good, jnp.exp((b + 1) * logs), 0.0).sum(-1)
        return n * (jnp.log1p(b) + log_a) + b * logs.sum(-1) - jnp.exp(log_a) * powers

    table = jax.lax.map(lambda pair: likelihood(*pair), (b, log_a))
    return b[table.argmax(0)]
