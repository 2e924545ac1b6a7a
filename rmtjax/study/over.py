"""Answers over the studies of several models, from the tables that each left in its folder."""

import os
import pathlib
from collections.abc import Sequence

import pandas as pd

from rmtjax import files, statistics
from rmtjax.errors import InputError


def names_of(folders: Sequence[str | os.PathLike[str]]) -> dict[str, pathlib.Path]:
    """A model's name for each folder: its last part, or the whole path where two have that in common.

    Raises:
      InputError: fewer than two folders, one that is given twice, or one without answers.csv.
    """
    paths = [pathlib.Path(folder) for folder in folders]
    if len(paths) < 2:
        raise InputError(f"--over has {len(paths)} folder: give the folders of two studies or more")
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"--over has {str(path)!r} twice: give each study once")
        if not (path / "answers.csv").is_file():
            raise InputError(f"no table {str(path / 'answers.csv')!r}: run that study first")
    last = [path.name for path in paths]
    return {path.name if last.count(path.name) == 1 else str(path): path for path in paths}


def answer_over_models(
    folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]
) -> pd.DataFrame:
    """Writes answers_over_models.csv, a row per question and block (`statistics.OverModels`), and returns it.

    answers.csv of each study is needed; T1 is also read from likeness.csv, where there is one.

    Raises:
      InputError: as `names_of`; or a table without a needed column.
    """
    named = names_of(folders)
    answers, likeness = (
        {
            # "null" and "none" are words here.
            name: pd.read_csv(path / table, keep_default_na=False, na_values=[""])
            for name, path in named.items()
            if (path / table).is_file()
        }
        for table in ("answers.csv", "likeness.csv")
    )
    found = pd.DataFrame(
        statistics.over_models(answers, likeness), columns=list(statistics.OverModels._fields)
    )
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    with files.atomic(pathlib.Path(out) / "answers_over_models.csv") as temporary:
        found.to_csv(temporary, index=False)
    return found
