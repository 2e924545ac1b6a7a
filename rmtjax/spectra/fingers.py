"""Fingers: a few eigenvalues so large that they distort the tail's exponent. WeightWatcher's `clip_xmax`."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rmtjax.spectra import tails

_CLIPPED = tuple(range(2, 10))  # WeightWatcher never tries to clip one alone


def clip_fingers(
    eigenvalues: Float[Array, "layers size"], nonzero: Int[Array, " layers"], threshold: float = 1.0
) -> dict[str, Float[Array, " layers"]]:
    """Fits the tail without the 2, 3, ..., 9 largest eigenvalues.

    The first fit whose exponent is smaller by more than `threshold` is taken. The fit of all eigenvalues is
    kept if there is none, or if an exponent of 2 or less comes first.

    Args:
      eigenvalues: ascending, right-aligned.
      nonzero: how many of each row count.
      threshold: how much the exponent must fall.

    Returns:
      alpha_clipped: the exponent that is taken.
      num_fingers: one less than the number of clipped eigenvalues, as WeightWatcher reports it; 0 if none is
        clipped.
    """
    size = eigenvalues.shape[1]
    place = jnp.arange(size)[None]

    def clipped(k: int) -> Array:
        return jnp.where(place >= k, jnp.roll(eigenvalues, k, axis=1), 0.0)

    rows = jnp.concatenate([clipped(k) for k in (0, *_CLIPPED)])
    left = jnp.concatenate([jnp.maximum(nonzero - k, 0) for k in (0, *_CLIPPED)])
    alpha = tails.power_law(rows, left)["alpha"].reshape(-1, len(eigenvalues))
    first, others = alpha[0], alpha[1:]
    better = others + threshold < first[None]
    ends = better | (others <= 2)
    at = ends.argmax(0)
    found = jnp.take_along_axis(better & ends, at[None], 0)[0]
    best = jnp.take_along_axis(others, at[None], 0)[0]
    count = jnp.asarray(_CLIPPED, first.dtype)[at] - 1
    return {
        "alpha_clipped": jnp.where(found, best, first),
        "num_fingers": jnp.where(jnp.isfinite(first), jnp.where(found, count, 0.0), jnp.nan),
    }
