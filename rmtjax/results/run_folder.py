"""A run's folder: the names of its files, and how each is read and written.

What a run leaves on disk is read here as plain data, which is the only input of every table, picture and
page.

Nothing is unpickled. A file that is missing reads as None, since a run may have been told to skip that part.
A file that is there and cannot be read is an error, since leaving it out silently would mislead.
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
from rmtjax.spectra import archives

# What a run's folder holds beside the folders of `checkpoints/names.py`.
CONFIG = "config.json"  # the full configuration
RECORD = "run.json"  # status, step, command, commit, versions, devices, time
METRICS = "metrics.jsonl"  # one line per training step
PROFILE = "profile"  # traces by jax.profiler
SAMPLES = "samples.npz"  # what the model was fed
SPECTRA = "spectra.parquet"  # one row per stage and matrix
EIGENVALUES = "spectra.npz"  # <stage>/<name> -> eigenvalues
CURVATURE = "curvature_steps"  # <step>.npz: eigenvalues and densities of the loss's Hessian by step
CURVES = "spectra_curves.npz"  # densities, laws and fits that the pages draw
EVALUATION = "evaluation.json"  # accuracy, calibration, shift, OOD: rows
DIVERSITY = "diversity.json"  # diversity of what the model was fed: rows
SYNTHETIC = "synthetic.json"  # manifest of the synthetic set
SYNTHETIC_BY_CLASS = "synthetic_by_class.npz"  # a few synthetic examples of each class
PAGE = "report.html"
FIGURES = "figures"  # the pictures of the page as PNG


class Run(NamedTuple):
    """What a run's folder holds. Absent parts are None."""

    path: pathlib.Path
    config: dict[str, Any] | None  # config.json
    facts: dict[str, Any] | None  # run.json
    metrics: pd.DataFrame | None  # metrics.jsonl: a row per step, ascending
    evaluation: pd.DataFrame | None  # rows of evaluation.json, as `rows` gives them
    temperature: float  # of evaluation.json; NaN where there is none
    reliability: dict[str, Any] | None  # of evaluation.json: {set: {"confidence", "accuracy", "count"}}
    diversity: pd.DataFrame | None  # rows of diversity.json, as `rows` gives them
    feature_model: str | None  # of diversity.json
    spectra: pd.DataFrame | None  # spectra.parquet: a row per stage and matrix
    eigenvalues: dict[str, np.ndarray] | None  # spectra.npz: "<stage>/<name>" -> ascending
    curvature: dict[int, dict[str, np.ndarray]]  # by step, ascending; {}: it was not observed
    synthetic: dict[str, Any] | None  # synthetic.json
    samples: dict[str, np.ndarray] | None  # samples.npz
    synthetic_by_class: dict[str, np.ndarray] | None  # synthetic_by_class.npz

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, by label."""
        names = (self.facts or {}).get("classes")
        return [str(name) for name in names] if names else None

    @property
    def gaps(self) -> str:
        """A sentence where metrics.jsonl lacks steps of a finished run; else an empty text."""
        facts = self.facts or {}
        if facts.get("status") != "finished":
            return ""
        steps = range(1, int(facts.get("step") or 0) + 1)
        there = set() if self.metrics is None else set(self.metrics["step"])
        missing = [step for step in steps if step not in there]
        if not missing:
            return ""
        return (
            f"{METRICS} of this finished run lacks {len(missing)} of {len(steps)} steps, the first of them "
            f"{missing[0]}: it was altered, or several processes wrote to it"
        )


def read(workdir: str | os.PathLike[str]) -> Run:
    """Everything in a run's folder that a report can show.

    Raises:
      InputError: there is no such folder, or a file in it is damaged.
    """
    path = folder(workdir)
    evaluation = read_json(path / EVALUATION) or {}
    diversity = read_json(path / DIVERSITY) or {}
    return Run(
        path=path,
        config=read_json(path / CONFIG),
        facts=read_json(path / RECORD),
        metrics=read_metrics(path / METRICS),
        evaluation=rows(evaluation, repr(str(path / EVALUATION))),
        temperature=number(evaluation.get("temperature")),
        reliability=evaluation.get("reliability"),
        diversity=rows(diversity, repr(str(path / DIVERSITY))),
        feature_model=diversity.get("feature_model"),
        spectra=read_spectral_table(path),
        eigenvalues=read_arrays(path / EIGENVALUES),
        curvature=read_curvature(path),
        synthetic=read_json(path / SYNTHETIC),
        samples=read_arrays(path / SAMPLES),
        synthetic_by_class=read_arrays(path / SYNTHETIC_BY_CLASS),
    )


def folder(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """The path of a run's folder. Raises InputError where there is no such folder."""
    path = pathlib.Path(workdir)
    if not path.is_dir():
        raise InputError(f"no workdir {str(path)!r}: give the folder that a run has written to")
    return path


