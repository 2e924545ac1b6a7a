"""How good the model is, on its own test set and on shifted ones: each number with its interval and its null."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rmtjax.report import style
from rmtjax.report.tables import Cell, estimate, metric_name, table, text_cell
from rmtjax.results import number

_SHOWN = ("accuracy", "nll", "brier", "ece", "adaptive_ece")


def whole_sets(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of sets as such, without the single corruptions and severities (other names may have a "/" too)."""
    return rows[~rows["set"].astype(str).str.startswith("corrupted/")]


def value_of(rows: pd.DataFrame | None, name: str, metric: str) -> Any:
    """The row of that set and metric, or None."""
    if rows is None:
        return None
    found = rows[(rows["set"] == name) & (rows["metric"] == metric)]
    return next(found.itertuples(), None) if np.isfinite(found["value"]).any() else None


def pivot(caption: str, rows: pd.DataFrame) -> str:
    """An HTML table of sets by metrics; a line below each set says how many examples it has."""
    sets, metrics = list(dict.fromkeys(rows["set"])), _ordered(rows["metric"])
    lines = []
    for name in sets:
        part = rows[rows["set"] == name]
        n = part["n"].max()
        line = [text_cell(name, f"n = {n:.0f}" if np.isfinite(n) else "")]
        for metric in metrics:
            found = next(part[part["metric"] == metric].itertuples(), None)
            line.append(estimate(found) if found is not None else Cell("", float("nan")))
        lines.append(line)
    return table(caption, ["set", *map(metric_name, metrics)], lines)


def _ordered(metrics: pd.Series) -> list[str]:
    known = [m for m in (*_SHOWN, *(f"{m}_ts" for m in _SHOWN)) if (metrics == m).any()]
    return known + [m for m in dict.fromkeys(metrics) if m not in known]


def sets_figure(rows: pd.DataFrame) -> Figure | None:
    """A point with its interval for each set and metric, the null as a bar; hollow: after temperature scaling."""
    rows = whole_sets(rows)
    rows = rows[rows["kind"] != "ood"]
    metrics = [m for m in _SHOWN if np.isfinite(rows.loc[rows["metric"] == m, "value"]).any()]
    sets = list(dict.fromkeys(rows["set"]))
    if not metrics or not sets:
        return None
    width = max(1.6 + 1.9 * len(metrics), 5.8)
    drawn = style.figure(width, 0.95 + 0.42 * len(sets))
    grid = drawn.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    scaled = False
    for axes, metric in zip(grid, metrics, strict=True):
        for place, name in enumerate(sets):
            for suffix, shift in (("", 0.0), ("_ts", 0.22)):
                found = value_of(rows, name, metric + suffix)
                if found is None:
                    continue
                scaled |= bool(suffix)
                _point(axes, found, place + shift, hollow=bool(suffix))
        axes.set_title(metric_name(metric))
        axes.grid(axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlim(0, 1.02 if metric == "accuracy" else axes.get_xlim()[1])
        axes.tick_params(axis="y", length=0)
    grid[0].set_ylim(len(sets) - 0.4, -0.5)
    grid[0].set_yticks(range(len(sets)), [_short(name) for name in sets], color=style.LIGHT["ink"])
    handles = [style.handle("o", "after"), style.handle("|", "null")]
    labels = ["value, 95 % interval", "null: a model of no merit"]
    if scaled:
        handles.insert(1, style.handle("o", "after", hollow=True))
        labels.insert(1, "after temperature scaling")
    drawn.legend(handles, labels, loc="lower right", ncols=3, bbox_to_anchor=(0.995, -0.01))
    bottom = 0.62 / drawn.get_figheight()
    drawn.subplots_adjust(1.4 / width, bottom, 0.985, 1 - 0.26 / drawn.get_figheight(), 0.17)
    return drawn


def _point(axes: Axes, row: Any, place: float, hollow: bool) -> None:
    colour = style.LIGHT["after"]
    if np.isfinite(row.null) and not hollow:
        axes.plot(
            [row.null], [place], marker="|", markersize=11, markeredgewidth=1.6, color=style.LIGHT["null"]
        )
    if np.isfinite(row.low) and np.isfinite(row.high):
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.3 if hollow else 2, zorder=3)
    axes.plot([row.value], [place], "o", color=colour, markersize=4.5 if hollow else 5.5, zorder=4,
              markerfacecolor=style.LIGHT["paper"] if hollow else colour)  # fmt: skip


