"""How the eigenvalues of the updates lie: numbers of a run, and spectra.csv of a study."""

import pathlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from rmtjax.results import run_folder
from rmtjax.results.layers import BACKBONE, in_backbone
from rmtjax.statistics import Arm
from rmtjax.statistics.intervals import mean_interval

DENSITY = "density"  # the stage of these numbers in the long table
_EDGES = np.linspace(-4, 2, 61)  # of the bins, in log10
_MIDDLES = (_EDGES[1:] + _EDGES[:-1]) / 2
_NAMES = [f"{middle:.2f}" for middle in _MIDDLES]
_COLUMNS = ("arm", "family", "dose", "baseline", "log10_eigenvalue", "density", "low", "high", "seeds")


def density(folder: pathlib.Path, spectra: pd.DataFrame) -> pd.DataFrame:
    """The density of the eigenvalues of the update's backbone in a run's folder, all matrices together.

    The eigenvalues of each matrix, those of W^T W, are divided by their mean, so that the sizes of matrices
    and of updates drop out. Values outside 1e-4 to 1e2 are counted in the first and the last of the 60 bins.

    Args:
      folder: of the run.
      spectra: its table.

    Returns columns group ("backbone"), metric (log10 of the middle of a bin), value (density per unit of
    log10); no row where there are no eigenvalues, or where the backbone did not change.
    """
    backbone = spectra.loc[(spectra["stage"] == "update") & in_backbone(spectra), "name"]
    eigenvalues = run_folder.read_arrays(folder / run_folder.EIGENVALUES) or {}
    of_update = [eigenvalues[f"update/{name}"] for name in backbone if f"update/{name}" in eigenvalues]
    changed = [values / values.mean() for values in of_update if values.mean() > 0]
    if not changed:
        return pd.DataFrame({"group": [], "metric": [], "value": []})
    logs = np.log10(np.clip(np.concatenate(changed), 10 ** _EDGES[0], 10 ** _EDGES[-1]))
    value = np.histogram(logs, _EDGES)[0] / (len(logs) * (_EDGES[1] - _EDGES[0]))
    return pd.DataFrame({"group": BACKBONE, "metric": _NAMES, "value": value})


def update_densities(table: pd.DataFrame, arms: Mapping[str, Arm]) -> pd.DataFrame:
    """The densities of the updates' eigenvalues (`density`): mean over seeds.

    Args:
      table: the long table.
      arms: by name.

    Returns columns arm, family, dose, baseline, log10_eigenvalue (middle of a bin), density (per unit of
    log10), low, high (95 % t interval over seeds; NaN with one seed), seeds. Runs without spectra and runs
    whose backbone did not change are left out.
    """
    found = table[table["stage"] == DENSITY]
    parts = []
    for name, arm in arms.items():
        lines = found[found["arm"] == name].pivot(index="seed", columns="metric", values="value")
        if len(lines):
            mean, low, high = mean_interval(lines[_NAMES].to_numpy(float))
            columns = {"log10_eigenvalue": _MIDDLES, "density": mean, "low": low, "high": high}
            parts.append(pd.DataFrame(columns | {"seeds": len(lines)}).assign(arm=name, **arm._asdict()))
    if not parts:
        return pd.DataFrame(columns=list(_COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(_COLUMNS)]