def read_record(workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """run.json: the status of a run, its step, and what made it. {} where the run was never begun.

    Raises:
      InputError: the file is damaged.
    """
    return read_json(pathlib.Path(workdir) / RECORD) or {}


def is_finished(workdir: str | os.PathLike[str]) -> bool:
    """Whether a run was trained and measured to its end. Raises InputError where run.json is damaged."""
    return read_record(workdir).get("status") == "finished"


def read_json(path: pathlib.Path) -> dict[str, Any] | None:
    """An object of JSON; None where there is no such file. Raises InputError where it is damaged."""
    content: dict[str, Any] | None = _read(path, _json)
    return content


def read_metrics(path: pathlib.Path) -> pd.DataFrame | None:
    """metrics.jsonl: a row per step, ascending; None where there is no such file.

    A last line that was cut off is left out. Raises InputError where the file is damaged elsewhere.
    """
    return _read(path, _metrics)


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray] | None:
    """All arrays of an npz file; None where there is no such file.

    Raises:
      InputError: the file is damaged, or holds arrays of objects, which would have to be unpickled.
    """
    content: dict[str, np.ndarray] | None = _read(path, _arrays)
    return content


def read_spectral_table(path: pathlib.Path) -> pd.DataFrame | None:
    """spectra.parquet of a folder; None where there is none.

    Weights of one moment, which have no stage in the file, get the stage "after".

    Raises:
      InputError: the file is damaged, or has no column `name`.
    """
    table = _read(path / SPECTRA, _named_matrices)
    return None if table is None else _with_stage(table)


def read_spectra(path: pathlib.Path) -> tuple[pd.DataFrame | None, dict[str, np.ndarray] | None, bool]:
    """spectra.parquet and spectra.npz of a folder, and whether they compare two models.

    Each is None where it is missing. The weights of one model get the stage "after", as in `read`. Raises
    InputError where a file is damaged.
    """
    table = _read(path / SPECTRA, _named_matrices)
    compared = table is not None and "stage" in table
    table = None if table is None else _with_stage(table)
    eigenvalues = read_arrays(path / EIGENVALUES)
    if eigenvalues is not None and not compared:
        eigenvalues = {f"after/{name}": values for name, values in eigenvalues.items()}
    return table, eigenvalues, compared


def read_curvature(path: pathlib.Path) -> dict[int, dict[str, np.ndarray]]:
    """The curvature that was observed while a run trained, by step; {} where it was not.

    Arrays are named `hessian/<key>` and `gauss_newton/<key>`; `train.curvature` says which keys there are.
    Raises InputError where a file is damaged.
    """
    found = sorted((path / CURVATURE).glob("[0-9]*.npz"))
    return {int(one.stem): arrays for one in found if (arrays := read_arrays(one)) is not None}


def rows(content: dict[str, Any], where: str) -> pd.DataFrame | None:
    """The rows of evaluation.json or diversity.json as a table; None where there are none.

    Text columns are set, metric, kind, space ("" where absent); float columns value, low, high, null, n
    (NaN). Raises InputError, naming `where`, for rows without a set, metric or value.
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


def number(value: Any) -> float:
    """A float; NaN for what is not a number (None, text, a missing key)."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def write(path: pathlib.Path, content: bytes) -> pathlib.Path:
    """Writes a file whole or not at all. Its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic(path) as temporary:
        temporary.write_bytes(content)
    return path


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


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {archives.original_name(name): stored[name] for name in stored.files}


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
            if place + 1 < len(lines):  # only the last line can be cut off, by a run that was killed
                raise
    table = pd.DataFrame(rows)
    if "step" not in table:
        return pd.DataFrame({"step": []})
    return (
        table.apply(pd.to_numeric, errors="coerce").sort_values("step", kind="stable").reset_index(drop=True)
    )


def _named_matrices(path: pathlib.Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    if "name" not in table:
        raise ValueError("it has no column 'name'")
    return table


def _with_stage(table: pd.DataFrame) -> pd.DataFrame:
    return table if "stage" in table else table.assign(stage="after")
