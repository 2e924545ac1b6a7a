"""Eigenvalues of W^T W for stacks of matrices: Gram matrix, tridiagonal form, roots.

1. The Gram matrix on the short side, lower triangle only.
2. Householder reduction to tridiagonal form (LAPACK, cuSOLVER).
3. Bisection, parallel over eigenvalues and matrices.

`jnp.linalg.eigvalsh` would compute eigenvectors and drop them. Each step is a program of its own: three small
programs compile in a fraction of the time of one large program and serve every model, and a batched solver
next to a batched product in one program can hang on several emulated CPU devices. Tridiagonal matrices of
different sizes are padded to a short ladder of sizes.

Precision. A Gram matrix in precision ε gives eigenvalues with an absolute error of a few ε λ_max. In single
precision that is enough for norms, tails and spikes. The bottom of the spectrum needs double precision
(`resolution`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

# Padding may cost this many steps of the Sturm recurrence (rows x size x size) before another size is
# compiled: about the time of a compilation. There are at most 8 sizes.
_PADDING, _MOST_SIZES = 1e7, 8
# Width of the blocks of the Gram matrix: at 768 columns 6 of 16 products are left out, and float64 takes 60 %
# of the time.
_BLOCK = 192
# Newton's method first improves all roots this many times, after which few are open; then `_FEW` of each row
# at a time. The limit on these turns is above what bisection alone would need from the widest bracket.
_TURNS_OF_ALL, _FEW, _MOST_TURNS = 4, 32, 80


def resolution(M: Any, dtype: Any) -> Any:
    """√M ε: eigenvalues of an M x M Gram matrix below this share of the largest count as rounding noise.

    Zero eigenvalues come out at up to 1.1 ε of the largest in both precisions (measured for M = 16 to 1024).
    Other eigenvalues have errors up to 7 ε. The rest is a margin for spectra that are harder for LAPACK.

    >>> float(resolution(64, np.float64) / np.finfo(np.float64).eps)
    8.0
    """
    return np.sqrt(M) * float(np.finfo(dtype).eps)


def padded_sizes(rows: Mapping[int, int], padding: float = _PADDING) -> dict[int, int]:
    """For each size the size to pad it to, so that few distinct sizes (rungs of a ladder) remain.

    Args:
      rows: how many problems there are of each size; a problem costs size² steps.
      padding: how many steps may be wasted on each rung.

    >>> padded_sizes({64: 1, 768: 24, 3072: 24})
    {3072: 3072, 768: 768, 64: 768}
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


def gram_stack(
    weights: Shaped[Array, "rows N M"], widths: Int[Array, " rows"], dtype: Any, block: int = _BLOCK
) -> tuple[Float[Array, "rows M M"], Int[Array, " rows"], Int[Array, " rows"]]:
    """W^T W of each matrix of a stack, scaled; only the lower triangle is defined.

    Each matrix is divided by a power of two that brings its largest entry into [1, 2): no scale over- or
    underflows, and mantissas do not change. The matrices are multiplied one after another, so that their
    working memory is needed once.

    Args:
      weights: matrices, padded with zeros to a common shape.
      widths: how many columns of each matrix are its own. Columns of padding become eigenvalues below all
        others.
      dtype: of the product.
      block: how many columns are multiplied at a time; blocks above the diagonal are left out.

    Returns:
      The products (zeros for a matrix with NaN or infinite entries), the exponents of two, and the number of
      entries that are not finite.

    >>> gram, exponent, bad = gram_stack(jnp.array([[[3.0], [4.0]]]), jnp.array([1]), jnp.float32)
    >>> gram.tolist(), exponent.tolist(), bad.tolist()
    ([[[1.5625]]], [2], [0])
    """
    M = weights.shape[2]

    def of_one_matrix(matrix: Array, width: Array) -> tuple[Array, Array, Array]:
        finite = jnp.isfinite(matrix)  # a maximum may ignore NaN
        bad = (~finite).sum()
        good = bad == 0
        largest = jnp.where(finite, jnp.abs(matrix), 0).max().astype(dtype)
        exponent = jnp.where(good & (largest > 0), jnp.frexp(largest)[1] - 1, 0).astype(jnp.int32)
        scale = jnp.ldexp(jnp.ones((), dtype), -exponent)
        # Cast and scaled block by block: more passes over the whole matrix cost as much as the product.
        panels = [
            jnp.where(good, matrix[:, start : start + block].astype(dtype) * scale, 0.0)
            for start in range(0, M, block)
        ]
        gram = _lower_product(panels)
        diagonal = jnp.diagonal(gram)
        below = -jnp.maximum(diagonal.max(), float(np.finfo(dtype).tiny))
        places = jnp.arange(M, dtype=width.dtype)
        filled = jnp.where(places < width, diagonal, below)
        return gram.at[places, places].set(filled), exponent, bad.astype(jnp.int32)

    grams, exponents, bad = jax.lax.map(lambda row: of_one_matrix(*row), (weights, widths))
    return grams, exponents, bad


