"""Writes spectra.parquet and spectra.npz: the spectra of the weights of runs."""

import logging
import os
import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from rmtjax import checkpoints, models, results, spectra

LOG = logging.getLogger(__name__)


def spectra_of_runs(config: ConfigDict, workdirs: Sequence[str | os.PathLike[str]]) -> None:
    """Writes the spectra of every layer before and after training, and of the update.

    Args:
      config: the config of any of the runs; several runs are members of a population.
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
    options = {"conv": config.spectra.conv, "lora_scale": models.lora_scale(config)}
    for i, comparison in spectra.compare_many(pairs, **options).items():
        comparison.save(folders[int(i)])
