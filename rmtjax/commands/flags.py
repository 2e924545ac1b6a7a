"""Command lines: one style of help, a config file with overrides, and how processes find each other.

Commands import what they need when they begin their work, so that `--help` is quick.
"""

import argparse
import contextlib
import difflib
import functools
import logging
import os
import pathlib
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from rmtjax.errors import InputError

if TYPE_CHECKING:
    from ml_collections import ConfigDict


_RESULT: dict[str, Any] = {}  # what the running command has found, for --json
_FILES: list[pathlib.Path] = []  # where --json=FILE of the running command writes it


def command(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
    """Gives a command's `main` the flag `--json`: one line of JSON on stdout, all else on stderr.

    The line has what the command told by `found`; it is missing where the command failed before.
    `--json=FILE` writes it to a file instead, as soon as anything is found.
    """

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        words = sys.argv[1:] if argv is None else list(argv)
        asked = [word for word in words if word == "--json" or word.startswith("--json=")]
        if not asked:
            return main(argv)
        _RESULT.clear()
        file = asked[-1].partition("=")[2]
        words = [word for word in words if word not in asked]
        if file:
            _FILES.append(pathlib.Path(file))
            try:
                return main(words)
            finally:
                _FILES.pop()
        with contextlib.redirect_stdout(sys.stderr):
            status = main(words)
        if _RESULT:
            from rmtjax import files

            print(files.as_json(_RESULT))
        return status

    return run


def found(**result: Any) -> None:
    """What a command has found: numbers, texts, paths, data frames, lists and dicts of such."""
    _RESULT.update(result)
    if _FILES:
        from rmtjax import files

        files.write_text(_FILES[-1], files.as_json(_RESULT) + "\n")


COMPLETING = "_ARGCOMPLETE"  # argcomplete's: the shell asks how a line may go on

# Of every --config in --help.
EXECUTED = "it is Python and is executed, so read a config from somebody else before you run it"


def program(name: str) -> str:
    """How the user called a command: `python -m rmtjax.NAME`, `python -m rmtjax NAME` or `rmtjax NAME`."""
    module = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", "").removesuffix(
        ".__main__"
    )
    if module.startswith("rmtjax."):
        return f"python -m {module}"
    return f"python -m rmtjax {name}" if module == "rmtjax" else f"rmtjax {name}"


