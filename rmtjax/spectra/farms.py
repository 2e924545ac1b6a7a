"""FARMS: spectra of windows of a fixed shape, so that layers of different shape can be compared.

The exponent of the upper half of a spectrum depends on the aspect ratio even for noise (2.1 for a square, 3.5 for
Q = 4). Cutting every matrix into square windows of the same size removes that (arXiv 2506.06280). Windows lose the
far tail: what is in a few directions of the whole matrix is spread over all of them.
"""

import functools

import numpy as np
from jaxtyping import Float

from rmtjax.spectra.matrices import Matrix

_SIDE, _MOST = 256, 8


def windowed(matrix: Matrix) -> Matrix:
    """The square windows of a matrix, of side min(M, 256), as slices: up to 8 along each side, evenly spread."""
    slices, N, M = matrix.shape
    side = min(M, _SIDE)
    rows, columns = (_starts(length, side) for length in (N, M))
    load = functools.partial(_cut, matrix, side, rows, columns)
    return matrix._replace(shape=(slices * len(rows) * len(columns), side, side), load=load)


def _starts(length: int, side: int) -> tuple[int, ...]:
    number = min(max(length // side, 1), _MOST)
    return tuple(int(start) for start in np.linspace(0, length - side, number))


def _cut(matrix: Matrix, side: int, rows: tuple[int, ...], columns: tuple[int, ...]) -> np.ndarray:
    weights = matrix.load()
    pieces = [weights[:, r : r + side, c : c + side] for r in rows for c in columns]
    return np.concatenate(pieces)


def median_hill(eigenvalues: Float[np.ndarray, " n"], resolution: float) -> float:
    """Hill's exponent of the upper half of a spectrum, ascending, without what is below `resolution` of the largest."""
    kept = eigenvalues[eigenvalues > resolution * eigenvalues[-1]].astype(np.float64)
    half = len(kept) // 2
    if not half or kept[-1] == kept[-half - 1]:
        return float("nan")
    return 1 + half / float(np.log(kept[-half:] / kept[-half - 1]).sum())
