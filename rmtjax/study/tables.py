"""The tables of a study, written beside its runs: views of the long table, and the statistics made from
them.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence

import pandas as pd

from rmtjax import files, results, statistics
from rmtjax.errors import InputError
from rmtjax.study.design import Design


def write_tables(
    table: pd.DataFrame, out: str | os.PathLike[str], pairs: Sequence[tuple[str, str]] = ()
) -> pd.DataFrame:
    """Writes results.csv, summary.csv and, for pairs of arms, differences.csv. Returns what is in
    results.csv.

    Args:
      table: the long table (`results.collect`); without any run only an empty results.csv is written.
      out: folder of the tables.
      pairs: (arm, other), to be subtracted seed by seed.
    """
    found = results.results_table(table)
    tables = {"results": found}
    if len(found):
        tables["summary"] = results.summary(found)
        if pairs:
            tables["differences"] = results.differences(found, pairs)
    _write(tables, pathlib.Path(out))
    return found


def answer(design: Design, table: pd.DataFrame, out: str | os.PathLike[str]) -> pd.DataFrame:
    """Writes the tables of a study's statistics and returns the answers, one per row.

    study.csv is the table that all others come from (`statistics.samples` says its columns). effects.csv has
    each arm against its baseline, likeness.csv the rows of T1, fit.csv those of T6, separation.csv those of
    T7, similarity.csv the families against each other, doses.csv their dose-response, spectra.csv the
    eigenvalues of the updates by arm, curvature.csv that of the loss along training, answers.csv the answers.
    What the finished runs do not suffice for is left out, or answered by "cannot tell".

    Args:
      design: of the study.
      table: the long table of its finished runs (`results.collect`).
      out: folder of the tables.

    Raises:
      InputError: no run is finished.
    """
    folder = pathlib.Path(out)
    study_table = results.study_table(table, design.arms)
    roles = design.roles
    tables = {"study": study_table, "answers": statistics.answers(study_table, roles)}
    for name, make in (
        ("effects", statistics.effects),
        ("likeness", lambda table: pd.DataFrame(statistics.likeness(table, roles))),
        ("fit", lambda table: pd.DataFrame(statistics.fit_rows(table, roles.progress, roles.sources))),
        ("separation", lambda table: statistics.separations(table, roles)),
        ("similarity", lambda table: statistics.similarity(table).table()),
        ("doses", statistics.dose_response),
    ):
        try:
            tables[name] = make(study_table)
        except InputError:  # too few seeds or doses so far
            (folder / f"{name}.csv").unlink(missing_ok=True)
    further = {
        "spectra": results.update_densities(table, design.arms),
        "curvature": results.curvature_by_step(table, design.arms),
    }
    tables |= {name: found for name, found in further.items() if len(found)}
    _write(tables, folder)
    return tables["answers"]


def _write(tables: Mapping[str, pd.DataFrame], folder: pathlib.Path) -> None:
    for name, content in tables.items():
        with files.atomic(folder / f"{name}.csv") as temporary:
            content.to_csv(temporary, index=False)
