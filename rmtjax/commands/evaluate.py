"""Evaluates a run or any checkpoint: accuracy, calibration, shifted tests, detection of foreign data.

python -m rmtjax.evaluate WORKDIR
python -m rmtjax.evaluate CHECKPOINT --config=configs/digits.py --out=DIR
python -m rmtjax.evaluate WORKDIR --reference=OTHER_RUN --baselines RUN RUN RUN ...
python -m rmtjax.evaluate data:resnet_cifar10/resnet20-12fca82f.th --config=configs/cifar10_resnet20.py
"""

import argparse
import contextlib
import json
import pathlib
from typing import Any

from rmtjax.commands import flags
from rmtjax.errors import InputError

# As rmtjax.evaluation.robustness has it, which would load JAX for --help; a test compares the two.
LEAST_BASELINES = 5


@flags.command
def main(argv: list[str] | None = None) -> int:
    arguments, rest = _parser().parse_known_args(argv)
    overrides = flags.overrides(rest)
    folder, workdir = _weights_and_run(arguments.path)
    config = _config(arguments, overrides, folder, workdir)
    of_reference = _read_evaluation(arguments.reference) if arguments.reference else None
    baselines = [_read_evaluation(path)["rows"] for path in arguments.baselines]
    if 0 < len(arguments.baselines) < LEAST_BASELINES:
        raise InputError(
            f"--baselines has {len(arguments.baselines)} runs, and a line with its scatter needs at least "
            f"{LEAST_BASELINES}: name more"
        )
    flags.initialise(arguments)

    import jax

    from rmtjax import evaluation, files, measure, train

    reference = evaluation.reference_of(of_reference, arguments.reference) if of_reference else None
    out = pathlib.Path(arguments.out) if arguments.out else folder if folder == workdir else None
    with contextlib.ExitStack() as stack:
        if out is not None and jax.process_index() == 0:
            stack.enter_context(files.writing_to(out, "the folder of the results", "--out"))
        result = train.restore(config, folder)
        content = measure.evaluate(config, result, reference)
        if baselines:
            content["rows"] += evaluation.effective_robustness_rows(content["rows"], baselines)
        compared = {"reference": arguments.reference, "baselines": arguments.baselines}
        content |= {name: given for name, given in compared.items() if given}
        _show(content, out, workdir)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = flags.parser("evaluate", __doc__)
    parser.add_argument(
        "path",
        help="the folder of a run, one of its checkpoints/STEP, or any weights that model.init_from takes",
    )
    flags.config_flag(parser, "config of the model and data; default: that of the run")
    parser.add_argument("--out", help="folder for evaluation.json; default: the run's folder if one is given")
    parser.add_argument("--reference", help="folder of an evaluated run whose errors mCE is a multiple of")
    parser.add_argument(
        "--baselines",
        nargs="+",
        default=[],
        help=f"{LEAST_BASELINES} or more folders of evaluated runs, for the line of effective robustness",
    )
    flags.add_process_flags(parser)
    return parser


def _weights_and_run(name: str) -> tuple[pathlib.Path, pathlib.Path | None]:
    """The path of the weights, and the folder of the run that they belong to."""
    from rmtjax import files, results
    from rmtjax.models import SHIPPED

    folder = files.located(name)
    if not folder.exists() and name not in SHIPPED:
        raise InputError(f"there is nothing at {str(folder)!r}: give a run's folder or a checkpoint")
    runs = [parent for parent in (folder, folder.parent.parent) if (parent / results.CONFIG).is_file()]
    return folder, runs[0] if runs else None


def _config(
    arguments: argparse.Namespace, overrides: list[str], folder: pathlib.Path, workdir: pathlib.Path | None
) -> Any:
    """The config of --config, or that of the run."""
    from rmtjax import config as config_lib
    from rmtjax import results

    if arguments.config:
        return config_lib.load(arguments.config, overrides)
    if workdir is None:
        raise InputError(f"{str(folder)!r} belongs to no run: give --config=FILE with its model and data")
    if overrides:
        raise InputError(f"'--config.{overrides[0]}' needs --config: a run is evaluated with its own config")
    return config_lib.from_stored(json.loads((workdir / results.CONFIG).read_text(encoding="utf-8")))


def _read_evaluation(run: str) -> dict[str, Any]:
    from rmtjax import results

    path = pathlib.Path(run) / results.EVALUATION
    if not path.is_file():
        raise InputError(f"{run!r} has no evaluation.json: give the folder of a run that was evaluated")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _show(content: dict[str, Any], out: pathlib.Path | None, workdir: pathlib.Path | None) -> None:
    """Prints the table; writes evaluation.json if a folder is given, and redraws the page of a run."""
    import jax

    from rmtjax import files, report, results

    if jax.process_index() != 0:
        return
    if out is not None:
        files.write_json(out / results.EVALUATION, content)
        print(f"results: {out / results.EVALUATION}")
        if out == workdir:
            report.run_page(out)
    flags.found(**content, out=out)
    print(report.evaluation_table(content))
