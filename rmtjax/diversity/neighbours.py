"""Distances to nearest neighbours, in blocks, so that no matrix of all distances is made.

Distances are Euclidean and float64: for close points, which matter here, the difference of squares has only
a few correct digits in float32.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from rmtjax.diversity import spectrum

_ELEMENTS = 2**22  # squared distances in a block: 32 MB


def over_points(function: Callable[[Any], Any], points: Any, columns: int) -> Any:
    """Maps a function over points, vectorised over blocks of them.

    Args:
      function: a function of one point (or of a tuple), which computes distances to `columns` others.
      points: an array, or a tuple of arrays, with the points along the first axis.
      columns: decides the size of the blocks.
    """
    block = max(1, _ELEMENTS // max(1, columns))
    if block >= len(jax.tree.leaves(points)[0]):
        return jax.vmap(function)(points)
    return jax.lax.map(function, points, batch_size=block)


def squared_distances(point: Float[Array, " d"], points: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Squared distances of one point to many; under vmap over `point` it is one matrix product."""
    squares = jnp.sum(points**2, axis=1)
    return jnp.maximum(squares - 2 * (points @ point) + jnp.dot(point, point), 0.0)


def smallest(values: Float[Array, " n"], k: int) -> tuple[Float[Array, " k"], Int[Array, " k"]]:
    """The k smallest values, ascending, and their positions; by k passes, which for small k beat sorting."""

    def take(values: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        index = jnp.argmin(values)
        rest = jnp.where(jnp.arange(values.size) == index, jnp.inf, values)
        return rest, (values[index], index)

    _, (found, indices) = jax.lax.scan(take, values, None, length=k)
    return found, indices


def nearest_distances(
    a: Float[Array | np.ndarray, "n d"], b: Float[Array | np.ndarray, "m d"]
) -> Float[np.ndarray, " n"]:
    """Distance of each row of a to the nearest row of b; exactly 0 for a row that b also holds.

    To detect memorisation, compare the distances from generated to training images with those from held-out
    to training images.

    Raises:
      ValueError: b is empty, or features are not finite.

    >>> nearest_distances(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 0.0]])).tolist()
    [0.0, 5.0]
    """
    if not len(b):
        raise ValueError("the set to measure distances to is empty: give at least one row")
    check_finite(a, b)
    with jax.enable_x64(True):
        distances = _nearest(jnp.asarray(a, jnp.float64), jnp.asarray(b, jnp.float64))
        return np.asarray(distances)


@jax.jit
def _nearest(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, " n"]:
    def one(point: Array) -> Array:
        # Computed from the difference itself, since the squares cancel if the two are close.
        distance: Array = jnp.linalg.norm(b[jnp.argmin(squared_distances(point, b))] - point)
        return distance

    distances: Array = over_points(one, a, len(b))
    return distances


def balls(points: Float[Array, "n d"], k: int) -> Float[Array, " n"]:
    """Squared radius of the ball of each point: the squared distance to its k-th nearest other point.

    Points equal to it count as others. The radius is enlarged by the largest error of `squared_distances`, so
    that points on the border are inside (copies have radius 0, and all of their ball is border). The error is
    proportional to the squared lengths of the points, so use points near the origin.
    """

    def one(item: tuple[Array, Array]) -> Array:
        index, point = item
        others = jnp.where(jnp.arange(len(points)) == index, jnp.inf, squared_distances(point, points))
        return smallest(others, k)[0][-1]

    found: Array = over_points(one, (jnp.arange(len(points)), points), len(points))
    # A squared distance r^2 from x has an error of at most (d + 5) eps / 2 (2 |x| + r)^2, and so has the one
    # that it is compared with.
    off = (points.shape[1] + 5) * np.finfo(np.float64).eps
    return found + off * (8 * jnp.sum(points**2, axis=1) + 2 * found)


def check_finite(*sets: Float[Array | np.ndarray, "_ _"]) -> None:
    """Raises ValueError if any feature is not finite, or complex."""
    for features in sets:
        spectrum.refuse_complex(features)
        bad: Bool[np.ndarray, " n"] = ~np.isfinite(np.asarray(features)).all(axis=1)
        if bad.any():
            raise ValueError(
                f"{bad.sum()} of {len(bad)} examples have features that are not finite, "
                f"first row {bad.argmax()}"
            )
