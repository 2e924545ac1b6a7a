"""Draws charts as SVG for a page. Colours are CSS variables of the page, so that its dark mode applies."""

from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from rmtjax.report import chart as charts
from rmtjax.report.chart import (
    Band,
    Bars,
    Cells,
    Chart,
    Dots,
    Key,
    Line,
    Note,
    Number,
    Rug,
    Rule,
    Spans,
    Values,
)

Scale = Callable[[Values | Number], np.ndarray]


class _Area:
    """Converts the values of a chart to pixels."""

    def __init__(self, chart: Chart):
        self.left, self.right, self.top, self.bottom = charts.pixels(chart)
        self.chart = chart

    def x(self, values: Values | Number) -> np.ndarray:
        return charts.scale(self.chart.x, self.left, self.right, values)

    def y(self, values: Values | Number) -> np.ndarray:
        return charts.scale(self.chart.y, self.bottom, self.top, values)


def draw(chart: Chart) -> Markup:
    """The chart as an SVG element."""
    area = _Area(chart)
    width, height = chart.size
    inside = "".join([*_axes(area), *(_DRAWN[type(mark)](area, mark) for mark in chart.marks)])
    # Of an image a screen reader tells no links.
    role = "group" if "<a " in inside else "img"
    return Markup(
        f'<svg class="chart" role="{role}" aria-label="{escape(chart.alt)}" viewBox="0 0 {width} {height}" '
        f'style="max-width:{1.6 * width:.0f}px">{inside}</svg>'
    )


def key(entry: Key) -> Markup:
    """The mark of an entry of a legend."""
    if entry.mark == "line":
        inside = f'<path class="line strong" style="stroke:var(--{entry.colour})" d="M0,6H12"/>'
    else:
        inside = _dot(6.0, 6.0, entry.colour, entry.mark, entry.hollow, 4.0)
    return Markup(f'<svg class="key" viewBox="0 0 12 12" aria-hidden="true">{inside}</svg>')


def _axes(area: _Area) -> list[str]:
    chart, height = area.chart, area.chart.size[1]
    below, beside = charts.ticks(chart.x), charts.ticks(chart.y)
    grid = "".join(f"M{area.left:.0f},{float(area.y(place)):.1f}H{area.right:.0f}" for place, _ in beside)
    parts = [
        f'<path class="grid" d="{grid}"/>' if grid else "",
        f'<path class="axis" d="M{area.left:.0f},{area.bottom:.0f}H{area.right:.0f}"/>',
    ]
    for place, text in beside:
        at = f'x="{area.left - 5:.0f}" y="{float(area.y(place)) + 3.5:.1f}"'
        parts.append(f'<text {at} text-anchor="end">{escape(text)}</text>')
    for place, text in below:
        x, y = float(area.x(place)), area.bottom + 13
        at = f'x="{x:.1f}" y="{y:.0f}" text-anchor="middle"'
        if charts.turned(chart):
            at = f'x="{x:.1f}" y="{y:.0f}" text-anchor="end" transform="rotate(-30 {x:.1f} {y:.0f})"'
        parts.append(f"<text {at}>{escape(text)}</text>")
    if chart.title:
        parts.append(f'<text class="title" x="2" y="12">{escape(chart.title)}</text>')
    if chart.x.label:
        at = f'x="{area.right:.0f}" y="{height - 4:.0f}"'
        parts.append(f'<text {at} text-anchor="end">{escape(chart.x.label)}</text>')
    return parts


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """A path through points in pixels, interrupted at NaN."""
    path, pen_down = [], False
    for a, b in zip(np.ravel(x).tolist(), np.ravel(y).tolist(), strict=True):
        known = a == a and b == b
        if known:
            path.append(f"{'L' if pen_down else 'M'}{a:.1f},{b:.1f}")
        pen_down = known
    return "".join(path)


def _stroke(path: str, colour: str, style: str = "solid") -> str:
    return f'<path class="line {style}" style="stroke:var(--{colour})" d="{path}"/>' if path else ""


def _line(area: _Area, mark: Line) -> str:
    return _stroke(_path(area.x(mark.x), area.y(mark.y)), mark.colour, mark.style)


def _band(area: _Area, mark: Band) -> str:
    x, low, high = area.x(mark.x), area.y(mark.low), area.y(mark.high)
    known = np.isfinite(low) & np.isfinite(high)
    if known.sum() < 2:
        return ""
    around = np.stack([np.r_[x[known], x[known][::-1]], np.r_[low[known], high[known][::-1]]], 1)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in around.tolist())
    return f'<polygon class="band" style="fill:var(--{mark.colour})" points="{points}"/>'


def _bars(area: _Area, mark: Bars) -> str:
    edges, tops = area.x(mark.edges).tolist(), area.y(mark.tops).tolist()
    steps = "".join(f"V{top:.1f}H{edge:.1f}" for top, edge in zip(tops, edges[1:], strict=True))
    path = f"M{edges[0]:.1f},{area.bottom:.1f}{steps}V{area.bottom:.1f}Z"
    return f'<path class="bars" style="fill:var(--{mark.colour})" d="{path}"/>'


