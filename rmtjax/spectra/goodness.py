"""Could the tail be a power law at all? Goodness of fit by the semi-parametric bootstrap.

Clauset, Shalizi and Newman, SIAM Review 51 (2009), section 4.1: data sets are drawn in which each value comes with
the tail's share from the fitted power law and else from the observed values below xmin; each is fitted as the data were,
xmin included; p is the share of sets whose KS distance is at least the observed one. Below .1 they reject.

On true power laws p errs on the side of not rejecting (of 1000 samples of 100, 7.8 % had p < .1 and 61 % p > .5): xmin
is where the data fit best, and draws from their body scatter twice. What is no power law may still have a large p,
since the chosen tail may be short: of samples of 768 exponential variables 44 % had p < .1; the rivals
(`rivals`) tell more there. Spectra of noise are mostly rejected, although eigenvalues of one matrix repel each other
and so lie more evenly than draws: p < .1 in 62 % (128 x 128) and 79 % (768 x 768, 3072 x 768).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rmtjax.spectra import tails

_TOGETHER = 32  # replicates whose values are in memory at a time


def goodness_of_fit(
    eigenvalues: Float[Array, "layers size"],
    nonzero: Int[Array, " layers"],
    seeds: Int[Array, " layers"],
    replicates: int = 1000,
    candidates: int = 200,
) -> dict[str, Float[Array, " layers"]]:
    """p of the power law that `tails.power_law` fits, with its Monte-Carlo standard error.

    Data and replicates are fitted alike, in single precision. Up to `candidates` + 1 eigenvalues every one but the last
    is tried as xmin, as in `tails.power_law`; of more eigenvalues `candidates` tails, every size at first and then sizes
    in geometric progression (by 3 % at 768), so that D and xmin may differ a little from the table's.

    Args:
      eigenvalues: ascending, right-aligned.
      nonzero: how many to use.
      seeds: of each layer's draws, which depend on nothing else than it and on `nonzero`.

    Returns:
      gof_p, gof_p_se = √(p (1 - p) / replicates); NaN where no tail can be fitted.
    """
    size = eigenvalues.shape[1]
    within = jnp.arange(size) >= size - nonzero[:, None]
    logs = jnp.where(within, jnp.log(jnp.where(within, eigenvalues, 1.0) / eigenvalues[:, -1:]), 0.0)
    of_one = functools.partial(_of_one, replicates=replicates, candidates=candidates)
    p = jax.lax.map(lambda layer: of_one(*layer), (logs.astype(jnp.float32), nonzero, seeds))
    p = p.astype(eigenvalues.dtype)
    return {"gof_p": p, "gof_p_se": jnp.sqrt(p * (1 - p) / replicates)}


def _of_one(
    logs: Float[Array, " size"],
    count: Int[Array, ""],
    seed: Int[Array, ""],
    replicates: int,
    candidates: int,
) -> Float[Array, ""]:
    sizes = tail_sizes(count, candidates)
    observed, slope, tail = _least_distance(logs, count, sizes)

    def distance(key: Array) -> Float[Array, ""]:
        return _least_distance(_draw(key, logs, count, tail, slope), count, sizes)[0]

    keys = jax.random.split(jax.random.key(seed), replicates)
    distances = jax.lax.map(distance, keys, batch_size=min(replicates, _TOGETHER))
    return jnp.where(jnp.isfinite(observed), (distances >= observed).mean(), jnp.nan)


def tail_sizes(count: Int[Array, ""], candidates: int) -> Int[Array, " {candidates}"]:
    """Sizes of tails from 2 to `count`: all of them if there are `candidates` or fewer, else see `goodness_of_fit`."""
    order = jnp.arange(candidates)
    most = jnp.maximum(count, 2)
    geometric = 2 * jnp.exp(jnp.log(most / 2) * order / (candidates - 1))
    return jnp.clip(jnp.round(geometric).astype(count.dtype), 2 + order, most)


def _least_distance(
    logs: Float[Array, " size"], count: Int[Array, ""], sizes: Int[Array, " candidates"]
) -> tuple[Float[Array, ""], Float[Array, ""], Int[Array, ""]]:
    """D, alpha - 1 and the tail's size at the candidate with the least D (infinite if there is none)."""
    size = len(logs)
    place = jnp.arange(size, dtype=jnp.int32)
    # Values that are equal stand in one tail or in none.
    first = jax.lax.cummax(jnp.where(logs > jnp.roll(logs, 1), place, size - count).at[0].set(0))
    start = jnp.maximum(first[size - sizes], size - count)
    tail = size - start
    threshold = logs[start]
    spread = jnp.cumsum(logs[::-1])[::-1][start] - tail * threshold
    small = count < tails.SMALL_SAMPLE
    least = jnp.where(small, jnp.minimum(tails.SMALL_TAIL, count), 2)
    fits = (tail >= jnp.maximum(least, 2)) & (tail <= count) & (spread > tails.LEAST_SPREAD * tail)
    slope = jnp.where(fits, (tail - small).astype(logs.dtype) / jnp.where(fits, spread, 1.0), 0.0)
    model = 1 - jnp.exp(slope[:, None] * (threshold[:, None] - logs))
    empirical = (place - start[:, None]).astype(logs.dtype) * (1 / tail.astype(logs.dtype))[:, None]
    apart = jnp.where(place >= start[:, None], jnp.abs(model - empirical), 0.0).max(-1)
    distances = jnp.where(fits, apart, jnp.inf)
    best = distances.argmin()
    return distances[best], slope[best], tail[best]


def _draw(
    key: Array,
    logs: Float[Array, " size"],
    count: Int[Array, ""],
    tail: Int[Array, ""],
    slope: Float[Array, ""],
) -> Float[Array, " size"]:
    """Logarithms of a data set like the observed one, ascending, zeros in front.

    The ranks of `count` uniform variables come in order from sums of exponential ones, so that nothing is sorted;
    then the quantile function: of the power law above, of the observed values below.
    """
    size = len(logs)
    below_all, each = jnp.split(jax.random.exponential(key, (size + 1,), jnp.float32), [1])
    from_top = jnp.arange(size, dtype=jnp.int32)
    each = jnp.where(from_top < count, jnp.maximum(each, float(np.finfo(np.float32).tiny)), 0.0)
    sums = jnp.cumsum(each)
    above = (sums / (sums[-1] + below_all))[::-1]  # the share of the law above each value
    share = tail.astype(logs.dtype) / count.astype(logs.dtype)
    in_tail = above < share
    threshold = logs[size - tail]
    drawn = threshold - jnp.log(jnp.where(in_tail, above / share, 1.0)) / jnp.where(slope > 0, slope, 1.0)
    # Ranks from the top; those of the tail are not used here.
    rank = jnp.clip((above * count).astype(tail.dtype), tail, jnp.maximum(count - 1, 0))
    values = jnp.where(in_tail, drawn, logs[size - 1 - jnp.minimum(rank, size - 1)])
    used: Array = jnp.where(jnp.arange(size) >= size - count, values, 0.0)
    return used
