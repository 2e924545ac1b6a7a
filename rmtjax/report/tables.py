"""Numbers and tables, as text for a terminal and as HTML for a page."""

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

METRICS = {
    "accuracy": "accuracy",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
    "adaptive_ece": "adaptive ECE",
    "nll_ts": "NLL, scaled",
    "brier_ts": "Brier, scaled",
    "ece_ts": "ECE, scaled",
    "adaptive_ece_ts": "adaptive ECE, scaled",
    "corruption_error": "mean corruption error",
    "mce": "mCE",
    "relative_mce": "relative mCE",
    "effective_robustness": "effective robustness",
    "auroc_max_softmax": "AUROC, max softmax",
    "auroc_energy": "AUROC, energy",
    "fpr95_max_softmax": "FPR95, max softmax",
    "fpr95_energy": "FPR95, energy",
    "vendi_score": "Vendi score",
    "coverage": "coverage",
    "weighted_vendi": "weighted Vendi",
    "weighted_vendi_unpaired": "weighted Vendi, unpaired",
    "rke": "RKE",
    "truncated_vendi": "Vendi score, truncated",
    "gaussian_vendi": "Vendi score, Gaussian kernel",
    "ngram_vendi": "Vendi score of n-grams",
    "within_classes": "Vendi score within classes",
    "between_classes": "effective number of classes",
    "between_share": "share between classes",
}


class Cell(NamedTuple):
    """A cell of an HTML table: what is shown (HTML already), and the number or text it sorts by."""

    html: str
    key: float | int | str


def show(value: float, digits: int = 3) -> str:
    """A number for people: about `digits` significant digits, an en dash for NaN, never a long tail."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if value == int(value) and size < 1e6:
        text = f"{value:.0f}"
    elif size < 10 ** (-digits - 1) or size >= 1e6:
        text = f"{value:.{digits - 1}e}"
    elif size < 1:
        text = f"{value:.{digits}f}" if size >= 10 ** (1 - digits) else f"{value:.{digits - 1}g}"
    else:
        text = f"{value:.{max(digits - 1 - math.floor(math.log10(size)), 0)}f}"
    return text.replace("-", "−")


def fraction(value: float) -> str:
    """A share, a loss or a calibration error: three decimals below 10, so that a column lines up."""
    return f"{value:.3f}".replace("-", "−") if abs(value) < 10 else show(value)


def metric_name(metric: str) -> str:
    """A metric's name as the field writes it."""
    return METRICS.get(metric, metric.replace("_", " "))


def interval(low: float, high: float) -> str:
    """[low, high], or nothing where there is none."""
    return "" if math.isnan(low) or math.isnan(high) else f"[{fraction(low)}, {fraction(high)}]"


def estimate(row: Any) -> Cell:
    """A row's value with its interval and null below it."""
    small = " ".join(filter(None, [interval(row.low, row.high), _null(row.null)]))
    small = f"<small>{small}</small>" if small else ""
    return Cell(f"{fraction(row.value)}{small}", row.value)


def _null(null: float) -> str:
    return "" if math.isnan(null) else f"<i>null&nbsp;{fraction(null)}</i>"


def ending(text: str, most: int = 40) -> str:
    """The text, or its end where it is longer than that: what tells names apart stands at their ends."""
    return text if len(text) <= most else "…" + text[1 - most :]


def breakable(name: str) -> str:
    """A parameter's name for a page, free to break after each / and dot."""
    return "<wbr>".join(escape(part) for part in re.split(r"(?<=[/.])", name))


def escape(value: Any) -> str:
    """Text for a page, whatever it holds."""
    return html.escape(str(value), quote=True)


def text_cell(value: Any, note: str = "") -> Cell:
    """A cell of plain text, with a smaller line below it."""
    small = f"<small>{escape(note)}</small>" if note else ""
    return Cell(f"{escape(value)}{small}", str(value))


def number_cell(value: float, digits: int = 3) -> Cell:
    """A cell of one number."""
    return Cell(show(value, digits), value)


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]], left: int = 1) -> str:
    """An HTML table that sorts by a click on a column's head.

    Args:
      caption: plain text above the table.
      heads: plain text, one a column.
      left: how many first columns are text, set to the left: 1, or 3 for a table of words.
    """
    lines = [
        f'<div class="scroll"><table class="sortable left{left}"><caption>{escape(caption)}</caption><thead><tr>'
    ]
    lines += [f'<th scope="col"><button type="button">{escape(head)}</button></th>' for head in heads]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        lines.append("<tr>")
        for place, cell in enumerate(row):
            key = "" if isinstance(cell.key, float) and math.isnan(cell.key) else cell.key
            tag, scope = ("th", ' scope="row"') if place == 0 else ("td", "")
            lines.append(f'<{tag}{scope} data-key="{escape(key)}">{cell.html}</{tag}>')
        lines.append("</tr>")
    lines.append("</tbody></table></div>")
    return "".join(lines)


def pairs(items: Iterable[tuple[str, str]]) -> str:
    """Names and values (both plain text) one below the other."""
    return "<dl>" + "".join(f"<dt>{escape(n)}</dt><dd>{escape(v)}</dd>" for n, v in items) + "</dl>"


def aligned(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 2) -> str:
    """A table in plain text: the first `left` columns to the left, the others to the right, no trailing blanks."""
    widths = [max(len(line[k]) for line in [heads, *rows]) for k in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        parts = [
            c.ljust(w) if k < left else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(heads), "  ".join("-" * w for w in widths), *map(line, rows)])
