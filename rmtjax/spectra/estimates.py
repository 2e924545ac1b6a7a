"""Metrics of a matrix from products with it alone, where it has too many eigenvalues to compute them all.

Block Lanczos with random starting columns and full reorthogonalisation (Golub and Underwood, 1977) reads the
matrix once a step, in blocks of rows, and gives a block-tridiagonal matrix T with eigenvalues θ. The largest
are those of W^T W, each within the residual of its vector. For a starting column x the quadrature
Σ U_xk² f(θ_k), with the first rows of T's eigenvectors U, is x^T f(W^T W) x (Ubaru, Chen and Saad, SIAM
Journal on Matrix Analysis and Applications 38, 2017), and M times its mean over the columns estimates
tr f(W^T W).

Two things make it exact enough. What T has found to the end, mostly the largest eigenvalues, is added up as
it is, and only the rest is estimated (deflation, as in Hutch++: Meyer, Musco, Musco and Woodruff, 2021). And
the trace itself is known from the entries, so what it explains of other sums is taken off (a control
variate). The standard error of a sum is that over the columns, joined with what the last quarter of the steps
changed.

`matfree` has the same decompositions for products that are traced into one compiled program; here the matrix
need not fit into the memory of a device.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rmtjax.spectra import compiled, eigensolver

COLUMNS, STEPS = 16, 40  # of a block, and of Lanczos
_CONVERGED = 1e-4  # an eigenvalue is known whose residual is at most this share of it
_BYTES = 1 << 26  # of a block of rows, in the precision of the computation

Product = Callable[[Float[np.ndarray, "M p"]], Float[np.ndarray, "M p"]]
Function = Callable[[np.ndarray], np.ndarray]


class Quadrature(NamedTuple):
    """What block Lanczos says of a matrix W^T W.

    Attributes:
      values: eigenvalues of T, ascending.
      weights: of each starting column, on the values.
      early: the same two, without the last quarter of the steps.
      residuals: by how much an eigenvalue of W^T W may differ from each of `values`.
      width: M.
    """

    values: Float[np.ndarray, " K"]
    weights: Float[np.ndarray, "p K"]
    early: tuple[Float[np.ndarray, " _"], Float[np.ndarray, "p _"]]
    residuals: Float[np.ndarray, " K"]
    width: int


def estimated(
    weights: np.ndarray, dtype: np.dtype, seed: int = 0, *, columns: int = COLUMNS, steps: int = STEPS
) -> tuple[dict[str, float], dict[str, float], Float[np.ndarray, " M"]]:
    """Metrics of the group "scale", without those that count small eigenvalues, in the units of the weights.

    Args:
      weights: one matrix [N, M], N >= M, of any floating dtype; it is read in blocks of rows.
      dtype: of the products.
      seed: of the starting columns.
      columns, steps: of block Lanczos; together at most M.

    Returns:
      Metrics; their standard errors (0 for those that are exact); and the quantiles of the estimated density,
      in place of eigenvalues, for pictures. Metrics also have `bad`, the number of entries that are not
      finite, beside which all others are then NaN.
    """
    largest, bad = _facts(weights)
    if bad or largest == 0:
        unknown = dict.fromkeys(("norm", "spectral_norm"), 0.0 if not bad else np.nan)
        return {"bad": float(bad), **unknown}, {}, np.full(weights.shape[1], 0.0 if not bad else np.nan)
    scale = 2.0 ** -np.floor(np.log2(largest))
    trace = _trace(weights, dtype, scale)
    rng = np.random.default_rng(seed)
    found = quadrature(
        lambda x: _product(weights, x, dtype, scale), weights.shape[1], rng, columns=columns, steps=steps
    )
    rounding = eigensolver.resolution(weights.shape[1], dtype) * found.values[-1]
    found = found._replace(residuals=np.maximum(found.residuals, rounding))
    metrics, errors = _metrics(found, trace)
    for name, power in (("norm", 2), ("spectral_norm", 2), ("nuclear_norm", 1), ("sv_max", 1)):
        metrics[name] /= scale**power
        errors[name] /= scale**power
    metrics["log_det"] -= 2 * np.log(scale) * weights.shape[1]
    return metrics | {"bad": 0.0}, errors, _quantiles(found) / scale**2


def quadrature(
    product: Product, width: int, rng: np.random.Generator, *, columns: int = COLUMNS, steps: int = STEPS
) -> Quadrature:
    """Block Lanczos of a symmetric matrix of `width`, of which only products are known.

    >>> found = quadrature(lambda x: np.diag([1.0, 2.0, 5.0]) @ x, 3, np.random.default_rng(0), columns=1)
    >>> found.values.round(6).tolist()
    [1.0, 2.0, 5.0]
    """
    columns = min(columns, width)
    steps = max(1, min(steps, width // columns))
    block = np.linalg.qr(rng.standard_normal((width, columns)))[0]
    basis, T = block, np.zeros((columns * steps, columns * steps))
    below = np.zeros((columns, columns))
    for step in range(steps):
        here = slice(step * columns, (step + 1) * columns)
        image = product(block)
        inside = basis.T @ image
        T[here, here] = (inside[here] + inside[here].T) / 2
        image = image - basis @ inside
        image -= basis @ (basis.T @ image)  # twice is enough (Parlett and Kahan)
        block, below = np.linalg.qr(image)
        if step + 1 < steps:
            after = slice(here.stop, here.stop + columns)
            T[after, here], T[here, after] = below, below.T
            basis = np.hstack([basis, block - basis @ (basis.T @ block)])
            block = basis[:, after]
    values, vectors = np.linalg.eigh(T)
    few = columns * max(1, 3 * steps // 4)
    early, of_early = np.linalg.eigh(T[:few, :few])
    residuals = np.linalg.norm(below @ vectors[-columns:], axis=0)
    if columns * steps == width:
        residuals[:] = 0.0  # the basis is whole
    return Quadrature(
        np.maximum(values, 0.0),
        vectors[:columns] ** 2,
        (np.maximum(early, 0.0), of_early[:columns] ** 2),
        residuals,
        width,
    )


def sum_of(found: Quadrature, function: Function, trace: float) -> tuple[float, float]:
    """tr f(W^T W) and its standard error, where the trace of W^T W is known."""

    if len(found.values) == found.width:
        return float(function(found.values).sum()), 0.0

    known = found.residuals <= _CONVERGED * found.values
    rest = found.width - int(known.sum())
    share = found.weights[:, ~known].sum(1, keepdims=True)
    # Off the known vectors a column is a random direction again.
    weights = rest * found.weights[:, ~known] / share
    sums = weights @ function(found.values[~known])
    first, of_first = found.early
    changed = found.width * float(
        (of_first @ function(first)).mean() - (found.weights @ function(found.values)).mean()
    )
    off = weights @ found.values[~known] - (trace - found.values[known].sum())
    n = len(sums)
    if n < 4 or not np.ptp(off) > 0:
        return float(function(found.values[known]).sum() + sums.mean()), float("nan")
    value = _at_zero(sums, off)
    # Without each column in turn (the jackknife), which also counts the error of the line.
    others = np.array([_at_zero(np.delete(sums, i), np.delete(off, i)) for i in range(n)])
    variance = (n - 1) / n * float(np.square(others - others.mean()).sum())
    # Columns of a block are orthogonal, and would be exact if there were as many as dimensions.
    error = np.sqrt(variance * max(0.0, 1 - n / rest))
    return float(function(found.values[known]).sum()) + value, float(np.hypot(error, changed))


def _at_zero(sums: Float[np.ndarray, " n"], off: Float[np.ndarray, " n"]) -> float:
    """Of a line through sums of columns against how far their traces are off: the sum where that is 0."""
    centred = off - off.mean()
    slope = float(centred @ sums) / float(centred @ centred)
    return float(sums.mean() - slope * off.mean())


def _metrics(found: Quadrature, trace: float) -> tuple[dict[str, float], dict[str, float]]:
    top, error = float(found.values[-1]), float(found.residuals[-1])
    whole = np.log(found.width)

    def entropy(x: np.ndarray) -> np.ndarray:
        return -np.where(x > 0, x * np.log(np.where(x > 0, x, 1.0)), 0.0)

    squares, of_squares = sum_of(found, np.square, trace)
    shannon, of_shannon = sum_of(found, entropy, trace)
    nuclear, of_nuclear = sum_of(found, np.sqrt, trace)
    of_roots, _ = sum_of(found, lambda x: entropy(np.sqrt(x)), trace)
    # The entropy of p = √λ / Σ√λ is ln S + E / S with E = -Σ √λ ln √λ: its change for small ones of S and E.
    _, of_entropy_sv = sum_of(
        found,
        lambda x: (1 / nuclear - of_roots / nuclear**2) * np.sqrt(x) + entropy(np.sqrt(x)) / nuclear,
        trace,
    )
    log_det, of_log_det = sum_of(found, lambda x: np.log(np.maximum(x, 1e-300)), trace)
    information = np.log(trace) + shannon / trace
    rank_sv = np.exp(np.log(nuclear) + of_roots / nuclear)
    metrics = {
        "norm": (trace, 0.0),
        "spectral_norm": (top, error),
        "stable_rank": (trace / top, trace / top**2 * error),
        "sv_max": (np.sqrt(top), error / (2 * np.sqrt(top))),
        "nuclear_norm": (nuclear, of_nuclear),
        "participation_ratio": (trace**2 / squares, trace**2 / squares**2 * of_squares),
        "effective_rank": (np.exp(information), np.exp(information) * of_shannon / trace),
        "effective_rank_sv": (rank_sv, rank_sv * of_entropy_sv),
        "entropy": (information / whole, of_shannon / trace / whole),
        "renyi_entropy_2": (np.log(trace**2 / squares) / whole, of_squares / squares / whole),
        "renyi_entropy_inf": (np.log(trace / top) / whole, error / top / whole),
        "log_det": (log_det, of_log_det),
    }
    return (
        {name: float(value) for name, (value, _) in metrics.items()},
        {name: float(one) for name, (_, one) in metrics.items()},
    )


def _quantiles(found: Quadrature) -> Float[np.ndarray, " M"]:
    """M quantiles of the estimated density, ascending: in place of eigenvalues, for pictures."""
    share = found.weights.mean(0)
    middle = np.cumsum(share) - share / 2
    at = (np.arange(found.width) + 0.5) / found.width
    out: np.ndarray = np.interp(at, middle, found.values)
    return out


def _blocks(weights: np.ndarray, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Blocks of rows of one size, so that one program serves all; the last is padded with zeros."""
    N, M = weights.shape
    rows = min(N, max(1, _BYTES // (M * np.dtype(dtype).itemsize)))
    for start in range(0, N, rows):
        block = np.ascontiguousarray(weights[start : start + rows])
        yield np.pad(block, [(0, rows - len(block)), (0, 0)]) if len(block) < rows else block


def _facts(weights: np.ndarray) -> tuple[float, int]:
    """The largest entry, and the number of those that are not finite."""
    found = [jax.device_get(_of_block(block)) for block in _blocks(weights, np.dtype(np.float32))]
    return float(max(one[0] for one in found)), int(sum(one[1] for one in found))


def _trace(weights: np.ndarray, dtype: np.dtype, scale: float) -> float:
    return float(
        sum(float(_sum_of_squares(block, jnp.asarray(scale, dtype))) for block in _blocks(weights, dtype))
    )


def _product(weights: np.ndarray, x: np.ndarray, dtype: np.dtype, scale: float) -> np.ndarray:
    """W^T W x, added up in double precision over the blocks of rows."""
    put, out = jnp.asarray(x, dtype), np.zeros(x.shape)
    for block in _blocks(weights, dtype):
        out += np.asarray(_twice(block, put, jnp.asarray(scale, dtype)), np.float64)
    return out


@compiled.jit
def _of_block(block: Array) -> tuple[Array, Array]:
    finite = jnp.isfinite(block)
    return jnp.where(finite, jnp.abs(block), 0).max(), (~finite).sum()


@compiled.jit
def _sum_of_squares(block: Array, scale: Array) -> Array:
    # Of each row first: a sum of all entries in single precision would lose digits.
    return jnp.square(block.astype(scale.dtype) * scale).sum(1).sum()


@compiled.jit
def _twice(block: Array, x: Array, scale: Array) -> Array:
    wide = block.astype(x.dtype) * scale
    return jnp.matmul(wide.T, jnp.matmul(wide, x, precision="highest"), precision="highest")