def _lower_product(panels: Sequence[Float[Array, "N _"]]) -> Float[Array, "_ _"]:
    """W^T W of the matrix that these blocks of columns form, with zeros in the blocks above the diagonal."""
    M = sum(panel.shape[1] for panel in panels)
    rows = []
    for i, left in enumerate(panels):
        row = [jnp.matmul(left.T, right, precision="highest") for right in panels[: i + 1]]
        above = M - sum(part.shape[1] for part in row)
        rows.append(jnp.concatenate([*row, jnp.zeros((left.shape[1], above), left.dtype)], 1))
    return jnp.concatenate(rows)


def tridiagonal(
    symmetric: Float[Array, "rows M M"],
) -> tuple[Float[Array, "rows M"], Float[Array, "rows M-1"]]:
    """Diagonal and off-diagonal of tridiagonal matrices that are similar to these symmetric ones.

    Only the lower triangle is read. The work is LAPACK's or cuSOLVER's.
    """
    if symmetric.shape[-1] == 1:
        return symmetric[..., 0], jnp.zeros((len(symmetric), 0), symmetric.dtype)
    _, diagonal, off_diagonal, _ = jax.lax.linalg.tridiagonal(symmetric, lower=True)
    return diagonal, off_diagonal


def tridiagonal_eigenvalues(
    diagonal: Float[Array, "rows M"],
    off_diagonal: Float[Array, "rows M-1"],
    widths: Int[Array, " rows"] | None = None,
) -> Float[Array, "rows M"]:
    """All eigenvalues, ascending, of symmetric tridiagonal matrices, to a few ε times the norm.

    Bisection by Sturm counts (Golub and Van Loan, Matrix Computations, 8.4.1). One sweep over a uniform grid
    of M points brackets every eigenvalue, which saves log2(M) halvings. In double precision the bisection
    runs in single precision. Its brackets are then checked, and closed by Newton's method on the
    characteristic polynomial, with a halving instead wherever a step leaves the bracket or is more than a
    quarter of the step before.

    Args:
      diagonal, off_diagonal: the matrices.
      widths: only the `widths` largest eigenvalues of each row are needed; None: all.

    >>> roots = tridiagonal_eigenvalues(jnp.array([[2.0, 2.0]]), jnp.array([[1.0]]))
    >>> [round(root, 4) for root in roots[0].tolist()]
    [1.0, 3.0]
    """
    M = diagonal.shape[-1]
    order = jnp.arange(M, dtype=jnp.int32)[None]
    if diagonal.dtype == jnp.float32:
        return _bisection(diagonal, off_diagonal)
    coarse = _bisection(diagonal.astype(jnp.float32), off_diagonal.astype(jnp.float32)).astype(diagonal.dtype)
    low, high = _gershgorin(diagonal, off_diagonal)
    slack = 32 * float(np.finfo(np.float32).eps) * jnp.maximum(jnp.abs(low), jnp.abs(high))
    step, count_below = _sturm(diagonal, off_diagonal), _counts(diagonal, off_diagonal)
    # The last term: with a tolerance of zero the brackets of a zero matrix could not close.
    tolerance = 2 * np.finfo(np.float64).eps * jnp.maximum(jnp.abs(low), jnp.abs(high)) + 1e-280
    at_low, at_high = jnp.maximum(coarse - slack, low), jnp.minimum(coarse + slack, high)
    below_low, below_high = jax.lax.map(count_below, jnp.stack([at_low, at_high]))
    low = jnp.where(below_low <= order, at_low, low)
    high = jnp.where(below_high > order, at_high, high)
    wanted = jnp.ones(coarse.shape, bool) if widths is None else used(widths, M)

    def improve(state: Any) -> Any:
        order, low, high, x, moved, was_good, open_ = state
        below, newton = step(x)
        low, high = jnp.where(below > order, low, x), jnp.where(below > order, x, high)
        target = x - newton
        own = (below == order) | (below == order + 1)  # otherwise x is closer to another root
        # In a cluster of m roots Newton's steps are m times too small, and shrink only by the factor 1 - 1/m.
        good = own & (target >= low) & (target <= high) & (4 * jnp.abs(newton) <= moved)
        target = jnp.where(open_, jnp.where(good, target, (low + high) / 2), x)
        moved = jnp.abs(target - x)
        closed = (good & was_good & (moved <= tolerance)) | (high - low <= tolerance)
        return order, low, high, target, moved, good, open_ & ~closed

    def close_a_few(state: Any) -> Any:
        """Closes the first open roots of each row. Few roots need many turns, and few columns are cheap."""
        places = jax.lax.top_k(state[-1].astype(jnp.int32), min(M, _FEW))[1]
        few = tuple(jnp.take_along_axis(part, places, 1) for part in state)
        few, _ = jax.lax.while_loop(
            lambda at: at[0][-1].any() & (at[1] < _MOST_TURNS),
            lambda at: (improve(at[0]), at[1] + 1),
            (few, 0),
        )
        rows = jnp.arange(len(places))[:, None]
        state = tuple(part.at[rows, places].set(new) for part, new in zip(state, few, strict=True))
        return (*state[:-1], state[-1].at[rows, places].set(False))

    orders, x = jnp.broadcast_to(order, coarse.shape), jnp.clip(coarse, low, high)
    begin = (orders, low, high, x, high - low, jnp.zeros_like(wanted), wanted)
    state = jax.lax.fori_loop(0, _TURNS_OF_ALL, lambda _, state: improve(state), begin)
    roots: Array = jax.lax.while_loop(lambda state: state[-1].any(), close_a_few, state)[3]
    return jax.lax.cummax(roots, axis=1)  # neighbours closer than the tolerance may be out of order


