"""The curves that a page draws for each matrix: densities, laws, fits and exponents.

`Analysis.save` stores them beside the table, so that a page can be drawn without the eigenvalues. Eigenvalues
are of W^T W, not divided by N. The Marchenko-Pastur density comes from `laws`, the exponents from `tails`.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from rmtjax.spectra import compiled, laws, tails
from rmtjax.spectra.streaming import precision

LEAST_TAIL = 5  # the exponents of shorter tails scatter too much for a chart
_POINTS = 60  # approximate number of points of a curve
_ROWS = 32  # number of matrices in one call to the device


def curves(table: pd.DataFrame, eigenvalues: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The curves of every matrix that has a finite eigenvalue above zero.

    Args:
      table: of an `Analysis`, with or without the column `stage`. Curves whose columns it lacks are left out.
      eigenvalues: ascending, under `<stage>/<name>`, or `<name>` in a table without stages.

    Returns:
      Arrays in float64, under the key of the matrix, a slash, and:
        density [2, bins + 1]: edges of linear bins, and the density in each (the last entry is 0).
        log_density [2, bins + 1]: the same in logarithmic bins.
        law [2, points]: the Marchenko-Pastur density of the noise, times its share of the spectrum.
        spikes [n]: the eigenvalues above the noise.
        fit [3, 2]: the power law at xmin and beyond the largest eigenvalue: λ, density, share of
          eigenvalues >= λ.
        exponents [3, points]: xmin, the exponent of the tail that starts there, and its standard error.
        survival [2, points]: λ, and the share of eigenvalues >= λ.
        shift [2, points], for updates: rank of a singular value, and its change by training, relative to the
          largest singular value before.

    >>> table = pd.DataFrame({"name": ["a"], "matrix_rank": [3.0]})
    >>> sorted(curves(table, {"a": np.array([1.0, 2.0, 3.0])}))
    ['a/density', 'a/log_density', 'a/survival']
    """
    staged = "stage" in table
    rows: dict[str, dict[str, Any]] = {}
    for row in table.to_dict("records"):
        key = f"{row['stage']}/{row['name']}" if staged else str(row["name"])
        rows.setdefault(key, {str(name): value for name, value in row.items()})
    found = {key: positive(eigenvalues[key]) for key in rows if key in eigenvalues}
    found = {key: values for key, values in found.items() if len(values)}
    exponents = _exponents(found, {key: _number(rows[key], "matrix_rank") for key in found})
    out: dict[str, np.ndarray] = {}
    for key, values in found.items():
        parts = _curves_of_matrix(values, rows[key]) | {"exponents": exponents[key]}
        out |= {f"{key}/{name}": array for name, array in parts.items() if array.size}
    for key in rows:
        stage, _, name = key.partition("/")
        shift = _shift(eigenvalues, name) if staged and stage == "update" else None
        if shift is not None:
            out[f"{key}/shift"] = shift
    return out


