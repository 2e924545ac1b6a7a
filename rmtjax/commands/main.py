"""The command `rmtjax`: the list of subcommands. Each is a module in this folder."""

import argparse
import difflib
import importlib
import os
import sys

from rmtjax.commands import flags
from rmtjax.errors import InputError, run_command

# Subcommand -> what it does, and an example of its arguments.
COMMANDS = {
    "train": ("trains one config and measures the result", "--config=configs/synthetic.py"),
    "evaluate": ("evaluates a run or a checkpoint again", "runs/synthetic"),
    "generate": ("fits a generator and stores a synthetic set", "--config=configs/synthetic.py"),
    "spectra": ("analyses the weights of a checkpoint, or of two", "runs/synthetic"),
    "diversity": ("measures the diversity of a set, or of two", "digits@train --against=digits@test"),
    "study": ("trains arms x seeds and makes one table", "--config=configs/study_digits.py --out=runs/study"),
    "configs": ("lists the configs of this project", ""),
    "augmentations": ("lists the augmentations of images and texts", ""),
    "bench": ("times this program beside others", "spectra"),
    "export": ("writes the weights of a run to one file", "runs/synthetic synthetic.safetensors"),
}


def overview() -> str:
    """The text of `rmtjax --help`."""
    lines = ["usage: rmtjax COMMAND [arguments]", ""]
    for name, (about, example) in COMMANDS.items():
        lines += [f"  {name:14s} {about}", f"{'':17s}rmtjax {name} {example}".rstrip()]
    more = (
        "rmtjax COMMAND --help lists the arguments of a command; rmtjax train --config=synthetic --help also"
        " the\nfields of a config, rmtjax train --help=augment a part of them, rmtjax spectra --help=metrics"
        " the columns."
    )
    return "\n".join([*lines, "", more])


def main(argv: list[str] | None = None) -> int:
    if flags.COMPLETING in os.environ:
        _complete()
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    name, *rest = words
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1, 0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"the commands are {', '.join(COMMANDS)}"
        raise InputError(f"unknown command {name!r}: {hint}")
    return int(importlib.import_module(f"rmtjax.commands.{name}").main(rest) or 0)


def _complete() -> None:
    """Answers the shell, which asks at each press of TAB how a line that begins with `rmtjax` may go on."""
    before_cursor = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    name, *rest = before_cursor.split(" ")[1:] or [""]
    if rest and name in COMMANDS:
        os.environ[flags.COMPLETING] = "2"  # the first word that belongs to the command
        importlib.import_module(f"rmtjax.commands.{name}").main([])
    names = argparse.ArgumentParser()
    names.add_argument("command", choices=COMMANDS)
    flags.complete(names)


def run() -> None:
    """The entry point of the console script."""
    run_command(main)
