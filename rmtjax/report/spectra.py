"""Spectra of the weights before and after training, and of the update: over depth, and matrix by matrix.

Eigenvalues are of W^T W, not divided by N. A spectrum is shown as its complementary distribution, the share of
eigenvalues of at least λ, on logarithmic axes: nothing is binned, and a power law with density λ^-α is a
straight line of slope 1 - α above xmin.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rmtjax.report import layers, style
from rmtjax.report.tables import Cell, breakable, escape, number_cell, show, table

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
_MOST_PANELS = 120


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
    heads = ["matrix", "N × M"]
    if size.notna().any():
        heads.append("size of update")
    heads += [title for _, _, title in stages]
    words = "warning" in now and now["warning"].fillna("").astype(str).ne("").any()
    if words:
        heads.append("warning")
    rows = []
    for place, name in enumerate(names):
        anchor = f"matrix-{place}"
        said = (
            f'<a href="#{anchor}">{breakable(short[name])}</a>'
            if anchor in linked
            else breakable(short[name])
        )
        line = [Cell(said, place), _shape(measured, name)]
        if size.notna().any():
            line.append(number_cell(float(size.get(name, float("nan")))))
        line += [_with_null(rows_of, name, metric) for rows_of, metric, _ in stages]
        if words:
            said = str(now["warning"].get(name) or "")
            line.append(Cell(f'<span class="words">{escape(said)}</span>', said))
        rows.append(line)
    return table(
        "Each matrix. Below a value: what noise of that shape shows (α: 90 % of such matrices). D: distance of the tail to its fit",
        heads,
        rows,
    )


def _at(rows: pd.DataFrame, name: str, column: str) -> float:
    if name not in rows.index:
        return float("nan")
    return float(layers.column(rows, column).loc[name])


def _shape(measured: pd.DataFrame, name: str) -> Cell:
    row = measured[measured["name"] == name].iloc[0]
    n, m = (float(row.get(k, float("nan"))) for k in "NM")
    if not np.isfinite(n * m):
        return Cell("–", float("nan"))
    slices = next((float(row[k]) for k in ("slices", "rf") if k in row and np.isfinite(row[k])), 1.0)
    times = f"{slices:.0f} × " if slices > 1 else ""
    return Cell(f"{times}{n:.0f} × {m:.0f}", slices * n * m)


def _with_null(rows: pd.DataFrame, name: str, metric: str) -> Cell:
    value, null = _at(rows, name, metric), _at(rows, name, f"{metric}_null")
    low, high = (_at(rows, name, f"{metric}_null_{end}") for end in ("low", "high"))
    noise = f"{show(low)} to {show(high)}" if np.isfinite(low + high) else show(null)
    small = f"<small><i>{noise}</i></small>" if np.isfinite(null) else ""
    return Cell(show(value) + small, value)


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


class Panel(NamedTuple):
    """A matrix's drawing: where its row links to, its name, its exponents by stage, the figure, and alt text."""

    anchor: str
    name: str
    alphas: dict[str, float]
    drawn: Figure
    alt: str


def panels(spectra: pd.DataFrame, eigenvalues: dict[str, np.ndarray]) -> list[Panel]:
    """A figure for each matrix that has eigenvalues, the first 120 of them."""
    measured = layers.measured(spectra)
    rows = {which: layers.stage(measured, which) for which in layers.STAGES}
    names = layers.ordered_names(measured)
    short = layers.short_names(names)
    out = []
    for place, name in enumerate(names):
        stored = {which: _positive(eigenvalues.get(f"{which}/{name}")) for which in layers.STAGES}
        stored = {which: values for which, values in stored.items() if len(values)}
        if not stored or len(out) == _MOST_PANELS:
            continue
        fits = {which: _fit(rows[which], name, stored[which]) for which in stored}
        drawn = _panel(stored, fits)
        alphas = {which: fit["alpha"] for which, fit in fits.items()}
        alt = f"Spectrum of {name}: " + ", ".join(
            f"α {which} {show(alpha)}" for which, alpha in alphas.items()
        )
        out.append(Panel(f"matrix-{place}", short[name], alphas, drawn, alt))
    return out


