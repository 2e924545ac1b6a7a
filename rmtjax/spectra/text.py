"""The table of an analysis as text for a terminal."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rmtjax.errors import printable
from rmtjax.spectra import metrics
from rmtjax.spectra.bulk import SPIKE_LEVEL
from rmtjax.spectra.spread import alpha_spread
from rmtjax.spectra.table import COMMON_IN_NOISE

_MOST_ROWS = 400
_NAMES = ("stage", "name", "N x M", "median by kind")  # columns of words, aligned to the left
_LONGEST = 200  # characters of a name
_LEAST_P = 0.0025  # `nulls.alpha_p` of an alpha below all simulated quantiles, the lowest of which is 0.005


def table(rows: pd.DataFrame) -> str:
    """Names, shapes, and the metrics that are shown in "text" with those of noise in brackets.

    Below: warnings, medians by kind of layer, and the spread of alpha over the matrices.
    """
    metrics_shown = shown(rows)
    heads = ["stage"] * ("stage" in rows) + ["name", "N x M"]
    lines = [heads + [part for name in metrics_shown for part in _heads(name, rows)]]
    for _, row in rows.head(_MOST_ROWS).iterrows():
        size = f"{row['N']:.0f} x {row['M']:.0f}"
        first = ([row["stage"]] if "stage" in rows else []) + [
            _cut(row["name"]),
            size if row["slices"] == 1 else f"{row['slices']:.0f} x {size}",
        ]
        lines.append(first + [part for name in metrics_shown for part in _cells(name, row, rows)])
    parts = [_aligned(lines)]
    if len(rows) > _MOST_ROWS:
        parts.append(f"... and {len(rows) - _MOST_ROWS} more: --out=DIR writes all")
    warned = rows[rows["warning"] != ""]
    if len(warned):
        parts.append("")
        for warning, group in warned.groupby("warning", sort=False):
            names = [f"{r['stage']}/{r['name']}" if "stage" in r else r["name"] for _, r in group.iterrows()]
            parts.append(f"{warning}: {_first_three(names)}")
    return "\n".join([*parts, "", by_kind(rows), *_spread(rows), *_unlike_noise(rows)])


def _unlike_noise(rows: pd.DataFrame) -> list[str]:
    """How many matrices alpha and spikes tell from noise."""
    if "stage" in rows:
        rows = rows[rows["stage"] == "after"]
    said = []
    if "alpha_null_p" in rows and rows["alpha_null_p"].notna().any():
        p = rows["alpha_null_p"].dropna()
        noise = COMMON_IN_NOISE * len(p)
        said.append(f"alpha in {(p <= COMMON_IN_NOISE).sum()} of {len(p)} matrices (in noise {noise:.2g})")
    if "num_spikes" in rows and rows["num_spikes"].notna().any():
        spikes = rows["num_spikes"].dropna()
        said.append(
            f"spikes in {(spikes > 0).sum()} of {len(spikes)} (in noise {SPIKE_LEVEL * len(spikes):.2g})"
        )
    return [f"what differs from noise: {', '.join(said)}"] if said else []


def _spread(rows: pd.DataFrame) -> list[str]:
    stages = rows["stage"].unique() if "stage" in rows else [None]
    lines = []
    for stage in stages:
        found = alpha_spread(rows if stage is None else rows[rows["stage"] == stage])
        if found:
            value, null, low, high = map(_number, found.values())
            before = "" if stage is None else f"{stage}: "
            of_noise = f" (in noise of their shapes {null}, 90 %: {low} to {high})" if null != "-" else ""
            lines.append(f"{before}standard deviation of alpha over the matrices {value}{of_noise}")
    return lines


def by_kind(rows: pd.DataFrame) -> str:
    """Medians over the matrices of each kind of layer.

    >>> rows = pd.DataFrame({"kind": ["mlp", "mlp", "head"], "stable_rank": [3.0, 4.0, 7.0]})
    >>> print(by_kind(rows))
                              stable
    median by kind  matrices    rank
    --------------  --------  ------
    mlp                    2     3.5
    head                   1       7
    """
    keys = (["stage"] if "stage" in rows else []) + ["kind"]
    metrics_shown = shown(rows)
    lines = [
        [*(["stage"] if "stage" in rows else []), "median by kind", "matrices"]
        + [part for name in metrics_shown for part in _heads(name, rows)]
    ]
    for key, group in rows.groupby(keys, sort=False):
        assert isinstance(key, tuple)
        medians = group.select_dtypes("number").median()
        lines.append(
            [*(str(part) for part in key), str(len(group))]
            + [part for name in metrics_shown for part in _cells(name, medians, rows)]
        )
    return _aligned(lines)


def left_out(reasons: Mapping[str, str]) -> list[str]:
    """One line per reason, with the first three names.

    >>> left_out({"a/bias": "no matrix", "b/bias": "no matrix"})
    ['left out, no matrix: a/bias, b/bias']
    """
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return [f"left out, {printable(reason)}: {_first_three(names)}" for reason, names in by_reason.items()]


def _first_three(names: Sequence[str]) -> str:
    return ", ".join(printable(name, _LONGEST) for name in names[:3]) + (
        f" and {len(names) - 3} more" if len(names) > 3 else ""
    )


def shown(rows: pd.DataFrame) -> list[str]:
    """The metrics that are shown in a terminal and that the table holds."""
    return [name for name in metrics.shown("text") if name in rows and rows[name].notna().any()]


def _heads(name: str, rows: pd.DataFrame) -> list[str]:
    head = (
        metrics.title(name).replace("α", "alpha").replace("‖", "|")
    )  # letters that every terminal can print
    return [head, "(noise)"] if f"{name}_null" in rows else [head]


def _cells(name: str, row: pd.Series, rows: pd.DataFrame) -> list[str]:
    null = f"{name}_null"
    beside = [f"({_number(row[null])})" if np.isfinite(row[null]) else ""] if null in rows else []
    below_all = name == "alpha_null_p" and row[name] <= _LEAST_P
    about = "~" if row.get("estimated") is True and np.isfinite(row[name]) else ""
    return [f"<{2 * _LEAST_P:g}" if below_all else about + _number(row[name]), *beside]


def _number(value: float) -> str:
    if not np.isfinite(value):
        return "-"
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.4g}"


def _cut(name: str) -> str:
    name = printable(name)
    return name if len(name) <= 48 else "..." + name[-45:]


def _aligned(lines: list[list[str]]) -> str:
    """Columns; a head that is wider than what stands below it is broken at its spaces."""
    heads, *rest = lines
    broken = []
    for head, *below in zip(*lines, strict=True):
        longest = max([*map(len, below), *map(len, head.split(" "))])
        broken.append(textwrap.wrap(head, longest) if len(head) > longest and head not in _NAMES else [head])
    high = max(map(len, broken))
    above = [[""] * (high - len(parts)) + parts for parts in broken]
    widths = [max(map(len, [*parts, *below])) for parts, *below in zip(above, *rest, strict=True)]
    out = []
    for line in [*zip(*above, strict=True), ["-" * width for width in widths], *rest]:
        cells = (
            cell.ljust(width) if head in _NAMES else cell.rjust(width)
            for head, cell, width in zip(heads, line, widths, strict=True)
        )
        out.append("  ".join(cells).rstrip())
    return "\n".join(out)
