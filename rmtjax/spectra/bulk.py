"""The noise in a spectrum: its level, its edge, and what stands out of it.

Noise level: σ² = median(λ) / (N μ_c), with μ_c the median of the Marchenko-Pastur law at c = M/N. A few
spikes do not move a median, while they inflate the mean (the Frobenius norm) and mislead a density fit. All
of it supposes that most of the spectrum is such a bulk. Where it is not (an update of few steps, whose
spectrum falls over decades), σ is only the level of the middle of the spectrum, and `num_spikes` says how
far the rest spreads above it. WeightWatcher fits a kernel density instead, so its `mp_softrank`,
`num_spikes` and bulk edges differ from these in value.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rmtjax.spectra import laws

SPIKE_LEVEL = 0.01


def shape_constants(slices: Any, N: Any, M: Any) -> dict[str, np.ndarray]:
    """What `bulk` needs of shapes: arrays of the same length, for noise of unit variance.

    median, lower, upper: of the bulk of W^T W; threshold: exceeded by the largest eigenvalue of any slice
    with probability 0.01 (Tracy-Widom, Bonferroni over slices).
    """
    slices, N, M = (np.asarray(value, np.float64) for value in (slices, N, M))
    lower, upper = laws.marchenko_pastur_edges(M / N)
    centre, scale = laws.largest_eigenvalue_scale(N, M)
    constants = {
        "median": N * laws.marchenko_pastur_quantile(0.5, M / N),
        "lower": N * lower,
        "upper": N * upper,
        "threshold": centre + scale * laws.tracy_widom_isf(SPIKE_LEVEL / slices),
    }
    return {name: np.asarray(value) for name, value in constants.items()}


def bulk(
    eigenvalues: Float[Array, "layers size"],
    count: Int[Array, " layers"],
    constants: dict[str, Float[Array, " layers"]],
) -> dict[str, Float[Array, " layers"]]:
    """Noise level, bulk edges, soft rank and spikes.

    Args:
      eigenvalues: of W^T W, ascending, right-aligned; slices of a convolution pooled.
      count: how many there are in each row.
      constants: of `shape_constants`, one for each row.

    Returns:
      noise_variance: σ² of the entries, by the median. bulk_min, bulk_max: σ² (√N ∓ √M)².
      mp_softrank: bulk_max / λ_max: about 1 for noise, small where spikes dominate.
      num_spikes: eigenvalues beyond the 99 % quantile of the largest eigenvalue of noise of that level.
    """
    size = eigenvalues.shape[1]
    middle = jnp.stack([size - count + (count - 1) // 2, size - count + count // 2], -1)
    median = jnp.take_along_axis(eigenvalues, jnp.minimum(middle, size - 1), -1).mean(-1)
    variance = median / constants["median"]
    upper = variance * constants["upper"]
    return {
        "noise_variance": variance,
        "bulk_min": variance * constants["lower"],
        "bulk_max": upper,
        "mp_softrank": upper / eigenvalues[:, -1],
        # Zeros in front never count: the threshold is not negative.
        "num_spikes": (eigenvalues > (variance * constants["threshold"])[:, None])
        .sum(-1)
        .astype(upper.dtype),
    }
