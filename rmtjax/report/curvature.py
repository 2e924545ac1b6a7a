"""Curvature of the training loss: trace and outermost eigenvalues by step, and the last density."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import scipy.special

from rmtjax.report.chart import Band, Chart, Dots, Key, Line, Mark, fitted
from rmtjax.report.pages import Cell, Table, number_cell, text_cell

_COLOURS = {"hessian": "before", "gauss_newton": "after"}
_TITLES = {"hessian": "Hessian", "gauss_newton": "Gauss-Newton matrix"}
KEYS = tuple(Key(_COLOURS[name], "line", title) for name, title in _TITLES.items())
_LEAST_DENSITY = 1e-5  # of the highest: below it there is no eigenvalue to be seen


def by_step(metrics: pd.DataFrame, probes: int) -> list[Chart]:
    """Traces with their 95 % intervals, and the outermost eigenvalues, by step; none where none was observed.

    Args:
      probes: that a trace is the mean of.
    """
    names = [name for name in _TITLES if f"curvature/{name}_trace" in metrics]
    observed = metrics.dropna(subset=[f"curvature/{name}_trace" for name in names])
    if not names or observed.empty:
        return []
    step = observed["step"].to_numpy(float)

    quantile = scipy.special.stdtrit(probes - 1, 0.975)

    def column(name: str, key: str) -> np.ndarray:
        return observed[f"curvature/{name}_{key}"].to_numpy(float)

    def chart(title: str, marks: list[Mark], values: list[np.ndarray]) -> Chart:
        x, y = fitted([step], log=False, label="step"), fitted(values, log=False)
        return Chart(x, y, tuple(marks), f"{title} by step", title, (360, 220))

    traces: list[Mark] = []
    ends: list[Mark] = []
    for name in names:
        colour, trace, half = _COLOURS[name], column(name, "trace"), quantile * column(name, "trace_error")
        traces += [Band(step, trace - half, trace + half, colour), *_points(step, trace, colour)]
        ends += [mark for key in ("largest", "smallest") for mark in _points(step, column(name, key), colour)]
    edges = [
        column(name, "trace") + sign * quantile * column(name, "trace_error")
        for name in names
        for sign in (-1, 1)
    ]
    outermost = [column(name, key) for name in names for key in ("largest", "smallest")]
    return [chart("trace", traces, edges), chart("largest and smallest eigenvalue", ends, outermost)]


def _points(step: np.ndarray, values: np.ndarray, colour: str) -> list[Mark]:
    return [Line(step, values, colour), Dots(step, values, colour, radius=2.2)]


def densities(arrays: Mapping[str, np.ndarray], step: int) -> list[Chart]:
    """The density of each matrix at a step, with its band."""
    charts = []
    for name, title in _TITLES.items():
        if f"{name}/density" not in arrays:
            continue
        x, density, low, high = (arrays[f"{name}/{key}"] for key in ("grid", "density", "low", "high"))
        least = _LEAST_DENSITY * density.max()
        y = fitted([[least], high], log=True, floor=least)
        marks = (Band(x, low, high, _COLOURS[name]), Line(x, density, _COLOURS[name]))
        heading = f"density of the {title}"
        across = fitted([x], log=False, label="eigenvalue")
        charts.append(Chart(across, y, marks, f"{heading} at step {step}", heading, (360, 220)))
    return charts


def largest(arrays: Mapping[str, np.ndarray], step: int) -> Table:
    """The largest eigenvalues of both matrices at a step, each with the bound on its error."""
    names = [name for name in _TITLES if f"{name}/largest" in arrays]
    columns = [(arrays[f"{name}/largest"], arrays[f"{name}/largest_error"]) for name in names]
    lines: list[list[Cell]] = []
    for place in range(max(len(values) for values, _ in columns)):
        cells = [number_cell(part[place]) for pair in columns for part in pair]
        lines.append([text_cell(str(place + 1)), *cells])
    heads = ["", *(head for name in names for head in (_TITLES[name], "error at most"))]
    return Table(f"Largest eigenvalues at step {step}", heads, lines)
