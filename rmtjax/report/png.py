"""Draws charts as PNG files, from the same data as the pages.

Only this module and `images` use matplotlib, which is imported when a figure is drawn.
"""

import contextlib
import io
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rmtjax import results
from rmtjax.report import chart as charts
from rmtjax.report.chart import Band, Bars, Cells, Chart, Dots, Key, Line, Note, Number, Rug, Rule, Spans
from rmtjax.report.colours import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_INCH = 100  # pixels of a chart
_POINT = 72 / _INCH  # points in one pixel
_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7.5,
    "text.color": LIGHT["ink"],
    "text.parse_math": False,  # names of layers and classes may hold dollar signs
    "figure.facecolor": LIGHT["paper"],
    "savefig.facecolor": LIGHT["paper"],
}
_SHAPES = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "dash": "_", "bar": "|"}
_LINES: dict[str, dict[str, Any]] = {
    "solid": {"linewidth": 1.0},
    "thin": {"linewidth": 0.7, "alpha": 0.75},
    "faint": {"linewidth": 0.7, "alpha": 0.4},
    "strong": {"linewidth": 1.5},
    "dash": {"linewidth": 1.0, "linestyle": (0, (4, 3))},
    "dot": {"linewidth": 1.0, "linestyle": (0, (1, 2))},
}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """A context in which matplotlib has the style of this package; afterwards its settings are restored."""
    import matplotlib as mpl

    with (
        mpl.rc_context({**mpl.rcParamsDefault, "backend": mpl.rcParams["backend"], **_SETTINGS}),
        warnings.catch_warnings(),
    ):
        # The font may lack the script of a class's name: a box in the picture is notice enough.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def figure(width: Number, height: Number, dpi: int = 200) -> "Figure":
    """An empty figure of that size in inches, unknown to pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(made)
    return made


def write(drawn: "Figure", path: pathlib.Path) -> pathlib.Path:
    """Writes the figure as a PNG; the file is whole or absent."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", metadata={"Software": None})
    return results.write(path, buffer.getvalue())


