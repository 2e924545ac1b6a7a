"""The trace-log condition of SETOL (Martin and Hinrichs, arXiv 2507.17912).

It asks for the tail whose rescaled eigenvalues μ multiply to one, Σ ln μ = 0. A layer is ideal if this tail
begins where the power law begins.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def erg(
    eigenvalues: Float[Array, "layers size"],
    count: Int[Array, " layers"],
    num_pl_spikes: Float[Array, " layers"],
) -> dict[str, Float[Array, " layers"]]:
    """The tail with det X = 1, where X has the rescaled eigenvalues of the tail.

    It is found by sums of logarithms: products of thousands of eigenvalues would over- or underflow.

    Args:
      eigenvalues: ascending, right-aligned; rescaled here to mean 1 over all of them, zeros included.
      count: how many there are in each row.
      num_pl_spikes: size of the power law's tail.

    Returns:
      num_ERG_spikes: number of eigenvalues from the largest to the one that brings their product below 1
        (all, if none does).
      detX_val: that eigenvalue, not rescaled.
      ERG_gap: num_ERG_spikes - num_pl_spikes.

    >>> tail = erg(jnp.array([[0.1, 0.3, 1.6, 2.0]]), jnp.array([4]), jnp.array([1.0]))
    >>> {name: round(float(value[0]), 4) for name, value in tail.items()}
    {'num_ERG_spikes': 3.0, 'detX_val': 0.3, 'ERG_gap': 2.0}
    """
    size = eigenvalues.shape[1]
    norm = eigenvalues.sum(-1)
    logs = jnp.log(eigenvalues * (count.astype(norm.dtype) / norm)[:, None])
    product = jnp.cumsum(logs[:, ::-1], -1)[:, ::-1]
    place = jnp.arange(size, dtype=count.dtype)[None]
    below = (place >= size - count[:, None]) & (product < 0)
    from_top = below[:, ::-1].argmax(-1).astype(count.dtype)
    start = jnp.where(below.any(-1), size - 1 - from_top, size - count)
    number = (size - start).astype(eigenvalues.dtype)
    defined = (norm > 0) & (count > 0)
    value = jnp.take_along_axis(eigenvalues, jnp.minimum(start, size - 1)[:, None], -1)[:, 0]
    out = {"num_ERG_spikes": number, "detX_val": value, "ERG_gap": number - num_pl_spikes}
    return {name: jnp.where(defined, values, jnp.nan) for name, values in out.items()}
