"""The curvature of the loss along training: numbers of a run, and curvature.csv of a study."""

from collections.abc import Mapping

import pandas as pd

from rmtjax.statistics import Arm
from rmtjax.statistics.intervals import mean_interval

OBSERVED = "curvature"  # the stage of these numbers in the long table
# Trace and largest eigenvalue. The long table also has those of the last step, as numbers of the run.
CURVATURE = ("hessian_trace", "hessian_largest", "gauss_newton_trace", "gauss_newton_largest")
_COLUMNS = ("arm", "family", "dose", "baseline", "metric", "step", "mean", "low", "high", "seeds")


def observed(lines: pd.DataFrame) -> pd.DataFrame:
    """Columns group (the step), metric, value of metrics.jsonl, at the steps at which it was observed."""
    columns = {f"curvature/{name}": name for name in CURVATURE}
    if not set(columns) <= set(lines):
        return pd.DataFrame({"group": [], "metric": [], "value": []})
    found = lines[["step", *columns]].rename(columns=columns).dropna().melt("step", var_name="metric")
    return found.assign(group=found["step"].astype(int).astype(str))[["group", "metric", "value"]]


def curvature_by_step(table: pd.DataFrame, arms: Mapping[str, Arm]) -> pd.DataFrame:
    """The metrics of `CURVATURE` at each observed step: mean over seeds with its 95 % t interval.

    Args:
      table: the long table.
      arms: by name.

    Returns columns arm, family, dose, baseline, metric, step, mean, low, high (NaN with one seed), seeds.
    Runs that were not observed are left out.
    """
    found = table[(table["stage"] == OBSERVED) & table["arm"].isin(list(arms))]
    found = found.assign(step=found["group"].astype(int))
    rows = []
    for (arm, metric, step), values in found.groupby(["arm", "metric", "step"], sort=False)["value"]:
        mean = mean_interval(values.to_numpy(float))
        rows.append((arm, *arms[str(arm)], metric, int(step), *mean, len(values)))
    return pd.DataFrame(rows, columns=list(_COLUMNS))
