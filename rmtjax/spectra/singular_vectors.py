"""Singular vectors of each slice: are they as random as those of noise, or concentrated on a few entries?

W is N x M with N >= M. Right singular vectors v have length M and are eigenvectors of W^T W; left ones have
length N and are W v / s. The singular vectors of noise are uniform on the sphere, so that the entries of √n u
are close to standard normal for large n (Porter and Thomas). The value of each metric for such vectors of the
same length stands beside it (`<name>_null`).
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rmtjax.spectra import compiled, eigensolver
from rmtjax.spectra.matrices import Matrix
from rmtjax.spectra.streaming import STACK_BYTES, precision

LEADING = 10
FALSE_DISCOVERIES = 0.05
_SHORTEST = 16  # the p-values below were calibrated on vectors of 16 to 1024 entries
_BINS, _EPSILON = 100, 1e-10  # as in WeightWatcher


def vector_metrics(found: Sequence[Matrix], tail: np.ndarray, dtype: Any) -> dict[str, np.ndarray]:
    """Metrics of the singular vectors of each matrix, pooled over its slices.

    No metric depends on the scale of the weights.

    A vector counts only if it is more than rounding noise: its eigenvalue of W^T W, and the distance to
    the next eigenvalue of its slice, must exceed `eigensolver.resolution` times the largest one (in single
    precision: singular values above about 2e-3 of the largest). A metric is NaN where no vector counts, and
    for a matrix that is not finite.

    Args:
      found: the matrices. Each is loaded once, and each shape is compiled once.
      tail: how many of the pooled eigenvalues of each matrix are in its tail (`num_pl_spikes`); NaN if it has
        none. A number, because for xmin itself a comparison of eigenvalues with xmin depends on rounding.
      dtype: of W^T W and the vectors, float32 or float64.

    Returns:
      <bulk|tail>_<mean|var>_<vec_entropy|loc_ratio|part_ratio>: WeightWatcher's metrics of the vectors of
        length M. vec_entropy is the entropy (nats) of a histogram of |u| in 100 bins (in float32 an entry may
        fall into the next bin), loc_ratio is ||u||_1 / ||u||_inf, part_ratio is ||u||_2 / ||u||_4. The means
        of the last two have a null; the histogram's entropy has none in closed form.
      num_non_porter_thomas_<N|M>: how many vectors of that length are not normal, by the Kolmogorov-Smirnov
        test and the rule of Benjamini and Hochberg at a false discovery rate of 5 %. At most 5 % of noise
        matrices have any (null 0). NaN below 16 entries.
      ipr_<bulk|leading>_<N|M>: mean of Σ u^4 over the vectors of the bulk, or over the leading 10; null
        3 / (n + 2). The relative standard deviation for one vector is √(8 / 3n).
      vector_entropy_<bulk|leading>_<N|M>: mean of -Σ u² ln u² in nats; null ψ(n/2 + 1) - ψ(3/2), close to
        ln n - 0.730.
    """
    sizes = zip(found, tail, strict=True)
    return as_columns([_metrics_of_matrix(matrix, float(size), np.dtype(dtype)) for matrix, size in sizes])


def as_columns(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """One array per name from one mapping per matrix; NaN where a mapping lacks the name."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows], np.float64) for name in names}


def _metrics_of_matrix(matrix: Matrix, tail: float, dtype: np.dtype) -> dict[str, float]:
    _, N, M = matrix.shape
    weights = np.asarray(matrix.load(), np.float64)
    if not np.isfinite(weights).all():
        weights = np.zeros_like(weights)  # no vector of a zero matrix counts
    largest = np.abs(weights).max((1, 2), keepdims=True)
    exponents = np.frexp(largest)[1]
    parts: list[dict[str, np.ndarray]] = []
    with precision(dtype):
        for rows in stacks_of_slices(matrix.shape, dtype):
            scaled = jnp.asarray(np.ldexp(weights[rows], -exponents[rows]).astype(dtype))
            parts.append(jax.device_get(_statistics(scaled, *gram_eigenvectors(scaled))))
    statistics = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    values = statistics.pop("eigenvalue").astype(np.float64)
    with np.errstate(divide="ignore"):
        # Slices have scales of their own; logarithms rank the eigenvalues of all slices without overflow.
        logs = np.log2(np.maximum(values, 0)) + 2 * exponents[:, :, 0]
    rank = np.empty(logs.size, int)
    rank[np.argsort(-logs, axis=None, kind="stable")] = np.arange(logs.size)
    of_vectors = {name: column.ravel() for name, column in statistics.items()}
    return _summary(of_vectors, rank, tail, N, M) | _nulls(N, M)


