"""Pages: sections of plain data, which a template turns into one self-contained HTML file.

All text is plain; the template escapes it. The classes here define what a page can hold, `templates` its
HTML, and `assets` its style.
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
    """A cell of a table: text, key for sorting, standard error, lines below, anchor that it links to."""

    text: str
    key: float | int | str
    error: str = ""
    below: str = ""
    null: str = ""
    link: str = ""


class Text(NamedTuple):
    """A paragraph that begins with `strong`, with a list of `items` below; `look` is a CSS class."""

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
    """A table that is sorted by a click on a head. The first `left` columns are aligned to the left.

    `about` has a sentence for each head, which appears under the pointer.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left: int = 1
    about: Sequence[str] = ()
    kind: str = "table"


class Pairs(NamedTuple):
    """A list of names and values."""

    items: Sequence[tuple[str, str]]
    kind: str = "pairs"


class Cards(NamedTuple):
    """The main numbers of a page: title, value, lines below."""

    items: Sequence[tuple[str, str, str]]
    kind: str = "cards"


class Legend(NamedTuple):
    """Marks and their meanings."""

    keys: Sequence[Key]
    kind: str = "legend"


class Charts(NamedTuple):
    """Charts side by side, at most `columns` of them; 0 fills the width of the page."""

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
    """Blocks that are folded below a summary; a click opens them."""

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
    """A sentence in place of a section whose file is missing."""
    return Text(text, "absent")


def text_cell(value: Any, below: str = "") -> Cell:
    """A cell of plain text, with a smaller line below."""
    return Cell(str(value), str(value), below=below)


def number_cell(value: float | int, digits: int = 3) -> Cell:
    """A cell with one number."""
    return Cell(show(value, digits), value)


def estimate(row: Any) -> Cell:
    """The cell of a row with value, low, high and null: the value, with its interval and null below."""
    null = "" if row.null != row.null else f"null {fraction(row.null)}"
    return Cell(fraction(row.value), row.value, below=interval(row.low, row.high), null=null)


def render(title: str, header: Sequence[Any], sections: Sequence[Section]) -> bytes:
    """The whole HTML document."""
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
    """The name of a parameter; a line may break after each slash and dot."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[/.])(?=.)", name))


def _sort_key(cell: Cell) -> str:
    return "" if cell.key != cell.key else str(cell.key)


def _png(path: pathlib.Path) -> dict[str, Any]:
    """The width of a PNG in pixels, and its bytes as base64."""
    data = path.read_bytes()
    width = int.from_bytes(data[16:20], "big")  # its place in the header of every PNG
    return {"width": width, "code": base64.b64encode(data).decode("ascii")}
