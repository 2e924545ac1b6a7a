"""Charts as plain data: axes and marks in the units of the data. `svg` and `png` draw them.

Colours are names from `colours`. NaN is not drawn. On a logarithmic axis values that are not positive lie at
the low end.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from rmtjax.report.numbers import show

Number = float | int
Values = np.ndarray | Sequence[Number]


class Axis(NamedTuple):
    """An axis from `low` to `high`. `ticks` are (place, label) pairs; None chooses about five."""

    low: Number
    high: Number
    log: bool = False
    label: str = ""
    ticks: tuple[tuple[Number, str], ...] | None = None


class Line(NamedTuple):
    """A line through points. `style` is "solid", "thin", "faint", "strong", "dash" or "dot"."""

    x: Values
    y: Values
    colour: str
    style: str = "solid"


class Band(NamedTuple):
    """The area between two lines."""

    x: Values
    low: Values
    high: Values
    colour: str


class Bars(NamedTuple):
    """A histogram as one outline: bars of heights `tops` between `edges`."""

    edges: Values
    tops: Values
    colour: str


class Dots(NamedTuple):
    """Points. `shape` is "circle", "square", "triangle", "diamond", "dash" (level) or "bar" (upright).

    `radius` is in pixels, one for all points or one for each. `tips` are texts that appear under the pointer,
    `links` are anchors in the page.
    """

    x: Values
    y: Values
    colour: str
    shape: str = "circle"
    hollow: bool = False
    radius: Number | Values = 3.2
    tips: Sequence[str] = ()
    links: Sequence[str] = ()


class Spans(NamedTuple):
    """Intervals from `low` to `high` at the places `at`: along y, or along x if `level`."""

    at: Values
    low: Values
    high: Values
    colour: str
    level: bool = False


class Rule(NamedTuple):
    """A line across the whole chart: upright at x = `at`, or level at y = `at`."""

    at: Number
    colour: str
    style: str = "dash"
    level: bool = False


class Rug(NamedTuple):
    """Short marks on the lower axis."""

    x: Values
    colour: str


class Note(NamedTuple):
    """Text in the upper right or the lower left corner, in line `row` from the corner."""

    text: str
    row: int = 0
    colour: str = "ink"
    corner: str = "upper right"


class Cells(NamedTuple):
    """A matrix of numbers between -1 and 1; cell (i, j) is centred at y = i and x = j."""

    values: np.ndarray


Mark = Line | Band | Bars | Dots | Spans | Rule | Rug | Note | Cells


class Chart(NamedTuple):
    """A drawing: axes and marks; later marks cover earlier ones. `alt` describes it in words."""

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    alt: str
    title: str = ""
    size: tuple[int, int] = (320, 190)


class Key(NamedTuple):
    """An entry of a legend: a mark (a shape, or "line") and its meaning."""

    colour: str
    mark: str
    text: str
    hollow: bool = False


def estimates(at: Values, ends: np.ndarray, level: bool = False, joined: bool = False) -> list[Mark]:
    """Means as dots with their intervals, at the places `at`; `ends` [n, 3] is mean, low and high of each.

    Args:
      level: the intervals lie along x.
      joined: a line runs through the means.
    """
    mean, low, high = np.asarray(ends, float).T
    x, y = (mean, at) if level else (at, mean)
    line = [Line(x, y, "after")] if joined else []
    return [Spans(at, low, high, "after", level), *line, Dots(x, y, "after")]


def fitted(
    values: Iterable[Values], log: bool | None = None, label: str = "", floor: Number | None = None
) -> Axis:
    """An axis with a small margin around all finite values.

    Args:
      log: None chooses a logarithmic axis if all values are positive and span a factor of more than 8.
      floor: the low end of the axis; None lets the values decide.
    """
    known = np.concatenate([np.ravel(np.asarray(part, float)) for part in values] or [np.zeros(0)])
    known = known[np.isfinite(known)]
    if log:
        known = known[known > 0]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if log is None:
        log = low > 0 and high > 8 * low
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        low, high = (
            (low / 1.5, low * 1.5) if log else (low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1))
        )
    margin = high**0.06 / low**0.06 if log else 0.06 * (high - low)
    low, high = (low / margin, high * margin) if log else (low - margin, high + margin)
    if log:  # what double precision can hold
        low, high = max(low, 1e-307), min(high, 1e307)
    return Axis(low if floor is None else floor, high, log, label)


def named(names: Sequence[str], label: str = "") -> Axis:
    """An axis of names at the places 0, 1, 2, ... from the top down."""
    return Axis(len(names) - 0.45, -0.55, label=label, ticks=tuple(enumerate(names)))


def ticks(axis: Axis) -> list[tuple[Number, str]]:
    """Places and labels of an axis, about five."""
    if axis.ticks is not None:
        return list(axis.ticks)
    return [(place, _label(place)) for place in (_log_places(axis) if axis.log else _places(axis))]


def _places(axis: Axis) -> list[float]:
    rough = (axis.high - axis.low) / 4
    unit = 10.0 ** np.floor(np.log10(rough))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough * 0.999)
    first, last = np.ceil(axis.low / step - 1e-9), np.floor(axis.high / step + 1e-9)
    return [float(step * k) for k in np.arange(first, last + 1)]


def _log_places(axis: Axis) -> list[float]:
    decades = np.log10(axis.high) - np.log10(axis.low)
    within = (1, 2, 5) if decades < 1.3 else (1, 3) if decades < 2 else (1,)
    low, high = int(np.floor(np.log10(axis.low))), int(np.ceil(np.log10(axis.high)))
    every = max(1, round(decades / 4))
    found = [m * 10.0**k for k in range(low, high + 1) if k % every == 0 for m in within]
    return [place for place in found if axis.low <= place <= axis.high]


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _label(value: Number) -> str:
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        head = "" if float(mantissa) == 1 else f"{float(mantissa):g}×"
        return f"{head}10{str(int(exponent)).translate(_SUPERSCRIPTS)}".replace("-", "−")
    value += 0.0  # no "−0"
    return show(float(f"{value:.6g}")) if abs(value) >= 1000 else f"{value:.4g}".replace("-", "−")


def pixels(chart: Chart) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of the area inside the axes, in pixels from the upper left corner."""
    longest = max((len(text) for _, text in ticks(chart.y)), default=0)
    left = max(40.0, 8 + 6.0 * longest) if chart.y.ticks is not None else 40.0
    below = 30.0 if chart.x.label or ticks(chart.x) else 12.0
    if turned(chart):
        below = 22 + 3.4 * max(len(text) for _, text in ticks(chart.x))
    return left, chart.size[0] - 10.0, 22.0 if chart.title else 8.0, chart.size[1] - below


def turned(chart: Chart) -> bool:
    """Whether the named labels below the chart are turned, because two of them would touch side by side."""
    if chart.x.ticks is None:
        return False
    by_place = sorted(chart.x.ticks)
    room = (chart.size[0] - 50) / abs(chart.x.high - chart.x.low)
    return any(
        3.0 * (len(one) + len(other) + 2) > room * (right - left)
        for (left, one), (right, other) in itertools.pairwise(by_place)
    )


def scale(axis: Axis, start: Number, end: Number, values: Values | Number) -> np.ndarray:
    """Values as pixels between `start` and `end`, clipped to the axis; NaN stays NaN."""
    bounds = sorted((axis.low, axis.high))
    low, high, kept = axis.low, axis.high, np.clip(np.asarray(values, float), *bounds)
    if axis.log:
        low, high, kept = np.log(low), np.log(high), np.log(kept)
    return np.asarray(start + (kept - low) / (high - low) * (end - start))
