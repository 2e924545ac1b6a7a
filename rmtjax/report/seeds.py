"""Configs against each other over seeds: the mean of each metric with its 95 % interval, and every seed."""

import os
import pathlib

import numpy as np
import pandas as pd

from rmtjax.errors import InputError
from rmtjax.report import style
from rmtjax.report.evaluation import whole_sets
from rmtjax.report.tables import ending, metric_name
from rmtjax.statistics import mean_interval


def seeds_figure(
    table: pd.DataFrame | str | os.PathLike[str],
    path: str | os.PathLike[str],
    metrics: tuple[str, ...] = ("accuracy", "ece"),
) -> pathlib.Path:
    """Draws a PNG with a panel for each (metric, set): per config the mean with its 95 % interval, seeds as dots.

    Args:
      table: columns config, seed, set, metric, value; or the path of a CSV file with them.
      path: of the PNG.
      metrics: shown, a row each; sets are columns, single corruptions are left out.

    Raises:
      InputError: no such file, a missing column, or no row of these metrics.
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
            f"the table of runs has no finite value of {', '.join(metrics)}: name others by metrics="
        )
    shown = [m for m in metrics if (rows["metric"] == m).any()]
    sets, configs = list(dict.fromkeys(rows["set"])), list(dict.fromkeys(rows["config"]))
    longest = max(len(str(c)) for c in configs)
    with style.drawing():
        left = 0.4 + 0.075 * min(longest, 40)
        width, height = left + 2.6 * len(sets), (0.55 + 0.32 * len(configs)) * len(shown) + 0.3
        drawn = style.figure(width, height)
        grid = drawn.subplots(len(shown), len(sets), sharey=True, squeeze=False)
        for line, metric in zip(grid, shown, strict=True):
            for axes, name in zip(line, sets, strict=True):
                part = rows[(rows["metric"] == metric) & (rows["set"] == name)]
                for place, config in enumerate(configs):
                    values = part.loc[part["config"] == config, "value"].to_numpy(float)
                    mean, low, high = mean_interval(values)
                    axes.plot(values, np.full(len(values), place + 0.2), "o", markersize=2.6, alpha=0.6,
                              color=style.LIGHT["before"], markeredgewidth=0)  # fmt: skip
                    axes.plot([low, high], [place, place], color=style.LIGHT["after"], linewidth=2)
                    axes.plot([mean], [place], "o", color=style.LIGHT["after"], markersize=5.5)
                axes.set_title(f"{str(name).replace('_', ' ')}, {metric_name(metric)}")
                axes.grid(axis="x")
                axes.tick_params(axis="y", length=0)
            line[0].set_ylim(len(configs) - 0.45, -0.45)
            line[0].set_yticks(
                range(len(configs)), [ending(str(c)) for c in configs], color=style.LIGHT["ink"]
            )
        drawn.text(0.995, 0.08 / height, "mean and 95 % interval over seeds (Student’s t); small dots: seeds",
                   ha="right", va="bottom", fontsize=8, color=style.LIGHT["muted"])  # fmt: skip
        drawn.subplots_adjust(
            left / width, 0.55 / height, 0.985, 1 - 0.28 / height, 0.1, 0.75 / (0.32 * len(configs) + 0.2)
        )
        return style.save_png(drawn, pathlib.Path(path))


def _read(path: pathlib.Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"no table of runs {str(path)!r}: give the CSV file that the runner has written")
    try:
        return pd.read_csv(path)
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{str(path)!r} is not a CSV table ({str(error).splitlines()[0]})") from error
