"""Labelled texts: intents (BANKING77, CLINC150), subjectivity, questions (TREC), and tables of the user."""

import csv
import io
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from absl import logging

from rmtjax import config as config_lib
from rmtjax import files
from rmtjax.data.part_names import part_of
from rmtjax.data.sources import Source
from rmtjax.data.tokens import Tokenizer, Tokens, rows
from rmtjax.errors import InputError

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_LINES = ".jsonl"  # an object a line
_ENDINGS = (*_SEPARATORS, _LINES)
_LABELS = ("label", "category")
# By number in the files of harvardnlp/sent-conv-torch; coarse types of Li & Roth (2002).
_TREC = ("description", "entity", "abbreviation", "human", "location", "number")
_SUBJ = ("subjective", "objective")


class Labelled(NamedTuple):
    texts: list[str]
    labels: list[str]
    rows: Sequence[int] = ()  # in the file, from 1, where that is known


def parts(name: str, tokenizer: Tokenizer, max_tokens: int) -> dict[str, Source]:
    """The parts of a set of texts: "all", or some of "train", "validation" and "test".

    Args:
      name: one of `config.TEXT_SETS`, from the folder that RMTJAX_DATA names, or `texts:PATH`: a .csv, .tsv
        or .jsonl file with the columns (keys) text and label (or category), or a folder of train, validation
        and test files of this kind; PATH may be `data:...` (`files.located`).
      tokenizer: how texts are split, and which tokens words have.
      max_tokens: number of tokens of every row, with those that begin and end it.

    Raises:
      InputError: the set is missing, or a file is of another kind.
    """
    kind, _, path = name.partition(":")
    tables, classes = (
        _read_tables(name, files.located(path)) if kind == "texts" else _NAMED[name](_folder(name))
    )
    words, modality = rows([table.texts for table in tables.values()], tokenizer, max_tokens)
    number = {c: i for i, c in enumerate(classes)}
    return {
        part: Source(
            name=name,
            labels=np.array([number[label] for label in table.labels], np.int32),
            classes=tuple(classes),
            shape=(max_tokens - 2,),
            origin=np.zeros(len(table.labels), np.int8),
            examples=of_part,
            modality=modality,
        )
        for (part, table), of_part in zip(tables.items(), words, strict=True)
    }


def imported(name: str, path: str, classes: Sequence[str], like: Tokens) -> tuple[Source, list[int]]:
    """The texts of one file, whose labels must be among `classes`, and the row of each.

    Args:
      name: begins every message.
      path: a .csv, .tsv or .jsonl file as in `parts`.
      like: how texts become tokens.

    Raises:
      InputError: the file cannot be read, or a row has no text, no label or an unknown one.
    """
    file = files.located(path)
    table = _read_table(name, file)
    number = {c: i for i, c in enumerate(classes)}
    for row, label in zip(table.rows, table.labels, strict=True):
        if label not in number:
            raise InputError(
                f"{name}: {str(file)!r} has the label {label!r} in row {row}, which the training split does "
                f"not have: its labels are {', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''}"
            )
    (words,), modality = rows([table.texts], like.tokenizer, like.length)
    if len(empty := np.flatnonzero(~words.any(1))):
        raise InputError(_empty(name, file, "text", table.rows[empty[0]]))
    labels = np.array([number[label] for label in table.labels], np.int32)
    origin = np.zeros(len(labels), np.int8)
    source = Source(name, labels, tuple(classes), words.shape[1:], origin, examples=words, modality=modality)
    return source, table.rows


Tables = tuple[dict[str, Labelled], Sequence[str]]


def _banking77(folder: pathlib.Path) -> Tables:
    return _read_tables("banking77", folder / "banking77")


def _clinc150(folder: pathlib.Path) -> Tables:
    content = _clinc(folder, "clinc150")
    tables = {
        part: content[key] for part, key in (("train", "train"), ("validation", "val"), ("test", "test"))
    }
    return tables, sorted(set(tables["train"].labels))


def _clinc150_oos(folder: pathlib.Path) -> Tables:
    """The texts that are out of scope and belong to no class."""
    content = _clinc(folder, "clinc150_oos")
    return {
        part: content[f"oos_{key}"]
        for part, key in (("train", "train"), ("validation", "val"), ("test", "test"))
    }, ["oos"]


