"""Metrics over the depth of a model and by kind of layer, for the page of an analysis."""

import numpy as np
import pandas as pd

from rmtjax.report import chart, layers
from rmtjax.report.tables import Cell, escape, show, table

# What is said of a model first; every other numeric column comes after these.
MAIN = {
    "alpha": "power-law exponent α",
    "stable_rank": "stable rank",
    "log_norm": "log₁₀ ‖W‖²",
    "log_spectral_norm": "log₁₀ λ max",
    "entropy": "entropy (normalised)",
    "mp_softrank": "MP soft rank",
    "num_spikes": "spikes above the bulk",
    "ks_mp": "KS distance of the bulk from MP",
    "norm_ratio": "size of the update: ‖update‖ / ‖before‖",
}
TITLES = MAIN | {
    "D": "D, KS distance of the tail from its fit",
    "alpha_null_p": "p of so small an α in noise",
    "gof_p": "p of the power law’s fit",
    "alpha_weighted": "α̂ = α log₁₀ λ max",
    "log_alpha_norm": "log₁₀ Σ λ^α",
    "alpha_hill": "Hill’s α, upper half",
    "alpha_hill_10": "Hill’s α, upper tenth",
    "alpha_hill_sqrt": "Hill’s α, √n largest",
    "noise_std": "standard deviation of the noise",
    "num_pl_spikes": "eigenvalues in the tail",
    "ERG_gap": "ERG gap",
    "tw_p": "Tracy-Widom p of λ max",
    "gavish_donoho_rank": "Gavish-Donoho rank",
    "spectral_ratio": "‖update‖₂ / ‖before‖₂",
    "cosine": "cosine of before and after",
}
_LAYOUT = ("slices", "N", "M", "Q", "num_evals", "edge", "sigma")  # sigma is alpha_se once more
_BESIDE = ("_null", "_null_low", "_null_high", "_se")  # drawn with the metric they belong to
_COLOURS = 8


def metrics(table: pd.DataFrame) -> list[str]:
    """The table's numeric columns that measure something in at least one row, the main ones first."""
    found = [
        str(name)
        for name in table.columns
        if name not in _LAYOUT and not str(name).endswith(_BESIDE) and layers.column(table, name).notna().any()
    ]  # fmt: skip
    return [name for name in MAIN if name in found] + [name for name in found if name not in MAIN]


def title(metric: str) -> str:
    """A metric's name for a chart or a head of a table."""
    return TITLES.get(metric, metric.replace("_", " "))


def kinds(table: pd.DataFrame) -> list[str]:
    """Kinds of layer in the order of the table; "layer" where there is no such column."""
    return list(dict.fromkeys(kind_of(table)))


def kind_of(table: pd.DataFrame) -> pd.Series:
    """Each row's kind of layer as text."""
    if "kind" not in table:
        return pd.Series("layer", index=table.index)
    return table["kind"].astype(object).where(table["kind"].notna(), "layer").astype(str)


def legend(shown: list[str], compared: bool) -> str:
    """Colour and mark of each kind, as HTML."""
    marks = "".join(
        f'<span class="mark"><svg class="key" viewBox="0 0 12 12" aria-hidden="true">{chart.dot(6.0, 6.0, *_look(place))}</svg>'
        f"{escape(words(kind))}</span>"
        for place, kind in enumerate(shown)
    )
    hollow = "Hollow: before; filled: after. " if compared else ""
    return f'<p class="note">{marks}</p><p class="note">{hollow}Grey: noise of that shape, its median and, for α, the range of 90 % of such matrices. Matrices stand in the model’s order; a mark leads to its matrix.</p>'


def words(kind: str) -> str:
    """A kind of layer for people."""
    return kind.replace("_", " ")


def charts(table: pd.DataFrame, chosen: list[str], names: list[str], anchors: dict[str, str]) -> str:
    """A chart for each of the chosen metrics: every matrix at its place in `names`, kinds told apart.

    In a comparison the weights before and after share a chart, and the update has its own.
    """
    parts = []
    shown = kinds(table)
    for metric in chosen:
        for stages in (("before", "after"), ("update",)):
            rows = {which: layers.stage(table, which) for which in stages}
            if any(layers.column(r, metric).notna().any() for r in rows.values()):
                parts.append(_chart(rows, metric, names, shown, anchors))
    return f'<div class="charts">{"".join(parts)}</div>'


