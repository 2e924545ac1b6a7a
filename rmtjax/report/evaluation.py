"""Tables and charts of an evaluation: each number with its interval and its null."""

from typing import Any

import numpy as np
import pandas as pd

from rmtjax.report.chart import Axis, Chart, Dots, Key, Line, Mark, Rule, Spans, fitted, named
from rmtjax.report.numbers import metric_name, shortened
from rmtjax.report.pages import Cell, Table, estimate, text_cell
from rmtjax.results import number

KEYS = (
    Key("after", "circle", "value, 95 % interval"),
    Key("after", "circle", "after temperature scaling", hollow=True),
    Key("null", "bar", "null: a model that has learned nothing"),
)
_SHOWN = ("accuracy", "nll", "brier", "ece", "adaptive_ece")


def whole_sets(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of whole sets, without those of single corruptions and severities."""
    return rows[~rows["set"].astype(str).str.startswith("corrupted/")]


def value_of(rows: pd.DataFrame | None, name: str, metric: str) -> Any:
    """The row of a set and a metric; None if there is none."""
    if rows is None:
        return None
    found = rows[(rows["set"] == name) & (rows["metric"] == metric)]
    return next(found.itertuples(), None) if np.isfinite(found["value"]).any() else None


def pivot(caption: str, rows: pd.DataFrame) -> Table:
    """A table of sets by metrics, with the number of examples below the name of each set."""
    metrics = _ordered(rows["metric"])
    lines = []
    for name in dict.fromkeys(rows["set"]):
        part = rows[rows["set"] == name]
        n = part["n"].max()
        line = [text_cell(name, f"n = {n:.0f}" if np.isfinite(n) else "")]
        for metric in metrics:
            found = next(part[part["metric"] == metric].itertuples(), None)
            line.append(estimate(found) if found is not None else Cell("", float("nan")))
        lines.append(line)
    return Table(caption, ["set", *map(metric_name, metrics)], lines)


def _ordered(metrics: pd.Series) -> list[str]:
    known = [m for m in (*_SHOWN, *(f"{m}_ts" for m in _SHOWN)) if (metrics == m).any()]
    return known + [m for m in dict.fromkeys(metrics) if m not in known]


def sets_charts(rows: pd.DataFrame) -> list[Chart]:
    """A chart for each metric: a point with its interval for each set, and the null as a bar."""
    rows = whole_sets(rows)
    rows = rows[rows["kind"] != "ood"]
    metrics = [m for m in _SHOWN if np.isfinite(rows.loc[rows["metric"] == m, "value"]).any()]
    # Some sets have some metrics alone, as the training set has no calibration.
    return [
        _sets_chart(rows, metric, list(dict.fromkeys(rows.loc[rows["metric"] == metric, "set"])))
        for metric in metrics
    ]


def _sets_chart(rows: pd.DataFrame, metric: str, sets: list[str]) -> Chart:
    marks: list[Mark] = []
    for suffix, shift in (("", 0.0), ("_ts", 0.24)):
        part = rows[rows["metric"] == metric + suffix].drop_duplicates("set").set_index("set").reindex(sets)
        place = np.arange(len(sets)) + shift
        value, low, high, null = (part[name].to_numpy(float) for name in ("value", "low", "high", "null"))
        if not suffix:
            marks.append(Dots(null, place, "null", "bar", radius=6))
        marks.append(Spans(place, low, high, "after", level=True))
        marks.append(Dots(value, place, "after", hollow=bool(suffix), radius=2.6 if suffix else 3.2))
    shown = rows[rows["metric"].isin([metric, f"{metric}_ts"])]
    reach = [shown[name].to_numpy(float) for name in ("value", "low", "high", "null")]
    x = Axis(0, 1.02) if metric == "accuracy" else fitted([np.zeros(1), *reach], log=False, floor=0.0)
    names = [shortened(name.replace("_", " "), 24) for name in sets]
    alt = f"{metric_name(metric)} of each set with its interval and null"
    return Chart(x, named(names), tuple(marks), alt, metric_name(metric), (300, 60 + 30 * len(sets)))


def severity_charts(rows: pd.DataFrame) -> list[Chart]:
    """Accuracy by severity: a chart for each corruption, with the others faintly behind it."""
    kept = rows[(rows["metric"] == "accuracy") & rows["set"].str.fullmatch("corrupted/[^/]+/[^/]+")].copy()
    if kept.empty:
        return []
    parts = kept["set"].str.rsplit("/", n=2, expand=True)
    kept["corruption"], kept["severity"] = parts[1], pd.to_numeric(parts[2], errors="coerce")
    kept = kept.dropna(subset=["severity"]).sort_values("severity", kind="stable")
    clean = value_of(rows, "corrupted/clean", "accuracy") or value_of(rows, "test", "accuracy")
    start = number(getattr(clean, "value", None))
    kinds = [kind for kind in dict.fromkeys(parts[1]) if (kept["corruption"] == kind).any()]
    lines = {kind: _with_clean(kept[kept["corruption"] == kind], start) for kind in kinds}
    x = fitted([np.r_[0.0, kept["severity"]]], log=False)
    x = Axis(x.low, x.high, ticks=tuple((k, f"{k:g}") for k in sorted({0.0, *kept["severity"]})))
    null = float(kept["null"].median())
    charts = []
    for kind in kinds:
        part = kept[kept["corruption"] == kind]
        severity = part["severity"].to_numpy(float)
        others = [Line(*lines[other], "null", "faint") for other in kinds if other != kind]
        marks = [
            *others,
            Rule(null, "null", "dot", level=True),
            Line(*lines[kind], "after"),
            Spans(severity, part["low"].to_numpy(float), part["high"].to_numpy(float), "after"),
            Dots(severity, part["value"].to_numpy(float), "after", radius=2.2),
        ]
        name = kind.replace("_", " ")
        charts.append(
            Chart(x, Axis(0, 1.02), tuple(marks), f"Accuracy by severity of {name}", name, (270, 170))
        )
    return charts


def _with_clean(part: pd.DataFrame, clean: float) -> tuple[np.ndarray, np.ndarray]:
    """Severities and accuracies of a corruption; the clean set, if it is known, has severity 0."""
    severity, value = part["severity"].to_numpy(float), part["value"].to_numpy(float)
    if np.isfinite(clean) and not (severity == 0).any():
        return np.r_[0.0, severity], np.r_[clean, value]
    return severity, value


def reliability_charts(reliability: dict[str, Any] | None) -> list[Chart]:
    """Accuracy by confidence for the first four sets; the area of a point is its share of the examples."""
    panels = {}
    for name, bins in (reliability or {}).items():
        columns = [np.asarray(bins.get(k, []), dtype=float) for k in ("confidence", "accuracy", "count")]
        if len({len(c) for c in columns}) == 1 and columns[2].sum() > 0:
            panels[name] = columns
    charts = []
    for name, (confidence, accuracy, count) in list(panels.items())[:4]:
        filled = count > 0
        x, y = confidence[filled], accuracy[filled]
        radius = np.sqrt(3 + 60 * count[filled] / count.sum())
        marks = (Line([0, 1], [0, 1], "null", "dot"), Line(x, y, "after"), Dots(x, y, "after", radius=radius))
        alt = f"Accuracy by confidence for {name}"
        axis = Axis(-0.03, 1.05)
        charts.append(
            Chart(axis._replace(label="confidence"), axis, marks, alt, shortened(name, 28), (270, 240))
        )
    return charts
