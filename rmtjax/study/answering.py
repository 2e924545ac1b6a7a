"""From the folders of a study's runs to its tables of statistics."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import pandas as pd

from rmtjax import files, statistics
from rmtjax.errors import InputError
from rmtjax.study.design import Design


def answer(
    design: Design, out: str | os.PathLike[str], seeds: Mapping[str, Sequence[int]] | None = None
) -> pd.DataFrame:
    """Writes the tables of a study beside its runs and returns the answers, a row each, from the runs of these seeds of each arm (None:
    the design's).

    study.csv is the one table that all others come from (`statistics.samples`); effects.csv has each arm against its baseline,
    similarity.csv the families against each other, doses.csv their dose-response, spectra.csv the updates' eigenvalues by arm,
    answers.csv the answers. What the runs that
    are finished do not suffice for is left out, or answered by "cannot tell".

    Raises:
      InputError: no finished run.
    """
    folder = pathlib.Path(out)
    seeds = design.seeds if seeds is None else seeds
    table = statistics.collect(folder, design.arms, seeds)
    tables = {"study": table, "answers": statistics.answers(table, design.roles)}
    for name, make in (
        ("effects", statistics.effects),
        ("similarity", lambda table: statistics.similarity(table).table()),
        ("doses", statistics.dose_response),
    ):
        try:
            tables[name] = make(table)
        except InputError:  # too few seeds or doses so far
            (folder / f"{name}.csv").unlink(missing_ok=True)
    by_arm = statistics.spectra_by_arm(folder, design.arms, seeds)
    if len(by_arm):
        tables["spectra"] = by_arm
    for name, content in tables.items():
        with files.atomic(folder / f"{name}.csv") as temporary:
            content.to_csv(temporary, index=False)
    return tables["answers"]
