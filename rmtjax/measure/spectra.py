"""Writes spectra.parquet and spectra.npz: the spectra of the weights of runs."""

import logging
import os
import pathlib
from collections.abc import Callable, Sequence

import pandas as pd
from ml_collections import ConfigDict

from rmtjax import checkpoints, models, results, spectra
from rmtjax.measure.activations import activations_of_run
from rmtjax.train import Result

LOG = logging.getLogger(__name__)


def spectra_of_runs(
    config: ConfigDict,
    workdirs: Sequence[str | os.PathLike[str]],
    trained: Callable[[int], Result] | None = None,
) -> None:
    """Writes the spectra of every layer before and after training, and of the update.

    Args:
      config: the config of any of the runs; several runs are members of a population.
      trained: gives the model of the i-th run, whose activations get rows too if
        `spectra.activation_examples` is set; None: they get none.
    """
    LOG.info("spectra of %d runs: before, after and update", len(workdirs))
    folders = [pathlib.Path(workdir) for workdir in workdirs]
    pairs = {
        str(i): (
            checkpoints.nest(checkpoints.open(folder / results.CHECKPOINTS / "0")),
            checkpoints.nest(checkpoints.open(folder)),
        )
        for i, folder in enumerate(folders)
    }
    options = {
        "metrics": config.spectra.metrics,
        "conv": config.spectra.conv,
        "products": config.spectra.products,
        "lora_scale": models.lora_scale(config),
    }
    for i, comparison in spectra.compare_many(pairs, **options).items():
        found = comparison
        if trained is not None and config.spectra.activation_examples is not None:
            found = _with_activations(comparison, activations_of_run(config, trained(int(i))))
        found.save(folders[int(i)])


def _with_activations(comparison: spectra.Analysis, found: spectra.Analysis) -> spectra.Analysis:
    """The rows of activations below those of the weights after training, whose stage they share."""
    rows = found.table.assign(stage="after")
    table = pd.concat([comparison.table, rows], ignore_index=True)
    table.attrs = comparison.table.attrs
    values = {f"after/{name}": values for name, values in found.eigenvalues.items()}
    return spectra.Analysis(table, comparison.eigenvalues | values, comparison.left_out)
