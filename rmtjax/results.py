"""A run's folder: the names of its files, and how each is read and written.

This module owns them. What a run leaves on disk is read here as plain data, the only input of every table, picture and page.

Nothing is unpickled. A file that is missing reads as None, since a run may have been told to skip a part;
a file that is there and cannot be read is an error, since to leave it out in silence would mislead.
"""

import json
import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rmtjax import files
from rmtjax.errors import InputError

# What a run's folder holds.
CONFIG = "config.json"  # the full configuration
RECORD = "run.json"  # status, step, command, commit, versions, devices, time
METRICS = "metrics.jsonl"  # a line a training step
CHECKPOINTS = "checkpoints"  # Orbax: <step>/, of which 0 is before training
DAMAGED = "damaged"  # checkpoints that could not be read
SAMPLES = "samples.npz"  # what the model saw
SPECTRA = "spectra.parquet"  # a row a matrix and stage
EIGENVALUES = "spectra.npz"  # <stage>/<name> -> eigenvalues
CURVES = "spectra_curves.npz"  # densities, laws and fits that the pages draw
EVALUATION = "evaluation.json"  # accuracy, calibration, shift, OOD: rows
DIVERSITY = "diversity.json"  # what the model was fed: rows
SYNTHETIC = "synthetic.json"  # the synthetic set's manifest
SYNTHETIC_BY_CLASS = "synthetic_by_class.npz"  # a few synthetic examples of each class
PAGE = "report.html"
FIGURES = "figures"  # the page's pictures once more, as PNG


class Run(NamedTuple):
    """A workdir's contents. Absent parts are None."""

    path: pathlib.Path
    config: dict[str, Any] | None  # config.json
    facts: dict[str, Any] | None  # run.json
    metrics: pd.DataFrame | None  # metrics.jsonl, a row a step, by step
    evaluation: pd.DataFrame | None  # rows of evaluation.json: set kind metric value low high null n
    temperature: float  # of evaluation.json, NaN where there is none
    reliability: dict[str, Any] | None  # of evaluation.json: {set: {"confidence", "accuracy", "count"}}
    diversity: pd.DataFrame | None  # rows of diversity.json: set space metric value low high null n
    feature_model: str | None  # of diversity.json
    spectra: pd.DataFrame | None  # spectra.parquet: a row per (stage, matrix)
    eigenvalues: dict[str, np.ndarray] | None  # spectra.npz: "<stage>/<name>" -> ascending
    synthetic: dict[str, Any] | None  # synthetic.json
    samples: dict[str, np.ndarray] | None  # samples.npz
    synthetic_by_class: dict[str, np.ndarray] | None  # synthetic_by_class.npz

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, by label."""
        names = (self.facts or {}).get("classes")
        return [str(name) for name in names] if names else None


def read(workdir: str | os.PathLike[str]) -> Run:
    """Everything in a workdir that a report can show.

    Raises:
      InputError: no such folder, or a file in it that is damaged.
    """
    path = folder(workdir)
    evaluation = _read(path / EVALUATION, _json) or {}
    diversity = _read(path / DIVERSITY, _json) or {}
    return Run(
        path=path,
        config=_read(path / CONFIG, _json),
        facts=_read(path / RECORD, _json),
        metrics=_read(path / METRICS, _metrics),
        evaluation=rows(evaluation, repr(str(path / EVALUATION))),
        temperature=number(evaluation.get("temperature")),
        reliability=evaluation.get("reliability"),
        diversity=rows(diversity, repr(str(path / DIVERSITY))),
        feature_model=diversity.get("feature_model"),
        spectra=_read(path / SPECTRA, _spectra),
        eigenvalues=_read(path / EIGENVALUES, arrays),
        synthetic=_read(path / SYNTHETIC, _json),
        samples=_read(path / SAMPLES, arrays),
        synthetic_by_class=_read(path / SYNTHETIC_BY_CLASS, arrays),
    )


def folder(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """The workdir's path. Raises InputError where there is no such folder."""
    path = pathlib.Path(workdir)
    if not path.is_dir():
        raise InputError(f"no workdir {str(path)!r}: give the folder that a run has written to")
    return path


def arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """All arrays of an npz. Raises ValueError on arrays of objects, which would have to be unpickled."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    """As `arrays`; None where there is no such file. Raises InputError where it is damaged."""
    return _read(path, arrays)


def read_spectra(path: pathlib.Path) -> tuple[pd.DataFrame | None, dict[str, np.ndarray] | None, bool]:
    """spectra.parquet and spectra.npz of a folder, and whether they compare two models; None where one is missing.

    The weights of one model stand as the stage "after", as in `read`. Raises InputError where a file is damaged.
    """
    table = _read(path / SPECTRA, pd.read_parquet)
    compared = table is not None and "stage" in table
    table = _read(path / SPECTRA, _spectra)
    eigenvalues = read_arrays(path / EIGENVALUES)
    if eigenvalues is not None and not compared:
        eigenvalues = {f"after/{name}": values for name, values in eigenvalues.items()}
    return table, eigenvalues, compared


def read_json(path: pathlib.Path) -> dict[str, Any] | None:
    """An object of JSON; None where there is no such file. Raises InputError where it is damaged."""
    return _read(path, _json)


def number(value: Any) -> float:
    """A float, NaN for what is no number (None, text, a missing key)."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _read(path: pathlib.Path, reader: Callable[[pathlib.Path], Any]) -> Any:
    try:
        return reader(path)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"cannot read {str(path)!r} ({why}): restore it, or delete it to go without it"
        ) from error


def _json(path: pathlib.Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("an object of JSON is wanted")
    return content


def _metrics(path: pathlib.Path) -> pd.DataFrame:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = []
    for place, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if place + 1 < len(lines):  # only the last line can be half-written, by a run that was killed
                raise
    table = pd.DataFrame(rows)
    if "step" not in table:
        return pd.DataFrame({"step": []})
    return (
        table.apply(pd.to_numeric, errors="coerce").sort_values("step", kind="stable").reset_index(drop=True)
    )


def rows(content: dict[str, Any], where: str) -> pd.DataFrame | None:
    """The rows of evaluation.json or diversity.json as a table; None where there are none.

    Text columns are set, metric, kind, space ("" where absent); float columns value, low, high, null, n (NaN).
    Raises InputError, naming `where`, for rows without a set, metric or value.
    """
    table = pd.DataFrame(content.get("rows", []))
    if table.empty:
        return None
    missing = [name for name in ("set", "metric", "value") if name not in table]
    if missing:
        raise InputError(
            f"{where} has rows without {missing[0]!r}: restore it, or delete it to go without it"
        )
    for name in ("set", "metric", "kind", "space"):
        table[name] = table[name].astype(str) if name in table else ""
    for name in ("value", "low", "high", "null", "n"):
        table[name] = pd.to_numeric(table[name], errors="coerce").astype(float) if name in table else np.nan
    return table


def _spectra(path: pathlib.Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    if "name" not in table:
        raise ValueError("it has no column 'name'")
    if "stage" not in table:  # weights of one moment
        table["stage"] = "after"
    return table


def write(path: pathlib.Path, content: bytes) -> pathlib.Path:
    """Writes a file whole or not at all, and makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic(path) as temporary:
        temporary.write_bytes(content)
    return path