def _gershgorin(
    diagonal: Float[Array, "rows M"], off_diagonal: Float[Array, "rows M-1"]
) -> tuple[Float[Array, "rows 1"], Float[Array, "rows 1"]]:
    """Bounds on all eigenvalues of each matrix, a little widened (Gershgorin's circles)."""
    neighbours = jnp.abs(off_diagonal)
    radius = jnp.pad(neighbours, ((0, 0), (1, 0))) + jnp.pad(neighbours, ((0, 0), (0, 1)))
    low = (diagonal - radius).min(-1, keepdims=True)
    high = (diagonal + radius).max(-1, keepdims=True)
    slack = 4 * float(np.finfo(diagonal.dtype).eps) * jnp.maximum(jnp.abs(low), jnp.abs(high))
    return low - slack, high + slack


def _squares(
    off_diagonal: Float[Array, "rows off"],
) -> tuple[Float[Array, "rows _"], Float[Array, "rows 1"]]:
    """Squares of the off-diagonal after a zero, and the smallest size of a pivot."""
    squares = jnp.pad(jnp.square(off_diagonal), ((0, 0), (1, 0)))
    tiny = float(np.finfo(off_diagonal.dtype).tiny)
    return squares, 4 * tiny * jnp.maximum(1.0, squares.max(-1, keepdims=True))


