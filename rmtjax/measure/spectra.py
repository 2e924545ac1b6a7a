"""What the weights of a run look like: spectra.parquet and spectra.npz."""

import logging
import os
import pathlib
from collections.abc import Mapping

from ml_collections import ConfigDict

from rmtjax import checkpoints, models, results, spectra
from rmtjax.train.population import Population

LOG = logging.getLogger(__name__)


def spectra_of_population(population: Population, workdirs: Mapping[int, str | os.PathLike[str]]) -> None:
    """`spectra_of_run` of members, by their numbers, in one pass."""
    LOG.info("spectra of %d runs: before, after and update", len(workdirs))
    config = population.tasks[0].config
    pairs = {
        str(i): (checkpoints.nest(checkpoints.open(pathlib.Path(folder) / results.CHECKPOINTS / "0")), checkpoints.nest(checkpoints.open(folder)))
        for i, folder in workdirs.items()
    }  # fmt: skip
    found = spectra.compare_many(pairs, conv=config.spectra.conv, lora_scale=models.lora_scale(config))
    for i, folder in workdirs.items():
        found[str(i)].save(folder)


def spectra_of_run(config: ConfigDict, workdir: str | os.PathLike[str]) -> None:
    """spectra.parquet and spectra.npz: every layer before and after training, and of the update."""
    folder = pathlib.Path(workdir)
    LOG.info("spectra: before, after and update")
    before = checkpoints.nest(checkpoints.open(folder / results.CHECKPOINTS / "0"))
    after = checkpoints.nest(checkpoints.open(folder))
    scale = models.lora_scale(config)
    spectra.compare(before, after, conv=config.spectra.conv, lora_scale=scale).save(folder)
