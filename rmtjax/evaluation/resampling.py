"""Bootstrap intervals for any metric that takes example weights.

A resample of n examples with replacement is a vector of n counts, and the metric is computed with them as
weights. What does not depend on the weights (softmax, sorting) is done once for a block of resamples, not for
each resample.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jaxtyping import Float

Statistic = Callable[..., Mapping[str, Array]]  # (data, *weights) -> {name: array}

_ELEMENTS = 2**22  # weights in a block of resamples: bounds the memory (some ten float32 arrays of this size)


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def bootstrap(
    statistic: Statistic, data: Any, sizes: tuple[int, ...], *, seed: int, resamples: int = 1000
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A statistic of a sample and of `resamples` resamples of it.

    Args:
      statistic: `statistic(data, *weights)` with one weight vector [size] for each of `sizes`; it returns a
        dict of arrays. It is vectorised over resamples by vmap, and compiled once for each function object
        and shapes, so define it once, not in a loop.
      data: a pytree of arrays, passed to `statistic` unchanged.
      sizes: number of examples in each set that is resampled independently, e.g. two sets for OOD detection.
      seed: the same seed gives the same resamples, so that metrics of two models on one set are paired.
      resamples: number of resamples.

    Returns:
      (values, replicates): dicts of arrays [...] and [resamples, ...].

    >>> import jax.numpy as jnp
    >>> def weighted_mean(x, weights):
    ...     return {"mean": jnp.sum(x * weights) / jnp.sum(weights)}
    >>> values, replicates = bootstrap(weighted_mean, jnp.arange(4.0), (4,), seed=0, resamples=100)
    >>> float(values["mean"]), replicates["mean"].shape
    (1.5, (100,))
    """
    rng = np.random.default_rng(seed)
    blocks = -(-(resamples + 1) * sum(sizes) // _ELEMENTS)
    block = -(-(resamples + 1) // blocks)
    results = []
    for index in range(blocks):
        weights = [_counts(rng, block, size) for size in sizes]
        if index == 0:  # the sample itself goes first
            for counts in weights:
                counts[0] = 1.0
        with jax.debug_nans(False):  # a resample may have no error, or no example of a class
            found = _replicate(statistic, data, tuple(weights))
        results.append(jax.tree.map(np.asarray, found))
    joined = {name: np.concatenate([r[name] for r in results])[: resamples + 1] for name in results[0]}
    return {n: np.asarray(x[0]) for n, x in joined.items()}, {n: x[1:] for n, x in joined.items()}


def _counts(rng: np.random.Generator, resamples: int, size: int) -> Float[np.ndarray, "r n"]:
    drawn = rng.integers(size, size=(resamples, size)) + size * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.float32)


@functools.partial(jax.jit, static_argnames="statistic")
def _replicate(statistic: Statistic, data: Any, weights: tuple[Array, ...]) -> dict[str, Array]:
    return dict(jax.vmap(lambda *w: statistic(data, *w))(*weights))


def percentile_interval(
    value: float, replicates: Float[np.ndarray, " r"], level: float = 0.95, recentre: bool = False
) -> Interval:
    """The percentile bootstrap interval.

    Args:
      value: the statistic of the sample.
      replicates: the statistic of each resample.
      level: confidence level.
      recentre: shifts the interval by (value - mean of the replicates), for a statistic whose bias a resample
        adds once more. The interval is then for the expectation of the statistic at this n, bias included
        (for a calibration error, that is what `calibration_null` is compared with), not for a limit without
        bias. It is kept at or above 0. Measured for the ECE at n = 200 to 5000 and true errors of 0 to .15:
        .93 to .98 of the 95 % intervals hold that expectation; without recentring .89 to .96, and the value
        itself can lie below its interval.

    >>> low, high = percentile_interval(50.0, np.arange(101.0), level=0.9)[1:]
    >>> round(low, 6), round(high, 6)
    (5.0, 95.0)
    """
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(np.asarray(replicates, np.float64), [tail, 100 - tail])
    if recentre:
        shift = value - float(np.mean(replicates, dtype=np.float64))
        low, high = max(0.0, low + shift), high + shift
    return Interval(float(value), float(low), float(high))
