"""Diversity of data: the table as plain text, and a figure of the score against the number of examples."""

import os
import pathlib

import numpy as np
import pandas as pd

from rmtjax.errors import InputError
from rmtjax.report import png
from rmtjax.report.chart import Axis, Band, Chart, Dots, Key, Line, Mark, fitted
from rmtjax.report.numbers import aligned, ending, fraction, interval, metric_name

_COLOURS = ("before", "after", "update", "second")


def diversity_table(table: pd.DataFrame | str | os.PathLike[str]) -> str:
    """The table of diversity.csv as plain text: values with their 95 % intervals and nulls.

    Args:
      table: the table, or the path of its CSV file.

    Raises:
      InputError: there is no such file.
    """
    rows = table if isinstance(table, pd.DataFrame) else _read(pathlib.Path(table))
    lines = []
    for row in rows.to_dict("records"):
        detail, where = ("" if pd.isna(row[name]) else str(row[name]) for name in ("detail", "class"))
        name = metric_name(str(row["metric"])) + (f" ({detail})" if detail else "")
        null = "–" if np.isnan(row["null"]) else fraction(row["null"])
        spread = interval(row["low"], row["high"])
        lines.append(
            [
                str(row["set"]),
                str(row["space"]),
                where,
                name,
                fraction(row["value"]),
                spread,
                null,
                f"{row['n']:.0f}",
            ]
        )
    return aligned(["set", "space", "class", "metric", "value", "95 %", "null", "n"], lines, left=4)


def rarefaction_figure(path: str | os.PathLike[str], picture: str | os.PathLike[str]) -> pathlib.Path:
    """Draws a PNG of rarefaction.csv (set, space, n, value, low, high, null), with a chart for each space.

    Raises:
      InputError: there is no such file.
    """
    rows = _read(pathlib.Path(path))
    sets = list(dict.fromkeys(rows["set"]))
    charts = [
        _rarefaction(rows[rows["space"] == space], space, sets) for space in dict.fromkeys(rows["space"])
    ]
    keys = [Key(_colour(place), "line", ending(str(name))) for place, name in enumerate(sets)]
    keys.append(Key("null", "line", "isotropic noise"))
    note = "bands: 95 % of samples of that size"
    return png.save(pathlib.Path(picture), charts, len(charts), keys, note)


def _colour(place: int) -> str:
    return _COLOURS[place % len(_COLOURS)]


def _rarefaction(part: pd.DataFrame, space: str, sets: list[str]) -> Chart:
    marks: list[Mark] = []
    for place, name in enumerate(sets):
        of_set = part[part["set"] == name].sort_values("n")
        n, value, low, high = (of_set[column].to_numpy(float) for column in ("n", "value", "low", "high"))
        colour = _colour(place)
        marks += [Band(n, low, high, colour), Line(n, value, colour), Dots(n, value, colour, radius=2.2)]
    noise = part.drop_duplicates("n").sort_values("n")
    marks.append(Line(noise["n"].to_numpy(float), noise["null"].to_numpy(float), "null", "dash"))
    low, high = float(part["low"].min()), float(part["high"].max())
    room = 0.1 * (high - low) or 1.0
    title = metric_name("vendi_score", space)
    x = fitted([part["n"].to_numpy(float)], log=True, label="examples")
    return Chart(x, Axis(max(0.0, low - room), high + room), tuple(marks), title, title, (420, 300))


def _read(path: pathlib.Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"no table {str(path)!r}: run python -m rmtjax.diversity with --out first")
    return pd.read_csv(path, dtype={"set": str, "class": str})
