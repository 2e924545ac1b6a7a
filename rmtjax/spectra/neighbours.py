"""Do neighbouring eigenvalues in the bulk repel each other as those of random matrices do?

These statistics check that the bulk is random. They do not measure training: they are universal, and the bulk
of trained weights shows them too (Thamm, Staats and Rosenow, Phys. Rev. E 106 (2022)). They are not defined
for spectra pooled over slices, because eigenvalues of different slices are independent.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rmtjax.spectra import laws

SPACING_RATIO_GOE, SPACING_RATIO_POISSON = 0.5307, 0.3863  # Atas et al., Phys. Rev. Lett. 110 (2013)
LENGTHS = (1, 2, 5, 10)
_NEIGHBOURS = 8  # on either side; a spacing is unfolded by the mean of these spacings
_BRODY = np.linspace(0.0, 1.6, 161)
_WINDOWS = 256


def number_variance_goe(length: float | int) -> float:
    """Variance of the number of eigenvalues in a window that holds `length` on average (Mehta, 16.1).

    An approximation for large windows.

    >>> round(number_variance_goe(1), 4)
    0.442
    """
    return float(2 / np.pi**2 * (np.log(2 * np.pi * length) + np.euler_gamma + 1 - np.pi**2 / 8))


def spacing_statistics(
    eigenvalues: Float[Array, "layers size"],
    count: Int[Array, " layers"],
    spikes: Float[Array, " layers"],
    removed: Float[Array, " layers"],
    variance: Float[Array, " layers"],
    N: Float[Array, " layers"],
    c: Float[Array, " layers"],
) -> dict[str, Float[Array, " layers"]]:
    """Statistics of each spectrum; NaN for pooled slices, and where the bulk has fewer than 20 eigenvalues.

    Args:
      eigenvalues: of W^T W, ascending, right-aligned.
      count: how many there are in each row.
      spikes: how many of the largest are left out.
      removed, variance: `num_removed` and `noise_variance` of `bulk.noise_and_spikes`, whose law unfolds the
        spectrum.
      N, c: of the matrix.

    Returns:
      spacing_ratio: mean of min(s, s') / max(s, s') over neighbouring spacings: .5307 for random matrices,
        .3863 for independent points. spacing_ratio_se is its standard error.
      brody: exponent of level repulsion: 1 for random matrices, 0 for independent points. By maximum
        likelihood, on each spacing divided by the mean of its neighbours, which makes the estimate smaller
        (`nulls.closed_forms`).
      number_variance_1, _2, _5, _10: variance of the number of eigenvalues in windows that hold so many on
        average.
    """
    size, dtype = eigenvalues.shape[1], eigenvalues.dtype
    place = jnp.arange(size, dtype=count.dtype)[None]
    start, stop = size - count, size - spikes.astype(jnp.int32)
    inside = stop - start
    gaps = jnp.diff(eigenvalues, axis=1)
    valid = (place[:, :-1] >= start[:, None]) & (place[:, 1:] < stop[:, None])
    pairs = valid[:, :-1] & valid[:, 1:]
    low, high = jnp.minimum(gaps[:, :-1], gaps[:, 1:]), jnp.maximum(gaps[:, :-1], gaps[:, 1:])
    ratio = jnp.where(pairs & (high > 0), low / jnp.where(high > 0, high, 1.0), 0.0)
    n = jnp.maximum(pairs.sum(-1), 1).astype(dtype)
    mean = ratio.sum(-1) / n
    deviation = jnp.where(pairs, ratio - mean[:, None], 0.0)
    # Neighbouring ratios share a spacing: in noise their correlation is .24, and further ones have none.
    shared = jnp.maximum((deviation[:, 1:] * deviation[:, :-1]).sum(-1), 0.0)
    spread = jnp.sqrt((jnp.square(deviation).sum(-1) + 2 * shared) / n)
    out = {"spacing_ratio": mean, "spacing_ratio_se": spread / jnp.sqrt(n), "brody": _brody(gaps, valid)}
    sides = N - removed, jnp.round(N * c) - removed
    unit = variance * sides[0]
    law = laws.marchenko_pastur_cdf(eigenvalues / unit[:, None], (sides[1] / sides[0])[:, None])
    points = sides[1][:, None] * law
    points = jnp.where(place >= start[:, None], points, -jnp.inf)
    for length in LENGTHS:
        last = jnp.take_along_axis(points, stop[:, None] - 1, 1)[:, 0] - length
        begin = jnp.linspace(0.05, 0.95, _WINDOWS, dtype=dtype)[None] * last[:, None]
        inside_windows = _count_between(points, begin, begin + length)
        out[f"number_variance_{length}"] = inside_windows.astype(dtype).var(-1)
    enough = (inside >= 20) & (count.astype(dtype) == jnp.round(N * c)) & (variance > 0)
    return {name: jnp.where(enough, value, jnp.nan) for name, value in out.items()}


@jax.vmap
def _count_between(points: Array, begin: Array, end: Array) -> Array:
    """How many of the ascending points lie in each window."""
    return jnp.searchsorted(points, end) - jnp.searchsorted(points, begin)


def _brody(gaps: Float[Array, "layers gaps"], valid: Array) -> Float[Array, " layers"]:
    """The exponent of the Brody distribution on a grid that makes the spacings most likely."""
    used = jnp.where(valid, gaps, 0.0)
    width = 2 * _NEIGHBOURS + 1

    def around(x: Array) -> Array:
        padded = jnp.pad(x, ((0, 0), (_NEIGHBOURS + 1, _NEIGHBOURS)))
        sums = jnp.cumsum(padded, 1)
        return sums[:, width:] - sums[:, :-width]

    neighbours = around(valid.astype(gaps.dtype))
    s = used * neighbours / jnp.where(valid, jnp.maximum(around(used), 1e-30), 1.0)
    good = valid & (s > 0)
    n, logs = good.sum(-1).astype(gaps.dtype), jnp.where(good, jnp.log(jnp.where(good, s, 1.0)), 0.0)
    b = jnp.asarray(_BRODY, gaps.dtype)
    log_a = (b + 1) * jax.scipy.special.gammaln((b + 2) / (b + 1))

    def likelihood(b: Array, log_a: Array) -> Array:
        powers = jnp.where(good, jnp.exp((b + 1) * logs), 0.0).sum(-1)
        return n * (jnp.log1p(b) + log_a) + b * logs.sum(-1) - jnp.exp(log_a) * powers

    table = jax.lax.map(lambda pair: likelihood(*pair), (b, log_a))
    return b[table.argmax(0)]
