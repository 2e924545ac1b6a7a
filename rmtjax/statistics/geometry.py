"""Do arms that started from the same weights move them in the same directions?"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from rmtjax import spectra
from rmtjax.errors import InputError
from rmtjax.spectra import update_geometry


def between_updates(before: Any, after: Mapping[str, Any], k: int = 10, **layout: Any) -> pd.DataFrame:
    """Cosine and principal angles between the updates of each two runs from one start, matrix by matrix.

    The update is W_after - W_before; its leading subspaces are those of its k largest singular values (k or
    M, where that is smaller).

    Args:
      before: params before training, the same for all, as `spectra.analyze` takes them.
      after: params after training, by the run's name.
      layout: how tensors become matrices, as for `spectra.weight_matrices`.

    Returns a row per pair and matrix, slices of a convolution averaged, with columns
      run, other, name, kind
      cosine: of the angle between the updates as vectors; cosine_null: 95 % of independent random updates are
        within ± this
      overlap_left, overlap_right: mean squared cosine of the principal angles between the leading left
        (right) singular subspaces; with `_null` that of unrelated subspaces, k / N and k / M
      angle_left, angle_right: the largest of these angles, in degrees.
    A matrix that has not changed in one of the runs, or is not finite, has NaN.

    Raises:
      InputError: fewer than two runs.
    """
    if len(after) < 2:
        raise InputError(f"{len(after)} run to compare: give two or more by name")
    start = spectra.weight_matrices(before, **layout)[0]
    ends = {
        name: {m.name: m for m in spectra.weight_matrices(tree, **layout)[0]} for name, tree in after.items()
    }
    rows = []
    for one, other in itertools.combinations(after, 2):
        cosines = update_geometry.cosines_between_updates(start, list(ends[one].values()), ends[other])
        for matrix in start:
            slices, N, M = matrix.shape
            size = min(k, M)
            row = {
                "run": one,
                "other": other,
                "name": matrix.name,
                "kind": matrix.kind,
                "cosine": cosines[matrix.name],
            }
            row |= {"cosine_null": 1.96 / (slices * N * M) ** 0.5}
            row |= dict.fromkeys(("overlap_left", "overlap_right", "angle_left", "angle_right"), np.nan)
            if np.isfinite(cosines[matrix.name]):
                base = np.asarray(matrix.load(), np.float64)
                changes = [
                    np.asarray(ends[run][matrix.name].load(), np.float64) - base for run in (one, other)
                ]
                row |= _angles(changes[0], changes[1], size)
            rows.append(row | {"overlap_left_null": size / N, "overlap_right_null": size / M})
    return pd.DataFrame(rows)


def _angles(one: Float[np.ndarray, "s N M"], other: Float[np.ndarray, "s N M"], k: int) -> dict[str, float]:
    out = {}
    (u, _, v), (x, _, y) = (np.linalg.svd(change, full_matrices=False) for change in (one, other))
    pairs = {
        "left": (u[:, :, :k], x[:, :, :k]),
        "right": (np.swapaxes(v, 1, 2)[:, :, :k], np.swapaxes(y, 1, 2)[:, :, :k]),
    }
    for side, (a, b) in pairs.items():
        cosines = np.clip(np.linalg.svd(np.swapaxes(a, 1, 2) @ b, compute_uv=False), 0, 1)
        lost = b - a @ (np.swapaxes(a, 1, 2) @ b)  # near 0 a cosine could not tell the angle, the sine can
        sine = np.clip(np.linalg.svd(lost, compute_uv=False).max(1), 0, 1)
        out[f"overlap_{side}"] = float(np.square(cosines).mean())
        out[f"angle_{side}"] = float(np.degrees(np.arcsin(sine)).mean())
    return out
