"""Singular vectors of each slice: are they as random as those of noise, or do they hold on to few entries?

Vectors of length M (right ones, W being N x M with N >= M) are eigenvectors of W^T W; those of length N are W v / s.
Vectors of noise are uniform on the sphere, so that √n u_j is standard normal for large n (Porter and Thomas). What
every number would be for such a vector of the same length stands beside it (`<name>_null`).
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rmtjax.spectra import eigensolver
from rmtjax.spectra.matrices import Matrix
from rmtjax.spectra.streaming import STACK_BYTES

LEADING = 10
FALSE_DISCOVERIES = 0.05
_SHORTEST = 16  # the calibration below was measured for 16 to 1024 entries
_BINS, _EPSILON = 100, 1e-10  # WeightWatcher's


def vector_metrics(found: Sequence[Matrix], tail: np.ndarray, dtype: Any) -> dict[str, np.ndarray]:
    """Metrics of the singular vectors of each matrix, pooled over its slices; none has a unit or depends on scale.

    A vector counts only where it is determined: its eigenvalue of W^T W, and the distance to the next one of its
    slice, must exceed `eigensolver.resolution` times the largest (in single precision singular values above about
    2e-3 of the largest). NaN where no vector counts, and for a matrix that is not finite.

    Args:
      found: the matrices; each is loaded once, and programs are compiled for each shape.
      tail: how many of the pooled eigenvalues of each are in its tail (`num_pl_spikes`), NaN if there is none. A
        number, since comparing eigenvalues with xmin leaves the one that is xmin to rounding.
      dtype: of W^T W and the vectors, float32 or float64.

    Returns:
      <bulk|tail>_<mean|var>_<vec_entropy|loc_ratio|part_ratio>: WeightWatcher's, of vectors of length M: entropy (nats)
        of a histogram of |u| in 100 bins (in float32 an entry may fall into the next bin); ||u||_1 / ||u||_inf;
        ||u||_2 / ||u||_4. Null of the means of the last two; the histogram's has no closed form.
      num_non_porter_thomas_<N|M>: how many vectors of that length are not normal, by the Kolmogorov-Smirnov test and
        Benjamini and Hochberg's rule at a false discovery rate of 5 %: noise has any in at most 5 % of matrices
        (null 0). NaN below 16 entries.
      ipr_<bulk|leading>_<N|M>: mean of Σ u^4 over the bulk and over the leading 10; null 3 / (n + 2), and a
        vector's relative standard deviation is √(8 / 3n).
      vector_entropy_<bulk|leading>_<N|M>: mean of -Σ u² ln u², nats; null ψ(n/2 + 1) - ψ(3/2), about ln n - .730.
    """
    out: dict[str, np.ndarray] = {}
    for i, (matrix, size) in enumerate(zip(found, tail, strict=True)):
        for name, value in _of_matrix(matrix, float(size), np.dtype(dtype)).items():
            out.setdefault(name, np.full(len(found), np.nan))[i] = value
    return out


def _of_matrix(matrix: Matrix, tail: float, dtype: np.dtype) -> dict[str, float]:
    slices, N, M = matrix.shape
    weights = np.asarray(matrix.load(), np.float64)
    if not np.isfinite(weights).all():
        weights = np.zeros_like(weights)  # of which no vector counts
    largest = np.abs(weights).max((1, 2), keepdims=True)
    exponents = np.frexp(largest)[1]
    rows = max(1, STACK_BYTES // (6 * N * M * dtype.itemsize))
    parts: list[dict[str, np.ndarray]] = []
    with jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext():
        for start in range(0, slices, rows):
            place = slice(start, start + rows)
            scaled = jnp.asarray(np.ldexp(weights[place], -exponents[place]).astype(dtype))
            parts.append(jax.device_get(_statistics(scaled, *_eigh(_gram(scaled)))))
    of = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    with np.errstate(divide="ignore"):
        # Slices have scales of their own; logarithms rank the eigenvalues of all without overflow.
        logs = np.log2(np.maximum(of.pop("eigenvalue"), 0).astype(np.float64)) + 2 * exponents[:, :, 0]
    rank = np.empty(logs.size, int)
    rank[np.argsort(-logs, axis=None, kind="stable")] = np.arange(logs.size)
    return _summary({name: values.ravel() for name, values in of.items()}, rank, tail, N, M) | _nulls(N, M)


@jax.jit
def _gram(weights: Float[Array, "rows N M"]) -> Float[Array, "rows M M"]:
    gram: Array = jax.lax.map(lambda w: jnp.matmul(w.T, w, precision="highest"), weights)
    return gram


@jax.jit  # a program of its own: next to a product it can hang on several emulated CPU devices
def _eigh(gram: Float[Array, "rows M M"]) -> tuple[Float[Array, "rows M"], Float[Array, "rows M M"]]:
    values, columns = jnp.linalg.eigh(gram)
    return values, columns


# Level 1 takes less time to compile, once a shape, and sorting runs as fast.
@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
def _statistics(
    weights: Float[Array, "rows N M"], values: Float[Array, "rows M"], columns: Float[Array, "rows M M"]
) -> dict[str, Array]:
    """Of each vector, `[rows, M]`; eigenvectors are columns."""

    def of_one(w: Array, ascending: Array, v: Array) -> dict[str, Array]:
        counts = _determined(ascending)
        product = jnp.matmul(w, v, precision="highest").T
        length = jnp.linalg.norm(product, axis=1, keepdims=True)
        u = product / jnp.where(length > 0, length, 1.0)
        out = {"eigenvalue": ascending, "counts": counts, **_of_vectors(v.T, "M"), **_of_vectors(u, "N")}
        size = jnp.abs(v.T)
        out["loc_ratio"] = size.sum(1) / size.max(1)
        out["part_ratio"] = out["ipr_M"] ** -0.25
        out["vec_entropy"] = _histogram_entropy(size)
        return out

    found: dict[str, Array] = jax.lax.map(lambda row: of_one(*row), (weights, values, columns))
    return found


def _determined(ascending: Float[Array, " M"]) -> Bool[Array, " M"]:
    """Which eigenvalues stand out from zero and from their neighbours, so that rounding does not choose the vector."""
    least = eigensolver.resolution(ascending.shape[0], ascending.dtype) * ascending[-1]
    gaps = jnp.diff(ascending, prepend=-jnp.inf, append=jnp.inf)
    found: Array = (ascending > least) & (jnp.minimum(gaps[:-1], gaps[1:]) > least)
    return found


def _of_vectors(u: Float[Array, "M n"], side: str) -> dict[str, Array]:
    """Vectors are rows, of length 1."""
    n = u.shape[1]
    square = jnp.square(u)
    distribution = jax.scipy.special.ndtr(jnp.sort(u, axis=1) * n**0.5)
    places = jnp.arange(n, dtype=u.dtype)
    distance = jnp.maximum(distribution - places / n, (places + 1) / n - distribution).max(1)
    return {
        f"ipr_{side}": jnp.square(square).sum(1),
        f"vector_entropy_{side}": -jax.scipy.special.xlogy(square, square).sum(1),
        f"p_{side}": _porter_thomas_p(distance, n),
    }


def _porter_thomas_p(distance: Float[Array, " M"], n: int) -> Float[Array, " M"]:
    """Of the Kolmogorov-Smirnov distance of √n u to the normal law, for u uniform on the sphere.

    Kolmogorov's series at Stephens' x = (√n + .12 + .11/√n) D. A vector's length is fixed, which makes distances
    smaller than those of independent normals: x² + .075 in place of x² puts the quantiles .5 to .999 right within .01
    in x (measured on 12,000 to 200,000 vectors of 16, 64, 256 and 1024 entries).
    """
    x = (n**0.5 + 0.12 + 0.11 / n**0.5) * distance
    k = jnp.arange(1, 9, dtype=distance.dtype)
    terms = jnp.where(k % 2 == 1, 2.0, -2.0) * jnp.exp(-2 * (k * k) * (x * x + 0.075)[:, None])
    # Below .4 the eight terms no longer suffice, and p is 1 within .003.
    return jnp.where(x * x + 0.075 > 0.16, jnp.clip(terms.sum(1), 0.0, 1.0), 1.0)


def _histogram_entropy(size: Float[Array, "M n"]) -> Float[Array, " M"]:
    """Of the histogram of each row over its own range, as density, WeightWatcher's `vec_entropy`."""
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
    from scipy.special import digamma, ndtr

    z = np.linspace(0, 12, 4001)
    maximum = float(np.trapezoid(1 - (2 * ndtr(z) - 1) ** M, z))  # mean of the largest of M |normals|
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


