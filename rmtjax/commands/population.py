"""Trains and measures runs together, as `rmtjax.study` starts it.

python -m rmtjax.commands.population <out>/.work/<unit>.json
"""

import contextlib
import json
import pathlib

from rmtjax import config as config_lib
from rmtjax import files
from rmtjax.commands import flags
from rmtjax.commands.train import train_and_measure
from rmtjax.errors import run_command


def main(argv: list[str] | None = None) -> int:
    parser = flags.parser("population", __doc__, "commands.population")
    parser.add_argument("unit", help="JSON file: path of a config; overrides and workdir of each run")
    flags.add_process_flags(parser)
    arguments = parser.parse_args(argv)
    content = json.loads(pathlib.Path(arguments.unit).read_text(encoding="utf-8"))
    configs = [config_lib.load(content["config"], run["overrides"]) for run in content["runs"]]
    flags.initialise(arguments)
    workdirs = [pathlib.Path(run["workdir"]) for run in content["runs"]]
    with contextlib.ExitStack() as stack:
        for workdir in workdirs:
            where = f"workdir in {arguments.unit!r}"
            stack.enter_context(files.writing_to(workdir, "the workdir", where))
        return train_and_measure(configs, workdirs)


if __name__ == "__main__":
    run_command(main)
