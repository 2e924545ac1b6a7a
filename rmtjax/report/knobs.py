"""The figure of a generator's knobs: a column of charts for each knob, a row for each number."""

import os
import pathlib

import numpy as np
import pandas as pd

from rmtjax.report import png
from rmtjax.report.chart import Band, Chart, Mark, Rule, estimates, fitted
from rmtjax.report.seeds import intervals
from rmtjax.statistics import mean_interval

SHOWN = {
    "vendi_score_pixel": "Vendi score, pixels",
    "vendi_score_feature": "Vendi score, features",
    "within_classes_pixel": "within classes, pixels",
    "within_classes_feature": "within classes, features",
    "coverage_pixel": "coverage of test images",
    "distance_ratio": "distance to training images",
    "distinct_2_token": "distinct word pairs",
    "ngram_vendi_token": "Vendi score of n-grams",
    "identical": "copies of training texts",
    "recognised": "recognised",
    "classification_accuracy_score": "accuracy score (CAS)",
}
_NOTE = "mean and 95 % interval over seeds; grey: as many training examples (for distances: test images)"
_NAMES = {
    "edit_start": "start of edits",
    "total_steps": "steps of the fit",
    "distinct": "distinct noises",
    "top_p": "top-p",
    "mask_share": "share of words put anew",
}


def knobs_figure(table: pd.DataFrame, path: str | os.PathLike[str], note: str = _NOTE) -> pathlib.Path:
    """Draws a PNG of means over seeds with 95 % t intervals; the band is the interval of training examples.

    Args:
      table: columns knob, setting, seed, set, metric, value (`generate.curves.measure`).
      path: path of the PNG.
      note: what stands below the charts.
    """
    knobs = list(dict.fromkeys(table["knob"]))
    charts = []
    for metric in SHOWN:
        rows = table[table["metric"] == metric]
        if len(rows):
            charts += _charts(rows, knobs, metric)
    return png.save(pathlib.Path(path), charts, len(knobs), note=note)


def _charts(rows: pd.DataFrame, knobs: list[str], metric: str) -> list[Chart]:
    """One number against each knob, on a common scale."""
    parts = {knob: rows[rows["knob"] == knob] for knob in knobs}
    real = {knob: _training_interval(part, metric) for knob, part in parts.items()}
    made = {knob: _by_setting(part[part["set"] == "synthetic"]) for knob, part in parts.items()}
    y = fitted([*(np.array(one) for one in real.values()), *(means for _, means in made.values())], log=False)
    charts = []
    for knob in knobs:
        (mean, low, high), (settings, means) = real[knob], made[knob]
        x = fitted([settings], log=False, label=_NAMES.get(knob, knob))
        marks: tuple[Mark, ...] = (
            Band([x.low, x.high], [low, low], [high, high], "null"),
            Rule(mean, "null", "solid", level=True),
            *estimates(settings, means, joined=True),
        )
        charts.append(Chart(x, y, marks, f"{SHOWN[metric]} by {knob}", SHOWN[metric], (250, 170)))
    return charts


def _training_interval(part: pd.DataFrame, metric: str) -> tuple[float, float, float]:
    if metric == "distance_ratio":  # test images have 1 by definition
        return 1.0, float("nan"), float("nan")
    return mean_interval(part[part["set"] == "real"].drop_duplicates("seed")["value"].to_numpy(float))


def _by_setting(made: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The settings in order, and for each the mean and the ends of its interval [settings, 3]."""
    settings = np.sort(made["setting"].unique()).astype(float)
    return settings, intervals(made.loc[made["setting"] == one, "value"] for one in settings)