def _chart(
    rows: dict[str, pd.DataFrame], metric: str, names: list[str], shown: list[str], anchors: dict[str, str]
) -> str:
    place = {name: k + 1 for k, name in enumerate(names)}
    ends = ("", "_null", "_null_low", "_null_high")
    known = np.concatenate([layers.column(r, metric + end).to_numpy() for r in rows.values() for end in ends])
    known = known[np.isfinite(known)]
    low, high = float(known.min()), float(known.max())
    log = low > 0 and high > 8 * low and not metric.startswith(("num_", "log_", "p_"))
    margin = (high / low) ** 0.06 if log else 0.06 * (high - low)
    limits = (low / margin, high * margin) if log else (low - margin, high + margin)
    x, y = chart.scales((0.3, len(names) + 0.7), limits, "y" if log else "", (500, 180))
    marks = []
    radius = 3.2 if len(names) <= 80 else 2.2
    for which, stage in rows.items():
        here = np.array([place[name] for name in stage.index], float)
        order = np.argsort(here)
        here, stage = x(here[order]), stage.iloc[order]
        values = y(layers.column(stage, metric).to_numpy())
        if which != "before":  # noise of a shape is the same before and after
            null, ends_low, ends_high = (
                y(layers.column(stage, f"{metric}_null{end}").to_numpy()) for end in ("", "_low", "_high")
            )
            marks.append(_noise(here, null, ends_low, ends_high))
        kind = kind_of(stage).to_numpy()
        for k, one in enumerate(shown):
            mine = kind == one
            if mine.sum() > 1:
                marks.append(chart.line(here[mine], values[mine], _look(k)[0], "thin"))
            numbers = layers.column(stage, metric).to_numpy()[mine]
            for name, a, b, number in zip(stage.index[mine], here[mine], values[mine], numbers, strict=True):
                drawn = chart.dot(float(a), float(b), *_look(k), hollow=which == "before", radius=radius)
                said = f"{name}: {show(float(number))}" + (
                    "" if len(rows) == 1 and which == "after" else f", {which}"
                )
                goal = f'href="#{anchors[name]}"' if name in anchors else ""
                marks.append(f"<a {goal}><title>{escape(said)}</title>{drawn}</a>" if drawn else "")
    of = ", of the update" if list(rows) == ["update"] and metric != "norm_ratio" else ""
    said = title(metric) + of
    return f"<figure>{chart.chart(x, y, marks, f'{said}, over the depth of the model', said, x_ticks=False, x_label='depth →')}</figure>"


def _noise(x: np.ndarray, null: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    path = "".join(
        f"M{a - 4:.1f},{b:.1f}h8" for a, b in zip(x.tolist(), null.tolist(), strict=True) if b == b
    )
    path += "".join(
        f"M{a:.1f},{b:.1f}V{c:.1f}"
        for a, b, c in zip(x.tolist(), low.tolist(), high.tolist(), strict=True)
        if b == b and c == c
    )
    return f'<path class="line" style="stroke:var(--null)" d="{path}"/>' if path else ""


def _look(place: int) -> tuple[str, int]:
    """Colour and shape of the kind at that place: the colours repeat with another shape."""
    return f"k{place % _COLOURS}", place + place // _COLOURS


def medians(table_of: pd.DataFrame, chosen: list[str], stages: list[str]) -> str:
    """Medians of the chosen metrics by kind of layer, and by stage where there are several; nulls below."""
    chosen = [metric for metric in chosen if layers.column(table_of, metric).notna().any()]
    heads = ["kind of layer", *(["stage"] if len(stages) > 1 else []), "matrices", *map(title, chosen)]
    lines = []
    kind = kind_of(table_of)
    for one in kinds(table_of):
        for which in stages:
            rows = table_of[(kind == one) & (table_of["stage"] == which)]
            if not len(rows):
                continue
            line = [Cell(escape(words(one)), one)]
            line += [Cell(which, which)] if len(stages) > 1 else []
            line.append(Cell(str(len(rows)), len(rows)))
            line += [_median(rows, metric) for metric in chosen]
            lines.append(line)
    return table("Medians by kind of layer; below: of noise of those shapes", heads, lines)


def _median(rows: pd.DataFrame, metric: str) -> Cell:
    value, null = (
        float(column.median()) if column.notna().any() else float("nan")
        for column in (layers.column(rows, metric), layers.column(rows, f"{metric}_null"))
    )
    return Cell(show(value) + (f"<small><i>{show(null)}</i></small>" if np.isfinite(null) else ""), value)
