"""Distances to nearest neighbours, in blocks: no matrix of all distances is ever made.

Distances are Euclidean and float64, since the squares of two close points' features cancel to a few digits in
float32, and close points are what is asked about.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

_ELEMENTS = 2**22  # squared distances in a block: 32 MB


def over_points(function: Callable[[Any], Any], points: Any, columns: int) -> Any:
    """The function of each point, vectorised over blocks of points.

    Args:
      function: of one point (or tuple with one), computing distances to `columns` others.
      points: array, or tuple of arrays, with the points along the first axis.
      columns: sizes the blocks.
    """
    block = max(1, _ELEMENTS // max(1, columns))
    if block >= len(jax.tree.leaves(points)[0]):
        return jax.vmap(function)(points)
    return jax.lax.map(function, points, batch_size=block)


def squared_distances(point: Float[Array, " d"], points: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Squared distances of one point to many; over many `point`s by vmap, one matrix product."""
    squares = jnp.sum(points**2, axis=1)
    return jnp.maximum(squares - 2 * (points @ point) + jnp.dot(point, point), 0.0)


def smallest(values: Float[Array, " n"], k: int) -> tuple[Float[Array, " k"], Int[Array, " k"]]:
    """The k smallest values, ascending, and where they stand. k passes: for small k faster than sorting."""

    def take(values: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        index = jnp.argmin(values)
        rest = jnp.where(jnp.arange(values.size) == index, jnp.inf, values)
        return rest, (values[index], index)

    _, (found, indices) = jax.lax.scan(take, values, None, length=k)
    return found, indices


def nearest_distances(
    a: Float[Array | np.ndarray, "n d"], b: Float[Array | np.ndarray, "m d"]
) -> Float[np.ndarray, " n"]:
    """Distance of each row of a to the nearest row of b: exactly 0 for a row that b holds too.

    For the memorisation report: generated against training images, beside held-out against training images.

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
        # From the difference itself, not from the squares, which cancel where the two are close.
        distance: Array = jnp.linalg.norm(b[jnp.argmin(squared_distances(point, b))] - point)
        return distance

    distances: Array = over_points(one, a, len(b))
    return distances


def balls(points: Float[Array, "n d"], k: int) -> Float[Array, " n"]:
    """Squared radius of each point's ball: the squared distance to its k-th nearest other point.

    Points equal to it count as others.

    Wider by as much as `squared_distances` may be off, which is in proportion to the squared lengths of the
    points, so that what lies on the border is inside (of copies the radius is 0, and the border all there
    is). Take points near the origin.
    """

    def one(item: tuple[Array, Array]) -> Array:
        index, point = item
        others = jnp.where(jnp.arange(len(points)) == index, jnp.inf, squared_distances(point, points))
        return smallest(others, k)[0][-1]

    found: Array = over_points(one, (jnp.arange(len(points)), points), len(points))
    # A distance r from x is off by (d + 5) eps / 2 (2 |x| + r)^2 at most, and so is the one it is compared
    # with.
    off = (points.shape[1] + 5) * np.finfo(np.float64).eps
    return found + off * (8 * jnp.sum(points**2, axis=1) + 2 * found)


def check_finite(*sets: Float[Array | np.ndarray, "_ _"]) -> None:
    """Raises ValueError if any feature is not finite."""
    for features in sets:
        bad: Bool[np.ndarray, " n"] = ~np.isfinite(np.asarray(features)).all(axis=1)
        if bad.any():
            raise ValueError(
                f"{bad.sum()} of {len(bad)} examples have features that are not finite, "
                f"first row {bad.argmax()}"
            )
