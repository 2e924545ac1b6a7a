"""The noise in a spectrum: its level, its upper edge, and the spikes above it.

The noise level comes from a regression: the quantiles of the spectrum from 20 % to 80 % on those of the
Marchenko-Pastur law (Ke, Ma and Lin, arXiv 2006.00436, with known c and without their gamma model). Spikes
change it less than they change the mean (the Frobenius norm) or a density fit, but they do: every spike moves
the quantiles of the bulk up. Of 1000 x 500 this first estimate of σ² is 1.02, 1.05, 1.11 and 1.26 times the
truth with 2, 5, 10 and 19 % of strong spikes, of 600 x 600 up to 1.38 times.

So where there are spikes the noise is fitted again without them. k strong spikes take k dimensions away: the
other M - k eigenvalues are those of noise of (N - k) x (M - k) (k / slices for each slice of a convolution).
The smaller σ² may show more spikes, which are left out in turn, until k is stable. The second fit stands if
k is then at most a fifth of the spectrum, and if the distance of the rest from its law is within the 99 %
quantile of noise (`laws.marchenko_pastur_distance`); else the first fit stands. Without these two conditions
ever more of a spectrum that decays would be taken for spikes. At 99 %, the level of the test for spikes, the
first fit stands for one bulk in a hundred by chance. With few eigenvalues the test is weak: of matrices of 64
x 64 whose columns have scales of lognormal spread 0.5, 3 % pass it, of 128 x 128 none.

Then up to 19 % of spikes at 1.5 to 6 times the threshold of Baik, Ben Arous and Péché are all found. σ² is
between 0.98 and 1.01 of the truth with strong ones (3 to 6 times), and down to 0.95 with weak ones (1.5 to 3
times). The bulk hides fainter ones (1.2 times): with 2 % of them the second fit mostly stands, with 5 % or
more the first, which gives up to 1.2 times σ². README.md has the table.

The median alone, σ² = median(λ) / (N μ_c) with μ_c the median of the law, tolerates up to half of the
spectrum as spikes, but its variance is larger: a test for spikes at the 1 % level then finds one in 1.7 % of
noise matrices of 256 x 128, and in 1.2 % with the regression.

All of this assumes that most of the spectrum is such a bulk. If it is not (an update of few steps, whose
spectrum decays over orders of magnitude), σ is only the level of the middle of the spectrum, and `num_spikes`
says how far the rest rises above it; `ks_mp` is the distance of the bulk from the law. WeightWatcher fits a
kernel density instead (`mp_fit`), so its `mp_softrank`, `num_spikes` and bulk edges have other values.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rmtjax.spectra import laws

SPIKE_LEVEL = 0.01
_LEAST_RANK = 0.8  # the least share of eigenvalues above rounding error for which a bulk is fitted
_LEVELS = 32  # number of quantiles in the regression, from 20 % to 80 %
_MOST_SPIKES = 5  # up to a fifth of the spectrum is left out when the noise is fitted again
_LOST = np.array([0.0, 0.1, 0.2])  # shares of columns left out for which the law's quantiles are known


def shape_constants(slices: Any, N: Any, M: Any) -> dict[str, np.ndarray]:
    """Constants that depend on the shapes of matrices alone, for noise of unit variance.

    Args:
      slices, N, M: arrays of the same length, or numbers.

    Returns, as arrays of that length:
      slices; N; M; c: M / N.
      lower, upper, median: edges and median of the bulk of W^T W.
      quantiles: of the bulk, from 20 % to 80 %, `[..., 3, 32]`: of this noise, and of noise with 10 % and 20
        % of its columns, and as many rows, less.
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
    lost = M[..., None] * _LOST
    sides = N[..., None] - lost, M[..., None] - lost
    unit = laws.marchenko_pastur_quantile(levels, (sides[1] / sides[0])[..., None])
    constants = {
        "slices": slices,
        "N": N,
        "M": M,
        "c": M / N,
        "centre": centre,
        "scale": scale,
        "quantiles": sides[0][..., None] * unit,
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

    N and M below are the sides of the noise: those of the matrix, less `num_removed` / slices.

    Args:
      eigenvalues: of W^T W, ascending, right-aligned; slices of a convolution pooled.
      count: number of eigenvalues in each row.
      nonzero: number of them above rounding error. If it is below four fifths of `count`, the quantiles that
        give the noise level are rounding error themselves, and every result is NaN.
      constants: `shape_constants` of each row, in the dtype of `eigenvalues`.

    Returns:
      noise_variance: σ² of the entries, by regression of quantiles; noise_variance_median: by the median of
        all eigenvalues and the law of the whole matrix.
      num_removed: number of spikes that the noise was fitted without; 0 where the first fit stands.
      bulk_min, bulk_max: σ² (√N ∓ √M)².
      mp_softrank: bulk_max / λ_max; about 1 for noise, small if spikes dominate.
      num_spikes: number of eigenvalues above the 99 % quantile of the largest eigenvalue of such noise.
      tw_statistic: of the largest eigenvalue; for one slice of noise it follows the Tracy-Widom law, β = 1.
        It tests noise without spikes, so that it takes σ² from the first fit, and N and M from the matrix.
      ks_mp: largest difference between the law and the empirical distribution without the spikes.
      bbp_theta: strength of the largest spike before the noise was added, in units of σ √N, with N and M of
        the matrix (`laws.bbp_strength`).
      bbp_overlap_N, bbp_overlap_M: predicted squared cosines between its singular vectors, of length N and M,
        and the true ones. These three are NaN without a spike.
      gavish_donoho_rank: number of eigenvalues above the optimal threshold for unknown noise, ω(c)² times the
        median eigenvalue.
    """
    dtype = eigenvalues.dtype
    full_enough = nonzero.astype(dtype) >= _LEAST_RANK * count.astype(dtype)
    median = _quantiles(eigenvalues, count, jnp.zeros_like(count), jnp.full((1, 1), 0.5, dtype))[:, 0]
    removed = _stable_number_of_spikes(eigenvalues, count, constants)

    def fit(removed: Array) -> tuple[Array, ...]:
        variance, spikes = _variance_and_spikes(eigenvalues, count, removed, constants)
        return removed, variance, spikes, _distance(eigenvalues, count, removed, variance, spikes, constants)

    fits = jax.vmap(fit)(jnp.stack([jnp.zeros_like(removed), removed]))
    first, second = ([column[i] for column in fits] for i in (0, 1))
    _, _, spikes, distance = second
    smaller_M = constants["M"] - removed.astype(dtype) / constants["slices"]
    near = distance <= laws.marchenko_pastur_distance(constants["slices"], smaller_M, 0.99)
    holds = (spikes == removed) & near
    removed, variance, spikes, distance = (
        jnp.where(holds, new, old) for new, old in zip(second, first, strict=True)
    )
    noise = _without(removed, constants)
    upper = variance * noise["upper"]
    spiked = spikes > 0
    largest = eigenvalues[:, -1]
    unit = variance * constants["N"]
    theta, along_N, along_M = laws.bbp_strength(
        jnp.sqrt(largest / jnp.where(unit > 0, unit, 1.0)), constants["c"]
    )
    found = {
        "noise_variance": variance,
        "noise_variance_median": median / constants["median"],
        "num_removed": removed.astype(dtype),
        "bulk_min": variance * noise["lower"],
        "bulk_max": upper,
        "mp_softrank": upper / largest,
        "num_spikes": spikes.astype(dtype),
        "tw_statistic": (largest / first[1] - constants["centre"]) / constants["scale"],
        "ks_mp": distance,
        "bbp_theta": jnp.where(spiked, theta, jnp.nan),
        "bbp_overlap_N": jnp.where(spiked, along_N, jnp.nan),
        "bbp_overlap_M": jnp.where(spiked, along_M, jnp.nan),
        "gavish_donoho_rank": (eigenvalues > (median * constants["cut"])[:, None]).sum(-1).astype(dtype),
    }
    return {name: jnp.where(full_enough, value, jnp.nan) for name, value in found.items()}


def _stable_number_of_spikes(
    eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"], constants: dict[str, Array]
) -> Int[Array, " layers"]:
    """Leaves out the spikes of each fit, until the next one finds no more of them, or a fifth is left out."""

    def leave_out(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        removed = pair[1]
        _, spikes = _variance_and_spikes(eigenvalues, count, removed, constants)
        return removed, jnp.clip(spikes, removed, count // _MOST_SPIKES)

    def grew(pair: tuple[Array, Array]) -> Array:
        return jnp.any(pair[1] > pair[0])

    start = jnp.full_like(count, -1), jnp.zeros_like(count)
    return jax.lax.while_loop(grew, leave_out, start)[1]


def _variance_and_spikes(
    eigenvalues: Float[Array, "layers size"],
    count: Int[Array, " layers"],
    removed: Int[Array, " layers"],
    constants: dict[str, Array],
) -> tuple[Float[Array, " layers"], Int[Array, " layers"]]:
    """σ² by regression of quantiles without the `removed` largest eigenvalues; how many of all are spikes."""
    noise = _without(removed, constants)
    levels = jnp.linspace(0.2, 0.8, _LEVELS, dtype=eigenvalues.dtype)[None]
    q = noise["quantiles"]
    variance = (_quantiles(eigenvalues, count, removed, levels) * q).sum(-1) / jnp.square(q).sum(-1)
    # The zeros in front never count, since the threshold is not negative.
    spikes = (eigenvalues > (variance * noise["threshold"])[:, None]).sum(-1, dtype=count.dtype)
    return variance, spikes


def _distance(
    eigenvalues: Float[Array, "layers size"],
    count: Int[Array, " layers"],
    removed: Int[Array, " layers"],
    variance: Float[Array, " layers"],
    spikes: Int[Array, " layers"],
    constants: dict[str, Array],
) -> Float[Array, " layers"]:
    """Largest difference between the law and the distribution without spikes; NaN if all are spikes."""
    size, dtype = eigenvalues.shape[1], eigenvalues.dtype
    noise = _without(removed, constants)
    inside = count - spikes
    place = jnp.arange(size, dtype=count.dtype)[None] - (size - count)[:, None]
    unit = variance * noise["N"]
    law = laws.marchenko_pastur_cdf(
        eigenvalues / jnp.where(unit > 0, unit, 1.0)[:, None], noise["c"][:, None]
    )
    step = 1 / jnp.maximum(inside, 1)[:, None].astype(dtype)
    below = place.astype(dtype)  # number of eigenvalues below each
    difference = jnp.maximum(jnp.abs(law - below * step), jnp.abs(law - (below + 1) * step))
    counted = (place >= 0) & (place < inside[:, None])
    return jnp.where(inside > 0, jnp.where(counted, difference, 0.0).max(-1), jnp.nan)


def _without(removed: Int[Array, " layers"], constants: dict[str, Array]) -> dict[str, Array]:
    """Constants of noise whose sides are smaller by `removed` / slices."""
    lost = removed.astype(constants["N"].dtype) / constants["slices"]
    N, M = constants["N"] - lost, constants["M"] - lost
    lower, upper = laws.marchenko_pastur_edges(M / N)
    centre, scale = laws.largest_eigenvalue_scale(N, M)
    level = (constants["threshold"] - constants["centre"]) / constants["scale"]
    # Quantiles by the parabola through the three that are known: they differ by 1e-5 from exact ones.
    t = lost / constants["M"] / _LOST[1]
    weights = jnp.stack([(t - 1) * (t - 2) / 2, t * (2 - t), t * (t - 1) / 2], -1)
    return {
        "N": N,
        "c": M / N,
        "lower": N * lower,
        "upper": N * upper,
        "quantiles": (weights[..., None] * constants["quantiles"]).sum(-2),
        "threshold": centre + scale * level,
    }


def _quantiles(
    eigenvalues: Float[Array, "layers size"],
    count: Int[Array, " layers"],
    removed: Int[Array, " layers"],
    levels: Float[Array, "1 levels"],
) -> Float[Array, "layers levels"]:
    """Quantiles without the `removed` largest, by linear interpolation of order statistics.

    The k-th of n is the quantile (k - 1/2) / n.
    """
    size, dtype = eigenvalues.shape[1], eigenvalues.dtype
    n = (count - removed)[:, None]
    at = jnp.clip(levels * n.astype(dtype) - 0.5, 0.0, jnp.maximum(n - 1, 0).astype(dtype))
    low = jnp.floor(at).astype(jnp.int32)
    share = at - low.astype(dtype)
    start = (size - count)[:, None]
    below = jnp.take_along_axis(eigenvalues, jnp.minimum(start + low, size - 1), -1)
    above = jnp.take_along_axis(eigenvalues, jnp.minimum(start + low + 1, size - 1), -1)
    return below + share * (above - below)
