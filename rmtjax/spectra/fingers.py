"""Fingers: a few eigenvalues so large that the fit of the tail loses its exponent. WeightWatcher's `clip_xmax`."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rmtjax.spectra import tails

_CLIPPED = tuple(range(2, 10))  # as coded there: clipping one eigenvalue is never tried


def clip_fingers(
    eigenvalues: Float[Array, "layers size"], nonzero: Int[Array, " layers"], threshold: float = 1.0
) -> dict[str, Float[Array, " layers"]]:
    """Fits without the 2, 3, ..., 9 largest; the first whose exponent is smaller by more than `threshold` is taken.

    The search ends, and the fit of all is kept, as soon as an exponent is 2 or less.

    Returns:
      alpha_clipped, and num_fingers: one less than what was clipped, as WeightWatcher reports it; 0 if nothing was.
    """
    size = eigenvalues.shape[1]
    place = jnp.arange(size)

    def clipped(k: int) -> Array:
        return jnp.where(place >= k, jnp.roll(eigenvalues, k, axis=1), 0.0)

    rows = jnp.concatenate([clipped(k) for k in (0, *_CLIPPED)])
    left = jnp.concatenate([jnp.maximum(nonzero - k, 0) for k in (0, *_CLIPPED)])
    alpha = tails.power_law(rows, left)["alpha"].reshape(-1, len(eigenvalues))
    first, others = alpha[0], alpha[1:]
    better = others + threshold < first
    ends = better | (others <= 2)
    at = ends.argmax(0)
    found = jnp.take_along_axis(better & ends, at[None], 0)[0]
    best = jnp.take_along_axis(others, at[None], 0)[0]
    count = jnp.asarray(_CLIPPED, first.dtype)[at] - 1
    return {
        "alpha_clipped": jnp.where(found, best, first),
        "num_fingers": jnp.where(jnp.isfinite(first), jnp.where(found, count, 0.0), jnp.nan),
    }
