"""The page of several studies, one for each model: answers over models and two figures, from CSV files."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from rmtjax import results
from rmtjax.report import pages, png
from rmtjax.report.chart import Chart, Key, Line, Mark, Rule, fitted
from rmtjax.report.colours import look
from rmtjax.report.numbers import interval
from rmtjax.report.page_of_study import answer_blocks, found_table, needed_table, similarity_charts
from rmtjax.report.pages import Charts, Section, Table, Text, number_cell, text_cell

_SIMILARITY = (
    "Cosine between the effects of two families on all layer groups and metrics, in each model "
    "(similarity.csv of its study). The diagonal shows the reliability."
)
_SPECTRA = (
    "What the highest dose of each family changes of the density of the update's eigenvalues, over the "
    "matrices of the backbone, each divided by the mean of its matrix: the arm's mean over seeds less its "
    "baseline's, a line for each model (spectra.csv of its study). Families that two models have in common."
)


def models_page(out: str | os.PathLike[str], studies: Mapping[str, pathlib.Path]) -> pathlib.Path:
    """Draws `models.html` and its figures `figures/*.png` from answers_over_models.csv in the folder.

    Args:
      out: the folder.
      studies: by the name of a model, the folder of its study, of which similarity.csv and spectra.csv are
        used where they exist.

    Raises:
      InputError: there is no answers_over_models.csv.
    """
    folder = pathlib.Path(out)
    answers = needed_table(folder / "answers_over_models.csv")
    header = Text(
        f"{len(studies)} models: {', '.join(studies)}. Means over models by random effects with the interval "
        "of Hartung, Knapp, Sidik and Jonkman: 12.7 standard errors to either side with two models, 4.3 with "
        "three, 2.8 with five.",
        "",
    )
    told = answers.dropna(subset=["verdict"]).drop_duplicates(["question", "block"])
    # What both blocks of numbers say together holds what each says.
    whole = [
        row for row in told.itertuples() if told["sentence"].str.contains(row.sentence, regex=False).sum() < 2
    ]
    texts = answer_blocks((row.question, _verdict(row), row.sentence) for row in whole)
    tables = {name: found_table(path / "spectra.csv") for name, path in studies.items()}
    similar = [
        chart._replace(title=name, alt=f"{chart.alt}, {name}")
        for name, path in studies.items()
        for chart in similarity_charts(found_table(path / "similarity.csv"))
    ]
    spectra = _spectra({name: table for name, table in tables.items() if table is not None})
    keys = [Key(look(place)[0], "line", name) for place, name in enumerate(studies)]
    blocks: list[Charts | Text] = []
    for name, charts, caption, columns, legend in (
        ("similarity_by_model", similar, _SIMILARITY, 1, []),
        ("spectra_by_model", spectra, _SPECTRA, 4, keys),
    ):
        if charts:
            png.save(folder / results.FIGURES / f"{name}.png", charts, columns, legend)
            blocks.append(Charts(charts, caption, columns if columns < 4 else 0, legend))
    sections = [
        Section("answers", "Answers over models", texts),
        Section("numbers", "Numbers", [_numbers(answers)]),
        Section("figures", "Figures", blocks or [pages.absent("The studies have no tables for a figure.")]),
    ]
    return results.write(folder / "models.html", pages.render("Models", [header], sections))


def _verdict(row: Any) -> str:
    return (
        f"{row.block.replace('_', ' ')}: {row.verdict}"
        if isinstance(row.block, str) and row.block
        else str(row.verdict)
    )


def _title(question: str, block: object) -> str:
    return f"{question}, {block}" if isinstance(block, str) and block else question


def _numbers(found: pd.DataFrame) -> Table:
    rows = [
        [
            text_cell(_title(row.question, row.block), row.quantity),
            text_cell("" if pd.isna(row.verdict) else row.verdict),
            number_cell(row.value)._replace(below=interval(row.low, row.high)),
            number_cell(row.spread),
            text_cell(interval(row.prediction_low, row.prediction_high)),
            text_cell(row.models),
            text_cell("" if pd.isna(row.verdicts) else row.verdicts),
        ]
        for row in found.itertuples()
    ]
    heads = ["question", "verdict", "mean", "s.d. between models", "another model", "models", "each alone"]
    caption = (
        "Means over models with 95 % intervals below. Cosines and rank correlations are pooled by Fisher's "
        "z, root mean squares by their squares; the standard deviation between models is on that scale. "
        "answers_over_models.csv has these rows."
    )
    return Table(caption, heads, rows, left=2)


def _spectra(tables: Mapping[str, pd.DataFrame]) -> list[Chart]:
    """A chart per family that two models have: density of the highest dose less the baseline's."""
    lines: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, table in tables.items():
        arms = table.drop_duplicates("arm")
        real = arms[arms["arm"] != arms["baseline"]].sort_values("dose")
        for row in real.drop_duplicates("family", keep="last").itertuples():
            arm, base = (
                table[table["arm"] == part].set_index("log10_eigenvalue")["density"]
                for part in (row.arm, row.baseline)
            )
            both = arm.index.intersection(base.index)
            change = (arm[both] - base[both]).to_numpy(float)
            lines.setdefault(str(row.family), {})[name] = (both.to_numpy(float), change)
    shared = {family: by_model for family, by_model in lines.items() if len(by_model) > 1}
    if not shared:
        return []
    drawn = [line for by_model in shared.values() for line in by_model.values()]
    x = fitted([at for at, _ in drawn], log=False, label="log₁₀ eigenvalue / mean")
    y = fitted([change for _, change in drawn], log=False)
    charts = []
    for family, by_model in shared.items():
        marks: list[Mark] = [Rule(0.0, "null", "solid", level=True)]
        for place, name in enumerate(tables):
            if name in by_model:
                marks.append(Line(*by_model[name], look(place)[0]))
        alt = f"Change of the update's eigenvalues by {family}, by model"
        charts.append(Chart(x, y, tuple(marks), alt, family.replace("_", " "), (270, 190)))
    return charts
