"""p-values corrected for the number of tests."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float


def holm(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Holm's correction, which bounds the chance of any false rejection. NaN, of no test, stays NaN."""
    return _of_sorted(
        p, lambda ascending: np.maximum.accumulate(ascending * np.arange(len(ascending), 0, -1))
    )


def benjamini_hochberg(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Benjamini and Hochberg's correction, which bounds the share of false rejections. NaN stays NaN."""

    def correct(ascending: np.ndarray) -> np.ndarray:
        share = np.arange(1, len(ascending) + 1) / len(ascending)
        return np.minimum.accumulate((ascending / share)[::-1])[::-1]

    return _of_sorted(p, correct)


def _of_sorted(p: np.ndarray, correct: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Corrects the known p-values in ascending order and puts the results, 1 at most, in their places."""
    out = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])]
    out[order] = np.minimum(correct(p[order]), 1.0)
    return out
