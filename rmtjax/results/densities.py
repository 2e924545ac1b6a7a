"""How the eigenvalues of the updates lie, arm by arm: spectra.csv of a study."""

import pathlib
from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float

from rmtjax.results import run_folder
from rmtjax.results.layers import in_backbone
from rmtjax.statistics import Arm
from rmtjax.statistics.intervals import mean_interval

_COLUMNS = ("arm", "family", "dose", "baseline", "log10_eigenvalue", "density", "low", "high", "seeds")


def update_densities(table: pd.DataFrame, arms: Mapping[str, Arm], bins: int = 60) -> pd.DataFrame:
    """Densities of the eigenvalues of the update's backbone: all matrices of a run together, mean over seeds.

    The eigenvalues of each matrix, those of W^T W, are divided by their mean, so that the sizes of matrices
    and of updates drop out. Values outside 1e-4 to 1e2 are counted in the first and the last bin.

    Args:
      table: the long table, whose runs are read.
      arms: by name.
      bins: between 1e-4 and 1e2, equally wide in log10.

    Returns columns arm, family, dose, baseline, log10_eigenvalue (middle of a bin), density (per unit of
    log10), low, high (95 % t interval over seeds; NaN with one seed), seeds. Runs without spectra and runs
    whose backbone did not change are left out.
    """
    edges = np.linspace(-4, 2, bins + 1)
    parts = []
    runs = table.drop_duplicates("run")
    for name, arm in arms.items():
        found = [_density(pathlib.Path(path), edges) for path in runs.loc[runs["arm"] == name, "run"]]
        lines = [line for line in found if line is not None]
        if lines:
            mean, low, high = mean_interval(np.array(lines))
            columns = {
                "log10_eigenvalue": (edges[1:] + edges[:-1]) / 2,
                "density": mean,
                "low": low,
                "high": high,
            }
            parts.append(pd.DataFrame(columns | {"seeds": len(lines)}).assign(arm=name, **arm._asdict()))
    if not parts:
        return pd.DataFrame(columns=list(_COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(_COLUMNS)]


def _density(path: pathlib.Path, edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " bins"] | None:
    """Of one run; None where it has no spectra, or its backbone did not change."""
    spectra, eigenvalues, _ = run_folder.read_spectra(path)
    if spectra is None or eigenvalues is None:
        return None
    backbone = spectra.loc[(spectra["stage"] == "update") & in_backbone(spectra), "name"]
    of_update = [eigenvalues[f"update/{name}"] for name in backbone if f"update/{name}" in eigenvalues]
    changed = [values / values.mean() for values in of_update if values.mean() > 0]
    if not changed:
        return None
    logs = np.log10(np.clip(np.concatenate(changed), 10 ** edges[0], 10 ** edges[-1]))
    return np.histogram(logs, edges)[0] / (len(logs) * (edges[1] - edges[0]))
