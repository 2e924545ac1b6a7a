"""Compares configs over seeds: the mean of each metric with its 95 % interval, and every seed."""

import os
import pathlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from rmtjax.errors import InputError
from rmtjax.report import png
from rmtjax.report.chart import Chart, Dots, Mark, Values, estimates, fitted, named
from rmtjax.report.evaluation import whole_sets
from rmtjax.report.numbers import ending, metric_name
from rmtjax.statistics import mean_interval


def seeds_figure(
    table: pd.DataFrame | str | os.PathLike[str],
    path: str | os.PathLike[str],
    metrics: tuple[str, ...] = ("accuracy", "ece"),
) -> pathlib.Path:
    """Draws a PNG with a chart for each metric and set: for each config the mean, its interval and the seeds.

    Args:
      table: a table with columns config, seed, set, metric, value, or the path of its CSV file.
      path: path of the PNG.
      metrics: the metrics, one in each row of charts. Columns are sets; single corruptions are left out.

    Raises:
      InputError: there is no such file, a column is missing, or no row has one of the metrics.
    """
    rows = table if isinstance(table, pd.DataFrame) else _read(pathlib.Path(table))
    missing = [name for name in ("config", "seed", "set", "metric", "value") if name not in rows]
    if missing:
        raise InputError(
            f"the table of runs has no column {missing[0]!r}: it has {', '.join(map(str, rows.columns))}"
        )
    rows = whole_sets(rows[rows["metric"].isin(metrics)])
    rows = rows.assign(value=pd.to_numeric(rows["value"], errors="coerce")).dropna(subset=["value"])
    if rows.empty:
        raise InputError(
            f"the table of runs has no finite value of {', '.join(metrics)}: choose others with metrics="
        )
    shown = [metric for metric in metrics if (rows["metric"] == metric).any()]
    sets, configs = list(dict.fromkeys(rows["set"])), list(dict.fromkeys(rows["config"]))
    charts = [_chart(rows, metric, name, configs, name == sets[0]) for metric in shown for name in sets]
    note = "mean and 95 % interval over seeds (Student’s t); small dots: seeds"
    return png.save(pathlib.Path(path), charts, len(sets), note=note)


def _chart(rows: pd.DataFrame, metric: str, name: str, configs: list[str], first: bool) -> Chart:
    part = rows[(rows["metric"] == metric) & (rows["set"] == name)]
    marks: list[Mark] = []
    reach = [part["value"].to_numpy(float)]
    for place, config in enumerate(configs):
        values = part.loc[part["config"] == config, "value"].to_numpy(float)
        ends = intervals([values])
        marks.append(Dots(values, np.full(len(values), place + 0.2), "before", radius=1.4))
        marks += estimates([place], ends, level=True)
        reach.append(ends[:, 1:])
    labels = [ending(str(config)) if first else "" for config in configs]
    title = f"{str(name).replace('_', ' ')}, {metric_name(metric)}"
    size = (250 + 6 * max(map(len, labels)), 60 + 30 * len(configs))
    return Chart(fitted(reach, log=False), named(labels), tuple(marks), title, title, size)


def intervals(samples: Iterable[Values]) -> np.ndarray:
    """The mean of each sample over seeds and the ends of its 95 % interval, [samples, 3]."""
    found = [mean_interval(np.asarray(values, float)) for values in samples]
    return np.array(found, float).reshape(-1, 3)


def _read(path: pathlib.Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"no table of runs {str(path)!r}: give the CSV file that the runner has written")
    try:
        return pd.read_csv(path)
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{str(path)!r} is not a CSV table ({str(error).splitlines()[0]})") from error
