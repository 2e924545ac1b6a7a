"""The table as a person reads it in a terminal."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from rmtjax.spectra import metrics

_MOST_ROWS = 400
_RAREST = 0.0025  # the p of an alpha below all simulated quantiles, of which 0.005 is the least


def table(rows: pd.DataFrame) -> str:
    """Names, shapes and the main metrics, noise of that shape in brackets; warnings below; medians by kind."""
    shown = [name for name in metrics.shown("text") if name in rows and rows[name].notna().any()]
    heads = ["stage"] * ("stage" in rows) + ["name", "N x M"]
    lines = [heads + [part for name in shown for part in _heads(name, rows)]]
    for _, row in rows.head(_MOST_ROWS).iterrows():
        size = f"{row['N']:.0f} x {row['M']:.0f}"
        first = ([row["stage"]] if "stage" in rows else []) + [
            _cut(row["name"]),
            size if row["slices"] == 1 else f"{row['slices']:.0f} x {size}",
        ]
        lines.append(first + [part for name in shown for part in _cells(name, row, rows)])
    said = [_aligned(lines)]
    if len(rows) > _MOST_ROWS:
        said.append(f"... and {len(rows) - _MOST_ROWS} more: --out=DIR writes all")
    warned = rows[rows["warning"] != ""]
    if len(warned):
        said.append("")
        for warning, group in warned.groupby("warning", sort=False):
            names = [
                f"{r['stage']}/{r['name']}" if "stage" in r else r["name"]
                for _, r in group.head(3).iterrows()
            ]
            more = f" and {len(group) - 3} more" if len(group) > 3 else ""
            said.append(f"{warning}: {', '.join(names)}{more}")
    return "\n".join([*said, "", by_kind(rows)])


def by_kind(rows: pd.DataFrame) -> str:
    """Medians over the matrices of a kind."""
    keys = (["stage"] if "stage" in rows else []) + ["kind"]
    shown = [name for name in metrics.shown("text") if name in rows and rows[name].notna().any()]
    lines = [
        [*(["stage"] if "stage" in rows else []), "median by kind", "matrices"]
        + [p for name in shown for p in _heads(name, rows)]
    ]
    for key, group in rows.groupby(keys, sort=False):
        assert isinstance(key, tuple)
        medians = group.select_dtypes("number").median()
        lines.append(
            [*(str(part) for part in key), str(len(group))]
            + [part for name in shown for part in _cells(name, medians, rows)]
        )
    return _aligned(lines)


def left_out(reasons: Mapping[str, str]) -> list[str]:
    """One line a reason, with a few names."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return [
        f"left out, {reason}: {', '.join(names[:3])}"
        + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for reason, names in by_reason.items()
    ]


def _heads(name: str, rows: pd.DataFrame) -> list[str]:
    head = metrics.title(name).replace("α", "alpha").replace("‖", "|")  # letters that every terminal has
    return [head, "(noise)"] if f"{name}_null" in rows else [head]


def _cells(name: str, row: pd.Series, rows: pd.DataFrame) -> list[str]:
    null = f"{name}_null"
    beside = [f"({_number(row[null])})"] if null in rows else []
    rarest = name == "alpha_null_p" and row[name] <= _RAREST
    return [f"<{2 * _RAREST:g}" if rarest else _number(row[name]), *beside]


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "-"
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.4g}"


def _cut(name: str) -> str:
    return name if len(name) <= 48 else "..." + name[-45:]


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [c for c, head in enumerate(lines[0]) if head in ("stage", "name", "N x M", "median by kind")]
    out = []
    for line in lines:
        cells = (
            cell.ljust(w) if i in text else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        out.append("  ".join(cells).rstrip())
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([out[0], rule, *out[1:]])
