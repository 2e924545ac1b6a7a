"""The table of an analysis: metrics in the units of the weights, their nulls, and warnings in words.

Columns; names are WeightWatcher's where the metric is the same:

  name, kind      path of the parameter; kind of layer
  slices, N, M    number of matrices in the stack and their sides, N >= M
  Q, num_evals    N / M; slices * M
  ...             the metrics of `metrics.METRICS`, in its order; each entry there says what the metric is
  <metric>_null   the metric for noise with the shape and norm of the matrix (`nulls`); with `--metrics=nulls`
                  the median of 100 matrices of noise, and their 5 % and 95 % quantiles in <metric>_null_low
                  and <metric>_null_high. The null of ks_mp is the 95 % quantile in both cases
  alpha_null_low, alpha_null_high
                  5 % and 95 % quantiles of alpha for noise of that shape
  estimated       whether the row is estimated (`estimates`): then metrics of the group "scale" have standard
                  errors in <metric>_se, and all others are NaN; only there where a matrix is that large
  ww_label        WeightWatcher's label of the layer: over-trained (alpha below 2) or under-trained (above 6)
  ww_label_null   the label that the median alpha of noise of that shape gets
  phase           one of Martin and Mahoney's 5+1 phases, by the rules of `phases.labels`
  warning         what a reader of the row must know, in words; empty if nothing

A row of a product (`products`) is of the small matrix that has its nonzero singular values: N = M is the
width of the head, and twice that in an update. Its nulls are medians over PRODUCTS_OF_NOISE products of two
matrices of noise with the factors' shapes. Metrics of single entries are NaN, and so are those that compare
with independent entries (groups `metrics.OF_ENTRIES`). The update of a product has no nulls: its factors are
not independent.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rmtjax.spectra import laws, nulls, phases
from rmtjax.spectra.matrices import Matrix
from rmtjax.spectra.metrics import METRICS, OF_ENTRIES

PRODUCTS_OF_NOISE = 400
OVER_TRAINED, UNDER_TRAINED = 2.0, 6.0  # bounds of alpha, WeightWatcher's
FEW_EIGENVALUES = 20
COMMON_IN_NOISE = 0.05
ESTIMATED = "estimated from products with the matrix: no tail, bulk or rank"  # a warning
LIKE_NOISE = "alpha as low is common in noise of this shape"  # a warning


def has_scale(name: str) -> bool:
    """Whether a raw number grows with the weights, so that noise of unit variance says nothing about it.

    >>> has_scale("norm"), has_scale("alpha")
    (True, False)
    """
    return name not in METRICS or METRICS[name].scale != 0


def make(
    found: Sequence[Matrix],
    raw: dict[str, np.ndarray],
    further: dict[str, np.ndarray] | None = None,
    of_noise: Mapping[int, Mapping[str, np.ndarray]] | None = None,
) -> pd.DataFrame:
    """The table of `analyze`, one row per matrix, in the order of `found`.

    Args:
      found: the matrices.
      raw: what `programs.measure` returns for them.
      further: finished columns: metrics without scale, and simulated nulls, which replace the closed forms.
      of_noise: raw metrics of products of noise, `[replicates]` each, by the row that they are the null of.
    """
    slices, N, M = np.array([matrix.shape for matrix in found]).T
    columns = _in_units({name: np.asarray(column, np.float64) for name, column in raw.items()}, slices, N, M)
    product = np.array([matrix.product is not None for matrix in found])
    own = {i: (of_noise or {}).get(i, {}) for i in range(len(found)) if product[i]}
    columns |= _nulls(slices, N, M, columns, own) | (further or {})
    bad = raw["bad"] > 0
    zero = ~bad & ~(columns["norm"] > 0)
    ends = ("", "_null", "_null_low", "_null_high")
    ordered = [name + end for name in METRICS for end in ends if name + end in columns]
    names = dict.fromkeys([*ordered, *(further or {})])
    for name in names:
        undefined = bad | (product & _needs_entries(name))
        columns[name] = np.where(undefined, np.nan, columns[name])
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
    if "alpha" in columns:
        of_weights = ~product & (table["kind"] != "activation")
        for end in ("", "_null"):
            table[f"ww_label{end}"] = np.where(of_weights, _labels(columns[f"alpha{end}"]), "")
    if {"ks_mp", "alpha"} <= columns.keys():
        table["phase"] = phases.labels(table)
    table["warning"] = [
        _warning(row, int(count), _too_large(matrix, int(count)), bool(empty), bool(of_product))
        for matrix, row, count, empty, of_product in zip(
            found, table.to_dict("records"), raw["bad"], zero, product, strict=True
        )
    ]
    return table


def _needs_entries(name: str) -> bool:
    metric = re.sub("_null(_low|_high)?$", "", name)
    return metric in METRICS and METRICS[metric].group in OF_ENTRIES


def _labels(alpha: np.ndarray) -> np.ndarray:
    conditions = [alpha < OVER_TRAINED, alpha > UNDER_TRAINED]
    return np.select(conditions, ["over-trained", "under-trained"], "")


def _in_units(
    raw: dict[str, np.ndarray], slices: np.ndarray, N: np.ndarray, M: np.ndarray
) -> dict[str, np.ndarray]:
    """Metrics of W from those of W / 2^exponent. Logarithms are shifted, since the norms may overflow."""
    out = dict(raw)
    exponent = out.pop("exponent").astype(np.int64)
    out.pop("bad")
    with np.errstate(all="ignore"):  # zeros, norms beyond 1e308 and NaN give infinity or NaN
        log_shift = 2 * exponent * np.log10(2.0)
        for name in ("norm", "spectral_norm"):
            out[f"log_{name}"] = np.where(raw[name] > 0, np.log10(raw[name]) + log_shift, np.nan)
        if "log_det" in raw:
            rank = raw.get("matrix_rank", slices * M)
            out["log_det"] = raw["log_det"] + 2 * exponent * np.log(2.0) * rank
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
            p_of_slice = np.clip(laws.tracy_widom_sf(np.clip(known, -10, 1e4)), 0.0, 1.0)
            p_of_any = -np.expm1(slices * np.log1p(-p_of_slice))
            out["tw_p"] = np.where(np.isfinite(raw["tw_statistic"]), p_of_any, np.nan)
        for name in raw:
            power = METRICS[name].scale if name in METRICS else None
            if power:
                out[name] = np.ldexp(raw[name], power * exponent)
    return out


def _nulls(
    slices: np.ndarray,
    N: np.ndarray,
    M: np.ndarray,
    columns: dict[str, np.ndarray],
    own: Mapping[int, Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Nulls of all metrics, of independent entries; in the rows of `own` those of the metrics given there."""
    shapes, which = np.unique(np.stack([slices, N, M], 1), axis=0, return_inverse=True)
    closed_forms = {name: value[which] for name, value in nulls.closed_forms(*shapes.T).items()}
    for row, values in own.items():
        for name, column in closed_forms.items():
            column[row] = np.nanmedian(values[name]) if name in values else np.nan
    noise = nulls.Noise(slices, N, M, closed_forms)
    out = {}
    with np.errstate(invalid="ignore", over="ignore"):
        for name, metric in METRICS.items():
            if metric.null is not None and name in columns:
                null = metric.null
                out[f"{name}_null"] = (
                    getattr(noise, null)[name] if isinstance(null, str) else null(noise, columns)
                )
    if "alpha" in columns:
        quantiles = nulls.alpha_quantiles(*shapes.T)[which]
        for row, values in own.items():
            known = "alpha" in values
            quantiles[row] = np.nanquantile(values["alpha"], nulls.ALPHA_LEVELS) if known else np.nan
        low, median, high = (
            np.array([np.interp(level, nulls.ALPHA_LEVELS, q) for q in quantiles])
            for level in (0.05, 0.5, 0.95)
        )
        p = nulls.alpha_p(columns["alpha"], quantiles)
        out |= {"alpha_null": median, "alpha_null_low": low, "alpha_null_high": high, "alpha_null_p": p}
    return out


