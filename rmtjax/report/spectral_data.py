"""The spectra in a folder, made fit to draw: the table, the curves of each matrix, medians over matrices."""

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


class Spectra(NamedTuple):
    """What a folder holds about the spectra of one model, or of two and the update between them."""

    table: pd.DataFrame  # as `layers.measured` gives it
    attrs: dict[Any, Any]  # how the table was made
    names: list[str]  # of the matrices, in their order for people
    stages: dict[str, pd.DataFrame]  # rows by name of matrix, of each stage that is there
    rows: dict[str, dict[str, dict[str, Any]]]  # the same as plain values: by stage, name and column
    curves: dict[str, dict[str, Mapping[str, np.ndarray]]]  # by name, stage and curve
    compared: bool
    has_eigenvalues: bool

    def row(self, which: str, name: str) -> dict[str, float]:
        """The numbers of a matrix at a stage; NaN for what is none."""
        found = self.rows.get(which, {}).get(name, {})
        return {key: results.number(value) for key, value in found.items()}

    def text(self, which: str, name: str, column: str) -> str:
        """A text of a matrix at a stage, empty where there is none."""
        value = self.rows.get(which, {}).get(name, {}).get(column)
        return "" if value is None or value != value else str(value)


class Summary(NamedTuple):
    """One metric over all matrices: medians of the weights and of the update, with those of noise."""

    metric: str
    before: float
    after: float
    after_null: float
    update: float
    update_null: float
    matrices: int


def load(path: pathlib.Path) -> Spectra | None:
    """The spectra in a folder; None where it has no spectra.parquet.

    Curves that an older analysis did not store are computed from the eigenvalues.

    Raises:
      InputError: a damaged file.
    """
    table, eigenvalues, _ = results.read_spectra(path)
    if table is None:
        return None
    attrs, table.attrs = table.attrs, {}  # pandas copies them deeply at every step
    measured = layers.measured(table, eigenvalues)
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
    """Curves by matrix, stage and name; those of one model, which have no stage, are as "after"."""
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for key, values in stored.items():
        name, _, curve = key.rpartition("/")
        stage, _, rest = name.partition("/")
        stage, name = (stage, rest) if stage in layers.STAGES and rest else ("after", name)
        found.setdefault(name, {}).setdefault(stage, {})[curve] = np.asarray(values, np.float64)
    order = {stage: place for place, stage in enumerate(layers.STAGES)}
    return {name: dict(sorted(of.items(), key=lambda item: order[item[0]])) for name, of in found.items()}


def summary(table: pd.DataFrame) -> list[Summary]:
    """Medians over weight matrices of those metrics that the words about a run name and the table holds."""
    table = table[table["kind"] != results.ACTIVATION]
    before, after, update = (layers.stage(table, which) for which in layers.STAGES)
    out = []
    for metric in shown("summary"):
        null = f"{metric}_null"
        parts = ((before, metric), (after, metric), (after, null), (update, metric), (update, null))
        values = [median(layers.column(rows, name)) for rows, name in parts]
        if np.isfinite(values).any():
            out.append(Summary(metric, *values, table["name"].nunique()))
    return out
