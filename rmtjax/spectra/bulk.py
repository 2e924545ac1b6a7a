"""The noise in a spectrum: its level, its edge, and what stands out of it.

Noise level: the quantiles of the spectrum from 20 % to 80 % are regressed on those of the Marchenko-Pastur law
(Ke, Ma and Lin, arXiv 2006.00436, at known c and without their gamma model). Spikes do not move it as long as they
are fewer than a fifth, while they inflate the mean (the Frobenius norm) and mislead a density fit. The median alone,
σ² = median(λ) / (N μ_c), bears half of the spectrum being spikes, but scatters more: tests for spikes at the 1 %
level then find one in 1.7 % of noise of 256 x 128 instead of 1.2 %. All of it supposes that most of the spectrum is such a bulk. Where it is not (an update of few steps, whose
spectrum falls over decades), σ is only the level of the middle of the spectrum, and `num_spikes` says how
far the rest spreads above it; `ks_mp` says how far the bulk is from the law. WeightWatcher fits a kernel
density instead (`mp_fit`), so its `mp_softrank`, `num_spikes` and bulk edges differ from these in value.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rmtjax.spectra import laws

SPIKE_LEVEL = 0.01
_LEAST_RANK = 0.8  # share of eigenvalues that are not zero to rounding, for a bulk to be seen
_LEVELS = 32  # quantiles of the bulk that are regressed on those of the law, from 20 % to 80 %


def shape_constants(slices: Any, N: Any, M: Any) -> dict[str, np.ndarray]:
    """What `bulk` needs of shapes: arrays of the same length, for noise of unit variance.

    N, c = M/N; median, lower, upper: of the bulk of W^T W; centre, scale: of its largest eigenvalue, in slices of
    N x M; threshold: exceeded by the largest eigenvalue of any slice with probability 0.01 (Tracy-Widom,
    Bonferroni over slices); quantiles: `[., 32]`, of W^T W; cut: the factor of the median above which Gavish and
    Donoho keep an eigenvalue.
    """
    slices, N, M = (np.asarray(value, np.float64) for value in (slices, N, M))
    lower, upper = laws.marchenko_pastur_edges(M / N)
    centre, scale = laws.largest_eigenvalue_scale(N, M)
    levels = np.linspace(0.2, 0.8, _LEVELS)
    constants = {
        "N": N,
        "c": M / N,
        "centre": centre,
        "scale": scale,
        "quantiles": N[..., None] * laws.marchenko_pastur_quantile(levels, (M / N)[..., None]),
        "cut": laws.gavish_donoho_omega(M / N) ** 2,
        "median": N * laws.marchenko_pastur_quantile(0.5, M / N),
        "lower": N * lower,
        "upper": N * upper,
        "threshold": centre + scale * laws.tracy_widom_isf(SPIKE_LEVEL / slices),
    }
    return {name: np.asarray(value) for name, value in constants.items()}


def noise_and_spikes(
    eigenvalues: Float[Array, "layers size"],
    count: Int[Array, " layers"],
    nonzero: Int[Array, " layers"],
    constants: dict[str, Array],
) -> dict[str, Float[Array, " layers"]]:
    """Noise level, bulk edges, distance to the law, soft rank and spikes.

    Args:
      eigenvalues: of W^T W, ascending, right-aligned; slices of a convolution pooled.
      count: how many there are in each row.
      nonzero: how many of them are not zero to rounding. Where fewer than four fifths are, the quantiles that the
        noise is measured by are of rounding, and all is NaN.
      constants: of `shape_constants`, one for each row.

    Returns:
      noise_variance: σ² of the entries, by regression of quantiles; noise_variance_median: by the median.
      bulk_min, bulk_max: σ² (√N ∓ √M)². mp_softrank: bulk_max / λ_max: about 1 for noise, small where spikes dominate.
      num_spikes: eigenvalues beyond the 99 % quantile of the largest eigenvalue of noise of that level.
      tw_statistic: of the largest eigenvalue, Tracy-Widom 1 for one slice of noise.
      ks_mp: largest difference between the distribution of all but the spikes and the law.
      bbp_theta: strength of the largest spike before noise was added, in units of σ √N; bbp_overlap_N,
        bbp_overlap_M: predicted squared cosines of its singular vectors, of length N and M, with the true ones
        (`laws.bbp_strength`); NaN where there is no spike.
      gavish_donoho_rank: eigenvalues above their optimal threshold for unknown noise, ω(c)² median.
    """
    size = eigenvalues.shape[1]
    first = (size - count)[:, None]
    full_enough = nonzero >= _LEAST_RANK * count
    median = _quantiles(eigenvalues, count, jnp.full((1, 1), 0.5, eigenvalues.dtype))[:, 0]
    levels = jnp.linspace(0.2, 0.8, _LEVELS, dtype=eigenvalues.dtype)[None]
    q = constants["quantiles"]
    variance = (_quantiles(eigenvalues, count, levels) * q).sum(-1) / jnp.square(q).sum(-1)
    upper = variance * constants["upper"]
    # Zeros in front never count: the threshold is not negative.
    spikes = (eigenvalues > (variance * constants["threshold"])[:, None]).sum(-1)
    spiked = spikes > 0
    inside = count - spikes
    place = jnp.arange(size) - first
    unit = variance * constants["N"]
    law = laws.marchenko_pastur_cdf(
        eigenvalues / jnp.where(unit > 0, unit, 1.0)[:, None], constants["c"][:, None]
    )
    step = 1 / jnp.maximum(inside, 1)[:, None]
    apart = jnp.maximum(jnp.abs(law - place * step), jnp.abs(law - (place + 1) * step))
    counted = (place >= 0) & (place < inside[:, None])
    largest = eigenvalues[:, -1]
    theta, along_N, along_M = laws.bbp_strength(
        jnp.sqrt(largest / jnp.where(unit > 0, unit, 1.0)), constants["c"]
    )
    found = {
        "noise_variance": variance,
        "noise_variance_median": median / constants["median"],
        "bulk_min": variance * constants["lower"],
        "bulk_max": upper,
        "mp_softrank": upper / largest,
        "num_spikes": spikes.astype(upper.dtype),
        "tw_statistic": (largest / variance - constants["centre"]) / constants["scale"],
        "ks_mp": jnp.where(inside > 0, jnp.where(counted, apart, 0.0).max(-1), jnp.nan),
        "bbp_theta": jnp.where(spiked, theta, jnp.nan),
        "bbp_overlap_N": jnp.where(spiked, along_N, jnp.nan),
        "bbp_overlap_M": jnp.where(spiked, along_M, jnp.nan),
        "gavish_donoho_rank": (eigenvalues > (constants["cut"] * median)[:, None])
        .sum(-1)
        .astype(upper.dtype),
    }
    return {name: jnp.where(full_enough, value, jnp.nan) for name, value in found.items()}


def _quantiles(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"], levels: Float[Array, "1 levels"]
) -> Float[Array, "layers levels"]:
    """Order statistics between which the levels fall, interpolated: the k-th of n stands at (k - 1/2) / n."""
    size = eigenvalues.shape[1]
    at = jnp.clip(levels * count[:, None] - 0.5, 0.0, jnp.maximum(count - 1, 0)[:, None])
    low = jnp.floor(at).astype(jnp.int32)
    share = at - low
    start = (size - count)[:, None]
    below = jnp.take_along_axis(eigenvalues, jnp.minimum(start + low, size - 1), -1)
    above = jnp.take_along_axis(eigenvalues, jnp.minimum(start + low + 1, size - 1), -1)
    return below + share * (above - below)
