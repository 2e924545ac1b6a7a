"""The trace-log condition of SETOL: how large the tail is whose rescaled eigenvalues multiply to one.

Martin and Hinrichs, arXiv 2507.17912: a layer is ideal where the tail with Σ ln μ = 0 begins where the power law does.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def erg(
    eigenvalues: Float[Array, "layers size"],
    count: Int[Array, " layers"],
    num_pl_spikes: Float[Array, " layers"],
) -> dict[str, Float[Array, " layers"]]:
    """The tail with det X = 1, by sums of logarithms (products over- and underflow above some thousand eigenvalues).

    Args:
      eigenvalues: ascending, right-aligned; rescaled here to mean 1 over all of them, zeros included.
      count: how many there are in each row.
      num_pl_spikes: size of the power law's tail.

    Returns:
      num_ERG_spikes: from the largest down to the one that brings the product below 1 (all, if none does).
      detX_val: that eigenvalue, in units of λ. ERG_gap: num_ERG_spikes - num_pl_spikes.
    """
    size = eigenvalues.shape[1]
    norm = eigenvalues.sum(-1)
    logs = jnp.log(eigenvalues * (count / norm)[:, None])
    product = jnp.cumsum(logs[:, ::-1], -1)[:, ::-1]
    place = jnp.arange(size)
    below = (place >= size - count[:, None]) & (product < 0)
    start = jnp.where(below.any(-1), size - 1 - below[:, ::-1].argmax(-1), size - count)
    number = (size - start).astype(eigenvalues.dtype)
    defined = (norm > 0) & (count > 0)
    value = jnp.take_along_axis(eigenvalues, jnp.minimum(start, size - 1)[:, None], -1)[:, 0]
    out = {"num_ERG_spikes": number, "detX_val": value, "ERG_gap": number - num_pl_spikes}
    return {name: jnp.where(defined, values, jnp.nan) for name, values in out.items()}