def overview_figure(spectra: pd.DataFrame, eigenvalues: dict[str, np.ndarray]) -> Figure | None:
    """The spectra of up to eight matrices, spread over the model, in one figure."""
    measured = layers.measured(spectra)
    rows = {which: layers.stage(measured, which) for which in layers.STAGES}
    names = layers.ordered_names(measured)
    short = layers.short_names(names)
    drawable = []
    for name in names:
        stored = {which: _positive(eigenvalues.get(f"{which}/{name}")) for which in ("before", "after")}
        stored = {which: values for which, values in stored.items() if len(values)}
        if stored:
            drawable.append((name, stored))
    if not drawable:
        return None
    picked = [
        drawable[k]
        for k in np.unique(np.linspace(0, len(drawable) - 1, min(8, len(drawable))).round().astype(int))
    ]
    wide = min(4, len(picked))
    tall = -(-len(picked) // wide)
    drawn = style.figure(2.6 * wide + 0.1, 2.4 * tall + 0.2)
    grid = drawn.subplots(tall, wide, squeeze=False).ravel()
    for axes, (name, stored) in zip(grid, picked, strict=False):
        _spectrum(axes, stored, {which: _fit(rows[which], name, stored[which]) for which in stored})
        axes.set_title(short[name] if len(short[name]) <= 32 else "…" + short[name][-31:], fontsize=8)
        for place, which in enumerate(stored):
            said = f"{which}, α {show(layers.column(rows[which], 'alpha').get(name, float('nan')))}"
            axes.text(0.04, 0.15 - 0.1 * place, said, transform=axes.transAxes, fontsize=8, color=style.LIGHT[which],
                      bbox={"facecolor": style.LIGHT["paper"], "edgecolor": "none", "pad": 0.5, "alpha": 0.85})  # fmt: skip
    for axes in grid[len(picked) :]:
        axes.set_axis_off()
    for axes in grid[: len(picked) : wide]:
        axes.set_ylabel("share ≥ λ", labelpad=2)
    width, height = drawn.get_figwidth(), drawn.get_figheight()
    drawn.text(0.995, 0.06 / height, "eigenvalues λ of WᵀW; dashed: power law from xmin (upright mark); dotted: MP edge",
               ha="right", va="bottom", fontsize=8, color=style.LIGHT["muted"])  # fmt: skip
    drawn.subplots_adjust(0.58 / width, 0.58 / height, 0.985, 1 - 0.25 / height, 0.27, 0.32)
    return drawn


def _positive(values: np.ndarray | None) -> np.ndarray:
    if values is None:
        return np.zeros(0)
    values = np.sort(np.asarray(values, dtype=float).ravel())
    return values[np.isfinite(values) & (values > 0)]


def _fit(rows: pd.DataFrame, name: str, values: np.ndarray) -> dict[str, float]:
    fit = {key: _at(rows, name, key) for key in ("alpha", "xmin", "edge")}
    fit["share"] = float(np.mean(values >= fit["xmin"])) if np.isfinite(fit["xmin"]) else float("nan")
    return fit


def _panel(stored: dict[str, np.ndarray], fits: dict[str, dict[str, float]]) -> Figure:
    weights = [which for which in ("before", "after") if which in stored]
    columns = [part for part in (weights, ["update"] if "update" in stored else []) if part]
    drawn = style.figure(1.78 * len(columns), 1.62)
    for axes, part in zip(drawn.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        _spectrum(axes, {which: stored[which] for which in part}, fits)
        axes.tick_params(labelsize=7.5, pad=2, length=2.5)
    drawn.subplots_adjust(0.2 / len(columns), 0.235, 0.985, 0.97, 0.24)
    return drawn


def _spectrum(axes: Axes, stored: dict[str, np.ndarray], fits: dict[str, dict[str, float]]) -> None:
    """Complementary distributions by stage, each with its power-law fit (dashed) and its MP edge (dotted)."""
    top = max(values[-1] for values in stored.values())
    # The smallest eigenvalues of a square matrix reach down for decades and tell little: the tail gets the room.
    bottom = max(min(values[0] for values in stored.values()), 1e-4 * top)
    lowest = min(1 / len(values) for values in stored.values())
    for which, values in stored.items():
        colour = style.LIGHT[which if which in style.LIGHT else "after"]
        share = np.arange(len(values), 0, -1) / len(values)
        kept = _thinned(len(values))
        under = which == "before"  # wide and pale, so that it is seen where training changed little
        axes.plot(
            values[kept],
            share[kept],
            "-",
            color=colour,
            linewidth=3.2 if under else 1.2,
            alpha=0.45 if under else 1,
        )
        axes.plot(values[-6:], share[-6:], "o", color=colour, markersize=4.2 if under else 2.4, alpha=0.6 if under else 1,
                  markeredgewidth=0)  # fmt: skip
        fit = fits[which]
        if np.isfinite([fit["alpha"], fit["xmin"], fit["share"]]).all() and 0 < fit["xmin"] < values[-1]:
            x = np.geomspace(fit["xmin"], 1.25 * values[-1], 24)
            y = fit["share"] * (x / fit["xmin"]) ** (1 - fit["alpha"])
            axes.plot(x, y, linestyle=(0, (4, 2)), color=colour, linewidth=1, alpha=0.75, zorder=2)
            axes.plot(x[:1], y[:1], "|", color=colour, markersize=9, zorder=4)
        if np.isfinite(fit["edge"]):
            bottom = min(bottom, fit["edge"] / 1.5)
            axes.axvline(fit["edge"], linestyle=(0, (1, 1.6)), color=colour, linewidth=1.1, zorder=1)
    axes.set_xlim(bottom / 1.2, 1.45 * max([top, *(f["edge"] for w, f in fits.items() if w in stored and np.isfinite(f["edge"]))]))  # fmt: skip
    axes.set_ylim(lowest / 1.8, 1.4)
    style.log_axis(axes, "x", 4)
    style.log_axis(axes, "y", 4)
    axes.set_xlabel("λ of the update" if list(stored) == ["update"] else "λ", labelpad=1, fontsize=8)


def _thinned(count: int) -> Any:
    """Indices into ascending eigenvalues: all of the 80 largest, about 120 of the others."""
    if count <= 220:
        return np.arange(count)
    return np.concatenate([np.linspace(0, count - 81, 120).round().astype(int), np.arange(count - 80, count)])
