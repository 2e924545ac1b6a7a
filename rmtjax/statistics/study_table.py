"""The one table that all statistics take, and its seeds as arrays.

The table has a row for each arm, seed, layer group and metric, with the columns

  arm       name of a cell of the design, such as "dropout_0.3"
  family    what is varied: "none" (the baseline), "dropout", ...; "null" for controls without any change
  dose      its strength; 0 for the baseline
  baseline  name of the arm that this one is compared with; for a baseline its own name
  seed      seed of initialisation and data order, which are the same in two arms with the same seed
  group     "backbone" (all but the head), "head", "q", "k", "v", "o", "mlp", "conv", "embedding"; "run" for
            numbers of a whole run
  metric    "after/<metric>" for the weights after training, "update/<metric>" for the change by training;
            for the group "run": validation_loss, update_norm, accuracy, ood_accuracy, ece, vendi, ...
  value     the number
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from rmtjax.errors import InputError

COLUMNS = ("arm", "family", "dose", "baseline", "seed", "group", "metric", "value")
NULL = "null"
RUN = "run"
ROUNDING = 1e-6  # of the numbers of a run, which are kept in single precision


class Arm(NamedTuple):
    """What an arm is in the design: three columns of the table."""

    family: str
    dose: float
    baseline: str


class Samples(NamedTuple):
    """Seeds of each arm as arrays: rows are seeds, columns are (group, metric).

    Attributes:
      columns: (group, metric) of each column.
      values: by arm, a row per seed.
      seeds: by arm, ascending.
      arms: columns family, dose, baseline, by arm.
    """

    columns: pd.MultiIndex
    values: dict[str, np.ndarray]
    seeds: dict[str, np.ndarray]
    arms: pd.DataFrame


def samples(table: "pd.DataFrame | Samples") -> Samples:
    """The table by arm; a number that a run lacks is NaN. What is sorted by arm already stays as it is.

    Raises:
      InputError: a column is missing, a row has no family, a run has a number twice, or an arm names a
        baseline that is not there.
    """
    if isinstance(table, Samples):
        return table
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise InputError(f"the table of a study has no column {missing[0]!r}: it needs {', '.join(COLUMNS)}")
    if table["family"].isna().any():
        arm = table["arm"][table["family"].isna()].iloc[0]
        raise InputError(
            f"arm {arm!r} has no family in the table of the study: pandas takes the word {NULL!r} for a "
            f"missing value, so read study.csv with pandas.read_csv(..., keep_default_na=False, "
            f"na_values=[''])"
        )
    repeated = table.duplicated(["arm", "seed", "group", "metric"])
    if repeated.any():
        row = table[repeated].iloc[0]
        raise InputError(
            f"{row['metric']!r} of {row['group']!r} stands twice in the table for arm {row['arm']!r}, "
            f"seed {row['seed']}: keep one"
        )
    arms = table.drop_duplicates("arm").set_index("arm")[["family", "dose", "baseline"]]
    for name, baseline in arms["baseline"].items():
        if baseline not in arms.index:
            raise InputError(f"arm {name!r} has the baseline {baseline!r}, of which the table has no run")
    wide = table.pivot(index=["arm", "seed"], columns=["group", "metric"], values="value")
    first = table.drop_duplicates(["group", "metric"])
    wide = wide[list(zip(first["group"], first["metric"], strict=True))]
    of_arm = {str(name): wide.loc[name].sort_index() for name in arms.index}
    return Samples(
        pd.MultiIndex.from_tuples(wide.columns, names=["group", "metric"]),
        {name: part.to_numpy(np.float64) for name, part in of_arm.items()},
        {name: part.index.to_numpy() for name, part in of_arm.items()},
        arms,
    )


def place_of_run(found: Samples, metric: str) -> int:
    """The column of a metric of group "run".

    Raises:
      InputError: there is none.
    """
    place = {name: i for i, (group, name) in enumerate(found.columns) if group == RUN}
    if metric not in place:
        raise InputError(f"{metric!r} is no metric of group 'run': such are {', '.join(place)}")
    return place[metric]


def is_paired(seeds: Int[np.ndarray, " n"], others: Int[np.ndarray, " m"]) -> bool:
    """Whether there are two seeds or more, each of which the other side has as well."""
    return len(seeds) > 1 and bool(np.isin(seeds, others).all())


def same_seeds(
    found: Samples, arm: str, other: str
) -> tuple[Float[np.ndarray, "n K"], Float[np.ndarray, "n K"]] | None:
    """Values of two arms at the seeds that both have, row by row; None if these are fewer than two."""
    seeds = np.intersect1d(found.seeds[arm], found.seeds[other])
    if len(seeds) < 2:
        return None
    one, two = (found.values[name][np.isin(found.seeds[name], seeds)] for name in (arm, other))
    return one, two


def arms_of_noise(found: Samples, baseline: str) -> list[str]:
    """The baseline and the controls of family "null" that have seeds of their own: without any change."""
    same = [baseline]
    for name in found.arms.index[(found.arms["baseline"] == baseline) & (found.arms["family"] == NULL)]:
        if not np.isin(found.seeds[str(name)], found.seeds[baseline]).any():
            same.append(str(name))
    return same


def commonest_share(values: Float[np.ndarray, "n K"]) -> Float[np.ndarray, " K"]:
    """The share of runs in which each number has its commonest value, up to rounding."""
    near = np.abs(values[:, None] - values[None]) <= ROUNDING * np.abs(values).max(0)
    out: np.ndarray = near.mean(1).max(0)
    return out


def noise(found: Samples, baseline: str, *, without: int | None = None) -> Float[np.ndarray, " K"]:
    """The noise of each number: its standard deviation over the seeds of the baseline.

    That is the root of the squared `deviations`, summed and divided by their degrees of freedom. NaN where
    there is one seed, or no spread at all.

    Args:
      found: the study.
      baseline: name of the arm.
      without: a seed that is left out; None: none.
    """
    left, freedom = deviations(found, baseline, without=without)
    if freedom < 1:
        return np.full(left.shape[1], np.nan)
    deviation = np.sqrt(np.square(left).sum(0) / freedom)
    # A number that is the same in every run up to rounding has no noise.
    size = np.abs(np.concatenate(_runs_of_noise(found, baseline, None))).max(0)
    out: np.ndarray = np.where(deviation > 1e-12 * size, deviation, np.nan)
    return out


def deviations(
    found: Samples, baseline: str, *, without: int | None = None
) -> tuple[Float[np.ndarray, "n K"], int]:
    """What the runs of `arms_of_noise` deviate from the mean of their arm, and the degrees of freedom.

    Where the study has ten degrees of freedom or more, a run further from the median of its arm than three
    robust standard deviations (1.4826 times the median distance) counts as three, so that a single outlying
    run does not set the unit of all effects; for normal noise that lowers the unit by about 1 %.

    Args:
      without: a seed that is left out; None: none.
    """
    runs = _runs_of_noise(found, baseline, without)
    freedom = sum(map(len, runs)) - len(runs)
    whole = _runs_of_noise(found, baseline, None)
    if sum(map(len, whole)) - len(whole) >= 10:
        about = [values - np.median(values, axis=0) for values in runs]
        limit = 3 * 1.4826 * np.median(np.abs(np.concatenate(about)), axis=0)
        limit = np.where(limit > 0, limit, np.inf)
        runs = [np.clip(values, -limit, limit) for values in about]
    return np.concatenate([values - values.mean(0) for values in runs]), freedom


def _runs_of_noise(found: Samples, baseline: str, without: int | None) -> list[Float[np.ndarray, "_ K"]]:
    """The runs of each arm of `arms_of_noise`, without a seed, and without null runs that lack a number."""
    usual = np.isfinite(found.values[baseline]).all(0)
    out = []
    for name in arms_of_noise(found, baseline):
        whole = np.isfinite(found.values[name][:, usual]).all(1) | (name == baseline)
        values = found.values[name][whole & (found.seeds[name] != without)]
        if len(values):
            out.append(values)
    return out
