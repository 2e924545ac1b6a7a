"""Figures of an analysis: one matrix, and one metric over depth. matplotlib is imported when one is drawn."""

import difflib
import functools
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rmtjax.errors import InputError
from rmtjax.spectra import curves, metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def matrix(table: pd.DataFrame, eigenvalues: Mapping[str, np.ndarray], name: str) -> "Figure":
    """Spectrum of one matrix, a row a stage: bulk with the law of noise and spikes, and tail with its fit.

    Args:
      table, eigenvalues: of an `Analysis`.
      name: of the matrix, or a part that no other name has.

    Raises:
      InputError: there is no such matrix, or several.
    """
    chosen = _rows(table, name)
    keys = [
        f"{row['stage']}/{row['name']}" if "stage" in chosen else row["name"] for _, row in chosen.iterrows()
    ]
    drawn = curves.curves(chosen, {key: eigenvalues[key] for key in keys})
    figure = _figure()(figsize=(9, 3 * len(keys)), layout="constrained")
    axes = figure.subplots(len(keys), 2, squeeze=False)
    for (bulk, tail), key, (_, row) in zip(axes, keys, chosen.iterrows(), strict=True):
        of_matrix = {
            part.removeprefix(f"{key}/"): x for part, x in drawn.items() if part.startswith(f"{key}/")
        }
        if not of_matrix:
            bulk.set_title(f"{key}\nno eigenvalue is finite and above 0")
            continue
        _draw_bulk(bulk, of_matrix, row, key)
        _draw_tail(tail, of_matrix, row)
    return figure


def depth(table: pd.DataFrame, metric: str) -> "Figure":
    """A metric of every matrix in the order of the table, by kind of layer; with bars for what noise shows.

    Args:
      table: of an `Analysis`.
      metric: a column of numbers. The bars are `<metric>_null_low` to `<metric>_null_high`, or a mark at
        `<metric>_null`, where the table has them.

    Raises:
      InputError: the table has no such column of numbers.
    """
    numbers = [str(column) for column in table.select_dtypes("number")]
    if metric not in numbers:
        raise InputError(f"{metric!r} is no column of numbers in the table: {_nearest(metric, numbers)}")
    stages = list(table["stage"].unique()) if "stage" in table else [""]
    figure = _figure()(figsize=(9, 3 * len(stages)), layout="constrained")
    for axis, stage in zip(figure.subplots(len(stages), 1, squeeze=False)[:, 0], stages, strict=True):
        part = table[table["stage"] == stage] if stage else table
        _draw_depth(axis, part.reset_index(drop=True), metric)
        axis.set(title=stage, ylabel=metrics.title(metric), xlabel="matrix, in the order of the table")
    return figure


@functools.cache
def _figure() -> "type[Figure]":
    """A figure that a notebook shows by itself, without pyplot, which would choose a backend for the user."""
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            out = io.BytesIO()
            self.savefig(out, format="png", dpi=110)
            return out.getvalue()

    return Shown


def _rows(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of the one matrix whose name is, or has, this."""
    names = [str(one) for one in table["name"].unique()]
    found = [name] if name in names else [one for one in names if name in one]
    if len(found) != 1:
        few = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        hint = f"it is in the names of {few}: give more of one" if found else _nearest(name, names)
        raise InputError(f"{name!r} does not tell a matrix: {hint}")
    return table[table["name"] == found[0]]


def _nearest(word: str, words: list[str]) -> str:
    near = difflib.get_close_matches(word, words, 3, 0.4) or words[:3]
    return f"the nearest are {', '.join(near)}" if near else "there is none at all"


def _draw_bulk(axis: "Axes", drawn: dict[str, np.ndarray], row: pd.Series, title: str) -> None:
    edges, density = drawn["density"]
    axis.stairs(density[:-1], edges, fill=True, color="0.82")
    if "law" in drawn:
        axis.plot(*drawn["law"], color="C0", label="law of noise")
    high, spikes = edges[-1], drawn.get("spikes", np.zeros(0))
    axis.plot(spikes[spikes <= high], np.zeros((spikes <= high).sum()), "|", color="C3", markersize=14)
    beyond = int((spikes > high).sum())
    if "num_spikes" in row and np.isfinite(row["num_spikes"]):
        title += f"\nspikes: {row['num_spikes']:.0f}" + (f", {beyond} beyond the axis" if beyond else "")
    axis.set(title=title, xlabel="eigenvalue of W$^T$W", ylabel="density", xlim=(0, high))
    if "law" in drawn:
        axis.legend(frameon=False)


def _draw_tail(axis: "Axes", drawn: dict[str, np.ndarray], row: pd.Series) -> None:
    axis.loglog(*drawn["survival"], ".", color="0.4", markersize=3)
    title = ""
    if "fit" in drawn:
        x, _, share = drawn["fit"]
        axis.loglog(x, share, color="C3")
        title = f"alpha {row['alpha']:.2f}"
        if np.isfinite(row.get("alpha_null", np.nan)):
            title += f" (noise {row['alpha_null']:.2f})"
    from matplotlib.ticker import NullFormatter

    # Labels of minor ticks overlap where the axis has less than a decade.
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set(title=title, xlabel="eigenvalue of W$^T$W", ylabel="share at or above")


def _draw_depth(axis: "Axes", part: pd.DataFrame, metric: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    null, low, high = (f"{metric}_null{end}" for end in ("", "_low", "_high"))
    if low in part and high in part:
        axis.vlines(part.index, part[low], part[high], color="0.75", linewidth=4, label="noise, 90 %")
    elif null in part:
        axis.plot(part.index, part[null], "_", color="0.6", markersize=9, label="noise")
    for kind, of_kind in part.groupby("kind", sort=False):
        axis.plot(of_kind.index, of_kind[metric], "o", markersize=4, label=str(kind))
    axis.legend(fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
