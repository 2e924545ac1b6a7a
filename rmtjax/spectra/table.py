"""From raw metrics of scaled matrices to the table: units, the nulls beside them, warnings in words."""

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
    """The table of `analyze`, a row per matrix in the order of `found`, from the metrics of `onepass.run`."""
    slices, N, M = np.array([matrix.weights.shape for matrix in found]).T
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
    noise = nulls.closed_forms(slices, N, M)
    out = {f"{name}_null": value for name, value in noise.items()}
    out["log_spectral_norm_null"] = columns["log_norm"] - np.log10(noise["stable_rank"])
    rows = [
        _alpha_null(alpha, nulls.simulated_alpha(*shape))
        for alpha, *shape in zip(columns["alpha"], slices.tolist(), N.tolist(), M.tolist(), strict=True)
    ]
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