def _sturm(
    diagonal: Float[Array, "rows M"], off_diagonal: Float[Array, "rows M-1"]
) -> Callable[[Array], tuple[Array, Array]]:
    """x -> number of eigenvalues below x, and Newton's step p / p' for the characteristic polynomial p."""
    squares, pivot = _squares(off_diagonal)

    def count_and_step(x: Float[Array, "rows M"]) -> tuple[Int[Array, "rows M"], Float[Array, "rows M"]]:
        def row(carry: Any, entries: Any) -> Any:
            inverse, slope, count, total = carry
            square = entries[1][:, None]
            ratio = entries[0][:, None] - x - square * inverse
            ratio = jnp.where(jnp.abs(ratio) < pivot, -pivot, ratio)
            slope = square * slope * inverse * inverse - 1
            inverse = 1 / ratio
            return (inverse, slope, count + (ratio < 0).astype(jnp.int32), total + slope * inverse), None

        zero = jnp.zeros_like(x)
        start = (jnp.ones_like(x), zero, jnp.zeros(x.shape, jnp.int32), zero)
        (_, _, count, total), _ = jax.lax.scan(row, start, (diagonal.T, squares.T), unroll=4)
        return count, jnp.nan_to_num(1 / total, nan=jnp.inf)

    return count_and_step


def _counts(
    diagonal: Float[Array, "rows M"], off_diagonal: Float[Array, "rows M-1"]
) -> Callable[[Array], Array]:
    """x -> number of eigenvalues below x."""
    squares, pivot = _squares(off_diagonal)

    def count_below(x: Float[Array, "rows M"]) -> Int[Array, "rows M"]:
        def row(carry: Any, entries: Any) -> Any:
            ratio, count = carry
            ratio = entries[0][:, None] - x - entries[1][:, None] / ratio
            ratio = jnp.where(jnp.abs(ratio) < pivot, -pivot, ratio)
            return (ratio, count + (ratio < 0).astype(jnp.int32)), None

        start = (jnp.ones_like(x), jnp.zeros(x.shape, jnp.int32))
        (_, count), _ = jax.lax.scan(row, start, (diagonal.T, squares.T), unroll=4)
        below: Array = count
        return below

    return count_below


def _bisection(
    diagonal: Float[Array, "rows M"], off_diagonal: Float[Array, "rows M-1"]
) -> Float[Array, "rows M"]:
    """All eigenvalues, ascending, by bisection of brackets from a uniform grid."""
    M, info = diagonal.shape[-1], np.finfo(diagonal.dtype)
    low, high = _gershgorin(diagonal, off_diagonal)
    slack = 4 * info.eps * jnp.maximum(jnp.abs(low), jnp.abs(high))
    count_below = _counts(diagonal, off_diagonal)
    order = jnp.arange(M, dtype=jnp.int32)
    width = (high - low) / M
    at_grid = count_below(low + width * (order + 1).astype(width.dtype)[None]).at[:, -1].set(M)
    cell = jax.vmap(lambda counts: jnp.searchsorted(counts, order, side="right"))(at_grid)
    low = low + width * cell.astype(width.dtype) - slack
    high = low + width + 2 * slack

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        above = count_below(middle) > order[None]
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    halvings = info.nmant + 3 - int(math.log2(M))
    low, high = jax.lax.fori_loop(0, halvings, halve, (low, high))
    roots: Array = (low + high) / 2
    return roots


def used(count: Int[Array, " layers"], size: int) -> Bool[Array, "layers {size}"]:
    """Which places of right-aligned rows hold numbers: the last `count` of each row."""
    return jnp.arange(size, dtype=count.dtype)[None] >= size - count[:, None]
