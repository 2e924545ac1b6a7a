"""Training curves: loss, accuracy, learning rate, gradient norm and speed by step."""

import numpy as np
import pandas as pd

from rmtjax.report.chart import Axis, Band, Chart, Dots, Key, Line, Mark, fitted

KEYS = (Key("before", "line", "training batches"), Key("after", "line", "validation"))
_PANELS = (
    ("loss", ("loss", "validation/loss")),
    ("accuracy", ("accuracy", "validation/accuracy")),
    ("learning rate", ("learning_rate",)),
    ("norm of the gradient", ("grad_norm",)),
    ("examples per second", ("examples_per_second",)),
)
_POINTS = 200


def curves(metrics: pd.DataFrame) -> list[Chart]:
    """Training curves, a chart for each quantity that was logged."""
    panels = [(title, [name for name in names if _is_finite(metrics, name)]) for title, names in _PANELS]
    return [_chart(metrics, title, names) for title, names in panels if names]


def _is_finite(metrics: pd.DataFrame, name: str) -> bool:
    return name in metrics and bool(np.isfinite(metrics[name]).any())


def _chart(metrics: pd.DataFrame, title: str, names: list[str]) -> Chart:
    values = metrics[names].replace([np.inf, -np.inf], np.nan)
    low = float(values.min().min())
    if title in ("loss", "norm of the gradient") and low > 0:
        y = fitted([values.to_numpy()], log=True)
    elif title == "accuracy":
        y = Axis(min(0.0, low), 1.02)
    else:
        y = fitted([values.to_numpy()], log=False, floor=0.0 if low >= 0 else None)
        y = y if y.high > y.low else Axis(0.0, 1.0)
    steps = metrics["step"].to_numpy(float)
    x = fitted([steps], log=False, label="step")
    marks = tuple(mark for name in names for mark in _marks(metrics, name))
    return Chart(x, y, marks, f"{title} by step", title, (360, 220))


def _marks(metrics: pd.DataFrame, name: str) -> list[Mark]:
    """One quantity: every step and the running mean; for long runs the mean and range of bins of steps."""
    kept = metrics[["step", name]].replace([np.inf, -np.inf], np.nan).dropna()
    validation = name.startswith("validation/")
    colour = "after" if validation else "before"
    if validation or name == "learning_rate" or len(kept) < 10:
        thin = kept.iloc[:: max(1, len(kept) // _POINTS)]
        x, y = thin["step"].to_numpy(float), thin[name].to_numpy(float)
        dotted = len(kept) <= 60 and name != "learning_rate"
        return [Line(x, y, colour), *([Dots(x, y, colour, radius=2.2)] if dotted else [])]
    if len(kept) > 2 * _POINTS:
        bins = kept.groupby(np.arange(len(kept)) * _POINTS // len(kept))
        step, values = bins["step"].mean().to_numpy(float), bins[name]
        low, high = values.min().to_numpy(float), values.max().to_numpy(float)
        return [Band(step, low, high, colour), Line(step, values.mean().to_numpy(float), colour)]
    smooth = kept[name].rolling(max(3, len(kept) // 20), center=True, min_periods=1).mean()
    step = kept["step"].to_numpy(float)
    return [
        Line(step, kept[name].to_numpy(float), colour, "faint"),
        Line(step, smooth.to_numpy(float), colour),
    ]
