"""The one pass over all matrices and all metrics, and the table it returns."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rmtjax.spectra import onepass, solve, table, updates
from rmtjax.spectra.matrices import Matrix, Rule, weight_matrices


class Analysis(NamedTuple):
    """Spectra of a model's weights.

    Attributes:
      table: a row per matrix (and, from `compare`, per stage): layout, metrics, each metric's value for noise
        of that shape beside it (`<metric>_null`), and a `warning` in words where one is due.
      eigenvalues: of W^T W (not divided by N), ascending, slices pooled, float64; by the matrix's name, from
        `compare` by `<stage>/<name>`.
      left_out: path of each tensor without a spectrum -> the reason.
    """

    table: pd.DataFrame
    eigenvalues: dict[str, np.ndarray]
    left_out: dict[str, str]

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes spectra.parquet and spectra.npz, each whole or not at all; makes the directory.

        What was left out is in the parquet file's attributes (`pandas.read_parquet(...).attrs["left_out"]`).
        """
        folder = pathlib.Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        rows = self.table.copy()
        rows.attrs = {"left_out": self.left_out}
        with _atomic(folder / "spectra.npz") as path:
            np.savez(path, **self.eigenvalues)  # type: ignore[arg-type]
        with _atomic(folder / "spectra.parquet") as path:
            rows.to_parquet(path)


def analyze(
    params: Any, *, rules: Sequence[Rule] = (), conv: str = "slices", precision: str = "double"
) -> Analysis:
    """Spectra and metrics of every weight matrix of a pytree.

    Args:
      params: a pytree of arrays, in Flax `variables["params"]`; names are paths such as `block_0/mlp/up/kernel`.
      rules: say how further tensors are laid out (`matrices.Rule`); tried before the default table.
      conv: "slices" pools the eigenvalues of one matrix per tap, as WeightWatcher does; "unfold" takes the
        kernel as one matrix.
      precision: of the Gram matrices. "single" takes about half the time and is enough for norms, alpha and
        spikes; ranks and entropy of nearly singular matrices need "double" (column `num_unresolved`).

    Raises:
      ValueError: no matrix at all, a tensor whose layout no rule knows, an unknown `conv` or `precision`.
    """
    _dtype(precision)
    found, left_out = weight_matrices(params, rules, conv)
    if not found:
        raise ValueError(_nothing(left_out))
    rows, values = _analyze(found, precision)
    return Analysis(rows, values, left_out)


def compare(
    before: Any,
    after: Any,
    *,
    rules: Sequence[Rule] = (),
    conv: str = "slices",
    precision: str = "double",
) -> Analysis:
    """Spectra before and after training and of the update, in one table with a column `stage`.

    Rows come stage by stage ("before", "after", "update"); eigenvalues are under `<stage>/<name>`. The
    update's rows also have `norm_ratio`, `spectral_ratio` and `cosine` (`updates.sizes`). A matrix that only
    one side has, or that changed its shape, has no update: `left_out` says so.

    Args and errors: as `analyze`; also ValueError if the two have no matrix in common.
    """
    _dtype(precision)
    (old, left_out), (new, left_out_after) = (weight_matrices(tree, rules, conv) for tree in (before, after))
    changes, without = updates.updates(old, new)
    if not changes:
        raise ValueError(
            f"before and after have no weight matrix in common: {_names(old)} before, {_names(new)} after"
        )
    parts: list[pd.DataFrame] = []
    by_stage: dict[str, np.ndarray] = {}
    for stage, found in (("before", old), ("after", new), ("update", changes)):
        rows, values = _analyze(found, precision)
        rows.insert(0, "stage", stage)
        parts.append(rows)
        by_stage |= {f"{stage}/{name}": value for name, value in values.items()}
    joined = pd.concat(parts, ignore_index=True)
    joined = pd.concat([joined.drop(columns="warning"), updates.sizes(joined), joined["warning"]], axis=1)
    return Analysis(joined, by_stage, left_out | left_out_after | without)


def eigenvalues(
    params: Any, *, rules: Sequence[Rule] = (), conv: str = "slices", precision: str = "double"
) -> dict[str, np.ndarray]:
    """Eigenvalues of W^T W (not divided by N) of every weight matrix, by name, ascending, float64.

    Slices of a convolution are pooled; a matrix that is not finite has NaN. Args and errors: as `analyze`.
    """
    dtype = _dtype(precision)
    found, left_out = weight_matrices(params, rules, conv)
    if not found:
        raise ValueError(_nothing(left_out))
    return _scaled(found, solve.spectra(found, dtype))


def _analyze(found: Sequence[Matrix], precision: str) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    dtype = _dtype(precision)
    spectra = solve.spectra(found, dtype)
    raw = onepass.measure(spectra, [matrix.shape for matrix in found], frozenset(), dtype)
    return table.make(found, raw), _scaled(found, spectra)


def _scaled(found: Sequence[Matrix], spectra: Sequence[solve.Spectrum]) -> dict[str, np.ndarray]:
    out = {}
    for matrix, one in zip(found, spectra, strict=True):
        with np.errstate(over="ignore"):  # beyond 1e308: infinite
            out[matrix.name] = np.ldexp(one.eigenvalues.astype(np.float64), 2 * one.exponent)
        if one.bad:
            out[matrix.name][:] = np.nan
    return out


def _dtype(precision: str) -> Any:
    if precision not in ("single", "double"):
        raise ValueError(f"precision is {precision!r}: it must be 'single' or 'double'")
    return np.float32 if precision == "single" else np.float64


def _nothing(left_out: dict[str, str]) -> str:
    if not left_out:
        return "no weight matrix to analyse: the pytree has no arrays"
    some = ", ".join(f"{name} ({reason})" for name, reason in list(left_out.items())[:5])
    return f"no weight matrix to analyse: all {len(left_out)} tensors were left out, {some}"


def _names(found: Sequence[Matrix]) -> str:
    return ", ".join(matrix.name for matrix in found[:5]) or "none"


@contextlib.contextmanager
def _atomic(target: pathlib.Path) -> Iterator[pathlib.Path]:
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
