"""The spectrum of each matrix, as the complementary distribution of its eigenvalues.

That is the share of eigenvalues of at least λ, on logarithmic axes: nothing is binned, and a power law with density
λ^-α is a straight line of slope 1 - α above xmin. Eigenvalues are of W^T W, not divided by N.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rmtjax.report import layers, style
from rmtjax.report.tables import show

_MOST_PANELS = 120


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
        stored = {which: layers.positive(eigenvalues.get(f"{which}/{name}")) for which in layers.STAGES}
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
        stored = {which: layers.positive(eigenvalues.get(f"{which}/{name}")) for which in ("before", "after")}
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


def _fit(rows: pd.DataFrame, name: str, values: np.ndarray) -> dict[str, float]:
    fit = {key: layers.at(rows, name, key) for key in ("alpha", "xmin", "edge")}
    fit["share"] = float(np.mean(values >= fit["xmin"])) if np.isfinite(fit["xmin"]) else float("nan")
    return fit


def _panel(stored: dict[str, np.ndarray], fits: dict[str, dict[str, float]]) -> Figure:
    weights = [which for which in ("before", "after") if which in stored]
    columns = [part for part in (weights, ["update"] if "update" in stored else []) if part]
    drawn = style.figure(1.78 * len(columns), 1.62)
    for axes, part in zip(drawn.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        _spectrum(axes, {which: stored[which] for which in part}, fits)
        axes.tick_params(labelsize=7.5, pad=2, length=2.5)
    drawn.subplots_adjust(0.2 / len(columns), 0.235, 0.965, 0.97, 0.24)
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


def _thinned(count: int) -> np.ndarray:
    """Indices into ascending eigenvalues: all of the 80 largest, about 120 of the others."""
    if count <= 220:
        return np.arange(count)
    return np.concatenate([np.linspace(0, count - 81, 120).round().astype(int), np.arange(count - 80, count)])
