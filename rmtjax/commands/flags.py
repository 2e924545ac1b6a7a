"""Command lines: a config file with overrides, a workdir, and how processes find each other."""

import argparse
import logging
import os
import pathlib
from collections.abc import Callable

import absl.logging
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax.errors import InputError


def parse(
    description: str,
    argv: list[str] | None = None,
    *,
    workdir: bool = True,
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> tuple[ConfigDict, argparse.Namespace]:
    """A config and the other flags; `--config.field.name=value` overrides a field.

    Args:
      more: adds flags of a command's own.

    Returns:
      The checked, locked config, and a namespace with `config` (the file), `workdir` (default
      `runs/<config name>`) and the multi-process flags.
    """
    parser = argparse.ArgumentParser(
        description=description, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="a file such as configs/synthetic.py")
    if workdir:
        parser.add_argument(
            "--workdir", help="where results go and a stopped run goes on; default runs/<config name>"
        )
    parser.add_argument(
        "--cache", help="where synthetic sets are stored and looked for; default runs/synthetic"
    )
    more(parser)
    add_process_flags(parser)
    parser.epilog = "Any field of the config can be set: --config.seed=1 --config.data.train_examples=100"
    arguments, rest = parser.parse_known_args(argv)
    config = config_lib.load(arguments.config, overrides(rest))
    if arguments.cache:
        config.synthetic.cache = arguments.cache
    if workdir and arguments.workdir is None:
        arguments.workdir = str(pathlib.Path("runs") / pathlib.Path(arguments.config).stem)
    return config, arguments


def overrides(words: list[str]) -> list[str]:
    """`field=value` of each `--config.field=value` or `--config.field value`.

    Raises:
      InputError: an argument that is neither.
    """
    found, words = [], list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--config."):
            raise InputError(f"unknown argument {word!r}: fields are set by --config.field=value, see --help")
        if "=" not in word and words and not words[0].startswith("--"):
            word += "=" + words.pop(0)
        found.append(word.removeprefix("--config."))
    return found


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("several processes")
    group.add_argument(
        "--multihost",
        action="store_true",
        help="join the processes that SLURM, Open MPI or Kubernetes started",
    )
    group.add_argument("--coordinator", help="host:port of process 0, where nothing tells it")
    group.add_argument("--num_processes", type=int)
    group.add_argument("--process_id", type=int)


def initialise(arguments: argparse.Namespace) -> None:
    """Logging, compilation cache and, if asked for, jax.distributed. Before anything asks for a device.

    Raises:
      InputError: incomplete multi-process flags.
    """
    log = logging.getLogger("rmtjax")
    log.setLevel(logging.INFO)
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
    absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax tells every rename, and warns of what is meant so
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = (
            pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "rmtjax" / "jax"
        )
        jax.config.update("jax_compilation_cache_dir", str(cache))
    given = [arguments.coordinator, arguments.num_processes, arguments.process_id]
    if any(value is not None for value in given):
        if any(value is None for value in given):
            raise InputError(
                f"--coordinator={given[0]} --num_processes={given[1]} --process_id={given[2]}: give all three, or --multihost alone"
            )
        jax.distributed.initialize(arguments.coordinator, arguments.num_processes, arguments.process_id)
    elif arguments.multihost:
        jax.distributed.initialize()
