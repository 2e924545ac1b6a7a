"""Could the tail be a power law at all? Goodness of fit by the semi-parametric bootstrap.

Clauset, Shalizi and Newman, SIAM Review 51 (2009), section 4.1. Each value of a replicate is drawn from the
fitted power law with the probability n_tail / n, and otherwise from the observed values below xmin. Each
replicate is fitted as the data were, xmin included. p is the share of replicates whose Kolmogorov-Smirnov
distance is at least the observed one. Clauset et al. reject the power law below 0.1.

For true power laws p is conservative: of 1000 samples of size 100, 7.8 % had p < 0.1 and 61 % had p > 0.5.
The reason is that xmin is where the data fit best, and that draws from the observed body scatter twice. Data
that are no power law may still have a large p, since the chosen tail may be short: of samples of 768
exponential variables only 44 % had p < 0.1. The tests against rivals (`rivals`) are more informative there.
Spectra of noise are mostly rejected, although eigenvalues of one matrix repel each other and so lie more
evenly than independent draws: p < 0.1 for 62 % of matrices of 128 x 128, and for 79 % of those of 768 x 768
and 3072 x 768.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rmtjax.spectra import tails

_TOGETHER = 32  # number of replicates in memory at a time


def goodness_of_fit(
    eigenvalues: Float[Array, "layers size"],
    nonzero: Int[Array, " layers"],
    seeds: Int[Array, " layers"],
    replicates: int = 1000,
    candidates: int = 200,
) -> dict[str, Float[Array, " layers"]]:
    """p of the power law that `tails.power_law` fits, with its Monte Carlo standard error.

    Data and replicates are fitted in the same way, in single precision. With at most `candidates` + 1
    eigenvalues, all but the largest are tried as xmin, as in `tails.power_law`. With more, only `candidates`
    tails are tried: every size at first, then sizes in geometric progression (by 3 % for 768 eigenvalues).
    Then D and xmin may differ slightly from those of the table.

    Args:
      eigenvalues: ascending, right-aligned.
      nonzero: number of eigenvalues to use.
      seeds: of the draws of each layer, which depend on the seed and on `nonzero` alone.

    Returns:
      gof_p, gof_p_se = √(p (1 - p) / replicates); NaN where no tail can be fitted.
    """
    size = eigenvalues.shape[1]
    within = jnp.arange(size, dtype=nonzero.dtype)[None] >= size - nonzero[:, None]
    logs = jnp.where(within, jnp.log(jnp.where(within, eigenvalues, 1.0) / eigenvalues[:, -1:]), 0.0)
    p_value = functools.partial(_p_value, replicates=replicates, candidates=candidates)
    p = jax.lax.map(lambda layer: p_value(*layer), (logs.astype(jnp.float32), nonzero, seeds))
    p = p.astype(eigenvalues.dtype)
    return {"gof_p": p, "gof_p_se": jnp.sqrt(p * (1 - p) / replicates)}


def _p_value(
    logs: Float[Array, " size"],
    count: Int[Array, ""],
    seed: Int[Array, ""],
    replicates: int,
    candidates: int,
) -> Float[Array, ""]:
    """p of one layer, from the logarithms of its eigenvalues."""
    sizes = tail_sizes(count, candidates)
    observed, slope, tail = _least_distance(logs, count, sizes)

    def distance(key: Array) -> Float[Array, ""]:
        return _least_distance(_draw(key, logs, count, tail, slope), count, sizes)[0]

    keys = jax.random.split(jax.random.key(seed), replicates)
    distances = jax.lax.map(distance, keys, batch_size=min(replicates, _TOGETHER))
    return jnp.where(jnp.isfinite(observed), (distances >= observed).mean(), jnp.nan)


def tail_sizes(count: Int[Array, ""], candidates: int) -> Int[Array, " {candidates}"]:
    """Sizes of the tails that are tried, from 2 to `count`, ascending; with few eigenvalues `count` repeats.

    >>> tail_sizes(jnp.array(1000), 8).tolist()
    [2, 5, 12, 29, 70, 169, 412, 1000]
    """
    order = jnp.arange(candidates, dtype=count.dtype)
    most = jnp.maximum(count, 2)
    log_half = jnp.log(most / 2)
    geometric = 2 * jnp.exp(log_half * order.astype(log_half.dtype) / (candidates - 1))
    return jnp.clip(jnp.round(geometric).astype(count.dtype), 2 + order, most)


def _least_distance(
    logs: Float[Array, " size"], count: Int[Array, ""], sizes: Int[Array, " candidates"]
) -> tuple[Float[Array, ""], Float[Array, ""], Int[Array, ""]]:
    """D, alpha - 1 and size of the candidate tail with the least D; D is infinite without a candidate."""
    size = len(logs)
    place = jnp.arange(size, dtype=jnp.int32)
    # Equal values are in the same tail.
    first = jax.lax.cummax(jnp.where(logs > jnp.roll(logs, 1), place, size - count).at[0].set(0))
    start = jnp.maximum(first[size - sizes], size - count)
    tail = size - start
    threshold = logs[start]
    n = tail.astype(logs.dtype)
    spread = jnp.cumsum(logs[::-1])[::-1][start] - n * threshold
    small = count < tails.SMALL_SAMPLE
    least = jnp.where(small, jnp.minimum(tails.SMALL_TAIL, count), 2)
    fits = (tail >= jnp.maximum(least, 2)) & (tail <= count) & (spread > tails.LEAST_SPREAD * n)
    slope = jnp.where(fits, (n - small.astype(logs.dtype)) / jnp.where(fits, spread, 1.0), 0.0)
    model = 1 - jnp.exp(slope[:, None] * (threshold[:, None] - logs[None]))
    empirical = (place[None] - start[:, None]).astype(logs.dtype) * (1 / n)[:, None]
    distance = jnp.where(place[None] >= start[:, None], jnp.abs(model - empirical), 0.0).max(-1)
    distances = jnp.where(fits, distance, jnp.inf)
    best = distances.argmin()
    return distances[best], slope[best], tail[best]


def _draw(
    key: Array,
    logs: Float[Array, " size"],
    count: Int[Array, ""],
    tail: Int[Array, ""],
    slope: Float[Array, ""],
) -> Float[Array, " size"]:
    """Logarithms of one replicate, ascending, with zeros in front.

    Cumulative sums of exponential variables give `count` ordered uniform variables without sorting. They then
    go through the quantile function: of the power law in the tail, of the observed values below it.
    """
    size = len(logs)
    below_all, each = jnp.split(jax.random.exponential(key, (size + 1,), jnp.float32), [1])
    place = jnp.arange(size, dtype=jnp.int32)
    each = jnp.where(place < count, jnp.maximum(each, float(np.finfo(np.float32).tiny)), 0.0)
    sums = jnp.cumsum(each)
    above = (sums / (sums[-1] + below_all))[::-1]  # probability above each value
    n = count.astype(logs.dtype)
    share = tail.astype(logs.dtype) / n
    in_tail = above < share
    threshold = logs[size - tail]
    drawn = threshold - jnp.log(jnp.where(in_tail, above / share, 1.0)) / jnp.where(slope > 0, slope, 1.0)
    # Ranks from the top. Those in the tail are not used.
    rank = jnp.clip((above * n).astype(tail.dtype), tail, jnp.maximum(count - 1, 0))
    values = jnp.where(in_tail, drawn, logs[size - 1 - jnp.minimum(rank, size - 1)])
    used: Array = jnp.where(place >= size - count, values, 0.0)
    return used
