"""One look for every figure: colours, sizes, and how a figure becomes a PNG or a part of a page.

Figures are drawn once, in the light colours. A PNG has them as they are; in a page each colour becomes a CSS
variable, so that the same drawing follows the reader's light or dark scheme, and prints dark on white.
"""

import contextlib
import html
import io
import pathlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from rmtjax import results

LIGHT = {
    "ink": "#1d2430", "muted": "#5d6878", "rule": "#dfe3e9", "paper": "#fefefe",
    "before": "#3a6ea8", "after": "#c24e22", "update": "#1f7f68", "null": "#8d97a6", "second": "#80519b",
}  # fmt: skip
DARK = {
    "ink": "#e4e7ec", "muted": "#9aa5b5", "rule": "#303845", "paper": "#151a21",
    "before": "#82aee6", "after": "#f18a5d", "update": "#5cc4a4", "null": "#77818f", "second": "#c094dc",
}  # fmt: skip

# Only in a page: the line of a fit, and colours of kinds of layer (k0 to k7).
PAGE_LIGHT = {
    "fit": "#b3261e", "k0": "#3a6ea8", "k1": "#c24e22", "k2": "#1f7f68", "k3": "#80519b",
    "k4": "#9a7400", "k5": "#b5366f", "k6": "#4b7a1e", "k7": "#5d6878",
}  # fmt: skip
PAGE_DARK = {
    "fit": "#ff8a80", "k0": "#82aee6", "k1": "#f18a5d", "k2": "#5cc4a4", "k3": "#c094dc",
    "k4": "#dcb650", "k5": "#ee86b4", "k6": "#a0cc6c", "k7": "#9aa5b5",
}  # fmt: skip

WIDTH = 11.1  # inches, of a figure as wide as the page

_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "text.color": LIGHT["ink"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.titlelocation": "left",
    "axes.edgecolor": LIGHT["null"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.color": LIGHT["null"],
    "ytick.color": LIGHT["null"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "axes.unicode_minus": True,
    "text.parse_math": False,  # a name of somebody's layer or class may hold a dollar sign
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's own font
    "svg.hashsalt": "rmtjax",  # the same data give the same bytes
    "figure.facecolor": LIGHT["paper"],
    "savefig.facecolor": LIGHT["paper"],
}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Within it figures are drawn and saved in this style; matplotlib's own settings come back afterwards."""
    with (
        mpl.rc_context({**mpl.rcParamsDefault, "backend": mpl.rcParams["backend"], **_RC}),
        warnings.catch_warnings(),
    ):
        # A class may be named in a script that the font lacks: a box in the picture is enough of a notice.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def figure(width: float, height: float, dpi: int = 160) -> Figure:
    """An empty figure of that size in inches, apart from pyplot's."""
    made = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(made)
    return made


def save_png(drawn: Figure, path: pathlib.Path) -> pathlib.Path:
    """Writes the figure as a PNG, whole or not at all."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", metadata={"Software": None})
    return results.write(path, buffer.getvalue())


def to_svg(drawn: Figure, alt: str, prefix: str) -> str:
    """The figure as an inline SVG whose colours are CSS variables.

    Args:
      alt: what the picture shows, for those who do not see it.
      prefix: makes the ids inside unique in a page.
    """
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r' id="(?:figure|axes|patch|line2d|text|xtick|ytick|matplotlib|legend|LineCollection|'
                  r'FillBetweenPolyCollection|PathCollection|PolyCollection)[.\w]*"', "", text)  # fmt: skip
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)
    for name, colour in LIGHT.items():
        text = text.replace(colour, f"var(--{name})")
    text = re.sub(r"\n\s*", "\n", text)
    label = f'<svg role="img" aria-label="{html.escape(alt, quote=True)}"'
    return text.replace("<svg", label, 1).strip()


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _power(value: float, _position: Any = None) -> str:
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    if -4 < int(exponent) < 4:
        return f"{value:g}"
    return ("" if mantissa == "1" else f"{mantissa}×") + "10" + str(int(exponent)).translate(_SUPERSCRIPTS)


def log_axis(axes: Axes, which: str, ticks: int = 5) -> None:
    """A logarithmic axis ("x" or "y") with few labels and no mathematical type, which a page would lay out badly."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axes.get_xlim() if which == "x" else axes.get_ylim())
    decades = np.log10(high / low) if low > 0 else ticks
    subs = (1, 2, 5) if decades < 1.25 else (1, 3) if decades < 2 else (1,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=ticks + 2))
    axis.set_major_formatter(FuncFormatter(_power))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def handle(marker: str, colour: str, hollow: bool = False, line: str = "none") -> Line2D:
    """An entry of a legend."""
    face = LIGHT["paper"] if hollow else LIGHT[colour]
    edge = 1.4 if hollow or marker in "|_" else 1.0
    return Line2D([], [], color=LIGHT[colour], marker=marker, markerfacecolor=face, markersize=9 if marker in "|_" else 5.5,
                  linestyle=line, markeredgewidth=edge)  # fmt: skip
