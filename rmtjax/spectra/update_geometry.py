"""Where an update lies in the weights that it changed: subspaces, angles, intruder dimensions.

U, s, V are the singular vectors and values of W before and after. The leading (trailing) k are those of the k
largest (smallest) singular values, with k = 10, or M where that is smaller. A random update spreads over all
directions alike; its value of each metric stands beside it.

Intruder dimensions are those of Shuttleworth et al., arXiv 2410.21228, who count left vectors; here both
sides.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rmtjax.spectra import compiled
from rmtjax.spectra.matrices import Matrix
from rmtjax.spectra.singular_vectors import LEADING, as_columns, gram_eigenvectors, stacks_of_slices
from rmtjax.spectra.streaming import precision

_INTRUDER = 0.5


def alignment(before: Sequence[Matrix], after: Sequence[Matrix], dtype: Any) -> dict[str, np.ndarray]:
    """Geometry of each update, averaged over the slices of a convolution.

    NaN where a side is not finite, where the weights before are zero, and where nothing changed.

    Args:
      before, after: pairs of matrices of the same shape.
      dtype: of the Gram matrices and vectors. Singular vectors come from W^T W: those with singular values
        below the square root of this precision (2e-4 of the largest in float32) are not resolved.

    Returns:
      The metrics below, with `<name>_null` beside those for which a random update has a known value.
      update_energy_top, update_energy_bulk, update_energy_bottom: ||U^T ΔW V||_F² / ||ΔW||_F² for the leading
        k vectors before training, those between, and the trailing k (null: number of vectors² / NM).
      overlap_left, overlap_right: ||U_k^T U'_k||_F² / k, the mean squared cosine of the principal angles
        between the leading subspaces before and after (null of unrelated subspaces: k / N, k / M).
      angle_left, angle_right: the largest of these angles in degrees (null: the mean over random subspaces).
      intruders_left, intruders_right: how many of the k leading singular vectors after have |cos| below 0.5
        with every singular vector before.
      shift_top: relative change of the largest singular value.
      shift_leading, shift_bulk, shift_trailing: mean change of the leading k singular values, of those
        between and of the trailing k, rank by rank, in units of the largest before. (The eigenvalues of both
        sides have the whole profile.)
    """
    pairs = zip(before, after, strict=True)
    return as_columns([_geometry_of_pair(old, new, np.dtype(dtype)) for old, new in pairs])


def _geometry_of_pair(old: Matrix, new: Matrix, dtype: np.dtype) -> dict[str, float]:
    _, N, M = old.shape
    k = min(LEADING, M)
    nulls = {
        "update_energy_top_null": k**2 / (N * M),
        "update_energy_bulk_null": max(M - 2 * k, 0) ** 2 / (N * M),
        "update_energy_bottom_null": k**2 / (N * M),
        "overlap_left_null": k / N,
        "overlap_right_null": k / M,
        "angle_left_null": _angle_of_noise(N, k),
        "angle_right_null": _angle_of_noise(M, k),
    }
    before, after = (np.asarray(matrix.load(), np.float64) for matrix in (old, new))
    scale = np.abs(before).max()
    finite = np.isfinite(before).all() and np.isfinite(after).all()
    if not finite or scale == 0 or (after == before).all():
        return nulls
    parts: list[dict[str, np.ndarray]] = []
    with precision(dtype):
        for rows in stacks_of_slices(old.shape, dtype):
            sides = [jnp.asarray((w[rows] / scale).astype(dtype)) for w in (before, after)]
            pairs = [_singular_values_and_vectors(w) for w in sides]
            parts.append(jax.device_get(_geometry(*sides, *pairs[0], *pairs[1])))
    return nulls | {name: float(np.concatenate([part[name] for part in parts]).mean()) for name in parts[0]}


@functools.cache
def _angle_of_noise(n: int, k: int, draws: int = 20) -> float:
    """Mean largest principal angle, in degrees, between random k-dimensional subspaces of n dimensions."""
    rng = np.random.default_rng(0)
    bases = np.linalg.qr(rng.standard_normal((draws, n, k)))[0]
    least = np.linalg.svd(bases[:, :k], compute_uv=False)[:, -1]  # against the first k axes
    return float(np.degrees(np.arccos(np.minimum(least, 1.0))).mean())


def _singular_values_and_vectors(
    weights: Float[Array, "rows N M"],
) -> tuple[Float[Array, "rows M"], Float[Array, "rows M M"]]:
    """Singular values, ascending, and right singular vectors as columns."""
    values, vectors = gram_eigenvectors(weights)
    return jnp.sqrt(jnp.maximum(values, 0.0)), vectors


@compiled.jit
def _geometry(
    before: Float[Array, "rows N M"],
    after: Float[Array, "rows N M"],
    s_before: Float[Array, "rows M"],
    v_before: Float[Array, "rows M M"],
    s_after: Float[Array, "rows M"],
    v_after: Float[Array, "rows M M"],
) -> dict[str, Float[Array, " rows"]]:
    k = min(LEADING, before.shape[2])
    times = functools.partial(jnp.matmul, precision="highest")

    def of_one_slice(b: Array, a: Array, sb: Array, vb: Array, sa: Array, va: Array) -> dict[str, Array]:
        def left_vectors(w: Array, s: Array, v: Array) -> Array:
            resolved = s > jnp.sqrt(float(np.finfo(w.dtype).eps)) * s[-1]
            return times(w, v) * jnp.where(resolved, 1 / jnp.where(resolved, s, 1.0), 0.0)[None]

        ub, ua = left_vectors(b, sb, vb), left_vectors(a, sa[-k:], va[:, -k:])
        change = a - b
        total = jnp.square(change).sum()

        def energy(u: Array, v: Array) -> Array:
            return jnp.square(times(times(u.T, change), v)).sum() / total

        def angle(one: Array, two: Array) -> Array:
            # The part that projection on the other subspace removes gives the sine. A cosine close to 1 would
            # lose a small angle to rounding.
            lost = one - times(two, times(two.T, one))
            sine = jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(times(lost.T, lost))[-1], 0.0))
            return jnp.degrees(jnp.arcsin(jnp.minimum(sine, 1.0)))

        cos_left, cos_right = jnp.abs(times(ua.T, ub)), jnp.abs(times(va[:, -k:].T, vb))
        return {
            "update_energy_top": energy(ub[:, -k:], vb[:, -k:]),
            "update_energy_bulk": energy(ub[:, k:-k], vb[:, k:-k]),
            "update_energy_bottom": energy(ub[:, :k], vb[:, :k]),
            "overlap_left": jnp.square(cos_left[:, -k:]).sum() / k,
            "overlap_right": jnp.square(cos_right[:, -k:]).sum() / k,
            "angle_left": angle(ua, ub[:, -k:]),
            "angle_right": angle(va[:, -k:], vb[:, -k:]),
            "intruders_left": (cos_left.max(1) < _INTRUDER).sum().astype(b.dtype),
            "intruders_right": (cos_right.max(1) < _INTRUDER).sum().astype(b.dtype),
            "shift_top": sa[-1] / sb[-1] - 1,
            "shift_leading": (sa - sb)[-k:].mean() / sb[-1],
            "shift_bulk": (sa - sb)[k:-k].mean() / sb[-1],
            "shift_trailing": (sa - sb)[:k].mean() / sb[-1],
        }

    found: dict[str, Array] = jax.lax.map(
        lambda row: of_one_slice(*row), (before, after, s_before, v_before, s_after, v_after)
    )
    return found


def cosines_between_updates(
    before: Sequence[Matrix], after: Sequence[Matrix], other: Mapping[str, Matrix]
) -> dict[str, float]:
    """Cosine of the angle between the updates of two runs from the same start, by the matrix's name.

    NaN where an update is zero or not finite, where a run lacks the matrix in that shape, and for products.
    """
    later = {matrix.name: matrix for matrix in after}
    out: dict[str, float] = {}
    for matrix in before:
        ends = later.get(matrix.name), other.get(matrix.name)
        out[matrix.name] = np.nan
        fit = all(end is not None and end.shape == matrix.shape for end in ends)
        if fit and matrix.product is None:
            start = np.asarray(matrix.load(), np.float64)
            one, two = (np.asarray(end.load(), np.float64) - start for end in ends if end is not None)
            norms = np.linalg.norm(one) * np.linalg.norm(two)
            if np.isfinite(norms) and norms > 0:
                out[matrix.name] = float((one * two).sum() / norms)
    return out
