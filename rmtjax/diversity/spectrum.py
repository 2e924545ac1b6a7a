"""Eigenvalues of the second moment of a set, their entropy, and the influence of each example on it.

A set of n rows r_i of width D (features scaled to unit length, or centred, or mapped to random Fourier
features) has the second moment C = R^T R / n, whose non-zero eigenvalues are those of the Gram matrix
R R^T / n. The smaller of the two is made, at a cost of n D min(n, D) + min(n, D)^3. Neither all rows nor an
n x n matrix for n > D are ever in memory. Features keep their dtype (float32, bytes); blocks of them are
converted to float64, and all sums are float64, since in float32 the rounding of hundreds of small eigenvalues
would add to the entropy.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Num

NORMAL_975 = 1.959963984540054  # quantile of the normal distribution: half a 95 % interval in standard errors
_ELEMENTS = 2**20  # float64 numbers in a block: 8 MB
_SMALL = 600  # up to this side of a matrix, eigenvectors take less time than compiling bisection

Features = Num[Array | np.ndarray, "n d"]
Rows = Callable[..., Any]  # (features [b, d], *parameters) -> rows [b, D] float64


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


def unit(features: Num[Array, "b d"]) -> Float[Array, "b D"]:
    """Rows scaled to length 1, with one more column that is 1 for rows of zeros: they are alike."""
    # Scaled by the largest entry first, since squares of very large or small features leave float64's range.
    wide = features.astype(jnp.float64)
    scale = jnp.max(jnp.abs(wide), axis=1, keepdims=True)
    zero = scale == 0
    scaled = jnp.concatenate([wide / jnp.where(zero, 1.0, scale), zero.astype(jnp.float64)], axis=1)
    rows: Array = scaled / jnp.linalg.norm(scaled, axis=1, keepdims=True)
    return rows


def centred(features: Num[Array, "b d"], mean: Float[Array, " d"]) -> Float[Array, "b d"]:
    """Rows minus their mean, in the units of the features."""
    return features.astype(jnp.float64) - mean[None]


def fourier(features: Num[Array, "b d"], frequencies: Float[Array, "d r"]) -> Float[Array, "b 2*r"]:
    """Random Fourier features of length 1; their inner products estimate a shift-invariant kernel."""
    angles = features.astype(jnp.float64) @ frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1) / math.sqrt(frequencies.shape[1])


class Entropy(NamedTuple):
    """The entropy of a set in nats, and the influence of each example on it, up to a constant (jackknife)."""

    value: float
    influence: Float[np.ndarray, " n"]

    @property
    def standard_error(self) -> float:
        return float(np.std(self.influence) / math.sqrt(len(self.influence)))

    def effective_number(self) -> Estimate:
        """exp of the entropy, with its 95 % interval."""
        half = NORMAL_975 * self.standard_error
        return Estimate(math.exp(self.value), math.exp(self.value - half), math.exp(self.value + half))


def entropy(
    features: Features,
    rows: Rows,
    *parameters: Array,
    q: float | int = 1.0,
    top: int | None = None,
    of_roots: bool = False,
) -> Entropy:
    """Renyi entropy of order q of the eigenvalues of the rows' second moment, scaled to sum 1.

    Args:
      features: features of n examples, already checked.
      rows: `unit`, `centred` or `fourier`.
      parameters: arguments of `rows` beside the features.
      q: order.
      top: if given, only the `top` largest eigenvalues count.
      of_roots: the entropy of the roots of the eigenvalues (the rows' singular values), scaled to sum 1.
    """
    with jax.enable_x64(True):
        held = jnp.asarray(features)
        n, width = len(held), _width(held, rows, parameters)
        if width < n:
            p, vectors = _eigh(_moment(held, parameters, rows))
            value, slope = renyi(_clean(np.asarray(p), n), q, top, of_roots)
            matrix = (vectors * jnp.asarray(slope)[None]) @ vectors.T
            return Entropy(value, np.asarray(_quadratic(held, parameters, matrix, rows)))
        return of_gram(_gram(held, parameters, rows), q, top, of_roots)


def entropy_alone(
    features: Features, rows: Rows, *parameters: Array, q: float | int = 1.0, top: int | None = None
) -> float:
    """The value of `entropy`, from eigenvalues without eigenvectors."""
    with jax.enable_x64(True):
        held = jnp.asarray(features)
        n, width = len(held), _width(held, rows, parameters)
        make = _moment if width < n else _gram
        return renyi(_clean(np.asarray(_eigenvalues(make(held, parameters, rows))), max(n, width)), q, top)[0]


def of_gram(
    gram: Float[Array | np.ndarray, "n n"], q: float | int, top: int | None = None, of_roots: bool = False
) -> Entropy:
    """`entropy` of a positive semi-definite matrix K / n of similarities by any kernel."""
    with jax.enable_x64(True):
        p, vectors = _eigh(jnp.asarray(gram))
        value, slope = renyi(_clean(np.asarray(p), len(gram)), q, top, of_roots)
        return Entropy(value, np.asarray(_from_vectors(p, vectors, jnp.asarray(slope))))


def renyi(
    p: Float[np.ndarray, " r"], q: float | int, top: int | None = None, of_roots: bool = False
) -> tuple[float, Float[np.ndarray, " r"]]:
    """Renyi entropy of order q, in nats, of eigenvalues scaled to sum 1, with its derivatives by them.

    Args:
      p: eigenvalues, not negative, ascending.
      q: order, above 0; `math.inf` uses only the largest eigenvalue.
      top: if given, only the `top` largest eigenvalues count.
      of_roots: the entropy of the roots, scaled to sum 1, in place of the eigenvalues. Eigenvalues of zero
        have the derivative 0.
    """
    if of_roots:
        roots = np.sqrt(p)
        value, slope = renyi(roots, q, top)
        return value, np.divide(slope, 2 * roots, out=np.zeros_like(roots), where=roots > 0)
    present = p > 0
    if top is not None:
        present[: max(0, p.size - top)] = False
    safe = np.where(present, p, 1.0)
    mass = float(np.sum(p, where=present))
    if q == 1:
        mean = float(np.sum(p * np.log(safe), where=present)) / mass
        return math.log(mass) - mean, np.where(present, mean - np.log(safe), 0.0) / mass
    if math.isinf(q):
        largest = np.arange(p.size) == p.argmax()
        return math.log(mass / p.max()), np.where(present, 1 / mass, 0.0) - np.where(
            largest, 1 / p.max(), 0.0
        )
    total = float(np.sum(safe**q, where=present))
    slope = q / (1 - q) * np.where(present, safe ** (q - 1) / total - 1 / mass, 0.0)
    return (math.log(total) - q * math.log(mass)) / (1 - q), slope


def mean_squares(features: Features, rows: Rows, *parameters: Array) -> Float[np.ndarray, " n"]:
    """mean_j (r_i . r_j)^2 for each example, whose mean is ||K / n||_F^2; it needs no eigenvalues."""
    with jax.enable_x64(True):
        held = jnp.asarray(features)
        if _width(held, rows, parameters) < len(held):
            return np.asarray(_quadratic(held, parameters, _moment(held, parameters, rows), rows))
        return np.asarray(len(held) * jnp.sum(_gram(held, parameters, rows) ** 2, axis=1))


def refuse_complex(features: Array | np.ndarray) -> None:
    """Raises ValueError if features are complex numbers, whose imaginary parts would be lost."""
    if np.issubdtype(features.dtype, np.complexfloating):
        raise ValueError(
            f"features are {features.dtype}: give real numbers, such as real and imaginary parts side by side"
        )


def row_scales(features: Features) -> Float[np.ndarray, " n"]:
    """The largest absolute value of each row; not finite if the row has an entry that is not."""
    with jax.enable_x64(True):
        return np.asarray(_scales(jnp.asarray(features)))


@jax.jit
def _scales(features: Num[Array, "n d"]) -> Float[Array, " n"]:
    dtype = jnp.float64 if features.dtype == jnp.float64 else jnp.float32
    return jnp.max(jnp.abs(features.astype(dtype)), axis=1)


def blocks(
    features: Num[Array, "n d"],
    width: int,
    visit: Callable[[Array, Array, Array, Any], Any],
    start: Any,
    axis: int = 0,
) -> Any:
    """Visits all rows (for axis 1, columns) block by block, inside jit.

    `visit(block, first row, whether each row is new, carried) -> carried`. The last block ends with the last
    row, so its first rows may have been visited before. `width` is the number of values made from a row.
    """
    n = features.shape[axis]
    size = min(n, max(1, _ELEMENTS // max(1, width)))

    def step(i: Array, carried: Any) -> Any:
        first = jnp.minimum(i * size, n - size)
        block = jax.lax.dynamic_slice_in_dim(features, first, size, axis)
        return visit(block, first, first + jnp.arange(size) >= i * size, carried)

    return jax.lax.fori_loop(0, -(-n // size), step, start)


@functools.partial(jax.jit, static_argnames="rows")
def _moment(features: Num[Array, "n d"], parameters: tuple[Array, ...], rows: Rows) -> Float[Array, "D D"]:
    """R^T R / n."""
    width = _width(features, rows, parameters)

    def add(block: Array, _: Array, new: Array, total: Array) -> Array:
        made = jnp.where(new[:, None], rows(block, *parameters), 0.0)
        return total + made.T @ made

    start = jnp.zeros((width, width), jnp.float64)
    total: Array = blocks(features, max(width, features.shape[1]), add, start)
    return total / len(features)


@functools.partial(jax.jit, static_argnames="rows")
def _gram(features: Num[Array, "n d"], parameters: tuple[Array, ...], rows: Rows) -> Float[Array, "n n"]:
    """R R^T / n, where n is the smaller side; from blocks of columns."""
    n = len(features)
    if rows is fourier:
        made: Array = rows(features, *parameters)
        return made @ made.T / n
    scale = _scales(features).astype(jnp.float64)[:, None]
    zero = (scale == 0).astype(jnp.float64)

    def add(block: Array, _: Array, new: Array, total: Array) -> Array:
        wide = block.astype(jnp.float64)
        part = (
            wide - jnp.mean(wide, axis=0)[None] if rows is centred else wide / jnp.where(zero > 0, 1.0, scale)
        )
        part = jnp.where(new[None], part, 0.0)
        return total + part @ part.T

    gram: Array = blocks(features, n, add, jnp.zeros((n, n), jnp.float64), axis=1)
    if rows is centred:
        return gram / n
    gram = gram + zero * zero.T
    lengths = jnp.sqrt(jnp.diagonal(gram))
    return gram / (lengths[:, None] * lengths[None] * n)


@functools.partial(jax.jit, static_argnames="rows")
def _quadratic(
    features: Num[Array, "n d"], parameters: tuple[Array, ...], matrix: Float[Array, "D D"], rows: Rows
) -> Float[Array, " n"]:
    """r_i^T A r_i."""

    def fill(block: Array, first: Array, _: Array, out: Array) -> Array:
        made = rows(block, *parameters)
        return jax.lax.dynamic_update_slice_in_dim(out, jnp.sum((made @ matrix) * made, axis=1), first, 0)

    start = jnp.zeros(len(features), jnp.float64)
    out: Array = blocks(features, max(len(matrix), features.shape[1]), fill, start)
    return out


@jax.jit
def _from_vectors(
    p: Float[Array, " n"], vectors: Float[Array, "n n"], slope: Float[Array, " n"]
) -> Float[Array, " n"]:
    """r_i^T f(C) r_i from the eigenvectors of the Gram matrix."""
    return len(p) * (vectors**2 @ (p * slope))


@jax.jit
def _eigh(matrix: Float[Array, "m m"]) -> tuple[Float[Array, " m"], Float[Array, "m m"]]:
    p, vectors = jnp.linalg.eigh(matrix)
    return p, vectors


@jax.jit
def _eigenvalues(matrix: Float[Array, "m m"]) -> Float[Array, " m"]:
    """Eigenvalues without vectors: for a large matrix by tridiagonal reduction and bisection.

    `eigvalsh` would compute the vectors and drop them.
    """
    if len(matrix) <= _SMALL:
        p: Array = jnp.linalg.eigvalsh(matrix)
        return p
    _, diagonal, beside, _ = jax.lax.linalg.tridiagonal(matrix)
    p = jax.scipy.linalg.eigh_tridiagonal(diagonal, beside, eigvals_only=True)
    return p


def _clean(p: Float[np.ndarray, " r"], n: int) -> Float[np.ndarray, " r"]:
    """The eigenvalues, with those that are only rounding errors set to zero."""
    return np.where(p > max(n, p.size) * np.finfo(np.float64).eps * p.max(), p, 0.0)


def _width(features: Num[Array, "n d"], rows: Rows, parameters: tuple[Array, ...]) -> int:
    return int(jax.eval_shape(rows, features[:1], *parameters).shape[1])
