"""Spectra while a model trains: an observer for a training loop.

    observer = spectra.observe.every(100, folder)    # (step, state) -> scalars, or None at other steps
    table = spectra.observe.read(folder)             # a row per matrix and step

The table of each step is a file of its own, named by the step. Writing costs the same at every step, a killed
run leaves only whole files, and a resumed run overwrites the steps that it repeats.
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
      steps: number of steps between two analyses.
      folder: process 0 writes the tables to `<folder>/spectra_steps/<step>.parquet`.
      options: of `analyze`; here `precision="single"` is the default.

    Returns:
      `(step, state) -> scalars`, or None at other steps. The pytree of parameters is `state.params`,
      `state["params"]` or the state itself. The scalars are medians over the matrices, and
      `spectra/overhead`: the share of the time since the first call that the observer took.

    Raises:
      ValueError: `steps` is below 1. The observer raises it if this process holds only a part of the
        parameters.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: it must be 1 or more")
    target = pathlib.Path(folder) / FOLDER
    settings = {"precision": "single"} | options
    began: float | None = None
    spent = 0.0

    def observe(step: int, state: Any) -> dict[str, float] | None:
        nonlocal began, spent
        start = time.monotonic()
        began = start if began is None else began
        if step % steps:
            return None
        table = analyze(_whole_params(state), **settings).table
        table.insert(0, "step", step)
        if jax.process_index() == 0:
            target.mkdir(parents=True, exist_ok=True)
            path = target / f"{step:08d}.parquet"
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            table.to_parquet(temporary)
            os.replace(temporary, path)
        now = time.monotonic()
        spent += now - start
        overhead = spent / max(now - began, 1e-9)
        LOG.info("spectra of step %d: %.1f s, %.1f %% of the time so far", step, now - start, 100 * overhead)
        computed = [name for name in shown("observe") if name in table]
        scalars = {f"spectra/{name}": float(table[name].median()) for name in computed}
        return scalars | {"spectra/overhead": overhead}

    return observe


def read(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """The tables of all steps as one, in the order of the steps.

    Raises:
      FileNotFoundError: the folder has no table.
    """
    paths = sorted((pathlib.Path(folder) / FOLDER).glob("[0-9]*.parquet"))
    if not paths:
        raise FileNotFoundError(f"{os.fspath(folder)!r} has no {FOLDER}/<step>.parquet")
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)


def _whole_params(state: Any) -> Any:
    params = state.get("params", state) if isinstance(state, dict) else getattr(state, "params", state)
    for leaf in jax.tree.leaves(params):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            raise ValueError(
                "the parameters are split over several processes: gather them first"
                " (jax.experimental.multihost_utils.process_allgather), or analyse the checkpoints"
            )
    return params