def _too_large(matrix: Matrix, bad: int) -> int:
    """How many entries are finite as they are stored, and not in the precision of the computation."""
    if not bad or matrix.kind == "activation" or matrix.product is not None:
        return 0
    return bad - int((~np.isfinite(matrix.load())).sum())


def _warning(row: dict[Any, Any], bad: int, too_large: int, zero: bool, of_product: bool) -> str:
    if bad:
        of_all = f"of {row['slices'] * row['N'] * row['M']} weights are"
        if too_large:
            return f"{too_large} {of_all} too large for single precision: use double"
        return f"{bad} {of_all} not finite"
    if zero:
        return "all weights are zero"
    warnings = []
    if "matrix_rank" not in row:  # an estimate
        return ""
    if row["matrix_rank"] < row["num_evals"]:
        warnings.append(f"rank {row['matrix_rank']:.0f} of {row['num_evals']}")
    if not of_product and "noise_std" in row and np.isnan(row["noise_std"]):
        warnings.append("too many eigenvalues are zero to tell noise from spikes")
    if row["num_unresolved"]:
        warnings.append(f"{row['num_unresolved']:.0f} eigenvalues below the resolution of this precision")
    if "alpha" in row:
        if np.isnan(row["alpha"]):
            warnings.append("no power law can be fitted")
        elif row["matrix_rank"] < FEW_EIGENVALUES:
            warnings.append(f"alpha from fewer than {FEW_EIGENVALUES} eigenvalues")
        elif not of_product and np.isnan(row["alpha_null_p"]):
            warnings.append(f"alpha of noise is known only for {nulls.KNOWN_SHAPES}")
        if row["alpha_null_p"] > COMMON_IN_NOISE:
            warnings.append(LIKE_NOISE)
    return "; ".join(warnings)