def _dots(area: _Area, mark: Dots) -> str:
    x, y = area.x(mark.x).tolist(), area.y(mark.y).tolist()
    radii = np.broadcast_to(np.asarray(mark.radius, float), (len(x),)).tolist()
    parts = []
    for k, (a, b, radius) in enumerate(zip(x, y, radii, strict=True)):
        drawn = _dot(a, b, mark.colour, mark.shape, mark.hollow, radius)
        if drawn and mark.tips:
            goal = f' href="#{escape(mark.links[k])}"' if mark.links and mark.links[k] else ""
            drawn = f"<a{goal}><title>{escape(mark.tips[k])}</title>{drawn}</a>"
        parts.append(drawn)
    return "".join(parts)


def _dot(x: Number, y: Number, colour: str, shape: str, hollow: bool, r: Number) -> str:
    if not (x == x and y == y):
        return ""
    if shape in ("dash", "bar"):
        path = f"M{x - r:.1f},{y:.1f}h{2 * r:g}" if shape == "dash" else f"M{x:.1f},{y - r:.1f}v{2 * r:g}"
        return _stroke(path, colour)
    outline = {
        "circle": f"M{x - r:.1f},{y:.1f}a{r:.3g},{r:.3g} 0 1 0 {2 * r:.3g},0"
        f"a{r:.3g},{r:.3g} 0 1 0 {-2 * r:.3g},0",
        "square": f"M{x - 0.9 * r:.1f},{y - 0.9 * r:.1f}h{1.8 * r:.3g}v{1.8 * r:.3g}h{-1.8 * r:.3g}z",
        "triangle": f"M{x:.1f},{y - 1.2 * r:.1f}l{1.15 * r:.3g},{2 * r:.3g}h{-2.3 * r:.3g}z",
        "diamond": f"M{x:.1f},{y - 1.3 * r:.1f}l{1.3 * r:.3g},{1.3 * r:.3g}l{-1.3 * r:.3g},{1.3 * r:.3g}"
        f"l{-1.3 * r:.3g},{-1.3 * r:.3g}z",
    }[shape]
    fill = "paper" if hollow else colour
    return f'<path class="mark" style="fill:var(--{fill});stroke:var(--{colour})" d="{outline}"/>'


def _spans(area: _Area, mark: Spans) -> str:
    along, across = (area.x, area.y) if mark.level else (area.y, area.x)
    ends = zip(
        *(f(v).tolist() for f, v in ((across, mark.at), (along, mark.low), (along, mark.high))), strict=True
    )
    known = [(a, low, high) for a, low, high in ends if a == a and low == low and high == high]
    if mark.level:
        path = "".join(f"M{low:.1f},{a:.1f}H{high:.1f}" for a, low, high in known)
    else:
        path = "".join(f"M{a:.1f},{low:.1f}V{high:.1f}" for a, low, high in known)
    return _stroke(path, mark.colour)


def _rule(area: _Area, mark: Rule) -> str:
    axis = area.chart.y if mark.level else area.chart.x
    if not min(axis.low, axis.high) <= mark.at <= max(axis.low, axis.high):
        return ""
    if mark.level:
        path = f"M{area.left:.1f},{float(area.y(mark.at)):.1f}H{area.right:.1f}"
    else:
        path = f"M{float(area.x(mark.at)):.1f},{area.bottom:.1f}V{area.top:.1f}"
    return _stroke(path, mark.colour, mark.style)


def _rug(area: _Area, mark: Rug) -> str:
    return _stroke("".join(f"M{a:.1f},{area.bottom:.1f}v-10" for a in area.x(mark.x).tolist()), mark.colour)


def _note(area: _Area, mark: Note) -> str:
    if not mark.text:
        return ""
    if mark.corner == "upper right":
        at = f'x="{area.right:.0f}" y="{area.top + 10 + 13 * mark.row:.0f}" text-anchor="end"'
    else:
        at = f'x="{area.left + 4:.0f}" y="{area.bottom - 6 - 13 * mark.row:.0f}"'
    return f'<text class="note" style="fill:var(--{mark.colour})" {at}>{escape(mark.text)}</text>'


def _cells(area: _Area, mark: Cells) -> str:
    parts = []
    for (i, j), value in np.ndenumerate(mark.values):
        if not np.isfinite(value):
            continue
        left, right = area.x([j - 0.5, j + 0.5]).tolist()
        top, bottom = sorted(area.y([i - 0.5, i + 0.5]).tolist())
        colour = "after" if value > 0 else "before"
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" '
            f'style="fill:var(--{colour});opacity:{min(abs(value), 1) * 0.6:.2f}"/>'
            f'<text class="note" x="{(left + right) / 2:.1f}" y="{(top + bottom) / 2 + 3.5:.1f}" '
            f'text-anchor="middle">{value:.2f}</text>'
        )
    return "".join(parts)


_DRAWN: dict[type, Callable[[_Area, Any], str]] = {
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