def _clinc(folder: pathlib.Path, name: str) -> dict[str, Labelled]:
    file = folder / "clinc150" / "data_full.json"
    try:
        content = json.loads(_read(name, file, "utf-8"))
        return {part: Labelled(*map(list, zip(*pairs, strict=True))) for part, pairs in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{name}: {str(file)!r} is damaged: fetch it again ({error})") from error


def _subj(folder: pathlib.Path) -> Tables:
    return {"all": _read_lines("subj", folder / "sentence_cls" / "subj.all", _SUBJ)}, _SUBJ


def _trec(folder: pathlib.Path) -> Tables:
    files = {part: folder / "sentence_cls" / f"TREC.{part}.all" for part in ("train", "test")}
    return {part: _read_lines("trec", file, _TREC) for part, file in files.items()}, _TREC


def _read_lines(name: str, file: pathlib.Path, classes: Sequence[str]) -> Labelled:
    """Reads lines `<number> <text>` in Latin-1, some characters of which end a line for str.splitlines."""
    lines = _read(name, file, "latin-1").rstrip("\n").split("\n")
    numbers, texts = zip(*(line.partition(" ")[::2] for line in lines), strict=True)
    try:
        return Labelled(list(texts), [classes[int(number)] for number in numbers])
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{name}: {str(file)!r} is damaged: a line does not begin with a class's number ({error})"
        ) from error


_NAMED: dict[str, Callable[[pathlib.Path], Tables]] = {
    "banking77": _banking77,
    "clinc150": _clinc150,
    "clinc150_oos": _clinc150_oos,
    "subj": _subj,
    "trec": _trec,
}


def _folder(name: str) -> pathlib.Path:
    if name not in _NAMED:
        raise InputError(
            f"{name!r} is not a set of texts: it must be {', '.join(config_lib.TEXT_SETS)} or texts:PATH"
        )
    root = os.environ.get("RMTJAX_DATA")
    if not root:
        raise InputError(
            f"{name} needs its files: set RMTJAX_DATA to a folder that holds them, or name your own by "
            "texts:PATH"
        )
    return pathlib.Path(root)


def _read(name: str, file: pathlib.Path, encoding: str) -> str:
    try:
        return file.read_bytes().decode(encoding)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{name}: there is no file {str(file)!r}: put it there, or point RMTJAX_DATA at a folder that "
            "has it"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{name}: {str(file)!r} is not in UTF-8: line {line} has a byte that is not ({error.reason}): "
            "save it in UTF-8"
        ) from error


def _read_tables(name: str, path: pathlib.Path) -> Tables:
    """The tables of a file or folder, and the classes: the training labels, sorted (numbers as such)."""
    if not path.exists():
        raise InputError(
            f"{name}: there is no file or folder {str(path)!r}: put it there, or name your own texts by "
            "texts:PATH"
        )
    found = _tables_of_parts(name, path) if path.is_dir() else {"all": path}
    tables = {part: _read_table(name, file) for part, file in found.items()}
    classes = set(next(iter(tables.values())).labels)
    for part, table in tables.items():
        unknown = sorted(set(table.labels) - classes)
        if unknown:
            raise InputError(
                f"{name}: {str(found[part])!r} has the label {unknown[0]!r}, "
                f"which the training table does not have"
            )
    whole = all(label.isascii() and label.isdigit() for label in classes)
    return tables, sorted(classes, key=_number if whole else None)


def _number(digits: str) -> tuple[int, str, str]:
    """A key by which digits stand in the order of their numbers, which may be too long for int."""
    short = digits.lstrip("0")
    return len(short), short, digits


