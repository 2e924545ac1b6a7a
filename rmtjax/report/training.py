"""How the run went: loss, accuracy, learning rate, gradient norm and speed by step."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rmtjax.report import style

_PANELS = (
    ("loss", ("loss", "validation/loss")),
    ("accuracy", ("accuracy", "validation/accuracy")),
    ("learning rate", ("learning_rate",)),
    ("norm of the gradient", ("grad_norm",)),
    ("examples a second", ("examples_per_second",)),
)
_POINTS = 200


def curves(metrics: pd.DataFrame) -> Figure | None:
    """Training curves, a panel for each quantity that was logged; None where nothing was."""
    panels = [(title, [n for n in names if _finite(metrics, n)]) for title, names in _PANELS]
    panels = [(title, names) for title, names in panels if names]
    if not panels:
        return None
    wide = min(len(panels), 3)
    tall = -(-len(panels) // wide)
    drawn = style.figure(style.WIDTH if wide > 1 else 5.2, 2.5 * tall)
    grid = drawn.subplots(tall, wide, squeeze=False).ravel()
    for axes, (title, names) in zip(grid, panels, strict=False):
        for name in names:
            _curve(axes, metrics, name)
        axes.set_title(title)
        axes.grid(axis="y")
        axes.set_xlabel("step")
        if len(names) > 1:
            axes.legend(handlelength=1.4)
        positive = metrics[names].min().min() > 0
        if title in ("loss", "norm of the gradient") and positive:
            style.log_axis(axes, "y")
        elif title == "accuracy":
            axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.02)
        elif metrics[names].min().min() >= 0:
            axes.set_ylim(0, None)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    drawn.subplots_adjust(0.05, 0.2 / tall, 0.99, 1 - 0.12 / tall, 0.22, 0.62)
    return drawn


def _finite(metrics: pd.DataFrame, name: str) -> bool:
    return name in metrics and bool(np.isfinite(metrics[name]).any())


def _curve(axes: Axes, metrics: pd.DataFrame, name: str) -> None:
    """One quantity: every step faintly and its running mean; long runs as means of bins with their range."""
    kept = metrics[["step", name]].replace([np.inf, -np.inf], np.nan).dropna()
    validation = name.startswith("validation/")
    colour = style.LIGHT["after" if validation else "before"]
    label = "validation" if validation else "training batches"
    if validation or name == "learning_rate" or len(kept) < 10:
        marker = "o" if len(kept) <= 60 and name != "learning_rate" else ""
        thin = kept.iloc[:: max(1, len(kept) // _POINTS)]
        axes.plot(thin["step"], thin[name], color=colour, marker=marker, markersize=3.2, label=label)
        return
    if len(kept) > 2 * _POINTS:
        bins = kept.groupby(np.arange(len(kept)) * _POINTS // len(kept))
        step, values = bins["step"].mean(), bins[name]
        axes.fill_between(step, values.min(), values.max(), color=colour, alpha=0.22, linewidth=0)
        axes.plot(step, values.mean(), color=colour, label=label)
        return
    smooth = kept[name].rolling(max(3, len(kept) // 20), center=True, min_periods=1).mean()
    axes.plot(kept["step"], kept[name], color=colour, alpha=0.28, linewidth=0.8)
    axes.plot(kept["step"], smooth, color=colour, label=label)
