"""Spectra of the weights before and after training, and of the update: medians, matrix by matrix, over depth."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rmtjax.report import layers, style
from rmtjax.report.tables import Cell, breakable, escape, number_cell, pairs, show, table

_TITLES = {
    "frobenius": "Frobenius norm",
    "relative_update": "size of the update: ‖update‖ / ‖before‖",
    "alpha": "power-law exponent α",
    "stable_rank": "stable rank",
    "effective_rank": "effective rank",
    "entropy": "entropy (normalised)",
    "mp_softrank": "MP soft rank",
    "num_spikes": "spikes above the bulk",
}
# Lines of the profile: a measure of the weights, and the update's beside it.
_LINES = (("frobenius", "relative_update"), *((name, name) for name in list(_TITLES)[2:]))
_PARTS = (("before", "after"), ("update",))
_COLUMNS = {  # of the table: title, and the stages shown
    "alpha": ("α", layers.STAGES),
    "D": ("D", ("after",)),
    "stable_rank": ("stable rank", layers.STAGES),
    "entropy": ("entropy", ("after",)),
    "mp_softrank": ("MP soft rank", ("after",)),
    "num_spikes": ("spikes", ("after", "update")),
}


class Summary(NamedTuple):
    """One measure over all matrices: medians of the weights and of the update, with their nulls."""

    metric: str
    before: float
    after: float
    after_null: float
    update: float
    update_null: float
    matrices: int


def summary(spectra: pd.DataFrame, eigenvalues: dict[str, np.ndarray] | None) -> list[Summary]:
    """Medians over matrices of alpha, the ranks and the size of the update; only what the table holds."""
    measured = layers.measured(spectra)
    before, after, update = (layers.stage(measured, which) for which in layers.STAGES)
    count = measured["name"].nunique()
    out = []
    for metric in ("alpha", "stable_rank", "entropy", "mp_softrank"):
        values = [
            _median(layers.column(rows, column))
            for rows, column in (
                (before, metric), (after, metric), (after, f"{metric}_null"), (update, metric), (update, f"{metric}_null"),
            )
        ]  # fmt: skip
        if np.isfinite(values).any():
            out.append(Summary(metric, *values, count))
    size = _median(layers.relative_update(measured, eigenvalues))
    if np.isfinite(size):
        nan = float("nan")
        out.append(Summary("relative_update", nan, nan, nan, size, nan, count))
    return out


def _median(values: pd.Series) -> float:
    return float(values.median()) if values.notna().any() else float("nan")


def matrix_table(
    spectra: pd.DataFrame, eigenvalues: dict[str, np.ndarray] | None, linked: tuple[str, ...] = ()
) -> str:
    """A sortable table, a row a matrix: before, after and update of each measure, nulls below.

    `linked` are the anchors of the panels in the same page.
    """
    measured = layers.measured(spectra)
    before, after, update = (layers.stage(measured, which) for which in layers.STAGES)
    now = after if len(after) else before
    size = layers.relative_update(measured, eigenvalues)
    names = layers.ordered_names(measured)
    short = layers.short_names(names)
    stages = [
        (rows, metric, f"{title} {which}")
        for metric, (title, shown) in _COLUMNS.items()
        for which, rows in (("before", before), ("after", after), ("update", update))
        if layers.column(rows, metric).notna().any() and (which in shown or not len(after))
    ]
    heads = ["matrix"]
    if size.notna().any():
        heads.append("size of update")
    heads += [title for _, _, title in stages]
    rows = []
    for place, name in enumerate(names):
        anchor = f"matrix-{place}"
        said = (
            f'<a href="#{anchor}">{breakable(short[name])}</a>'
            if anchor in linked
            else breakable(short[name])
        )
        warning = str(now["warning"].get(name) or "") if "warning" in now else ""
        below = "; ".join(filter(None, [shape(measured, name), warning]))
        line = [Cell(f"{said}<small>{escape(below)}</small>", place)]
        if size.notna().any():
            line.append(number_cell(float(size.get(name, float("nan")))))
        # Noise of a shape is the same before and after, so it is said once a measure.
        line += [value(rows_of, name, metric, with_null=rows_of is now) for rows_of, metric, _ in stages]
        rows.append(line)
    return table(
        "Each matrix; below its name: slices × N × M. Below a value: noise of that shape (α: 90 % of such matrices). D: distance of the tail from its fit",
        heads,
        rows,
    )


def shape(measured: pd.DataFrame, name: str) -> str:
    """Slices, N and M of a matrix as text, empty where they are not known."""
    row = measured[measured["name"] == name].iloc[0]
    n, m = (float(row.get(k, float("nan"))) for k in "NM")
    if not np.isfinite(n * m):
        return ""
    slices = next((float(row[k]) for k in ("slices", "rf") if k in row and np.isfinite(row[k])), 1.0)
    return (f"{slices:.0f} × " if slices > 1 else "") + f"{n:.0f} × {m:.0f}"


def value(rows: pd.DataFrame, name: str, metric: str, with_null: bool) -> Cell:
    """A number of the table, its standard error beside it and its null below where there are any."""
    number, null, error = (layers.at(rows, name, metric + end) for end in ("", "_null", "_se"))
    low, high = (layers.at(rows, name, f"{metric}_null_{end}") for end in ("low", "high"))
    noise = f"{show(low)} – {show(high)}" if np.isfinite(low + high) else show(null)
    small = f"<small><i>{noise}</i></small>" if with_null and np.isfinite(null) else ""
    spread = f"<i>\u202f±\u202f{show(error, 2)}</i>" if np.isfinite(error) else ""
    return Cell(show(number) + spread + small, number)


def left_out(spectra: pd.DataFrame) -> str:
    """Tensors without a spectrum and the reasons, folded away; nothing where there are none."""
    reasons = spectra.attrs.get("left_out")
    if not isinstance(reasons, dict) or not reasons:
        return ""
    shown = pairs((str(name), str(reason)) for name, reason in reasons.items())
    return (
        f"<details><summary>Tensors without a spectrum ({len(reasons)}), and why</summary>{shown}</details>"
    )


def profile_figure(spectra: pd.DataFrame, eigenvalues: dict[str, np.ndarray] | None) -> Figure | None:
    """Each measure over depth, matrices of a kind side by side: weights before and after, and the update."""
    measured = layers.measured(spectra)
    stages = {which: layers.stage(measured, which) for which in layers.STAGES}
    for which in ("before", "after"):
        stages[which] = stages[which].assign(frobenius=layers.frobenius(stages[which], which, eigenvalues))
    size = layers.relative_update(measured, eigenvalues)
    stages["update"] = stages["update"].assign(relative_update=size.reindex(stages["update"].index))

    def found(part: tuple[str, ...], metric: str) -> bool:
        return any(layers.column(stages[which], metric).notna().any() for which in part)

    lines = [pair for pair in _LINES if found(_PARTS[0], pair[0]) or found(_PARTS[1], pair[1])]
    columns = [k for k in (0, 1) if any(found(_PARTS[k], pair[k]) for pair in lines)]
    if not columns:
        return None
    grouped = layers.groups(layers.ordered_names(measured))
    positions, centres = _positions(grouped)
    drawn = style.figure(style.WIDTH if len(columns) == 2 else 6.5, 1.5 * len(lines) + 1.55)
    grid = drawn.subplots(len(lines), len(columns), sharex=True, squeeze=False)
    for k, column in zip(columns, grid.T, strict=True):
        for axes, pair in zip(column, lines, strict=True):
            if found(_PARTS[k], pair[k]):
                _profile(axes, {which: stages[which] for which in _PARTS[k]}, pair[k], grouped, positions)
                axes.set_title(_TITLES[pair[k]])
            else:
                axes.set_axis_off()
        last = [axes for axes in column if axes.axison][-1]
        turned = len(centres) > 3
        last.tick_params(labelbottom=True)
        last.set_xticks(list(centres.values()), [_cut(g) for g in centres],
                        rotation=38 if turned else 0, ha="right" if turned else "center")  # fmt: skip
    entries = {
        which: style.handle("o", which, hollow=which == "before") for which in stages if len(stages[which])
    }
    if any(name.endswith("_null") for name in measured.columns):
        entries["noise of that shape"] = style.handle("_", "null")
    drawn.legend(list(entries.values()), list(entries), loc="upper right", ncols=4, bbox_to_anchor=(0.995, 1))
    height = drawn.get_figheight()
    drawn.subplots_adjust(0.05, 1.0 / height, 0.99, 1 - 0.55 / height, 0.12, 0.36)
    return drawn


def _cut(label: str) -> str:
    return label if len(label) <= 20 else "…" + label[-19:]


def _positions(grouped: dict[str, list[str]]) -> tuple[dict[str, float], dict[str, float]]:
    """Places along the axis by name, groups apart from each other, and the centre of each group."""
    positions: dict[str, float] = {}
    centres = {}
    start, gap = 0.0, max(0.9, sum(map(len, grouped.values())) / 40)
    for label, names in grouped.items():
        for k, name in enumerate(names):
            positions[name] = start + k
        centres[label] = start + (len(names) - 1) / 2
        start += len(names) + gap
    return positions, centres


def _profile(
    axes: Axes,
    stages: dict[str, pd.DataFrame],
    metric: str,
    grouped: dict[str, list[str]],
    positions: dict[str, float],
) -> None:
    size = 4.0 if len(positions) <= 60 else 2.4
    for names in grouped.values():
        x = [positions[name] for name in names]
        for which, rows in stages.items():
            null = layers.column(rows, f"{metric}_null").reindex(names)
            if which != "before":  # before and after have the same shape, and nearly the same null
                ends = [layers.column(rows, f"{metric}_null_{end}").reindex(names) for end in ("low", "high")]
                axes.vlines(x, *ends, color=style.LIGHT["null"], linewidth=1, zorder=2)
                axes.plot(
                    x,
                    null,
                    "_",
                    color=style.LIGHT["null"],
                    markersize=2 * size,
                    markeredgewidth=1.3,
                    zorder=2,
                )
            # Hollow and larger below filled and smaller: both are seen where training changed little.
            axes.plot(x, layers.column(rows, metric).reindex(names), "-o", color=style.LIGHT[which], linewidth=0.9, zorder=3,
                      markersize=1.75 * size if which == "before" else size,
                      markerfacecolor=style.LIGHT["paper"] if which == "before" else style.LIGHT[which])  # fmt: skip
    names_of = (metric, f"{metric}_null", f"{metric}_null_low", f"{metric}_null_high")
    shown = [layers.column(rows, name).to_numpy() for rows in stages.values() for name in names_of]
    joined = np.concatenate([v[np.isfinite(v)] for v in shown])
    if metric != "num_spikes" and len(joined) and joined.min() > 0 and joined.max() > 8 * joined.min():
        style.log_axis(axes, "y", 4)
    axes.grid(axis="y")
    axes.tick_params(axis="x", length=0)
