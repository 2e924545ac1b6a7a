"""Tables of diversity: as plain text, and how the score grows with the number of examples as a picture."""

import os
import pathlib

import numpy as np
import pandas as pd

from rmtjax.errors import InputError
from rmtjax.report import style
from rmtjax.report.tables import aligned, ending, fraction, interval, metric_name

_COLOURS = ("before", "after", "update", "second")


def diversity_table(table: pd.DataFrame | str | os.PathLike[str]) -> str:
    """diversity.csv (or the table it holds) as plain text: values with their 95 % intervals and nulls.

    Raises:
      InputError: no such file.
    """
    rows = table if isinstance(table, pd.DataFrame) else _read(pathlib.Path(table))
    rows = rows.assign(**{name: rows[name].astype(object).fillna("") for name in ("class", "detail")})
    lines = []
    for row in rows.itertuples():
        name = metric_name(str(row.metric)) + (f" ({row.detail})" if row.detail else "")
        null = "–" if np.isnan(row.null) else fraction(row.null)
        where = rows.at[row.Index, "class"]  # "class" is no attribute's name
        lines.append(
            [str(row.set), str(row.space), str(where), name, fraction(row.value), interval(row.low, row.high), null, f"{row.n:.0f}"]
        )  # fmt: skip
    return aligned(["set", "space", "class", "metric", "value", "95 %", "null", "n"], lines, left=4)


def rarefaction_figure(path: str | os.PathLike[str], png: str | os.PathLike[str]) -> pathlib.Path:
    """Draws rarefaction.csv (set, space, n, value, low, high, null) as a PNG, a panel for each space.

    Raises:
      InputError: no such file.
    """
    rows = _read(pathlib.Path(path))
    spaces, sets = list(dict.fromkeys(rows["space"])), list(dict.fromkeys(rows["set"]))
    with style.drawing():
        drawn = style.figure(0.8 + 4.2 * len(spaces), 3.3)
        grid = drawn.subplots(1, len(spaces), squeeze=False)[0]
        for axes, space in zip(grid, spaces, strict=True):
            part = rows[rows["space"] == space]
            for number, name in enumerate(sets):
                of_set = part[part["set"] == name].sort_values("n")
                colour = style.LIGHT[_COLOURS[number % len(_COLOURS)]]
                axes.fill_between(
                    of_set["n"], of_set["low"], of_set["high"], color=colour, alpha=0.2, linewidth=0
                )
                axes.plot(
                    of_set["n"], of_set["value"], "o-", color=colour, markersize=3.5, label=ending(str(name))
                )
            noise = part.drop_duplicates("n").sort_values("n")
            ends = f"{fraction(noise['null'].iloc[0])} to {fraction(noise['null'].iloc[-1])}"
            low, high = float(part["low"].min()), float(part["high"].max())
            axes.plot(
                noise["n"],
                noise["null"],
                "--",
                color=style.LIGHT["null"],
                linewidth=1,
                label=f"isotropic noise, {ends}",
            )
            axes.set_ylim(max(0, low - 0.1 * (high - low)), high + 0.35 * (high - low))  # room for the legend
            style.log_axis(axes, "x")
            axes.set_title(
                f"Vendi score, {space}s"
                if space in ("pixel", "feature", "unigram")
                else f"Vendi score, {space}"
            )
            axes.set_xlabel("examples")
            axes.grid(axis="y")
            axes.legend(loc="upper left", fontsize=7.5)
        drawn.text(0.995, 0.02, "bands: where one sample of that size lies, 95 %", ha="right", va="bottom", fontsize=8,
                   color=style.LIGHT["muted"])  # fmt: skip
        drawn.tight_layout(rect=(0, 0.04, 1, 1))
        return style.save_png(drawn, pathlib.Path(png))


def _read(path: pathlib.Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"no table {str(path)!r}: run python -m rmtjax.diversity with --out first")
    return pd.read_csv(path, dtype={"set": str, "class": str})
