"""Charts of metrics over the depth of a model, and their medians by kind of layer."""

import numpy as np
import pandas as pd

from rmtjax.report import layers
from rmtjax.report.chart import Axis, Chart, Dots, Key, Line, Mark, Spans, fitted
from rmtjax.report.colours import look
from rmtjax.report.numbers import LEAST_P, is_probability, show, show_metric
from rmtjax.report.pages import Cell, Table
from rmtjax.spectra.metrics import METRICS, shown, title

_LAYOUT = ("slices", "N", "M", "Q", "num_evals", "edge", "sigma")  # not metrics; sigma equals alpha_se
_BESIDE = ("_null", "_null_low", "_null_high", "_se")  # drawn together with their metric


def measured_metrics(table: pd.DataFrame) -> list[str]:
    """The metrics in the table that have a value in at least one row, in the order of METRICS."""
    found = [
        str(name)
        for name in table.columns
        if name not in _LAYOUT
        and not str(name).endswith(_BESIDE)
        and layers.column(table, name).notna().any()
    ]
    return [name for name in METRICS if name in found] + [name for name in found if name not in METRICS]


def about(metric: str) -> str:
    """One sentence about a metric; empty for a column that METRICS does not have."""
    return METRICS[metric].about if metric in METRICS else ""


def of_update_alone(metric: str) -> bool:
    """Whether the metric exists only for an update between two models."""
    return metric in METRICS and METRICS[metric].group in ("update", "alignment")


def words(kind: str) -> str:
    """The name of a kind of layer, with spaces."""
    return kind.replace("_", " ")


def keys(table: pd.DataFrame, compared: bool) -> list[Key]:
    """The legend of the charts over depth."""
    kinds = [Key(*look(place), words(kind)) for place, kind in enumerate(dict.fromkeys(table["kind"]))]
    sides = [Key("ink", "circle", "before", hollow=True), Key("ink", "circle", "after")] if compared else []
    return [*kinds, *sides, Key("null", "dash", "noise of that shape; for α the range of 90 %")]


def charts(table: pd.DataFrame, chosen: list[str], names: list[str], links: dict[str, str]) -> list[Chart]:
    """A chart for each of the chosen metrics: every matrix at its place in `names`, coloured by kind.

    In a comparison the weights before and after share a chart, and the update has a chart of its own.
    """
    out = []
    kinds = list(dict.fromkeys(table["kind"]))
    compared = table["stage"].nunique() > 1
    places = {name: k for k, name in enumerate(names)}
    ordered = table.assign(place=table["name"].map(places)).sort_values("place", kind="stable")
    parts = {which: layers.stage(ordered, which) for which in layers.STAGES}
    for metric in chosen:
        for stages in (("before", "after"), ("update",)):
            rows = {which: parts[which] for which in stages}
            rows = {which: part for which, part in rows.items() if layers.column(part, metric).notna().any()}
            if rows:
                out.append(_chart(rows, metric, len(names), kinds, links, compared))
    return out


def _chart(
    rows: dict[str, pd.DataFrame],
    metric: str,
    count: int,
    kinds: list[str],
    links: dict[str, str],
    compared: bool,
) -> Chart:
    if is_probability(metric):  # an axis of hundreds of decades shows nothing
        rows = {
            which: part.assign(**{metric: part[metric].clip(lower=LEAST_P)}) for which, part in rows.items()
        }
    ends = ("", "_null", "_null_low", "_null_high")
    reach = [layers.column(part, metric + end).to_numpy() for part in rows.values() for end in ends]
    y = fitted(reach, log=False if metric.startswith(("num_", "log_", "p_")) else None)
    radius = 3.2 if count <= 80 else 2.2
    marks: list[Mark] = []
    for which, part in rows.items():
        x = part["place"].to_numpy(float) + 1
        if which != "before" or len(rows) == 1:  # noise of a shape is the same before and after
            null, low, high = (
                layers.column(part, f"{metric}_null{end}").to_numpy() for end in ("", "_low", "_high")
            )
            marks += [Spans(x, low, high, "null"), Dots(x, null, "null", "dash", radius=4)]
        marks += _by_kind(part, x, metric, kinds, which, links, radius, compared)
    alone = list(rows) == ["update"] and not of_update_alone(metric)
    said = title(metric) + (", of the update" if alone else "")
    alt = f"{said}, over the depth of the model"
    return Chart(Axis(0.3, count + 0.7, label="depth →", ticks=()), y, tuple(marks), alt, said, (440, 180))


def _by_kind(
    part: pd.DataFrame,
    x: np.ndarray,
    metric: str,
    kinds: list[str],
    which: str,
    links: dict[str, str],
    radius: float,
    compared: bool,
) -> list[Mark]:
    values, kind = layers.column(part, metric).to_numpy(), part["kind"].to_numpy()
    behind = f", {which}" if compared and not of_update_alone(metric) else ""
    marks: list[Mark] = []
    role = np.array([layers.role(name) for name in part.index], object)
    for k, one in enumerate(kinds):
        mine = np.flatnonzero((kind == one) & np.isfinite(values))
        colour, shape = look(k)
        for alike in dict.fromkeys(role[mine]):  # a line through both projections of an MLP would be a saw
            line = mine[role[mine] == alike]
            if len(line) > 1:
                marks.append(Line(x[line], values[line], colour, "thin"))
        tips = [f"{part.index[k]}: {show_metric(metric, float(values[k]))}{behind}" for k in mine]
        goals = [links.get(part.index[k], "") for k in mine]
        marks.append(Dots(x[mine], values[mine], colour, shape, which == "before", radius, tips, goals))
    return marks


def medians(table: pd.DataFrame) -> Table:
    """Medians by kind of layer, and by stage if there are several, with those of noise below."""
    chosen = [metric for metric in shown("medians") if layers.column(table, metric).notna().any()]
    stages = [which for which in layers.STAGES if (table["stage"] == which).any()]
    several = len(stages) > 1
    lines = []
    for kind in dict.fromkeys(table["kind"]):
        for which in stages:
            rows = table[(table["kind"] == kind) & (table["stage"] == which)]
            if not len(rows):
                continue
            line = [Cell(words(kind), kind), *([Cell(which, which)] if several else [])]
            line.append(Cell(str(len(rows)), len(rows)))
            lines.append(line + [_median(rows, metric) for metric in chosen])
    heads = ["kind of layer", *(["stage"] if several else []), "matrices", *map(title, chosen)]
    sentences = [""] * (len(heads) - len(chosen)) + [about(metric) for metric in chosen]
    caption = "Medians by kind of layer; below: medians of noise of those shapes"
    return Table(caption, heads, lines, left=2 if several else 1, about=sentences)


def _median(rows: pd.DataFrame, metric: str) -> Cell:
    value, null = median(layers.column(rows, metric)), median(layers.column(rows, f"{metric}_null"))
    return Cell(show_metric(metric, value), value, null=show(null) if np.isfinite(null) else "")


def median(values: pd.Series) -> float:
    """The median of the known values; NaN if there are none."""
    return float(values.median()) if values.notna().any() else float("nan")