def _summary(of: dict[str, np.ndarray], rank: np.ndarray, tail: float, N: int, M: int) -> dict[str, float]:
    """Over the bulk's, the tail's and the leading vectors of all slices; `rank` counts from the largest eigenvalue."""
    counts = of["counts"]
    parts = {
        "bulk": counts & (rank >= tail),
        "tail": counts & (rank < tail),
        "leading": counts & (rank < LEADING),
    }

    def over(name: str, part: str, summary: Callable[[np.ndarray], np.floating[Any]] = np.mean) -> float:
        values = of[name][parts[part]].astype(np.float64)
        return float(summary(values)) if len(values) else np.nan

    out: dict[str, float] = {}
    for part in ("bulk", "tail"):
        for word, summary in (("mean", np.mean), ("var", np.var)):
            for name in ("vec_entropy", "loc_ratio", "part_ratio"):
                out[f"{part}_{word}_{name}"] = over(name, part, summary)
    for side, n in (("N", N), ("M", M)):
        judged = n >= _SHORTEST and counts.any()
        out[f"num_non_porter_thomas_{side}"] = num_rejected(of[f"p_{side}"][counts]) if judged else np.nan
        for name in ("ipr", "vector_entropy"):
            for part in ("bulk", "leading"):
                out[f"{name}_{part}_{side}"] = over(f"{name}_{side}", part)
    return out


def num_rejected(p: np.ndarray, rate: float = FALSE_DISCOVERIES) -> int:
    """How many hypotheses are rejected at this rate (Benjamini and Hochberg, J. R. Stat. Soc. B 57 (1995))."""
    below = np.nonzero(np.sort(p) <= rate * np.arange(1, len(p) + 1) / len(p))[0]
    return int(below[-1]) + 1 if len(below) else 0
