"""The numbers of finished runs in one file, which outlives the runs' folders.

It is a Parquet file: the long table without the column `run`; `place`, the place of a number among those of
its run; and what made the run: `config_hash`, `config` (JSON of the fields that are not at their defaults)
and `git_commit`.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rmtjax import files
from rmtjax.errors import InputError
from rmtjax.results.long_table import COLUMNS, rounded

_RUN = ["arm", "seed"]
_NAMES = ["stage", "group", "metric"]
_MADE = ["config_hash", "config", "git_commit"]


class Made(NamedTuple):
    """What made a run.

    Attributes:
      config_hash: of `config`.
      config: JSON of the fields that are not at their defaults.
      git_commit: of the code, "" where it is not known.
    """

    config_hash: str
    config: str
    git_commit: str


class Rows(NamedTuple):
    """The numbers of finished runs (the long table), and what made each, by arm and seed."""

    table: pd.DataFrame
    made: Mapping[tuple[str, int], Made]


EMPTY = Rows(pd.DataFrame(columns=list(COLUMNS)), {})


def read_rows(path: str | os.PathLike[str]) -> Rows:
    """What `write_rows` wrote. Raises InputError where the file is something else, or damaged."""
    try:
        table = pq.read_table(path, columns=[*_RUN, *_NAMES, "value", "place", *_MADE]).to_pandas()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise InputError(
            f"{str(path)!r} is damaged, or is no file of rows of a study: give one that --rows wrote"
        ) from error
    runs = table.drop_duplicates(_RUN)
    made = {
        (str(run.arm), int(run.seed)): Made(run.config_hash, run.config, run.git_commit)
        for run in runs.itertuples()
    }
    table = table.astype(dict.fromkeys(("arm", *_NAMES), object))
    table = table.sort_values([*_RUN, "place"], ignore_index=True)
    table["run"] = table["arm"] + "/" + table["seed"].astype(str)
    table["value"] = rounded(table["value"].to_numpy())
    return Rows(table[list(COLUMNS)], made)


def write_rows(path: str | os.PathLike[str], rows: Rows) -> None:
    """Writes a Parquet file, whole or not at all. Values are float32, as those that `collect` gives are."""
    runs = pd.DataFrame([(*run, *made) for run, made in rows.made.items()], columns=[*_RUN, *_MADE])
    table = rows.table.drop(columns="run").merge(runs, on=_RUN)
    # So sorted, names are in long blocks and what made the runs comes round and round: neither takes room.
    table["place"] = table.groupby(_RUN).cumcount().astype("int32")
    table = table.sort_values([*_NAMES, *_RUN])
    texts = ["arm", *_NAMES, *_MADE]
    table = table.astype(dict.fromkeys(texts, "category") | {"seed": "int64", "value": "float32"})
    with files.atomic(path) as temporary:
        pq.write_table(
            pa.Table.from_pandas(table, preserve_index=False),
            temporary,
            compression="zstd",
            compression_level=19,
            use_dictionary=[*texts, "seed", "place"],
            use_byte_stream_split=["value"],
        )


def merged(first: Rows, other: Rows, where: str) -> Rows:
    """All runs of both; of a run that both have, that of the first.

    Raises:
      InputError: they hold the same run with two configs; `where` names the other one.
    """
    for run, made in other.made.items():
        if run in first.made and first.made[run].config_hash != made.config_hash:
            raise InputError(
                f"{where} holds the run {run[0]}/{run[1]} with another config: keep the rows of other "
                "studies in other files"
            )
    new = {run: made for run, made in other.made.items() if run not in first.made}
    if not new:
        return first
    added = other.table[pd.MultiIndex.from_frame(other.table[_RUN]).isin(list(new))]
    parts = [table for table in (first.table, added) if len(table)]
    return Rows(pd.concat(parts, ignore_index=True) if parts else EMPTY.table, {**first.made, **new})