def _tables_of_parts(name: str, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The files of the parts in a folder, train first; a warning names tables that are no parts."""
    found: dict[str, pathlib.Path] = {}
    others = []
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in _ENDINGS or file.name.startswith(".") or not file.is_file():
            continue
        part = part_of(file.stem)
        if part is None:
            others.append(file.name)
        elif part in found:
            raise InputError(
                f"{name}: {str(folder)!r} has {found[part].name} and {file.name}: keep one of them"
            )
        else:
            found[part] = file
    if "train" not in found:
        raise InputError(f"{name}: there is no train.csv, train.tsv or train.jsonl in {str(folder)!r}")
    if others:
        logging.warning("%s: tables of no part are passed over (%s)", name, ", ".join(others))
    return {part: found[part] for part in ("train", "validation", "test") if part in found}


def _read_table(name: str, file: pathlib.Path) -> Labelled:
    if file.suffix.lower() not in _ENDINGS:
        raise InputError(f"{name}: {str(file)!r} is of another kind: give a .csv, .tsv or .jsonl file")
    table = _objects(name, file) if file.suffix.lower() == _LINES else _cells(name, file)
    label = next((column for column in _LABELS if column in table), None)
    if "text" not in table or label is None:
        raise InputError(
            f"{name}: {str(file)!r} has the columns {', '.join(table.columns)}: text and label are wanted"
        )
    if table.empty:
        raise InputError(f"{name}: {str(file)!r} has no rows: give at least one")
    places = [int(row) + 1 for row in table.index]
    for column in ("text", label):
        empty = np.flatnonzero(table[column].str.strip() == "")
        if len(empty):
            raise InputError(_empty(name, file, column, places[empty[0]]))
    return Labelled(list(table["text"]), list(table[label].str.strip()), places)


def _empty(name: str, file: pathlib.Path, column: str, row: int) -> str:
    return f"{name}: {str(file)!r} has no {column} in row {row}: fill it in or remove the row"


def _objects(name: str, file: pathlib.Path) -> pd.DataFrame:
    """The objects of a file that has one on each line; a key that a line lacks is an empty cell there."""
    found: dict[int, dict[str, str]] = {}
    for i, line in enumerate(_read(name, file, "utf-8-sig").split("\n")):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
            plain = all(isinstance(content.get(key, ""), str | int) for key in ("text", *_LABELS))
        except (ValueError, AttributeError, RecursionError):
            plain = False
        if not plain:
            raise InputError(
                f"{name}: row {i + 1} of {str(file)!r} is no object with a text and a label: write one as "
                '{"text": "...", "label": "..."} on each line'
            )
        found[i] = {key: str(content[key]) for key in ("text", *_LABELS) if key in content}
    return pd.DataFrame.from_dict(found, orient="index").fillna("")


def _cells(name: str, file: pathlib.Path) -> pd.DataFrame:
    """The cells of a table as they stand, in which a quote that nobody closes swallows no row."""
    text, separator = _read(name, file, "utf-8-sig"), _SEPARATORS[file.suffix.lower()]

    def read(quoting: int) -> pd.DataFrame:
        try:
            return pd.read_csv(
                io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, quoting=quoting
            )
        except ValueError as error:
            raise InputError(f"{name}: {str(file)!r} cannot be read as a table: {error}") from error

    try:
        table = read(csv.QUOTE_MINIMAL)
        swallowed = _swallowed(table, separator)
    except InputError:
        if separator != "\t":
            raise
        swallowed = 1
    if swallowed and separator == "\t":  # as a rule, tables with tabs have no quotes around their cells
        table = read(csv.QUOTE_NONE)
    elif swallowed:
        raise InputError(
            f"{name}: {str(file)!r} has a cell in row {swallowed} that holds whole rows: close its quote, or "
            "write two quotes for one that is part of the text"
        )
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(
            f"{name}: in {str(file)!r} rows have more cells than there are columns "
            f"({', '.join(table.columns)}): put quotes around cells that hold the separator"
        )
    return table


def _swallowed(table: pd.DataFrame, separator: str) -> int:
    """The first row, from 1, with a cell that holds rows of the table, which end in labels that others have;
    0 if there is none.
    """
    label = next((i for i, column in enumerate(table.columns) if column in _LABELS), -1)
    known = set(table.iloc[:, label])
    for row, cells in enumerate(table.itertuples(index=False), 1):
        for cell in cells:
            first, *lines = str(cell).split("\n")
            of_rows = [line.split(separator) for line in lines[:-1]]
            whole = any(len(parts) == len(cells) and parts[label] in known for parts in of_rows)
            if whole or (separator == "\t" and lines and separator in first):
                return row
    return 0
