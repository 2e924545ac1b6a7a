"""FARMS (arXiv 2506.06280): spectra of windows of a fixed shape, to compare layers of different shapes.

The exponent of the upper half of a spectrum depends on the aspect ratio even for noise (2.1 for a square
matrix, 3.5 for Q = 4). Square windows of one size remove this dependence. They lose the far tail: a few
directions of the whole matrix are spread over all windows.
"""

import functools

import numpy as np
from jaxtyping import Float

from rmtjax.spectra.matrices import Matrix

_SIDE, _MOST = 256, 8


def windowed(matrix: Matrix) -> Matrix:
    """The matrix's square windows as slices: of side min(M, 256), evenly spread, up to 8 along each side.

    >>> windowed(Matrix("w", "dense", (1, 768, 512), lambda: np.zeros((1, 768, 512)))).shape
    (6, 256, 256)
    """
    slices, N, M = matrix.shape
    side = min(M, _SIDE)
    rows, columns = (_starts(length, side) for length in (N, M))
    load = functools.partial(_load_windows, matrix, side, rows, columns)
    return matrix._replace(shape=(slices * len(rows) * len(columns), side, side), load=load)


def _starts(length: int, side: int) -> tuple[int, ...]:
    number = min(max(length // side, 1), _MOST)
    return tuple(int(start) for start in np.linspace(0, length - side, number))


def _load_windows(matrix: Matrix, side: int, rows: tuple[int, ...], columns: tuple[int, ...]) -> np.ndarray:
    weights = matrix.load()
    pieces = [weights[:, r : r + side, c : c + side] for r in rows for c in columns]
    return np.concatenate(pieces)


def median_hill(eigenvalues: Float[np.ndarray, " n"], resolution: float) -> float:
    """Hill's exponent of the upper half of a spectrum.

    Args:
      eigenvalues: ascending.
      resolution: eigenvalues below this share of the largest are left out.

    >>> round(median_hill(np.array([1.0, 2.0, 4.0, 8.0]), 1e-6), 4)
    1.9618
    """
    kept = eigenvalues[eigenvalues > resolution * eigenvalues[-1]].astype(np.float64)
    half = len(kept) // 2
    if not half or kept[-1] == kept[-half - 1]:
        return float("nan")
    return 1 + half / float(np.log(kept[-half:] / kept[-half - 1]).sum())
