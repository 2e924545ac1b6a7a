"""From raw metrics of scaled matrices to the table: units, the nulls beside them, warnings in words.

Columns, in WeightWatcher's names where the metric is the same; λ are the eigenvalues of W^T W, not divided by
N, pooled over the slices of a convolution; p = λ / Σλ; log is to base 10:

  name, kind            path of the parameter; kind of layer
  slices, N, M, Q       matrices in the stack, their sides N >= M, Q = N / M
  num_evals             slices * M
  ...                   the metrics of `metrics.METRICS`, in its order, which says what each of them is
  <metric>_null         the metric for noise with the shape and norm of the matrix (nulls); with --metrics=nulls the median
                        of 100 matrices of noise, and <metric>_null_low, <metric>_null_high their 5 % and 95 % quantile
  alpha_null_low, alpha_null_high    5 % and 95 % quantile of alpha for noise of that shape
  phase                 of Martin and Mahoney's 5+1, by the rules of phases.phases
  warning               what to mind about this row, in words; empty if nothing
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from rmtjax.spectra import laws, nulls, phases
from rmtjax.spectra.matrices import Matrix
from rmtjax.spectra.metrics import METRICS, Noise

FEW_EIGENVALUES = 20
COMMON_IN_NOISE = 0.05


def has_scale(name: str) -> bool:
    """Does a raw number grow with the weights, so that noise of unit variance says nothing about it?"""
    return name not in METRICS or METRICS[name].scale != 0


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
    names = [name + end for name in METRICS for end in ends if name + end in columns]
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
            out["noise_std"] = np.ldexp(np.sqrt(out.pop("noise_variance")), exponent)
            out["noise_std_median"] = np.ldexp(np.sqrt(out.pop("noise_variance_median")), exponent)
            out["noise_std_frobenius"] = np.ldexp(np.sqrt(raw["norm"] / (slices * N * M)), exponent)
            out["W_scale"] = np.ldexp(np.sqrt(slices * M / raw["norm"]), -exponent)
            known = np.where(np.isfinite(raw["tw_statistic"]), raw["tw_statistic"], 0.0)
            of_one = np.clip(laws.tracy_widom_sf(np.clip(known, -10, 1e4)), 0.0, 1.0)
            out["tw_p"] = np.where(
                np.isfinite(raw["tw_statistic"]), -np.expm1(slices * np.log1p(-of_one)), np.nan
            )
        for name in raw:
            power = METRICS[name].scale if name in METRICS else None
            if power:
                out[name] = np.ldexp(raw[name], power * exponent)
    return out


def _nulls(
    slices: np.ndarray, N: np.ndarray, M: np.ndarray, columns: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    shapes, which = np.unique(np.stack([slices, N, M], 1), axis=0, return_inverse=True)
    closed = {name: value[which] for name, value in nulls.closed_forms(*shapes.T).items()}
    noise = Noise(slices, N, M, closed)
    with np.errstate(invalid="ignore", over="ignore"):
        out = {
            f"{name}_null": metric.null(noise, columns)
            for name, metric in METRICS.items()
            if metric.null is not None and name in columns
        }
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
