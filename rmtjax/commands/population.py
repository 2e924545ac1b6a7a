"""Trains and measures runs together, as `rmtjax.study` starts it.

python -m rmtjax.commands.population <out>/.work/<unit>.json
"""

import json
import pathlib
import shutil
import signal
from typing import Any

from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import files, results
from rmtjax.commands import flags
from rmtjax.errors import run_command
from rmtjax.train.loop import Stopped


def main(argv: list[str] | None = None) -> int:
    parser = flags.parser("population", __doc__, "commands.population")
    parser.add_argument("unit", help="JSON: a config's path, and overrides and workdir of each run")
    flags.add_process_flags(parser)
    arguments = parser.parse_args(argv)
    content = json.loads(pathlib.Path(arguments.unit).read_text(encoding="utf-8"))
    configs = [config_lib.load(content["config"], run["overrides"]) for run in content["runs"]]
    flags.initialise(arguments)
    try:
        run_together(configs, [pathlib.Path(run["workdir"]) for run in content["runs"]])
    except Stopped:  # while a generator was fitted
        return 128 + signal.SIGTERM
    return 0


def run_together(configs: list[ConfigDict], workdirs: list[pathlib.Path]) -> None:
    """Leaves in each folder what `rmtjax.train` leaves there, but for the page, which that command draws when it is asked to.

    A member that diverges is marked so in its run.json; the others go on.

    Raises:
      InputError: the configs do not make one population (`train.members.key`), or one of them is bad.
    """
    from rmtjax import generate, measure
    from rmtjax.train import population

    made: dict[str, generate.SyntheticSet] = {}

    def synthetic(config: ConfigDict) -> Any:
        found = generate.ensure(config)
        made[config_lib.to_json(config)] = found
        return generate.source(found)

    trained = population.run(configs, workdirs, synthetic=synthetic)
    for i, reason in trained.failures.items():
        print(f"{workdirs[i]}: {reason}")
    left = {
        i: folder
        for i, folder in enumerate(workdirs)
        if i not in trained.failures and trained.records[i].content["status"] != "finished"
    }
    config = configs[0]
    if config.evaluation.enabled and left:
        measure.evaluation_of_population(trained, left)
    if config.spectra.enabled and left:
        measure.spectra_of_population(trained, left)
    fed: dict[str, pathlib.Path] = {}
    for i, folder in left.items():
        if config.diversity.enabled:
            same = fed.setdefault(_what_was_fed(configs[i]), folder)
            if same is folder:
                measure.diversity_of_run(configs[i], folder, trained.member(i))
            else:
                with files.atomic(folder / results.DIVERSITY) as temporary:
                    shutil.copyfile(same / results.DIVERSITY, temporary)
        if (found := made.get(config_lib.to_json(configs[i]))) is not None:
            generate.write_run_files(found, folder)
        trained.records[i].update(status="finished")


def _what_was_fed(config: ConfigDict) -> str:
    """Runs for which this is the same have the same diversity."""
    plain = json.loads(config_lib.to_json(config))
    # Features of texts are the model's own.
    sections = ("seed", "data", "augment", "synthetic", "diversity", "model")
    return json.dumps({name: plain[name] for name in sections}, sort_keys=True)


if __name__ == "__main__":
    run_command(main)
