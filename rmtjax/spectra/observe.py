"""Spectra while a model trains: an observer for a training loop.

    observer = spectra.observe.every(100, folder)    # (step, state) -> scalars, or None between
    table = spectra.observe.read(folder)             # a row per matrix and step

A step's table is a file of its own, named by the step, so that writing costs the same at every step, a killed run
leaves only whole files, and a resumed one overwrites the steps it repeats.
"""

import logging
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import pandas as pd

from rmtjax.spectra.analysis import analyze
from rmtjax.spectra.metrics import shown

LOG = logging.getLogger(__name__)
FOLDER = "spectra_steps"


def every(
    steps: int, folder: str | os.PathLike[str], **options: Any
) -> Callable[[int, Any], dict[str, float] | None]:
    """An observer that analyses the parameters at every step that `steps` divides.

    Args:
      steps: how far apart.
      folder: tables go to `<folder>/spectra_steps/<step>.parquet`, written by process 0.
      options: of `analyze`; `precision="single"` unless said otherwise.

    Returns:
      `(step, state) -> scalars`, where `state.params` (or `state["params"]`, or the state itself) is the pytree:
      medians over the matrices, and `spectra/overhead`, the share of the time since the first call that was
      spent here. None at other steps.

    Raises:
      ValueError: `steps` below 1; in the observer: parameters that this process does not hold whole.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: it must be 1 or more")
    target = pathlib.Path(folder) / FOLDER
    settings = {"precision": "single"} | options
    began: list[float] = []
    spent = 0.0

    def observe(step: int, state: Any) -> dict[str, float] | None:
        nonlocal spent
        start = time.monotonic()
        began.append(start) if not began else None
        if step % steps:
            return None
        table = analyze(_held(_params(state)), **settings).table
        table.insert(0, "step", step)
        if jax.process_index() == 0:
            target.mkdir(parents=True, exist_ok=True)
            path = target / f"{step:08d}.parquet"
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            table.to_parquet(temporary)
            os.replace(temporary, path)
        now = time.monotonic()
        spent += now - start
        LOG.info(
            "spectra of step %d: %.1f s, %.1f %% of the time so far",
            step,
            now - start,
            100 * spent / max(now - began[0], 1e-9),
        )
        scalars = {f"spectra/{name}": float(table[name].median()) for name in shown("observe")}
        return scalars | {"spectra/overhead": spent / max(now - began[0], 1e-9)}

    return observe


def read(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """All steps in one table, in their order.

    Raises:
      FileNotFoundError: the folder has none.
    """
    paths = sorted((pathlib.Path(folder) / FOLDER).glob("[0-9]*.parquet"))
    if not paths:
        raise FileNotFoundError(f"{os.fspath(folder)!r} has no {FOLDER}/<step>.parquet")
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)


def _params(state: Any) -> Any:
    if isinstance(state, dict):
        return state.get("params", state)
    return getattr(state, "params", state)


def _held(params: Any) -> Any:
    for leaf in jax.tree.leaves(params):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            raise ValueError(
                "the parameters are split over several processes: gather them first (jax.experimental.multihost_utils"
                ".process_allgather), or analyse the checkpoints"
            )
    return params
