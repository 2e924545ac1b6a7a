"""The device's part: eigenvalues and metrics of many matrices in one compiled call.

Matrices of one shape are stacked; all stacks go into one program. Models above the memory budget take one
call per batch of matrices. On several emulated CPU devices everything stays on the first one.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rmtjax.spectra import bulk, eigen, measures, tails
from rmtjax.spectra.matrices import Matrix

# Matrices go together up to this many bytes, in the precision of the computation.
CALL_BYTES = 1 << 30
_WEIGHT_EPS = float(np.finfo(np.float32).eps)


def run(
    found: Sequence[Matrix], dtype: Any, with_metrics: bool = True
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Eigenvalues and raw metrics of matrices, in their order.

    Args:
      found: the matrices.
      dtype: of the computation, float32 or float64.
      with_metrics: if not, only eigenvalues (and `exponent`, `bad`) are computed.

    Returns:
      Eigenvalues of W^T W of the matrices divided by 2^exponent, ascending, pooled over slices; and metrics
      of these scaled matrices with `exponent` (int) and `bad` (entries that are not finite, int), arrays of
      one value per matrix.
    """
    spectra: list[np.ndarray] = [np.zeros(0)] * len(found)
    rows: dict[str, np.ndarray] = {}
    x64 = jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()
    with x64:
        for batch in _batches(found, np.dtype(dtype).itemsize):
            stacks = tuple(_stack([found[i] for i in members], dtype) for members in batch)
            constants = tuple(_constants(stack.shape, dtype) for stack in stacks)
            values, metrics = jax.device_get(_measure(stacks, constants) if with_metrics else _solve(stacks))
            order = [i for members in batch for i in members]
            for i, value in zip(order, (row for stack in values for row in stack), strict=True):
                spectra[i] = value
            for name, column in metrics.items():
                rows.setdefault(name, np.zeros(len(found), column.dtype))[order] = column
    return spectra, rows


def _batches(found: Sequence[Matrix], itemsize: int) -> Iterator[list[list[int]]]:
    """Indices of matrices, in lists of equal shape, in batches of at most CALL_BYTES (or one matrix)."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, matrix in enumerate(found):
        by_shape.setdefault(matrix.weights.shape, []).append(i)
    batch: list[list[int]] = []
    room = CALL_BYTES
    for shape in sorted(by_shape):
        members: list[int] = []
        for i in by_shape[shape]:
            size = found[i].weights.size * itemsize
            if size > room and (batch or members):
                yield [*batch, members] if members else batch
                batch, members, room = [], [], CALL_BYTES
            members.append(i)
            room -= size
        batch.append(members)
    if batch:
        yield batch


def _stack(members: Sequence[Matrix], dtype: Any) -> np.ndarray:
    out = np.empty((len(members), *members[0].weights.shape), dtype)
    with np.errstate(over="ignore"):  # too large for float32: infinite, and reported as not finite
        for place, matrix in zip(out, members, strict=True):
            place[...] = matrix.weights
    return out


def _constants(shape: tuple[int, ...], dtype: Any) -> dict[str, np.ndarray]:
    """Per layer of a stack: what the bulk needs of the shape, and the least share of λ_max that counts.

    Weights are kept in float32 or less, so that singular values below N ε(float32) of the largest are rounding
    (numpy's convention for `matrix_rank`, applied to the weights as stored); the eigenvalues' own resolution
    may be coarser.
    """
    layers, slices, N, M = shape
    cut = max((N * _WEIGHT_EPS) ** 2, float(eigen.resolution(M, dtype)))
    of_shape = bulk.shape_constants(slices, N, M) | {
        "rank_cut": cut,
        "resolution": eigen.resolution(M, dtype),
    }
    return {name: np.full(layers, value, dtype) for name, value in of_shape.items()}


@jax.jit
def _solve(stacks: tuple[Array, ...]) -> tuple[list[Array], dict[str, Array]]:
    normalised, exponents, bad = zip(*(eigen.normalise(stack) for stack in stacks), strict=True)
    facts = {"exponent": jnp.concatenate(exponents), "bad": jnp.concatenate(bad)}
    return eigen.eigenvalues_of_stacks(normalised), facts


@jax.jit
def _measure(
    stacks: tuple[Array, ...], constants: tuple[dict[str, Array], ...]
) -> tuple[list[Array], dict[str, Array]]:
    values, facts = _solve(stacks)
    rows: dict[int, int] = {}
    for value in values:
        rows[value.shape[1]] = rows.get(value.shape[1], 0) + len(value)
    ladder = eigen.padded_sizes(rows)
    measured: dict[int, dict[str, Array]] = {}
    for rung in sorted(set(ladder.values())):
        members = [i for i, value in enumerate(values) if ladder[value.shape[1]] == rung]
        together = jnp.concatenate([eigen.right_aligned(values[i], rung) for i in members])
        count = jnp.concatenate([jnp.full(len(values[i]), values[i].shape[1], jnp.int32) for i in members])
        given = {
            name: jnp.concatenate([constants[i][name] for i in members]) for name in constants[members[0]]
        }
        metrics = _metrics(together, count, given)
        ends = np.cumsum([len(values[i]) for i in members])[:-1]
        for name, column in metrics.items():
            for i, part in zip(members, jnp.split(column, ends), strict=True):
                measured.setdefault(i, {})[name] = part
    columns = {name: jnp.concatenate([measured[i][name] for i in range(len(values))]) for name in measured[0]}
    return values, columns | facts


def _metrics(
    eigenvalues: Float[Array, "layers size"], count: Array, constants: dict[str, Array]
) -> dict[str, Array]:
    metrics = measures.measures(eigenvalues, count, constants["rank_cut"])
    nonzero = metrics["matrix_rank"].astype(jnp.int32)
    metrics |= tails.power_law(eigenvalues, nonzero)
    metrics["log_alpha_norm"] = tails.log_power_sum(eigenvalues, metrics["alpha"])
    metrics["alpha_hill"] = tails.hill(eigenvalues, nonzero // 2)
    metrics |= bulk.bulk(eigenvalues, count, constants)
    resolved = measures.nonzero_eigenvalues(eigenvalues, count, constants["resolution"])
    return metrics | {"num_unresolved": (count - resolved).astype(eigenvalues.dtype)}
