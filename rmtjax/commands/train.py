"""Trains one config and measures the result.

python -m rmtjax.train --config=configs/synthetic.py [--workdir=DIR] [--config.field=value ...]
"""

import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
from typing import Any

from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import files
from rmtjax.commands import flags
from rmtjax.errors import is_heard, say_stopped

_GO_ON = "the same command continues from there"


@flags.command
def main(argv: list[str] | None = None) -> int:
    config, arguments = flags.parse("train", __doc__, argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        if is_heard(number):
            signal.signal(number, _stopped_between_steps)
    flags.initialise(arguments)

    import jax

    from rmtjax import report, results
    from rmtjax.train import workdir as workdir_lib

    with contextlib.ExitStack() as stack:
        workdir = pathlib.Path(arguments.workdir)
        if jax.process_index() == 0:
            stack.enter_context(files.writing_to(arguments.workdir, "the workdir", "--workdir"))
        earlier = workdir_lib.prepare(config, workdir)
        if earlier.get("status") == "finished":
            print(f"{workdir} is finished: nothing to train. For another run choose another --workdir.")
            if not (workdir / results.PAGE).exists():  # the run was killed while the page was drawn
                report.run_page(workdir)
            _tell(workdir)
            return 0
        print(f"results go to {workdir}")
        status = train_and_measure([config], [workdir])
        if status == 0 and jax.process_index() == 0:
            report.run_page(workdir)
            _tell(workdir)
        return status


def _tell(workdir: pathlib.Path) -> None:
    """Prints what a finished run found."""
    from rmtjax import report, results

    flags.found(
        workdir=workdir,
        page=workdir / results.PAGE,
        run=results.read_json(workdir / results.RECORD),
        evaluation=results.read_json(workdir / results.EVALUATION),
    )
    print(report.final_table(workdir))


def train_and_measure(configs: list[ConfigDict], workdirs: list[pathlib.Path]) -> int:
    """Trains one config, or several together as a population, and measures the results.

    It writes all files of a run to each folder, except the page. A member of a population that diverges is
    marked in its run.json, and the others continue.

    Returns:
      The exit status: 0, or that of a stop by SIGTERM.

    Raises:
      InputError: a config has an error, or several do not make one population (`train.members.key`).
      train.Diverged: a single run diverged.
    """
    from rmtjax import generate, train
    from rmtjax.train import population

    made: dict[str, generate.SyntheticSet] = {}

    def synthetic(config: ConfigDict) -> Any:
        found = generate.ensure(config)
        made[config_lib.to_json(config)] = found
        return generate.source(found)

    try:
        if len(configs) == 1:
            trained = train.run(configs[0], workdirs[0], synthetic=functools.partial(synthetic, configs[0]))
        else:
            trained = population.run(configs, workdirs, synthetic=synthetic)
    except train.Stopped as stopped:
        say_stopped(stopped.signal, _GO_ON, f"after step {stopped.step}; the state is saved")
        return 128 + stopped.signal
    _measure(configs, workdirs, trained, made)
    return 0


def _measure(
    configs: list[ConfigDict], workdirs: list[pathlib.Path], trained: Any, made: dict[str, Any]
) -> None:
    import jax

    from rmtjax import generate, measure, results
    from rmtjax.train.population import Population

    many = isinstance(trained, Population)
    for i, reason in (trained.failures if many else {}).items():
        print(f"{workdirs[i]}: {reason}")
    left, config = trained.unmeasured if many else [0], configs[0]
    if config.evaluation.enabled and left:
        measure.evaluation_of_runs(configs, workdirs, trained)
    if jax.process_index() != 0:
        return
    if config.spectra.enabled and left:
        folders = [workdirs[i] for i in left]
        measure.spectra_of_runs(config, folders, lambda k: trained.member(left[k]) if many else trained)
    measured: dict[str, pathlib.Path] = {}  # the first folder with each set of training data
    for i in left:
        folder, result = workdirs[i], trained.member(i) if many else trained
        if config.diversity.enabled:
            first = measured.setdefault(_training_data_key(configs[i]), folder)
            if first is folder:
                measure.diversity_of_run(configs[i], folder, result)
            else:
                with files.atomic(folder / results.DIVERSITY) as temporary:
                    shutil.copyfile(first / results.DIVERSITY, temporary)
        if (found := made.get(config_lib.to_json(configs[i]))) is not None:
            generate.write_run_files(found, folder)
        result.record.update(status="finished")


def _training_data_key(config: ConfigDict) -> str:
    """A key of the data a run was trained on; runs with the same key have the same diversity."""
    plain = json.loads(config_lib.to_json(config))
    # "model" is among them, since features of texts come from the model itself.
    sections = ("seed", "data", "augment", "synthetic", "diversity", "model")
    return json.dumps({name: plain[name] for name in sections}, sort_keys=True)


def _stopped_between_steps(number: int, frame: Any) -> None:
    say_stopped(number, _GO_ON, "outside of a training step")
    # Not sys.exit: an exception raised inside a callback of JAX is lost. Files are whole or absent anyway.
    os._exit(128 + number)