class _Parser(argparse.ArgumentParser):
    """A parser that refuses empty values, as that of `--out=$UNSET`, which would mean the current folder.

    Attributes:
      topic: `(part, words) -> text` for `--help=part` among the words of the call; for `--help` part is "",
        and the text, if there is any, is printed below the help.
      completes: whether argcomplete is at work.
    """

    completes = False
    topic: Callable[[str, list[str]], str] | None = None

    def error(self, message: str) -> NoReturn:
        """One sentence, with the flag that was perhaps meant, and without the usage of all flags."""
        wrong = re.search(r"unrecognized arguments: (--[^\s=]+)", message)
        names = [name for action in self._actions for name in action.option_strings]
        near = difflib.get_close_matches(wrong[1], names, 1) if wrong else []
        raise InputError(f"{message}: did you mean {near[0]}?" if near else f"{message}: see --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if COMPLETING in os.environ and not _Parser.completes:
            _Parser.completes = True  # argcomplete parses the line with this method
            complete(self)
        words = sys.argv[1:] if args is None else list(args)
        asked = next((word for word in words if re.fullmatch("-h|--help(=.*)?", word)), None)
        if asked is not None and self.topic is not None:
            part = asked.partition("=")[2]
            text = self.topic(part, words)
            print(text if part else f"{self.format_help()}\n{text}".rstrip())
            raise SystemExit(0)
        found, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            if getattr(found, action.dest, None) == "" and action.default != "":
                name = action.option_strings[0] if action.option_strings else action.metavar or action.dest
                raise InputError(f"{name} is empty: give it a value, or leave it out")
        return found, rest


def complete(parser: argparse.ArgumentParser) -> None:
    """Ends this process with the ways in which the line of the shell may go on, by this parser."""
    import argcomplete

    argcomplete.autocomplete(parser)


def config_flag(made: argparse.ArgumentParser, about: str, **options: Any) -> None:
    """Adds --config, which the shell completes to a config of this project or a file."""
    flag = made.add_argument("--config", help=f"{about}; {EXECUTED}", **options)
    if COMPLETING in os.environ:
        import argcomplete

        from rmtjax import config as config_lib

        files = argcomplete.FilesCompleter(["py"])
        flag.completer = lambda prefix, **_: [*config_lib.shipped(), *files(prefix)]  # type: ignore[attr-defined]
        for name, field in config_lib.each_field():
            made.add_argument(f"--config.{name}", help=field.about)


def parser(
    name: str,
    description: str | None,
    module: str = "",
    topic: Callable[[str, list[str]], str] | None = None,
) -> argparse.ArgumentParser:
    """A parser whose help begins with the docstring of a command; its examples match the user's call.

    Args:
      name: the name of the subcommand, such as "spectra".
      description: the docstring, whose examples say `python -m rmtjax.NAME`.
      module: NAME in these examples, if it is not the name of the subcommand.
      topic: further help, see `_Parser`.
    """
    made = program(name)
    text = (description or "").replace(f"python -m rmtjax.{module or name}", made)
    out = _Parser(
        prog=made,
        description=text,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.topic = topic
    # `command` takes it out of the words; here it is for --help.
    out.add_argument(
        "--json",
        nargs="?",
        metavar="FILE",
        help="print one line of JSON, and all else on stderr; --json=FILE writes it to a file",
    )
    return out


def parse(
    name: str,
    description: str | None,
    argv: list[str] | None = None,
    *,
    workdir: bool = True,
    more: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> "tuple[ConfigDict, argparse.Namespace]":
    """Parses a config and the other flags; `--config.field.name=value` overrides a field.

    Args:
      name, description: see `parser`.
      more: adds further flags of the command.

    Returns:
      The checked and locked config, and a namespace with `config` (the file), `workdir` (default
      `runs/<config name>`) and the multi-process flags.
    """
    made = parser(name, description, topic=_fields)
    config_flag(made, "a file such as configs/synthetic.py, or the name of a config of this project")
    if workdir:
        made.add_argument(
            "--workdir",
            help="folder of the results, where a stopped run continues; default runs/<config name>",
        )
    made.add_argument(
        "--cache", help="folder where synthetic sets are stored and found again; default runs/cache"
    )
    more(made)
    add_process_flags(made)
    made.epilog = (
        "Any field of the config can be set: --config.seed=1 --config.data.train_examples=100. --help=augment"
        " lists the fields of a section, and --config=X --help all of a config, with their values."
    )
    arguments, rest = made.parse_known_args(argv)
    if arguments.config is None:
        file = next((word for word in rest if word.endswith(".py") and not word.startswith("-")), "")
        raise InputError(f"--config is missing: write --config={file or 'configs/synthetic.py'}")

    from rmtjax import config as config_lib

    config = config_lib.load(arguments.config, overrides(rest))
    if arguments.cache:
        config.synthetic.cache = arguments.cache
    if workdir and arguments.workdir is None:
        arguments.workdir = str(pathlib.Path("runs") / pathlib.Path(arguments.config).stem)
    return config, arguments


def _fields(part: str, words: list[str]) -> str:
    """The fields of the config among the words of a call; without one, a part of them with the defaults."""
    from rmtjax import config as config_lib

    given = [
        word.partition("=")[2] or "".join(words[i + 1 : i + 2])
        for i, word in enumerate(words)
        if word == "--config" or word.startswith("--config=")
    ]
    if not part and not given:
        return ""
    if not given:
        return config_lib.fields(config_lib.base(), part)
    changes = [word.removeprefix("--config.") for word in words if re.match(r"--config\.[^=]*=", word)]
    return config_lib.fields(config_lib.load(given[0], changes), part)


def overrides(words: list[str]) -> list[str]:
    """`field=value` of each `--config.field=value` or `--config.field value`.

    Raises:
      InputError: an argument has neither form.
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


def add_process_flags(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("several processes")
    group.add_argument(
        "--multihost",
        action="store_true",
        help="join the processes that SLURM, Open MPI or Kubernetes started",
    )
    group.add_argument("--coordinator", help="host:port of process 0, if no scheduler provides it")
    group.add_argument("--num_processes", type=int, help="number of processes, with --coordinator")
    group.add_argument("--process_id", type=int, help="number of this process, from 0, with --coordinator")


def initialise(arguments: argparse.Namespace) -> None:
    """Sets up logging, the compilation cache and, with multi-process flags, jax.distributed.

    Call it before anything uses a device.

    Raises:
      InputError: the multi-process flags are incomplete.
    """
    log = logging.getLogger("rmtjax")
    log.setLevel(logging.INFO)
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
    import absl.logging
    import jax

    absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax logs every rename, and warns without need
    set_compilation_cache()
    given = [arguments.coordinator, arguments.num_processes, arguments.process_id]
    if any(value is not None for value in given):
        if any(value is None for value in given):
            raise InputError(
                f"--coordinator={given[0]} --num_processes={given[1]} --process_id={given[2]}: "
                "give all three, or --multihost alone"
            )
        jax.distributed.initialize(arguments.coordinator, arguments.num_processes, arguments.process_id)
    elif arguments.multihost:
        jax.distributed.initialize()


def set_compilation_cache(**options: Any) -> None:
    """Lets later processes reuse compiled programs; `options` are further settings of JAX."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        if os.path.isabs(caches):  # not so for a user without a home, as containers have
            jax.config.update("jax_compilation_cache_dir", os.path.join(caches, "rmtjax", "jax"))
    for option, value in options.items():
        jax.config.update(option, value)
