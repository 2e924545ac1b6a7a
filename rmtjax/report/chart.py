"""Small charts as SVG text, written without a plotting library: a page may hold hundreds of them.

Colours are names of the page's CSS variables ("after", "null", "k0"). Sizes are in the drawing's own pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rmtjax.report.tables import escape, show

LEFT, RIGHT, TOP, BOTTOM = 40.0, 10.0, 22.0, 30.0  # margins


Number = float | int  # sizes and places are either


class Scale(NamedTuple):
    """An axis: `low` and `high` lie at pixels `start` and `end`, linear or logarithmic."""

    low: Number
    high: Number
    log: bool
    start: Number
    end: Number

    def __call__(self, values: np.ndarray | float) -> np.ndarray:
        """Pixels of values, kept within the axis; a logarithmic axis has what is not positive at its low end."""
        kept = np.clip(np.asarray(values, float), self.low, self.high)
        low, high, kept = (np.log(v) if self.log else v for v in (self.low, self.high, kept))
        return np.asarray(self.start + (kept - low) / (high - low) * (self.end - self.start))


def scales(
    x: tuple[Number, Number],
    y: tuple[Number, Number],
    log: str = "",
    size: tuple[Number, Number] = (320, 190),
) -> tuple[Scale, Scale]:
    """Axes of a chart of that size; `log` names those that are logarithmic, "", "x", "y" or "xy"."""
    (width, height), (low, high), (bottom, top) = size, _apart(*x, "x" in log), _apart(*y, "y" in log)
    return (
        Scale(low, high, "x" in log, LEFT, width - RIGHT),
        Scale(bottom, top, "y" in log, height - BOTTOM, TOP),
    )


def _apart(low: Number, high: Number, log: bool) -> tuple[Number, Number]:
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    return (low / 1.5, low * 1.5) if log else (low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1))


def chart(
    x: Scale, y: Scale, marks: Sequence[str], alt: str, title: str = "", x_label: str = "", x_ticks: bool = True
) -> str:  # fmt: skip
    """The drawing: axes with ticks, then `marks` in their order. `alt`, `title` and `x_label` are plain text."""
    width, height = x.end + RIGHT, y.start + BOTTOM
    grid = "".join(f"M{x.start:.0f},{p:.1f}H{x.end:.0f}" for p in y(np.array(_ticks(y))))
    parts = [
        f'<svg class="chart" role="img" aria-label="{escape(alt)}" viewBox="0 0 {width:.0f} {height:.0f}">'
        f'<path class="grid" d="{grid}"/><path class="axis" d="M{x.start:.0f},{y.start:.0f}H{x.end:.0f}"/>'
    ]
    parts += [
        f'<text x="{x.start - 5:.0f}" y="{float(y(tick)) + 3.5:.1f}" text-anchor="end">{_label(tick)}</text>'
        for tick in _ticks(y)
    ]
    if x_ticks:
        parts += [
            f'<text x="{float(x(tick)):.1f}" y="{y.start + 13:.0f}" text-anchor="middle">{_label(tick)}</text>'
            for tick in _ticks(x)
        ]
    if title:
        parts.append(f'<text class="title" x="2" y="12">{escape(title)}</text>')
    if x_label:
        parts.append(f'<text x="{x.end:.0f}" y="{height - 4:.0f}" text-anchor="end">{escape(x_label)}</text>')
    return "".join([*parts, *marks, "</svg>"])


def line(x: np.ndarray, y: np.ndarray, colour: str, kind: str = "") -> str:
    """A line through pixels; broken where one is NaN. `kind`: "", "dash", "dot" or "thin"."""
    path, pen_down = [], False
    for a, b in zip(np.ravel(x).tolist(), np.ravel(y).tolist(), strict=True):
        if a == a and b == b:
            path.append(f"{'L' if pen_down else 'M'}{a:.1f},{b:.1f}")
        pen_down = a == a and b == b
    return f'<path class="line {kind}" style="stroke:var(--{colour})" d="{"".join(path)}"/>' if path else ""


def band(x: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> str:
    """The area between two lines, in pixels; points with a NaN are passed over."""
    known = np.isfinite(low) & np.isfinite(high)
    if known.sum() < 2:
        return ""
    around = np.stack([np.r_[x[known], x[known][::-1]], np.r_[low[known], high[known][::-1]]], 1)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in around.tolist())
    return f'<polygon class="band" style="fill:var(--{colour})" points="{points}"/>'


def bars(edges: np.ndarray, tops: np.ndarray, base: Number, colour: str) -> str:
    """A histogram as one outline, in pixels: `tops` between `edges`, down to `base`."""
    steps = "".join(f"V{t:.1f}H{e:.1f}" for t, e in zip(tops.tolist(), edges[1:].tolist(), strict=True))
    return (
        f'<path class="bars" style="fill:var(--{colour})" d="M{edges[0]:.1f},{base:.1f}{steps}V{base:.1f}Z"/>'
    )


def ticks(x: np.ndarray, base: Number, colour: str, height: Number = 7) -> str:
    """Short upright marks on the pixel line `base`."""
    path = "".join(f"M{a:.1f},{base:.1f}v-{height:g}" for a in np.ravel(x).tolist())
    return f'<path class="line" style="stroke:var(--{colour})" d="{path}"/>' if path else ""


def upright(x: Scale, y: Scale, value: Number, colour: str, kind: str = "dash") -> str:
    """A line across the chart at that value of x; nothing where it is NaN or outside."""
    if not x.low <= value <= x.high:
        return ""
    at = np.full(2, float(x(value)))
    return line(at, np.array([y.start, y.end]), colour, kind)


def dot(x: Number, y: Number, colour: str, shape: int = 0, hollow: bool = False, radius: Number = 3.2) -> str:
    """A mark at a pixel: circle, square, triangle or diamond by `shape` modulo 4; nothing for NaN."""
    if not (x == x and y == y):
        return ""
    r = radius
    outline = (
        f"M{x - r:.1f},{y:.1f}a{r:g},{r:g} 0 1 0 {2 * r:g},0a{r:g},{r:g} 0 1 0 {-2 * r:g},0",
        f"M{x - 0.9 * r:.1f},{y - 0.9 * r:.1f}h{1.8 * r:.2g}v{1.8 * r:.2g}h{-1.8 * r:.2g}z",
        f"M{x:.1f},{y - 1.2 * r:.1f}l{1.15 * r:.2g},{2 * r:.2g}h{-2.3 * r:.2g}z",
        f"M{x:.1f},{y - 1.3 * r:.1f}l{1.3 * r:.2g},{1.3 * r:.2g}l{-1.3 * r:.2g},{1.3 * r:.2g}l{-1.3 * r:.2g},{-1.3 * r:.2g}z",
    )[shape % 4]
    fill = "paper" if hollow else colour
    return f'<path class="dot" style="fill:var(--{fill});stroke:var(--{colour})" d="{outline}"/>'


def note(x: Scale, y: Scale, text: str, row: int = 0) -> str:
    """Plain text in the upper right corner, `row` lines down."""
    return (
        f'<text class="note" x="{x.end:.0f}" y="{y.end + 10 + 13 * row:.0f}" text-anchor="end">{escape(text)}</text>'
        if text
        else ""
    )


def _ticks(scale: Scale) -> list[float]:
    if not scale.log:
        rough = (scale.high - scale.low) / 4
        unit = 10.0 ** np.floor(np.log10(rough))
        step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough * 0.999)
        first, last = np.ceil(scale.low / step - 1e-9), np.floor(scale.high / step + 1e-9)
        return [float(step * k) for k in np.arange(first, last + 1)]
    decades = np.log10(scale.high / scale.low)
    within = (1, 2, 5) if decades < 1.3 else (1, 3) if decades < 2 else (1,)
    low, high = int(np.floor(np.log10(scale.low))), int(np.ceil(np.log10(scale.high)))
    every = max(1, round(decades / 4))
    found = [m * 10.0**k for k in range(low, high + 1) if k % every == 0 for m in within]
    return [tick for tick in found if scale.low <= tick <= scale.high]


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _label(value: Number) -> str:
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        head = "" if float(mantissa) == 1 else f"{float(mantissa):g}×"
        return f"{head}10{str(int(exponent)).translate(_SUPERSCRIPTS)}".replace("-", "−")
    value += 0.0  # no "−0"
    return show(float(f"{value:.6g}")) if abs(value) >= 1000 else f"{value:.4g}".replace("-", "−")
