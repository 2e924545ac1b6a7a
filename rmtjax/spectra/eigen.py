"""Eigenvalues of W^T W, all matrices of a model in one program.

Gram matrix on the short side, Householder reduction to tridiagonal form (LAPACK, cuSOLVER), then bisection,
which runs in parallel over eigenvalues and matrices. `jnp.linalg.eigvalsh` computes vectors and drops them,
and hangs on several emulated CPU devices next to a batched product; so reductions run one after another,
under `lax.map`. Tridiagonal matrices of different sizes are padded to a short ladder of sizes, which keeps
the number of bisection loops to compile small.

Precision. A Gram matrix in precision ε gives eigenvalues with an absolute error of a few ε λ_max: enough for
norms, tails and spikes in single precision, and not for the bottom of the spectrum, which needs double
(`resolution`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

# What padding may cost, in steps of the Sturm recurrence (rows x size x size), before another size is
# compiled: about the time of a compilation. At most 8 sizes.
_PADDING, _MOST_SIZES = 1e7, 8


def resolution(M: Any, dtype: Any) -> Any:
    """Eigenvalues below this share of the largest are taken for rounding noise, for an M x M Gram matrix.

    Zero eigenvalues come out at up to 1.1 ε of the largest in both precisions (measured for M = 16 to 1024);
    errors elsewhere reach 7 ε. The rest is margin for spectra that LAPACK finds harder.
    """
    return np.sqrt(M) * float(np.finfo(dtype).eps)


def padded_sizes(rows: Mapping[int, int], padding: float = _PADDING) -> dict[int, int]:
    """A ladder: for each size the size to pad it to, so that few distinct ones remain.

    Args:
      rows: how many problems there are of each size; a problem costs size² steps.
      padding: steps that may be wasted on each rung.
    """
    while True:
        ladder: dict[int, int] = {}
        top, waste = 0, 0.0
        for size in sorted(rows, reverse=True):
            waste += rows[size] * (top**2 - size**2)
            if not top or waste > padding:
                top, waste = size, 0.0
            ladder[size] = top
        if len(set(ladder.values())) <= _MOST_SIZES:
            return ladder
        padding *= 2


def normalise(
    weights: Float[Array, "layers slices N M"],
) -> tuple[Float[Array, "layers slices N M"], Int[Array, " layers"], Int[Array, " layers"]]:
    """Each layer divided by a power of two so that its largest entry is in [1, 2): no scale over- or underflows.

    Returns:
      The scaled weights (zeros for a layer with NaN or infinite entries), the exponents of two, and the
      number of entries that are not finite.
    """
    bad = (~jnp.isfinite(weights)).sum((1, 2, 3))
    largest = jnp.where(bad > 0, 0.0, jnp.abs(weights).max((1, 2, 3)))
    exponents = jnp.where(largest > 0, jnp.frexp(largest)[1] - 1, 0)
    scale = jnp.ldexp(jnp.ones_like(largest), exponents)[:, None, None, None]
    return jnp.where(bad[:, None, None, None] > 0, 0.0, weights / scale), exponents, bad


def tridiagonal_of_gram(
    weights: Float[Array, "matrices N M"],
) -> tuple[Float[Array, "matrices M"], Float[Array, "matrices M-1"]]:
    """Diagonal and off-diagonal of a tridiagonal matrix similar to W^T W, one matrix after another."""
    if weights.shape[-1] == 1:
        return jnp.square(weights).sum(1), jnp.zeros((len(weights), 0), weights.dtype)

    def reduce(matrix: Float[Array, "N M"]) -> tuple[Float[Array, " M"], Float[Array, " M-1"]]:
        gram = jnp.matmul(matrix.T, matrix, precision="highest")
        _, diagonal, off_diagonal, _ = jax.lax.linalg.tridiagonal(gram, lower=True)
        return diagonal, off_diagonal

    diagonals, off_diagonals = jax.lax.map(reduce, weights)
    return diagonals, off_diagonals


def pad_tridiagonal(
    diagonal: Float[Array, "matrices M"], off_diagonal: Float[Array, "matrices M-1"], size: int
) -> tuple[Float[Array, "matrices {size}"], Float[Array, "matrices {size-1}"]]:
    """Pads to `size` with decoupled negative eigenvalues, which sort below those of a Gram matrix."""
    extra = size - diagonal.shape[-1]
    below = jnp.broadcast_to(-diagonal.max(-1, keepdims=True), (len(diagonal), extra))
    return jnp.concatenate([diagonal, below], -1), jnp.pad(off_diagonal, ((0, 0), (0, extra)))


def tridiagonal_eigenvalues(
    diagonal: Float[Array, "matrices M"], off_diagonal: Float[Array, "matrices M-1"]
) -> Float[Array, "matrices M"]:
    """All eigenvalues, ascending, of symmetric tridiagonal matrices, to a few ε times the norm.

    Bisection by Sturm counts (Golub and Van Loan, Matrix Computations, 8.4.1). One sweep over a uniform grid
    of M points brackets every eigenvalue, which saves log2(M) of the halvings; about three times as fast as
    `jax.scipy.linalg.eigh_tridiagonal` under vmap, which starts all of them from the same interval.
    """
    M, info = diagonal.shape[-1], np.finfo(diagonal.dtype)
    neighbours = jnp.abs(off_diagonal)
    radius = jnp.pad(neighbours, ((0, 0), (1, 0))) + jnp.pad(neighbours, ((0, 0), (0, 1)))
    low = (diagonal - radius).min(-1, keepdims=True)  # Gershgorin
    high = (diagonal + radius).max(-1, keepdims=True)
    slack = 4 * info.eps * jnp.maximum(jnp.abs(low), jnp.abs(high))
    low, high = low - slack, high + slack
    squares = jnp.pad(jnp.square(off_diagonal), ((0, 0), (1, 0)))
    pivot = 4 * info.tiny * jnp.maximum(1.0, squares.max(-1, keepdims=True))

    def count_below(x: Float[Array, "matrices M"]) -> Int[Array, "matrices M"]:
        def step(carry: Any, entries: Any) -> Any:
            ratio, count = carry
            ratio = entries[0][:, None] - x - entries[1][:, None] / ratio
            ratio = jnp.where(jnp.abs(ratio) < pivot, -pivot, ratio)
            return (ratio, count + (ratio < 0)), None

        start = (jnp.ones_like(x), jnp.zeros(x.shape, jnp.int32))
        (_, count), _ = jax.lax.scan(step, start, (diagonal.T, squares.T), unroll=4)
        below: Array = count
        return below

    order = jnp.arange(M)
    width = (high - low) / M
    at_grid = count_below(low + width * (order + 1)).at[:, -1].set(M)
    cell = jax.vmap(lambda counts: jnp.searchsorted(counts, order, side="right"))(at_grid)
    low = low + width * cell - slack
    high = low + width + 2 * slack

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        above = count_below(middle) > order
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    halvings = info.nmant + 3 - int(math.log2(M))
    low, high = jax.lax.fori_loop(0, halvings, halve, (low, high))
    roots: Array = (low + high) / 2
    return roots


def eigenvalues_of_stacks(
    stacks: Sequence[Float[Array, "_ _ _ _"]],
) -> list[Float[Array, "_ _"]]:
    """Eigenvalues of W^T W, pooled over slices and ascending: `[layers, slices, N, M] -> [layers, slices * M]`.

    Meant to be called under `jit`: one program for all stacks. Rounding below zero is clipped.
    """
    sizes = [stack.shape[-1] for stack in stacks]
    rows: dict[int, int] = {}
    for stack in stacks:
        rows[stack.shape[-1]] = rows.get(stack.shape[-1], 0) + stack.shape[0] * stack.shape[1]
    ladder = padded_sizes(rows)
    reduced = [tridiagonal_of_gram(stack.reshape(-1, *stack.shape[2:])) for stack in stacks]
    solved: dict[int, Array] = {}
    for rung in sorted(set(ladder.values())):
        members = [i for i, size in enumerate(sizes) if ladder[size] == rung]
        padded = [pad_tridiagonal(*reduced[i], rung) for i in members]
        diagonal = jnp.concatenate([pair[0] for pair in padded])
        off_diagonal = jnp.concatenate([pair[1] for pair in padded])
        roots = tridiagonal_eigenvalues(diagonal, off_diagonal)
        parts = jnp.split(roots, np.cumsum([len(pair[0]) for pair in padded])[:-1])
        solved |= dict(zip(members, parts, strict=True))
    return [pool(solved[i], stack.shape[1], stack.shape[-1]) for i, stack in enumerate(stacks)]


def pool(roots: Float[Array, "matrices size"], slices: int, M: int) -> Float[Array, "layers eigenvalues"]:
    """The M largest of each row, without negative ones, pooled over the slices of a layer and sorted."""
    pooled = jnp.maximum(roots[:, roots.shape[1] - M :], 0.0).reshape(-1, slices * M)
    return jnp.sort(pooled, axis=-1) if slices > 1 else pooled


def right_aligned(eigenvalues: Float[Array, "layers n"], size: int) -> Float[Array, "layers {size}"]:
    """Zeros in front, so that rows of different length make one array that is still ascending."""
    return jnp.pad(eigenvalues, ((0, 0), (size - eigenvalues.shape[1], 0)))


def used(count: Int[Array, " layers"], size: int) -> Bool[Array, "layers {size}"]:
    """The last `count` places of each right-aligned row."""
    return jnp.arange(size) >= size - count[:, None]
