"""The one long table: every number of finished runs, one a row. All other tables are views of it (`views`).

Columns, a row per run and number:
  run      the run's folder
  arm      name of the arm, the folder above
  seed     of initialisation and data order
  stage    "before", "after" and "update" for numbers of the weights; "evaluation", "diversity", "training";
           "density" for the eigenvalues of the update (`densities`), "curvature" for that of the loss
  group    what the number is of. Weights: the group of layers ("backbone", "head", "q", ...); evaluation: the
           set; diversity: the set and the space, such as "fed/pixel"; training: "run"; curvature: the step
  metric   such as "alpha", "accuracy", "vendi_score"; of the backbone alpha_spread and its values in noise
           (`spectra.alpha_spread`); in training validation_loss (the last one),
           update_norm (Frobenius norm of all matrices of the update together) and those of CURVATURE
  value    a finite number; what is not defined has no row
"""

import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from rmtjax.results import run_folder
from rmtjax.results.curvature import CURVATURE, OBSERVED, observed
from rmtjax.results.densities import DENSITY, density
from rmtjax.results.layers import PRODUCTS, group_means, layer_groups, of_model
from rmtjax.spectra.metrics import METRICS

COLUMNS = ("run", "arm", "seed", "stage", "group", "metric", "value")
NUMBER = ["stage", "group", "metric"]  # what names a number of a run
EVALUATION, DIVERSITY, TRAINING = "evaluation", "diversity", "training"
RUN = "run"


def collect(
    out: str | os.PathLike[str], arms: Iterable[str], seeds: Mapping[str, Sequence[int]] | None = None
) -> pd.DataFrame:
    """The long table of the finished runs `<out>/<arm>/<seed>/`, arm by arm, seeds ascending.

    Values are rounded to float32: seeds differ by far more than its seven digits, and so a study that goes on
    from a file of rows, which would be twice as large with all digits, has the very same numbers.

    Args:
      out: folder of the runs, as `rmtjax.study` makes it.
      arms: names of the arms.
      seeds: of each arm; None: all that are there.

    Raises:
      InputError: a file of a run is damaged.
    """
    parts = []
    for arm in arms:
        for path in _finished_runs(pathlib.Path(out) / arm, seeds and seeds[arm]):
            numbers = of_run(path)
            if len(numbers):
                parts.append(numbers.assign(run=str(path), arm=arm, seed=int(path.name)))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    return table[list(COLUMNS)].assign(value=rounded(table["value"].to_numpy(np.float64)))


def rounded(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """As float32, then the shortest decimals that have the same float32, in float64: .1 stays .1."""
    return values.astype(np.float32).astype(str).astype(np.float64)


def _finished_runs(folder: pathlib.Path, seeds: Sequence[int] | None) -> list[pathlib.Path]:
    """Folders of an arm's finished runs, by seed."""
    there = [path for path in folder.glob("*") if path.name.isdigit()]
    chosen = [path for path in there if seeds is None or int(path.name) in seeds]
    return [path for path in sorted(chosen, key=lambda path: int(path.name)) if run_folder.is_finished(path)]


def of_run(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Every number of one run's folder once: columns stage, group, metric, value of the long table.

    Raises:
      InputError: a file is damaged.
    """
    folder = pathlib.Path(path)
    spectra = run_folder.read_spectral_table(folder)
    lines = run_folder.read_metrics(folder / run_folder.METRICS)
    parts = [pd.DataFrame(_of_training(lines, spectra), columns=[*NUMBER, "value"])]
    for stage, name in ((EVALUATION, run_folder.EVALUATION), (DIVERSITY, run_folder.DIVERSITY)):
        rows = run_folder.rows(run_folder.read_json(folder / name) or {}, repr(str(folder / name)))
        if rows is not None:
            group = rows["set"] + "/" + rows["space"] if stage == DIVERSITY else rows["set"]
            parts.append(rows[["metric", "value"]].assign(stage=stage, group=group))
    if spectra is not None:
        measured = [
            name for name in METRICS if name in spectra and pd.api.types.is_numeric_dtype(spectra[name])
        ]
        parts += [group_means(spectra, measured), of_model(spectra)]
        parts.append(density(folder, spectra).assign(stage=DENSITY))
    if lines is not None:
        parts.append(observed(lines).assign(stage=OBSERVED))
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame(columns=[*NUMBER, "value"])
    table = pd.concat(parts, ignore_index=True).drop_duplicates(NUMBER)
    return table.loc[np.isfinite(table["value"]), [*NUMBER, "value"]]


def _of_training(
    lines: pd.DataFrame | None, spectra: pd.DataFrame | None
) -> Iterator[tuple[str, str, str, float]]:
    if lines is not None and "validation/loss" in lines:
        validated = lines["validation/loss"].dropna()
        if len(validated):
            yield TRAINING, RUN, "validation_loss", float(validated.iloc[-1])
    for metric in CURVATURE if lines is not None else ():
        if f"curvature/{metric}" in lines:
            found = lines[f"curvature/{metric}"].dropna()
            if len(found):
                yield TRAINING, RUN, metric, float(found.iloc[-1])
    if spectra is not None and "log_norm" in spectra:
        update = spectra[(spectra["stage"] == "update") & ~layer_groups(spectra).isin(PRODUCTS)]
        if len(update):
            yield TRAINING, RUN, "update_norm", float(np.sqrt((10 ** update["log_norm"]).sum()))
