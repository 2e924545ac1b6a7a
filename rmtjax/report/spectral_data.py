"""The spectra in a folder, prepared for drawing: the table, curves of each matrix, medians over matrices."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rmtjax import results
from rmtjax.report import layers
from rmtjax.report.depth import median
from rmtjax.spectra import curves as curves_of
from rmtjax.spectra.metrics import shown
from rmtjax.spectra.products import KINDS


class Spectra(NamedTuple):
    """The spectra of one model, or of two models and the update between them, as a folder holds them."""

    table: pd.DataFrame  # as `layers.measured` returns it
    attrs: dict[Any, Any]  # how the table was made
    names: list[str]  # names of the matrices, as `layers.ordered_names` orders them
    stages: dict[str, pd.DataFrame]  # stage -> rows indexed by the name of the matrix
    rows: dict[str, dict[str, dict[str, Any]]]  # stage -> name -> column -> value
    curves: dict[str, dict[str, Mapping[str, np.ndarray]]]  # name -> stage -> curve
    compared: bool
    has_eigenvalues: bool

    def row(self, which: str, name: str) -> dict[str, float]:
        """The numbers of a matrix at a stage; NaN for values that are not numbers."""
        found = self.rows.get(which, {}).get(name, {})
        return {key: results.number(value) for key, value in found.items()}

    def text(self, which: str, name: str, column: str) -> str:
        """The text of a matrix at a stage in a column; empty if there is none."""
        value = self.rows.get(which, {}).get(name, {}).get(column)
        return "" if value is None or value != value else str(value)


class Summary(NamedTuple):
    """Medians of one metric over all matrices: of the weights, of the update, and of noise."""

    metric: str
    before: float
    after: float
    after_null: float
    update: float
    update_null: float
    matrices: int


def load(path: pathlib.Path) -> Spectra | None:
    """Reads the spectra in a folder; None if it has no spectra.parquet.

    Curves that an older analysis did not store are computed from the eigenvalues.

    Raises:
      InputError: a file is damaged.
    """
    table, eigenvalues, _ = results.read_spectra(path)
    if table is None:
        return None
    attrs, table.attrs = table.attrs, {}  # pandas would copy them at every step
    measured = layers.measured(table)
    stored = results.read_arrays(path / results.CURVES)
    if stored is None:
        stored = curves_of.curves(measured, eigenvalues or {})
    stages = {which: layers.stage(measured, which) for which in layers.STAGES}
    stages = {which: rows for which, rows in stages.items() if len(rows)}
    return Spectra(
        table=measured,
        attrs=attrs,
        names=layers.ordered_names(measured),
        stages=stages,
        rows={which: part.to_dict("index") for which, part in stages.items()},
        curves=_by_matrix(stored),
        compared=len(stages) > 1,
        has_eigenvalues=eigenvalues is not None or bool(stored),
    )


def _by_matrix(stored: Mapping[str, np.ndarray]) -> dict[str, dict[str, Mapping[str, np.ndarray]]]:
    """Curves by matrix, stage and name; the curves of a single model, without a stage, count as "after"."""
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for key, values in stored.items():
        name, _, curve = key.rpartition("/")
        stage, _, rest = name.partition("/")
        stage, name = (stage, rest) if stage in layers.STAGES and rest else ("after", name)
        found.setdefault(name, {}).setdefault(stage, {})[curve] = np.asarray(values, np.float64)
    order = {stage: place for place, stage in enumerate(layers.STAGES)}
    return {name: dict(sorted(of.items(), key=lambda item: order[item[0]])) for name, of in found.items()}


def summary(table: pd.DataFrame) -> list[Summary]:
    """Medians over matrices of the metrics of the summary, as far as the table holds them."""
    table = table[~table["kind"].isin([results.ACTIVATION, *KINDS])]
    before, after, update = (layers.stage(table, which) for which in layers.STAGES)
    out = []
    for metric in shown("summary"):
        null = f"{metric}_null"
        parts = ((before, metric), (after, metric), (after, null), (update, metric), (update, null))
        values = [median(layers.column(rows, name)) for rows, name in parts]
        if np.isfinite(values).any():
            out.append(Summary(metric, *values, table["name"].nunique()))
    return out
