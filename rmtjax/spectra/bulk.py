"""The noise in a spectrum: its level, its upper edge, and the spikes above it.

The noise level comes from a regression: the quantiles of the spectrum from 20 % to 80 % on those of the
Marchenko-Pastur law (Ke, Ma and Lin, arXiv 2006.00436, with known c and without their gamma model). Spikes
change it less than they change the mean (the Frobenius norm) or a density fit, but they do: every spike moves
the quantiles of the bulk up. Of 1000 x 500 the estimate of σ² is 1.02, 1.05, 1.11 and 1.26 times the truth
with 2, 5, 10 and 19 % of strong spikes, of 600 x 600 up to 1.37 times. The median alone, σ² = median(λ) / (N
μ_c) with μ_c the median of the law, tolerates up to half of the spectrum as spikes, but its variance is
larger: a test for spikes at the 1 % level then finds one in 1.7 % of noise matrices of 256 x 128, and in 1.2
% with the regression.

All of this assumes that most of the spectrum is such a bulk. If it is not (an update of few steps, whose
spectrum decays over orders of magnitude), σ is only the level of the middle of the spectrum, and `num_spikes`
says how far the rest rises above it; `ks_mp` is the distance of the bulk from the law. WeightWatcher fits a
kernel density instead (`mp_fit`), so its `mp_softrank`, `num_spikes` and bulk edges have other values.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rmtjax.spectra import laws

SPIKE_LEVEL = 0.01
_LEAST_RANK = 0.8  # the least share of eigenvalues above rounding error for which a bulk is fitted
_LEVELS = 32  # number of quantiles in the regression, from 20 % to 80 %


def shape_constants(slices: Any, N: Any, M: Any) -> dict[str, np.ndarray]:
    """Constants that depend on the shapes of matrices alone, for noise of unit variance.

    Args:
      slices, N, M: arrays of the same length, or numbers.

    Returns, as arrays of that length:
      N; c: M / N.
      lower, upper, median: edges and median of the bulk of W^T W.
      quantiles: of the bulk, from 20 % to 80 %, `[..., 32]`.
      centre, scale: of the largest eigenvalue of one slice (`laws.largest_eigenvalue_scale`).
      threshold: exceeded by the largest eigenvalue of any slice with probability 0.01 (Tracy-Widom, with
        Bonferroni's correction over slices).
      cut: factor on the median eigenvalue above which Gavish and Donoho keep an eigenvalue.

    >>> constants = shape_constants(1, 512, 128)
    >>> float(constants["lower"]), float(constants["upper"])  # 512 (1 ∓ 1/2)²
    (128.0, 1152.0)
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
    """Noise level, bulk edges, distance to the Marchenko-Pastur law, soft rank and spikes.

    Args:
      eigenvalues: of W^T W, ascending, right-aligned; slices of a convolution pooled.
      count: number of eigenvalues in each row.
      nonzero: number of them above rounding error. If it is below four fifths of `count`, the quantiles that
        give the noise level are rounding error themselves, and every result is NaN.
      constants: `shape_constants` of each row, in the dtype of `eigenvalues`.

    Returns:
      noise_variance: σ² of the entries, by regression of quantiles; noise_variance_median: by the median.
      bulk_min, bulk_max: σ² (√N ∓ √M)².
      mp_softrank: bulk_max / λ_max; about 1 for noise, small if spikes dominate.
      num_spikes: number of eigenvalues above the 99 % quantile of the largest eigenvalue of such noise.
      tw_statistic: of the largest eigenvalue; for one slice of noise it follows the Tracy-Widom law, β = 1.
      ks_mp: largest difference between the law and the empirical distribution without the spikes.
      bbp_theta: strength of the largest spike before the noise was added, in units of σ √N
        (`laws.bbp_strength`).
      bbp_overlap_N, bbp_overlap_M: predicted squared cosines between its singular vectors, of length N and M,
        and the true ones. These three are NaN without a spike.
      gavish_donoho_rank: number of eigenvalues above the optimal threshold for unknown noise, ω(c)² times the
        median eigenvalue.
    """
    size = eigenvalues.shape[1]
    dtype = eigenvalues.dtype
    full_enough = nonzero.astype(dtype) >= _LEAST_RANK * count.astype(dtype)
    median = _quantiles(eigenvalues, count, jnp.full((1, 1), 0.5, dtype))[:, 0]
    levels = jnp.linspace(0.2, 0.8, _LEVELS, dtype=dtype)[None]
    q = constants["quantiles"]
    variance = (_quantiles(eigenvalues, count, levels) * q).sum(-1) / jnp.square(q).sum(-1)
    upper = variance * constants["upper"]
    # The zeros in front never count, since the threshold is not negative.
    spikes = (eigenvalues > (variance * constants["threshold"])[:, None]).sum(-1, dtype=count.dtype)
    spiked = spikes > 0
    inside = count - spikes
    place = jnp.arange(size, dtype=count.dtype)[None] - (size - count)[:, None]
    unit = variance * constants["N"]
    law = laws.marchenko_pastur_cdf(
        eigenvalues / jnp.where(unit > 0, unit, 1.0)[:, None], constants["c"][:, None]
    )
    step = 1 / jnp.maximum(inside, 1)[:, None].astype(dtype)
    below = place.astype(dtype)  # number of eigenvalues below each
    difference = jnp.maximum(jnp.abs(law - below * step), jnp.abs(law - (below + 1) * step))
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
        "num_spikes": spikes.astype(dtype),
        "tw_statistic": (largest / variance - constants["centre"]) / constants["scale"],
        "ks_mp": jnp.where(inside > 0, jnp.where(counted, difference, 0.0).max(-1), jnp.nan),
        "bbp_theta": jnp.where(spiked, theta, jnp.nan),
        "bbp_overlap_N": jnp.where(spiked, along_N, jnp.nan),
        "bbp_overlap_M": jnp.where(spiked, along_M, jnp.nan),
        "gavish_donoho_rank": (eigenvalues > (constants["cut"] * median)[:, None]).sum(-1).astype(dtype),
    }
    return {name: jnp.where(full_enough, value, jnp.nan) for name, value in found.items()}


def _quantiles(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"], levels: Float[Array, "1 levels"]
) -> Float[Array, "layers levels"]:
    """Quantiles, by linear interpolation of order statistics: the k-th of n is the quantile (k - 1/2) / n."""
    size, dtype = eigenvalues.shape[1], eigenvalues.dtype
    n = count[:, None]
    at = jnp.clip(levels * n.astype(dtype) - 0.5, 0.0, jnp.maximum(n - 1, 0).astype(dtype))
    low = jnp.floor(at).astype(jnp.int32)
    share = at - low.astype(dtype)
    start = (size - count)[:, None]
    below = jnp.take_along_axis(eigenvalues, jnp.minimum(start + low, size - 1), -1)
    above = jnp.take_along_axis(eigenvalues, jnp.minimum(start + low + 1, size - 1), -1)
    return below + share * (above - below)
