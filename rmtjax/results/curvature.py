"""The curvature of the loss along training, arm by arm: curvature.csv of a study."""

import pathlib
from collections.abc import Mapping

import pandas as pd

from rmtjax.results import run_folder
from rmtjax.results.long_table import CURVATURE
from rmtjax.statistics import Arm
from rmtjax.statistics.intervals import mean_interval

_COLUMNS = ("arm", "family", "dose", "baseline", "metric", "step", "mean", "low", "high", "seeds")


def curvature_by_step(table: pd.DataFrame, arms: Mapping[str, Arm]) -> pd.DataFrame:
    """The metrics of `long_table.CURVATURE` at each observed step: mean over seeds with its 95 % t interval.

    Args:
      table: the long table, whose runs are read.
      arms: by name.

    Returns columns arm, family, dose, baseline, metric, step, mean, low, high (NaN with one seed), seeds.
    Runs that were not observed are left out.
    """
    parts = []
    for run in table.drop_duplicates("run").itertuples():
        lines = run_folder.read_metrics(pathlib.Path(run.run) / run_folder.METRICS)
        columns = {f"curvature/{name}": name for name in CURVATURE}
        if lines is not None and set(columns) <= set(lines):
            found = lines[["step", *columns]].rename(columns=columns).dropna()
            parts.append(found.melt("step", var_name="metric").assign(arm=run.arm))
    rows = []
    if parts:
        for (arm, metric, step), values in pd.concat(parts).groupby(["arm", "metric", "step"], sort=False)[
            "value"
        ]:
            mean = mean_interval(values.to_numpy(float))
            rows.append((arm, *arms[str(arm)], metric, int(step), *mean, len(values)))
    return pd.DataFrame(rows, columns=list(_COLUMNS))
