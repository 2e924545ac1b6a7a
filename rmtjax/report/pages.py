"""Pages: sections of plain data, which one template makes into one HTML file that needs nothing else.

All text is plain and escaped by the template. The data here say what a page holds, `assets` how it looks,
`templates` how it is written.
"""

import base64
import functools
import importlib.resources
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from rmtjax.report import svg
from rmtjax.report.chart import Chart, Key
from rmtjax.report.colours import DARK, LIGHT
from rmtjax.report.numbers import fraction, interval, show


class Cell(NamedTuple):
    """A cell of a table: text, what it sorts by, a standard error, lines below, a goal in the page."""

    text: str
    key: float | int | str
    error: str = ""
    below: str = ""
    null: str = ""
    link: str = ""


class Text(NamedTuple):
    """A paragraph that begins with `strong`, a list of `items` below it; `look` is a class of the CSS."""

    text: str
    look: str = "note"
    items: Sequence[str] = ()
    strong: str = ""
    kind: str = "text"


class Heading(NamedTuple):
    """A heading within a section."""

    text: str
    kind: str = "heading"


class Table(NamedTuple):
    """A table that sorts by a click on a head. `left`: how many first columns are set to the left.

    `about`: a sentence for each head, shown to a reader who points at it.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left: int = 1
    about: Sequence[str] = ()
    kind: str = "table"


class Pairs(NamedTuple):
    """Names and values, one below the other."""

    items: Sequence[tuple[str, str]]
    kind: str = "pairs"


class Cards(NamedTuple):
    """The main numbers: title, value, lines below."""

    items: Sequence[tuple[str, str, str]]
    kind: str = "cards"


class Legend(NamedTuple):
    """Marks and what they stand for."""

    keys: Sequence[Key]
    kind: str = "legend"


class Charts(NamedTuple):
    """Charts side by side. `columns`: at most so many; 0: as many as the page is wide for."""

    charts: Sequence[Chart]
    caption: str = ""
    columns: int = 0
    keys: Sequence[Key] = ()
    kind: str = "charts"


class Picture(NamedTuple):
    """A PNG file."""

    path: pathlib.Path
    alt: str
    caption: str
    kind: str = "picture"


class Details(NamedTuple):
    """Blocks below a line that opens them."""

    summary: str
    blocks: Sequence[Any]
    anchor: str = ""
    note: str = ""
    opened: bool = False
    kind: str = "details"


class Section(NamedTuple):
    """A part of a page: anchor, heading, and its blocks."""

    anchor: str
    title: str
    blocks: Sequence[Any]


def absent(text: str) -> Text:
    """A sentence in the place of a section whose file is missing."""
    return Text(text, "absent")


def text_cell(value: Any, below: str = "") -> Cell:
    """A cell of plain text, with a smaller line below it."""
    return Cell(str(value), str(value), below=below)


def number_cell(value: float | int, digits: int = 3) -> Cell:
    """A cell of one number."""
    return Cell(show(value, digits), value)


def estimate(row: Any) -> Cell:
    """The cell of a row with value, low, high and null: the value, below it its interval and null."""
    null = "" if row.null != row.null else f"null {fraction(row.null)}"
    return Cell(fraction(row.value), row.value, below=interval(row.low, row.high), null=null)


def render(title: str, header: Sequence[Any], sections: Sequence[Section]) -> bytes:
    """The whole document."""
    page = _environment().get_template("page.html")
    return page.render(title=title, header=header, sections=sections).encode()


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("rmtjax.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {
        "breakable": _breakable,
        "svg": svg.draw,
        "key": svg.key,
        "png": _png,
        "sorted_by": _sort_key,
    }
    made.globals |= {"asset": _asset, "light": _variables(LIGHT), "dark": _variables(DARK)}
    return made


def _asset(name: str) -> Markup:
    return Markup((importlib.resources.files("rmtjax.report") / "assets" / name).read_text(encoding="utf-8"))


def _variables(palette: dict[str, str]) -> Markup:
    return Markup("; ".join(f"--{name}: {colour}" for name, colour in palette.items()))


def _breakable(name: str) -> Markup:
    """A parameter's name, free to break after each / and dot."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[/.])(?=.)", name))


def _sort_key(cell: Cell) -> str:
    return "" if cell.key != cell.key else str(cell.key)


def _png(path: pathlib.Path) -> dict[str, Any]:
    """A PNG's width in pixels, and its bytes as text."""
    data = path.read_bytes()
    width = int.from_bytes(data[16:20], "big")  # in the header that every PNG begins with
    return {"width": width, "code": base64.b64encode(data).decode("ascii")}