def compact(drawn: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Curves as they are stored: in single precision, or in double where single overflows or underflows.

    >>> stored = compact({"a": np.ones(2), "b": np.array([1e-50])})
    >>> stored["a"].dtype, stored["b"].dtype
    (dtype('float32'), dtype('float64'))
    """
    out = {}
    for key, values in drawn.items():
        size = np.abs(values[np.isfinite(values) & (values != 0)])
        fits = not size.size or (size.max() < 1e38 and size.min() > 1e-37)
        out[key] = values.astype(np.float32) if fits else values
    return out


def positive(values: np.ndarray) -> np.ndarray:
    """The eigenvalues that are finite and above zero, ascending, in float64.

    >>> positive(np.array([3.0, 0.0, np.nan, 1.0]))
    array([1., 3.])
    """
    values = np.sort(np.asarray(values, np.float64).ravel())
    kept: np.ndarray = values[np.isfinite(values) & (values > 0)]
    return kept


def _number(row: Mapping[str, Any], *names: str) -> float:
    """The first of these numbers that the row holds; NaN if it has none, or -1 (a fit that failed)."""
    for name in names:
        value = row.get(name)
        if isinstance(value, int | float | np.number) and np.isfinite(value):
            return float(value) if value >= 0 else float("nan")
    return float("nan")


def _curves_of_matrix(values: np.ndarray, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
    edge = _number(row, "edge", "bulk_max")
    spikes = _spikes(values, _number(row, "num_spikes"), edge)
    return {
        "density": _density(values, edge),
        "log_density": _log_density(values),
        "law": _law(row, 1 - len(spikes) / len(values)),
        "spikes": spikes,
        "fit": _fit(values, _number(row, "alpha"), _number(row, "xmin")),
        "survival": _survival(values),
    }


def _spikes(values: np.ndarray, count: float, edge: float) -> np.ndarray:
    """The `count` largest eigenvalues; without a count, those above the edge of the bulk."""
    if np.isfinite(count):
        return values[len(values) - int(count) :]
    return values[values > edge]


def _density(values: np.ndarray, edge: float) -> np.ndarray:
    """The axis ends above the bulk. A page says in words how far the spikes reach."""
    top = float(values[-1])
    high = max(min(top, 2 * edge), 1.15 * edge) if np.isfinite(edge) and edge > 0 else 1.02 * top
    shown = values[values <= high]
    bins = int(np.clip(2 * np.sqrt(len(shown)), 8, 50))
    counts, edges = np.histogram(shown, bins, (0.0, high))
    return np.stack([edges, np.append(counts / (len(values) * high / bins), 0.0)])


def _log_density(values: np.ndarray) -> np.ndarray:
    bottom, top = max(float(values[0]), 1e-5 * float(values[-1])), float(values[-1])
    bins = int(np.clip(2 * np.sqrt(len(values)), 8, 40))
    edges = np.geomspace(bottom * 0.999, top * 1.001, bins + 1)
    counts, _ = np.histogram(values, edges)
    return np.stack([edges, np.append(counts / (len(values) * np.diff(edges)), 0.0)])


def _law(row: Mapping[str, Any], share: float) -> np.ndarray:
    N, M, noise_std = (_number(row, name) for name in ("N", "M", "noise_std"))
    if row.get("num_removed", 0) > 0:
        lost = row["num_removed"] / row["slices"]
        N, M = N - lost, M - lost
    if not (np.isfinite(N * M) and noise_std > 0):
        return np.zeros((2, 0))
    lower, upper = laws.marchenko_pastur_edges(M / N, noise_std**2)
    # More points near both edges, where the density is steep.
    x = lower + (upper - lower) * np.sin(np.linspace(0, np.pi / 2, 48)[1:]) ** 2
    return np.stack([x * N, share * laws.marchenko_pastur_pdf(x, M / N, noise_std**2) / N])


def _fit(values: np.ndarray, alpha: float, xmin: float) -> np.ndarray:
    """Two points of the power law, which is a straight line on logarithmic axes."""
    if not (alpha > 1 and 0 < xmin < values[-1]):
        return np.zeros((3, 0))
    x = np.array([xmin, 1.3 * values[-1]])
    share = float(np.mean(values >= xmin * (1 - 1e-6)))
    ratio = x / xmin
    return np.stack([x, share * (alpha - 1) / xmin * ratio**-alpha, share * ratio ** (1 - alpha)])


def _survival(values: np.ndarray) -> np.ndarray:
    kept = _thinned(len(values))
    return np.stack([values[kept], (len(values) - kept) / len(values)])


def _thinned(count: int) -> np.ndarray:
    """Indices into ascending eigenvalues: the 30 largest, and about as many of the others, evenly spaced."""
    if count <= _POINTS:
        return np.arange(count)
    below = np.linspace(0, count - 31, _POINTS - 30).round().astype(int)
    return np.concatenate([below, np.arange(count - 30, count)])


def _exponents(found: Mapping[str, np.ndarray], ranks: Mapping[str, float]) -> dict[str, np.ndarray]:
    """The exponent that `tails.power_law` has for each start of the tail, and its standard error.

    It follows from Hill's exponent, which does not count the first value of the tail: alpha - 1 of the power
    law is n / (n - 1) times that of Hill, except in small samples, where `tails.power_law` uses Hill's.
    """
    out = {}
    keys = list(found)
    for start in range(0, len(keys), _ROWS):
        part = keys[start : start + _ROWS]
        size = 1 << (max(len(found[key]) for key in part) - 1).bit_length()
        padded, count = np.zeros((_ROWS, size)), np.zeros(_ROWS, np.int32)
        for place, key in enumerate(part):
            values = found[key]
            padded[place, size - len(values) :] = values
            count[place] = int(ranks[key]) if 1 <= ranks[key] <= len(values) else len(values)
        with precision(np.float64):
            hill = np.asarray(_hill()(jnp.asarray(padded), jnp.asarray(count)))
        for place, key in enumerate(part):
            length = int(count[place])
            out[key] = _thinned_exponents(padded[place, size - length :], hill[place, size - length :])
    return out


@functools.cache
def _hill() -> Any:
    return compiled.jit(tails.hill_curve)


def _thinned_exponents(values: np.ndarray, hill: np.ndarray) -> np.ndarray:
    n = np.arange(len(values), 0, -1)
    small = len(values) < tails.SMALL_SAMPLE
    slope = (hill - 1) * (1.0 if small else n / np.maximum(n - 1, 1))
    kept = np.flatnonzero((n >= LEAST_TAIL) & np.isfinite(slope) & (values >= 1e-4 * values[-1]))
    if not len(kept):
        return np.zeros((3, 0))
    kept = kept[np.unique(np.linspace(0, len(kept) - 1, min(len(kept), _POINTS)).round().astype(int))]
    return np.stack([values[kept], 1 + slope[kept], slope[kept] / np.sqrt(n[kept])])


def _shift(eigenvalues: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    """The change of each singular value by training, largest first; None if the two sides do not match."""
    before, after = (eigenvalues.get(f"{stage}/{name}") for stage in ("before", "after"))
    if before is None or after is None or not len(before) or len(before) != len(after):
        return None
    if not (np.isfinite([before, after]).all() and before[-1] > 0):
        return None
    old, new = (np.sqrt(np.maximum(values[::-1], 0.0)) for values in (before, after))
    kept = np.unique(np.geomspace(1, len(old), min(len(old), 2 * _POINTS)).round().astype(int)) - 1
    return np.stack([kept + 1.0, (new[kept] - old[kept]) / old[0]])