def save(
    path: pathlib.Path, shown: Sequence[Chart], columns: int = 3, keys: Sequence[Key] = (), note: str = ""
) -> pathlib.Path:
    """Writes charts as one PNG, `columns` of them side by side, with a legend and a note below."""
    rows = [shown[k : k + columns] for k in range(0, len(shown), columns)]
    widths = [max(row[k].size[0] for row in rows if k < len(row)) for k in range(len(rows[0]))]
    heights = [max(one.size[1] for one in row) for row in rows]
    width = sum(widths)
    lines = -(-sum(40 + 6 * len(entry.text) for entry in keys) // width)  # lines of the legend
    height = sum(heights) + 20 * lines + 18 * bool(note)
    with drawing():
        drawn = figure(width / _INCH, height / _INCH)
        top = 0
        for row, tall in zip(rows, heights, strict=True):
            left = 0
            for one, wide in zip(row, widths, strict=False):
                _draw(drawn, one, left, top, width, height)
                left += wide
            top += tall
        if keys:
            place = (0.995, (18 * bool(note)) / height)
            drawn.legend(
                [_handle(entry) for entry in keys],
                [entry.text for entry in keys],
                loc="lower right",
                bbox_to_anchor=place,
                ncols=-(-len(keys) // lines),
                frameon=False,
                borderaxespad=0.2,
            )
        if note:
            drawn.text(0.99, 5 / height, note, ha="right", va="bottom", color=LIGHT["muted"])
        return write(drawn, path)


def _handle(entry: Key) -> "Line2D":
    from matplotlib.lines import Line2D

    marker = _SHAPES.get(entry.mark, "none")
    face = LIGHT["paper" if entry.hollow else entry.colour]
    style = "-" if entry.mark == "line" else "none"
    look = {"color": LIGHT[entry.colour], "markerfacecolor": face, "markersize": 5}
    return Line2D([], [], linestyle=style, marker=marker, **look)


def _draw(drawn: "Figure", chart: Chart, left: Number, top: Number, width: Number, height: Number) -> None:
    """Draws one chart at its place in a figure of that size, all in pixels."""
    a, b, c, d = charts.pixels(chart)
    axes = drawn.add_axes(((left + a) / width, 1 - (top + d) / height, (b - a) / width, (d - c) / height))
    _axes(axes, chart)
    for mark in chart.marks:
        _DRAWN[type(mark)](axes, chart, mark)
    axes.set_xlim(chart.x.low, chart.x.high)
    axes.set_ylim(chart.y.low, chart.y.high)


def _axes(axes: "Axes", chart: Chart) -> None:
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LIGHT["null"])
    axes.grid(axis="y", color=LIGHT["rule"], linewidth=0.6)
    axes.set_axisbelow(True)
    for axis, one in ((axes.xaxis, chart.x), (axes.yaxis, chart.y)):
        if one.log:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
        places = charts.ticks(one)
        turned = axis is axes.xaxis and charts.turned(chart)
        turn = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if turned else {}
        axis.set_ticks([place for place, _ in places], [text for _, text in places], **turn)
        axis.set_ticks([], minor=True)
    axes.tick_params(length=0, pad=3, labelcolor=LIGHT["muted"])
    if chart.title:
        axes.set_title(
            chart.title, loc="left", fontsize=8.5, pad=4, x=-(charts.pixels(chart)[0] - 2) / _wide(chart)
        )
    if chart.x.label:
        axes.set_xlabel(chart.x.label, loc="right", color=LIGHT["muted"], labelpad=1)


def _wide(chart: Chart) -> float:
    left, right, _, _ = charts.pixels(chart)
    return right - left


def _line(axes: "Axes", chart: Chart, mark: Line) -> None:
    axes.plot(mark.x, mark.y, color=LIGHT[mark.colour], **_LINES[mark.style])


def _band(axes: "Axes", chart: Chart, mark: Band) -> None:
    axes.fill_between(mark.x, mark.low, mark.high, color=LIGHT[mark.colour], alpha=0.18, linewidth=0)


def _bars(axes: "Axes", chart: Chart, mark: Bars) -> None:
    axes.stairs(mark.tops, mark.edges, baseline=chart.y.low, color=LIGHT[mark.colour], alpha=0.45, fill=True)


def _dots(axes: "Axes", chart: Chart, mark: Dots) -> None:
    sizes = (2 * np.asarray(mark.radius, float) * _POINT) ** 2
    thin = mark.shape in ("dash", "bar")
    face = {} if thin else {"facecolors": LIGHT["paper"] if mark.hollow else LIGHT[mark.colour]}
    edge = {"color": LIGHT[mark.colour]} if thin else {"edgecolors": LIGHT[mark.colour]}
    shape = _SHAPES[mark.shape]
    axes.scatter(mark.x, mark.y, s=sizes, marker=shape, linewidths=0.9, zorder=3, **face, **edge)


def _spans(axes: "Axes", chart: Chart, mark: Spans) -> None:
    draw = axes.hlines if mark.level else axes.vlines
    draw(mark.at, mark.low, mark.high, color=LIGHT[mark.colour], linewidth=1.3)


def _rule(axes: "Axes", chart: Chart, mark: Rule) -> None:
    if np.isfinite(mark.at):
        draw = axes.axhline if mark.level else axes.axvline
        draw(mark.at, color=LIGHT[mark.colour], **_LINES[mark.style])


def _rug(axes: "Axes", chart: Chart, mark: Rug) -> None:
    where = axes.get_xaxis_transform()
    axes.vlines(mark.x, 0, 0.07, color=LIGHT[mark.colour], linewidth=0.8, transform=where)


def _note(axes: "Axes", chart: Chart, mark: Note) -> None:
    _, _, top, bottom = charts.pixels(chart)
    step = 13 * mark.row / (bottom - top)
    upper = mark.corner == "upper right"
    place = (1.0, 1 - step) if upper else (0.02, 0.03 + step)
    sides = {"ha": "right", "va": "top"} if upper else {"ha": "left", "va": "bottom"}
    paper = {"facecolor": LIGHT["paper"], "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
    axes.text(*place, mark.text, transform=axes.transAxes, color=LIGHT[mark.colour], bbox=paper, **sides)


def _cells(axes: "Axes", chart: Chart, mark: Cells) -> None:
    for (i, j), value in np.ndenumerate(mark.values):
        if np.isfinite(value):
            colour = LIGHT["after" if value > 0 else "before"]
            axes.fill_between(
                [j - 0.5, j + 0.5],
                i - 0.5,
                i + 0.5,
                color=colour,
                alpha=min(abs(value), 1) * 0.6,
                linewidth=0,
            )
            axes.text(j, i, f"{value:.2f}", ha="center", va="center")


_DRAWN: dict[type, Callable[["Axes", Chart, Any], None]] = {
    Line: _line,
    Band: _band,
    Bars: _bars,
    Dots: _dots,
    Spans: _spans,
    Rule: _rule,
    Rug: _rug,
    Note: _note,
    Cells: _cells,
}