def _short(name: str, length: int = 18) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def severity_figure(rows: pd.DataFrame) -> Figure | None:
    """Accuracy by severity, a panel a corruption; the other corruptions stay in view behind. None without such rows."""
    kept = rows[(rows["metric"] == "accuracy") & rows["set"].str.fullmatch("corrupted/[^/]+/[^/]+")].copy()
    parts = kept["set"].str.rsplit("/", n=2, expand=True)
    if kept.empty:
        return None
    kept["corruption"], kept["severity"] = parts[1], pd.to_numeric(parts[2], errors="coerce")
    kinds = list(dict.fromkeys(kept["corruption"]))
    kept = kept.dropna(subset=["severity"]).sort_values("severity", kind="stable")
    if not kinds:
        return None
    clean = value_of(rows, "corrupted/clean", "accuracy") or value_of(rows, "test", "accuracy")
    clean_value = number(getattr(clean, "value", None))
    curves = [_with_clean(kept[kept["corruption"] == kind], clean_value) for kind in kinds]
    wide = min(len(kinds), 4)
    tall = -(-len(kinds) // wide)
    drawn = style.figure(style.WIDTH if wide > 1 else 4.0, 2.0 * tall + 0.3)
    grid = drawn.subplots(tall, wide, sharex=True, sharey=True, squeeze=False).ravel()
    null = kept["null"].median()
    for axes, kind, (steps, values) in zip(grid, kinds, curves, strict=False):
        for other_steps, other in curves:
            axes.plot(other_steps, other, color=style.LIGHT["rule"], linewidth=1)
        axes.plot(steps, values, color=style.LIGHT["after"])
        for row in kept[kept["corruption"] == kind].itertuples():
            _upright(axes, row)
        if np.isfinite(null):
            axes.axhline(null, color=style.LIGHT["null"], linewidth=1, linestyle=(0, (1, 2)))
        axes.set_title(_short(kind.replace("_", " "), 28))
        axes.set_ylim(0, 1.02)
    ticks = sorted({float(s) for steps, _ in curves for s in steps})
    grid[0].set_xticks(ticks, [f"{t:g}" for t in ticks])
    for place, axes in enumerate(grid):
        if place >= len(kinds):
            axes.set_axis_off()
            continue
        if place + wide >= len(kinds):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("severity (0: as it is)" if place % wide == 0 else "severity")
        if place % wide == 0:
            axes.set_ylabel("accuracy")
    height = drawn.get_figheight()
    drawn.subplots_adjust(0.055, 0.46 / height, 0.99, 1 - 0.28 / height, 0.1, 0.42)
    return drawn


def _with_clean(part: pd.DataFrame, clean: float) -> tuple[list[float], list[float]]:
    steps, values = [float(s) for s in part["severity"]], [float(v) for v in part["value"]]
    return ([0.0, *steps], [clean, *values]) if np.isfinite(clean) else (steps, values)


def _upright(axes: Axes, row: Any) -> None:
    if np.isfinite(row.low) and np.isfinite(row.high):
        axes.plot([row.severity, row.severity], [row.low, row.high], color=style.LIGHT["after"], linewidth=2)
    axes.plot([row.severity], [row.value], "o", color=style.LIGHT["after"], markersize=3.2)


def reliability_figure(reliability: dict[str, Any] | None) -> Figure | None:
    """Accuracy by confidence for each set, the area of a point being its share of the examples."""
    panels = {}
    for name, bins in (reliability or {}).items():
        columns = [np.asarray(bins.get(k, []), dtype=float) for k in ("confidence", "accuracy", "count")]
        if len({len(c) for c in columns}) == 1 and columns[2].sum() > 0:
            panels[name] = columns
    if not panels:
        return None
    shown = dict(list(panels.items())[:4])
    drawn = style.figure(2.75 * len(shown) + 0.3, 2.9)
    grid = drawn.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, (confidence, accuracy, count)) in zip(grid, shown.items(), strict=True):
        filled = count > 0
        axes.plot([0, 1], [0, 1], color=style.LIGHT["null"], linewidth=1, linestyle=(0, (1, 2)))
        axes.plot(confidence[filled], accuracy[filled], color=style.LIGHT["after"], linewidth=1.2)
        areas = 12 + 240 * count[filled] / count.sum()
        axes.scatter(
            confidence[filled], accuracy[filled], s=areas, color=style.LIGHT["after"], alpha=0.75, linewidth=0
        )
        axes.set_title(_short(name, 28))
        axes.set_xlabel("confidence")
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.grid()
    grid[0].set_ylabel("accuracy")
    drawn.subplots_adjust(0.5 / drawn.get_figwidth(), 0.17, 0.985, 0.9, 0.12)
    return drawn
