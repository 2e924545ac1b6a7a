"""From raw metrics of scaled matrices to the table: units, the nulls beside them, warnings in words.

Columns, in WeightWatcher's names where the metric is the same; λ are the eigenvalues of W^T W, not divided by
N, pooled over the slices of a convolution; log is to base 10:

  name, kind            path of the parameter; kind of layer
  slices, N, M, Q       matrices in the stack, their sides N >= M, Q = N / M
  num_evals             slices * M
  norm, log_norm        Σλ = ||W||_F², squared as in WeightWatcher
  spectral_norm, log_spectral_norm    λ_max, the square of the largest singular value
  stable_rank           Σλ / λ_max
  effective_rank        exp(-Σ p ln p), p = λ / Σλ
  participation_ratio   (Σλ)² / Σλ²
  entropy               -Σ p ln p / ln(matrix_rank)
  matrix_rank           eigenvalues that are not zero to rounding (onepass._constants says which)
  alpha, D, xmin        power law of the tail: exponent of the density, KS distance, start (tails.power_law)
  num_pl_spikes         eigenvalues in that tail
  alpha_se, sigma       (alpha - 1) / √num_pl_spikes, under this package's and WeightWatcher's name
  alpha_null, alpha_null_low, alpha_null_high    median, 5 % and 95 % quantile for noise of that shape
  alpha_null_p          how often noise of that shape has so small an alpha
  alpha_weighted        alpha * log_spectral_norm
  log_alpha_norm        log Σ λ^alpha
  alpha_hill            Hill's exponent of the upper half of the spectrum
  noise_std             standard deviation of the entries' noise, by the median eigenvalue (bulk.bulk)
  bulk_min, bulk_max    edges of the Marchenko-Pastur bulk of that noise
  mp_softrank           bulk_max / λ_max
  num_spikes            eigenvalues beyond the 99 % quantile of the largest of that noise
  num_unresolved        eigenvalues below the resolution of the computation's precision
  <metric>_null         the metric for noise with the shape and norm of the matrix (nulls)
  warning               what to mind about this row, in words; empty if nothing
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rmtjax.spectra import nulls
from rmtjax.spectra.matrices import Matrix

FEW_EIGENVALUES = 20
COMMON_IN_NOISE = 0.05

_COLUMNS = (
    "norm", "log_norm", "spectral_norm", "log_spectral_norm", "log_spectral_norm_null",
    "stable_rank", "stable_rank_null", "effective_rank", "effective_rank_null",
    "participation_ratio", "participation_ratio_null", "entropy", "entropy_null", "matrix_rank",
    "alpha", "alpha_se", "alpha_null", "alpha_null_low", "alpha_null_high", "alpha_null_p",
    "D", "sigma", "xmin", "num_pl_spikes", "alpha_weighted", "log_alpha_norm", "alpha_hill", "alpha_hill_null",
    "mp_softrank", "mp_softrank_null", "noise_std", "bulk_min", "bulk_max", "num_spikes", "num_unresolved",
)  # fmt: skip


def make(found: Sequence[Matrix], raw: dict[str, np.ndarray]) -> pd.DataFrame:
    """The table of `analyze`, a row per matrix in the order of `found`, from the metrics of `onepass.measure`."""
    slices, N, M = np.array([matrix.shape for matrix in found]).T
    columns = _in_units({name: np.asarray(column, np.float64) for name, column in raw.items()})
    columns |= _nulls(slices, N, M, columns)
    bad = raw["bad"] > 0
    zero = ~bad & ~(columns["norm"] > 0)
    for name in _COLUMNS:
        columns[name][bad] = np.nan
    layout = {
        "name": [matrix.name for matrix in found],
        "kind": [matrix.kind for matrix in found],
        "slices": slices,
        "N": N,
        "M": M,
        "Q": N / M,
        "num_evals": slices * M,
    }
    table = pd.DataFrame(layout | {name: columns[name] for name in _COLUMNS})
    table["warning"] = [
        _warning(row, int(count), bool(empty))
        for (_, row), count, empty in zip(table.iterrows(), raw["bad"], zero, strict=True)
    ]
    return table


def _in_units(raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Metrics of W from those of W / 2^exponent; logarithms never pass through the number itself."""
    shift = 2 * raw["exponent"].astype(np.int64)
    with np.errstate(all="ignore"):  # zeros, overflow of norms beyond 1e308, NaN: infinite or NaN as they are
        log_shift = shift * np.log10(2.0)
        out = dict(raw)
        for name in ("norm", "spectral_norm", "xmin", "bulk_min", "bulk_max", "noise_variance"):
            out[name] = np.ldexp(raw[name], shift)
        out["noise_std"] = np.sqrt(out.pop("noise_variance"))
        for name in ("norm", "spectral_norm"):
            out[f"log_{name}"] = np.where(raw[name] > 0, np.log10(raw[name]) + log_shift, np.nan)
        out["log_alpha_norm"] = raw["log_alpha_norm"] + raw["alpha"] * log_shift
        out["alpha_weighted"] = raw["alpha"] * out["log_spectral_norm"]
        out["sigma"] = raw["alpha_se"].copy()
    return out


def _nulls(
    slices: np.ndarray, N: np.ndarray, M: np.ndarray, columns: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    shapes, which = np.unique(np.stack([slices, N, M], 1), axis=0, return_inverse=True)
    noise = {name: value[which] for name, value in nulls.closed_forms(*shapes.T).items()}
    out = {f"{name}_null": value for name, value in noise.items()}
    out["log_spectral_norm_null"] = columns["log_norm"] - np.log10(noise["stable_rank"])
    alphas = [nulls.simulated_alpha(*shape) for shape in shapes.tolist()]
    rows = [_alpha_null(alpha, alphas[i]) for alpha, i in zip(columns["alpha"], which, strict=True)]
    return out | {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _alpha_null(alpha: float, noise: np.ndarray) -> dict[str, float]:
    noise = noise[np.isfinite(noise)]
    low, median, high = np.quantile(noise, (0.05, 0.5, 0.95)) if len(noise) else (np.nan,) * 3
    p = (1 + (noise <= alpha).sum()) / (1 + len(noise)) if len(noise) and np.isfinite(alpha) else np.nan
    return {"alpha_null": median, "alpha_null_low": low, "alpha_null_high": high, "alpha_null_p": p}


def _warning(row: pd.Series, bad: int, zero: bool) -> str:
    if bad:
        return f"{bad} of {row['slices'] * row['N'] * row['M']} weights are not finite"
    if zero:
        return "all weights are zero"
    said = []
    if row["matrix_rank"] < row["num_evals"]:
        said.append(f"rank {row['matrix_rank']:.0f} of {row['num_evals']}")
    if row["num_unresolved"]:
        said.append(f"{row['num_unresolved']:.0f} eigenvalues below the resolution of this precision")
    if np.isnan(row["alpha"]):
        said.append("no power law can be fitted")
    elif row["matrix_rank"] < FEW_EIGENVALUES:
        said.append(f"alpha from fewer than {FEW_EIGENVALUES} eigenvalues")
    if row["alpha_null_p"] > COMMON_IN_NOISE:
        said.append("alpha as low is common in noise of this shape")
    return "; ".join(said)
