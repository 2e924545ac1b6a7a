"""Knobs of a generator against what its sets are like: a column for each knob, a row for each number."""

import os
import pathlib

import numpy as np
import pandas as pd

from rmtjax.report import style
from rmtjax.report.seeds import mean_interval

SHOWN = {
    "vendi_score_pixel": "Vendi score, pixels",
    "vendi_score_feature": "Vendi score, features",
    "within_classes_feature": "within classes, features",
    "coverage_pixel": "coverage of test images",
    "distance_ratio": "distance to training images",
    "distinct_2_token": "distinct word pairs",
    "ngram_vendi_token": "Vendi score of n-grams",
    "identical": "copies of training texts",
    "recognised": "recognised",
    "classification_accuracy_score": "accuracy score (CAS)",
}
_NAMES = {
    "edit_start": "start of edits",
    "total_steps": "steps of the fit",
    "distinct": "distinct noises",
    "top_p": "top-p",
    "mask_share": "share of words put anew",
}


def knobs_figure(table: pd.DataFrame, path: str | os.PathLike[str]) -> pathlib.Path:
    """Draws a PNG of means over seeds with their 95 % t intervals, and the training images' own as a band.

    Args:
      table: columns knob, setting, seed, set, metric, value (`generate.curves.measure`).
      path: of the PNG.
    """
    knobs = list(dict.fromkeys(table["knob"]))
    metrics = [metric for metric in SHOWN if (table["metric"] == metric).any()]
    with style.drawing():
        width, height = 1.2 + 2.5 * len(knobs), 0.7 + 1.5 * len(metrics)
        drawn = style.figure(width, height)
        grid = drawn.subplots(len(metrics), len(knobs), sharex="col", sharey="row", squeeze=False)
        for line, metric in zip(grid, metrics, strict=True):
            for axes, knob in zip(line, knobs, strict=True):
                part = table[(table["knob"] == knob) & (table["metric"] == metric)]
                real = part[part["set"] == "real"].drop_duplicates("seed")["value"].to_numpy(float)
                mean, low, high = mean_interval(real)
                if metric == "distance_ratio":
                    mean, low, high = 1.0, np.nan, np.nan
                if np.isfinite(mean):
                    axes.axhline(mean, color=style.LIGHT["null"], linewidth=1.2)
                if np.isfinite(low):
                    axes.axhspan(low, high, color=style.LIGHT["null"], alpha=0.2, linewidth=0)
                made = part[part["set"] == "synthetic"]
                settings = np.sort(made["setting"].unique())
                lines = np.array(
                    [mean_interval(made.loc[made["setting"] == s, "value"].to_numpy(float)) for s in settings]
                )
                axes.vlines(settings, lines[:, 1], lines[:, 2], color=style.LIGHT["after"], linewidth=1.6)
                axes.plot(settings, lines[:, 0], "o-", color=style.LIGHT["after"], markersize=4, linewidth=1)
                axes.grid(axis="y")
            line[0].set_ylabel(
                SHOWN[metric].replace(", ", ",\n").replace(" of ", "\nof ").replace(" to ", "\nto ")
            )
        for axes, knob in zip(grid[-1], knobs, strict=True):
            axes.set_xlabel(_NAMES.get(knob, knob))
        drawn.text(0.99, 0.06 / height, "mean and 95 % interval over seeds; grey: training examples, as many (of distances: test images)",
                   ha="right", va="bottom", fontsize=8, color=style.LIGHT["muted"])  # fmt: skip
        drawn.subplots_adjust(1.0 / width, 0.62 / height, 1 - 0.1 / width, 1 - 0.12 / height, 0.1, 0.16)
        return style.save_png(drawn, pathlib.Path(path))