def stacks_of_slices(shape: tuple[int, int, int], dtype: np.dtype) -> Iterator[slice]:
    """Ranges of slices: weights, Gram matrices and vectors of each range fit into STACK_BYTES together."""
    slices, N, M = shape
    rows = max(1, STACK_BYTES // (6 * N * M * dtype.itemsize))
    for start in range(0, slices, rows):
        yield slice(start, start + rows)


def gram_eigenvectors(
    weights: Float[Array, "rows N M"],
) -> tuple[Float[Array, "rows M"], Float[Array, "rows M M"]]:
    """Eigenvalues of W^T W, ascending, and its eigenvectors as columns, for each matrix of a stack.

    In two programs: a solver next to a product in one program can hang on several emulated CPU devices.
    """
    values, vectors = _eigh(_gram(weights))
    return values, vectors


@compiled.jit
def _gram(weights: Float[Array, "rows N M"]) -> Float[Array, "rows M M"]:
    gram: Array = jax.lax.map(lambda w: jnp.matmul(w.T, w, precision="highest"), weights)
    return gram


_eigh = compiled.jit(jnp.linalg.eigh)


# Compiled once for each shape. Optimisation level 1 compiles faster, and the sorting runs as fast.
@functools.partial(compiled.jit, compiler_options={"xla_backend_optimization_level": 1})
def _statistics(
    weights: Float[Array, "rows N M"], values: Float[Array, "rows M"], columns: Float[Array, "rows M M"]
) -> dict[str, Array]:
    """Statistics `[rows, M]` of each pair of singular vectors; the eigenvectors of W^T W are columns."""

    def of_one_slice(w: Array, ascending: Array, v: Array) -> dict[str, Array]:
        product = jnp.matmul(w, v, precision="highest").T
        length = jnp.linalg.norm(product, axis=1, keepdims=True)
        u = product / jnp.where(length > 0, length, 1.0)
        out = {"eigenvalue": ascending, "counts": _determined(ascending)}
        out |= _vector_statistics(v.T, "M") | _vector_statistics(u, "N")
        size = jnp.abs(v.T)
        out["loc_ratio"] = size.sum(1) / size.max(1)
        out["part_ratio"] = out["ipr_M"] ** -0.25
        out["vec_entropy"] = _histogram_entropy(size)
        return out

    found: dict[str, Array] = jax.lax.map(lambda row: of_one_slice(*row), (weights, values, columns))
    return found


def _determined(ascending: Float[Array, " M"]) -> Bool[Array, " M"]:
    """Which eigenvalues are so far from zero and from others that their vectors are not rounding noise."""
    least = eigensolver.resolution(ascending.shape[0], ascending.dtype) * ascending[-1]
    gaps = jnp.diff(ascending, prepend=-jnp.inf, append=jnp.inf)
    found: Array = (ascending > least) & (jnp.minimum(gaps[:-1], gaps[1:]) > least)
    return found


def _vector_statistics(u: Float[Array, "M n"], side: str) -> dict[str, Array]:
    """Statistics of unit vectors, one per row; `side` ends their names."""
    n = u.shape[1]
    square = jnp.square(u)
    distribution = jax.scipy.special.ndtr(jnp.sort(u, axis=1) * n**0.5)
    places = jnp.arange(n, dtype=u.dtype)[None]
    distance = jnp.maximum(distribution - places / n, (places + 1) / n - distribution).max(1)
    return {
        f"ipr_{side}": jnp.square(square).sum(1),
        f"vector_entropy_{side}": -jax.scipy.special.xlogy(square, square).sum(1),
        f"p_{side}": _porter_thomas_p(distance, n),
    }


def _porter_thomas_p(distance: Float[Array, " M"], n: int) -> Float[Array, " M"]:
    """p-value of the Kolmogorov-Smirnov distance from √n u to the normal law, for u uniform on the sphere.

    Kolmogorov's series at Stephens' x = (√n + .12 + .11/√n) D. The fixed length of a vector makes the
    distances smaller than those of independent normals. With x² + .075 in place of x², the quantiles from .5
    to .999 are right within .01 in x (measured on 12,000 to 200,000 vectors of 16, 64, 256 and 1024 entries).
    """
    x = (n**0.5 + 0.12 + 0.11 / n**0.5) * distance
    k = jnp.arange(1, 9, dtype=distance.dtype)[None]
    terms = jnp.where(k % 2 == 1, 2.0, -2.0) * jnp.exp(-2 * (k * k) * (x * x + 0.075)[:, None])
    # Eight terms do not suffice below .4; there p is 1 within .003.
    return jnp.where(x * x + 0.075 > 0.16, jnp.clip(terms.sum(1), 0.0, 1.0), 1.0)


def _histogram_entropy(size: Float[Array, "M n"]) -> Float[Array, " M"]:
    """WeightWatcher's `vec_entropy`: of the histogram of each row over its own range, as a density."""
    M, n = size.shape
    low = size.min(1, keepdims=True)
    width = size.max(1, keepdims=True) - low
    scaled = (size - low) / jnp.where(width > 0, width, 1.0) * _BINS
    bins = jnp.clip(scaled.astype(jnp.int32), 0, _BINS - 1)
    count = jnp.zeros((M, _BINS), size.dtype).at[jnp.arange(M)[:, None], bins].add(1.0)
    density = count * _BINS / (n * jnp.where(width > 0, width, 1.0)) + _EPSILON
    p = density / density.sum(1, keepdims=True)
    entropy: Array = -jax.scipy.special.xlogy(p, p).sum(1)
    return entropy


def _nulls(N: int, M: int) -> dict[str, float]:
    """The metrics of vectors that are uniform on the sphere."""
    from scipy.special import digamma, ndtr

    z = np.linspace(0, 12, 4001)
    maximum = float(np.trapezoid(1 - (2 * ndtr(z) - 1) ** M, z))  # mean of the largest of M absolute normals
    out: dict[str, float] = {}
    for part in ("bulk", "tail"):
        out[f"{part}_mean_loc_ratio_null"] = M * (2 / np.pi) ** 0.5 / maximum
        out[f"{part}_mean_part_ratio_null"] = ((M + 2) / 3) ** 0.25
    for side, n in (("N", N), ("M", M)):
        out[f"num_non_porter_thomas_{side}_null"] = 0.0
        for part in ("bulk", "leading"):
            out[f"ipr_{part}_{side}_null"] = 3 / (n + 2)
            out[f"vector_entropy_{part}_{side}_null"] = float(digamma(n / 2 + 1) - digamma(1.5))
    return out


def _summary(
    of_vectors: Mapping[str, np.ndarray], rank: np.ndarray, tail: float, N: int, M: int
) -> dict[str, float]:
    """Metrics over bulk, tail and leading vectors of all slices; rank 0 is that of the largest eigenvalue."""
    counts = of_vectors["counts"]
    parts = {
        "bulk": counts & (rank >= tail),
        "tail": counts & (rank < tail),
        "leading": counts & (rank < LEADING),
    }

    def over(name: str, part: str, summary: Callable[[np.ndarray], np.floating[Any]] = np.mean) -> float:
        values = of_vectors[name][parts[part]].astype(np.float64)
        return float(summary(values)) if len(values) else np.nan

    out: dict[str, float] = {}
    for part in ("bulk", "tail"):
        for word, summary in (("mean", np.mean), ("var", np.var)):
            for name in ("vec_entropy", "loc_ratio", "part_ratio"):
                out[f"{part}_{word}_{name}"] = over(name, part, summary)
    for side, n in (("N", N), ("M", M)):
        p = of_vectors[f"p_{side}"][counts]
        out[f"num_non_porter_thomas_{side}"] = num_rejected(p) if n >= _SHORTEST and len(p) else np.nan
        for name in ("ipr", "vector_entropy"):
            for part in ("bulk", "leading"):
                out[f"{name}_{part}_{side}"] = over(f"{name}_{side}", part)
    return out


def num_rejected(p: np.ndarray, rate: float = FALSE_DISCOVERIES) -> int:
    """How many hypotheses are rejected at this false discovery rate.

    Benjamini and Hochberg, J. R. Stat. Soc. B 57 (1995).

    >>> num_rejected(np.array([0.001, 0.02, 0.03, 0.9]))
    3
    """
    below = np.nonzero(np.sort(p) <= rate * np.arange(1, len(p) + 1) / len(p))[0]
    return int(below[-1]) + 1 if len(below) else 0
