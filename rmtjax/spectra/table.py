"""From raw metrics of scaled matrices to the table: units, the nulls beside them, warnings in words.

Columns, in WeightWatcher's names where the metric is the same; λ are the eigenvalues of W^T W, not divided by
N, pooled over the slices of a convolution; p = λ / Σλ; log is to base 10:

  name, kind            path of the parameter; kind of layer
  slices, N, M, Q       matrices in the stack, their sides N >= M, Q = N / M
  num_evals             slices * M
scale
  norm, log_norm        Σλ = ||W||_F², squared as in WeightWatcher
  spectral_norm, log_spectral_norm    λ_max, the square of the largest singular value
  nuclear_norm          Σ √λ
  sv_max, sv_min        √λ_max, √λ_min
  stable_rank           Σλ / λ_max
  effective_rank        exp(-Σ p ln p); effective_rank_sv the same with p = √λ / Σ√λ (Roy and Vetterli 2007)
  participation_ratio   (Σλ)² / Σλ²
  entropy               -Σ p ln p / ln(matrix_rank); renyi_entropy_2, renyi_entropy_inf: of orders 2 and ∞
  matrix_rank           eigenvalues that are not zero to rounding (programs._constants says which)
  rank_loss             num_evals - matrix_rank
  condition_number      sv_max / sv_min
  num_unresolved        eigenvalues below the resolution of the computation's precision
tail
  alpha, D, xmin        power law of the tail: exponent of the density, KS distance, start (tails.power_law)
  num_pl_spikes         eigenvalues in that tail
  alpha_se, sigma       (alpha - 1) / √num_pl_spikes, under this package's and WeightWatcher's name
  alpha_null, alpha_null_low, alpha_null_high    median, 5 % and 95 % quantile for noise of that shape
  alpha_null_p          how often noise of that shape has so small an alpha; 0.0025 stands for less than 0.005
  alpha_weighted        alpha * log_spectral_norm
  log_alpha_norm        log Σ λ^alpha
  alpha_hill            Hill's exponent of the upper half of the spectrum; alpha_hill_10, alpha_hill_sqrt: of the
                        upper tenth, and of the √n largest
  R_..., p_...          the power law against exponential, lognormal and truncated power law (rivals)
  alpha_tpl, Lambda     of the truncated power law λ^-alpha exp(-Lambda λ)
bulk
  noise_std             standard deviation of the entries' noise, by the quantiles of the bulk; noise_std_median: by
                        the median eigenvalue; noise_std_frobenius: by the norm, as if all were noise
  bulk_min, bulk_max    edges of the Marchenko-Pastur bulk of that noise
  mp_softrank           bulk_max / λ_max
  num_spikes            eigenvalues beyond the 99 % quantile of the largest of that noise
  tw_statistic, tw_p    the largest eigenvalue on the scale of Tracy and Widom, and how often noise has as large a one
  ks_mp                 distance of the spectrum without its spikes from that law
  bbp_theta             strength of the largest spike, in units of σ √N; bbp_overlap_N, bbp_overlap_M: how much of the
                        signal its singular vectors hold
  gavish_donoho_rank    eigenvalues above the optimal threshold of Gavish and Donoho for unknown noise
  W_scale, sigma_mp, num_spikes_mp_fit, mp_softrank_mp_fit, bulk_min_mp_fit, bulk_max_mp_fit    WeightWatcher's fit
correlation
  num_ERG_spikes, detX_val    the tail whose rescaled eigenvalues multiply to one, and where it starts (correlation.erg)
  ERG_gap               num_ERG_spikes - num_pl_spikes
shuffles (on request): the same entries in random order (shuffles.against_shuffled)
  max_rand_eval, ww_softrank, ww_maxdist, rand_distance
  num_traps             as num_spikes; rand_num_spikes, rand_sigma_mp, rand_mp_softrank, rand_bulk_min, rand_bulk_max:
                        WeightWatcher's fit of the shuffled spectrum

bootstrap (on request)  gof_p, gof_p_se: could the tail be a power law at all (goodness.goodness_of_fit)
fingers (on request)    alpha_clipped, num_fingers (fingers.clip_fingers)
farms (on request)      alpha_farms: alpha_hill of square windows of one size
local (on request)      spacing_ratio, spacing_ratio_se, brody, number_variance_1, _2, _5, _10 (neighbours.spacing_statistics)
vectors (on request)    of singular vectors (singular_vectors.vector_metrics)
of the update (of two sides)  norm_ratio, spectral_ratio, cosine (updates.sizes); with a third side cosine_other (analysis.compare)
alignment (on request, of two sides)    where the update lies in the weights it changed (update_geometry.alignment)
nulls (on request)      <metric>_null, <metric>_null_low, <metric>_null_high of every metric without scale: median, 5 %
                        and 95 % quantile of 100 matrices of noise of that shape

  <metric>_null         the metric for noise with the shape and norm of the matrix (nulls)
  phase                 of Martin and Mahoney's 5+1, by the rules of phases.labels
  warning               what to mind about this row, in words; empty if nothing
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from rmtjax.spectra import laws, neighbours, nulls, phases
from rmtjax.spectra.matrices import Matrix

FEW_EIGENVALUES = 20
COMMON_IN_NOISE = 0.05

# Raw metrics by the power of the weights' scale that they grow with; all others do not.
_POWERS = {
    2: ("norm", "spectral_norm", "xmin", "bulk_min", "bulk_max", "bulk_min_mp_fit", "bulk_max_mp_fit", "detX_val",
        "max_rand_eval", "ww_maxdist", "rand_bulk_min", "rand_bulk_max"),
    1: ("nuclear_norm", "sv_max", "sv_min", "noise_std", "noise_std_median"),
    -2: ("Lambda",),
}  # fmt: skip
_COLUMNS = (
    "norm", "log_norm", "spectral_norm", "log_spectral_norm", "nuclear_norm", "sv_max", "sv_min",
    "stable_rank", "effective_rank", "effective_rank_sv", "participation_ratio",
    "entropy", "renyi_entropy_2", "renyi_entropy_inf", "matrix_rank", "rank_loss", "condition_number", "num_unresolved",
    "alpha", "alpha_se", "alpha_null", "alpha_null_low", "alpha_null_high", "alpha_null_p",
    "D", "sigma", "xmin", "num_pl_spikes", "alpha_weighted", "log_alpha_norm",
    "alpha_hill", "alpha_hill_10", "alpha_hill_sqrt",
    "R_exponential", "p_exponential", "R_lognormal", "p_lognormal", "R_tpl", "p_tpl", "alpha_tpl", "Lambda",
    "noise_std", "noise_std_median", "noise_std_frobenius", "bulk_min", "bulk_max", "mp_softrank",
    "num_spikes", "tw_statistic", "tw_p", "ks_mp", "bbp_theta", "bbp_overlap_N", "bbp_overlap_M", "gavish_donoho_rank",
    "W_scale", "sigma_mp", "num_spikes_mp_fit", "mp_softrank_mp_fit", "bulk_min_mp_fit", "bulk_max_mp_fit",
    "num_ERG_spikes", "ERG_gap", "detX_val",
    "max_rand_eval", "ww_softrank", "ww_maxdist", "rand_distance", "num_traps", "rand_num_spikes", "rand_sigma_mp",
    "rand_mp_softrank", "rand_bulk_min", "rand_bulk_max",
    "gof_p", "gof_p_se", "alpha_clipped", "num_fingers",
    "spacing_ratio", "spacing_ratio_se", "brody",
    "number_variance_1", "number_variance_2", "number_variance_5", "number_variance_10",
)  # fmt: skip


def has_scale(metric: str) -> bool:
    """Does a raw metric grow with the weights, so that noise of unit variance says nothing about it?"""
    with_scale = {name for names in _POWERS.values() for name in names}
    return metric in with_scale | {
        "exponent",
        "bad",
        "noise_variance",
        "noise_variance_median",
        "log_alpha_norm",
    }


def make(
    found: Sequence[Matrix], raw: dict[str, np.ndarray], further: dict[str, np.ndarray] | None = None
) -> pd.DataFrame:
    """The table of `analyze`, a row per matrix in the order of `found`.

    Args:
      found: the matrices.
      raw: of `programs.measure`.
      further: columns that are done: metrics without scale, and simulated nulls, which replace closed forms.
    """
    slices, N, M = np.array([matrix.shape for matrix in found]).T
    columns = _in_units({name: np.asarray(column, np.float64) for name, column in raw.items()}, slices, N, M)
    columns |= _nulls(slices, N, M, columns) | (further or {})
    bad = raw["bad"] > 0
    zero = ~bad & ~(columns["norm"] > 0)
    ends = ("", "_null", "_null_low", "_null_high")
    names = [name + end for name in _COLUMNS for end in ends if name + end in columns]
    names += [name for name in further or {} if name not in names]
    names = list(dict.fromkeys(names))
    for name in names:
        columns[name] = np.where(bad, np.nan, columns[name])
    layout = {
        "name": [matrix.name for matrix in found],
        "kind": [matrix.kind for matrix in found],
        "slices": slices,
        "N": N,
        "M": M,
        "Q": N / M,
        "num_evals": slices * M,
    }
    table = pd.DataFrame(layout | {name: columns[name] for name in names})
    if {"ks_mp", "alpha"} <= columns.keys():
        table["phase"] = phases.labels(table)
    table["warning"] = [
        _warning(row, int(count), bool(empty))
        for row, count, empty in zip(table.to_dict("records"), raw["bad"], zero, strict=True)
    ]
    return table


def _in_units(
    raw: dict[str, np.ndarray], slices: np.ndarray, N: np.ndarray, M: np.ndarray
) -> dict[str, np.ndarray]:
    """Metrics of W from those of W / 2^exponent; logarithms never pass through the number itself."""
    out = dict(raw)
    exponent = out.pop("exponent").astype(np.int64)
    out.pop("bad")
    with np.errstate(all="ignore"):  # zeros, overflow of norms beyond 1e308, NaN: infinite or NaN as they are
        log_shift = 2 * exponent * np.log10(2.0)
        for name in ("norm", "spectral_norm"):
            out[f"log_{name}"] = np.where(raw[name] > 0, np.log10(raw[name]) + log_shift, np.nan)
        if "alpha" in raw:
            out["log_alpha_norm"] = raw["log_alpha_norm"] + raw["alpha"] * log_shift
            out["alpha_weighted"] = raw["alpha"] * out["log_spectral_norm"]
            out["sigma"] = raw["alpha_se"].copy()
        if "noise_variance" in raw:
            out["noise_std"] = np.sqrt(out.pop("noise_variance"))
            out["noise_std_median"] = np.sqrt(out.pop("noise_variance_median"))
            out["noise_std_frobenius"] = np.ldexp(np.sqrt(raw["norm"] / (slices * N * M)), exponent)
            out["W_scale"] = np.ldexp(np.sqrt(slices * M / raw["norm"]), -exponent)
            known = np.where(np.isfinite(raw["tw_statistic"]), raw["tw_statistic"], 0.0)
            of_one = np.clip(laws.tracy_widom_sf(np.clip(known, -10, 1e4)), 0.0, 1.0)
            out["tw_p"] = np.where(
                np.isfinite(raw["tw_statistic"]), -np.expm1(slices * np.log1p(-of_one)), np.nan
            )
        for power, names in _POWERS.items():
            for name in names:
                if name in out:
                    out[name] = np.ldexp(out[name], power * exponent)
    return out


def _nulls(
    slices: np.ndarray, N: np.ndarray, M: np.ndarray, columns: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    shapes, which = np.unique(np.stack([slices, N, M], 1), axis=0, return_inverse=True)
    noise = {name: value[which] for name, value in nulls.closed_forms(*shapes.T).items()}
    with np.errstate(invalid="ignore", over="ignore"):
        share = noise.pop("nuclear_share")
        out = {f"{name}_null": value for name, value in noise.items() if name in columns}
        out["nuclear_norm_null"] = share * np.sqrt(slices * M) * np.sqrt(columns["norm"])
        out["log_spectral_norm_null"] = columns["log_norm"] - np.log10(noise["stable_rank"])
    if "spacing_ratio" in columns:
        one = slices == 1
        known = {"spacing_ratio": neighbours.SPACING_RATIO_GOE, "brody": 1.0}
        known |= {f"number_variance_{n}": neighbours.number_variance_goe(n) for n in neighbours.LENGTHS}
        out |= {f"{name}_null": np.where(one, value, np.nan) for name, value in known.items()}
    if "alpha" in columns:
        quantiles = nulls.alpha_quantiles(*shapes.T)[which]
        low, median, high = (
            np.array([np.interp(level, nulls.ALPHA_LEVELS, q) for q in quantiles])
            for level in (0.05, 0.5, 0.95)
        )
        p = nulls.alpha_p(columns["alpha"], quantiles)
        out |= {"alpha_null": median, "alpha_null_low": low, "alpha_null_high": high, "alpha_null_p": p}
    return out


def _warning(row: dict[Any, Any], bad: int, zero: bool) -> str:
    if bad:
        return f"{bad} of {row['slices'] * row['N'] * row['M']} weights are not finite"
    if zero:
        return "all weights are zero"
    said = []
    if row["matrix_rank"] < row["num_evals"]:
        said.append(f"rank {row['matrix_rank']:.0f} of {row['num_evals']}")
    if "noise_std" in row and np.isnan(row["noise_std"]):
        said.append("too many eigenvalues are zero to tell noise from spikes")
    if row["num_unresolved"]:
        said.append(f"{row['num_unresolved']:.0f} eigenvalues below the resolution of this precision")
    if "alpha" in row:
        if np.isnan(row["alpha"]):
            said.append("no power law can be fitted")
        elif row["matrix_rank"] < FEW_EIGENVALUES:
            said.append(f"alpha from fewer than {FEW_EIGENVALUES} eigenvalues")
        if row["alpha_null_p"] > COMMON_IN_NOISE:
            said.append("alpha as low is common in noise of this shape")
    return "; ".join(said)
