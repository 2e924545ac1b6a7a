"""Evaluates a run again, or any checkpoint: accuracy, calibration, shifted tests, out-of-distribution detection.

python -m rmtjax.evaluate WORKDIR
python -m rmtjax.evaluate CHECKPOINT --config=configs/digits.py --out=DIR
python -m rmtjax.evaluate WORKDIR --reference=OTHER_RUN --baselines RUN RUN RUN ...
python -m rmtjax.evaluate data:resnet_cifar10/resnet20-12fca82f.th --config=configs/cifar10_resnet20.py --out=DIR
"""

import argparse
import json
import pathlib
from typing import Any

from rmtjax import config as config_lib
from rmtjax import files, results
from rmtjax.commands import flags
from rmtjax.errors import InputError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "path", help="a run's folder, one of its checkpoints/STEP, or anything that model.init_from may be"
    )
    parser.add_argument("--config", help="which model and data; default: the run's own")
    parser.add_argument("--out", help="folder for evaluation.json; default: the run's folder if one is given")
    parser.add_argument("--reference", help="folder of an evaluated run whose errors mCE is a multiple of")
    parser.add_argument(
        "--baselines", nargs="+", default=[],
        help="folders of at least three evaluated runs: the line that effective robustness is measured from",
    )  # fmt: skip
    flags.add_process_flags(parser)
    arguments, overrides = parser.parse_known_args()
    folder = files.located(arguments.path)
    if not folder.exists() and not _is_shipped(arguments.path):
        raise InputError(f"there is nothing at {str(folder)!r}: give a run's folder or a checkpoint")
    runs = [parent for parent in (folder, folder.parent.parent) if (parent / results.CONFIG).is_file()]
    if not arguments.config and not runs:
        raise InputError(f"{str(folder)!r} belongs to no run: say by --config which model and data it is for")
    config = (
        config_lib.load(arguments.config, flags.overrides(overrides))
        if arguments.config
        else config_lib.from_stored(json.loads((runs[0] / results.CONFIG).read_text(encoding="utf-8")))
    )
    if flags.overrides(overrides) and not arguments.config:
        raise InputError(f"{overrides[0]!r} needs --config: a run is evaluated as it was configured")
    of_reference = _evaluated(arguments.reference) if arguments.reference else None
    baselines = [_evaluated(path)["rows"] for path in arguments.baselines]
    flags.initialise(arguments)

    import jax

    from rmtjax import evaluation, measure, report, train

    reference = evaluation.reference_of(of_reference, arguments.reference) if of_reference else None
    out = pathlib.Path(arguments.out) if arguments.out else (folder if runs and folder == runs[0] else None)
    result = train.restore(config, folder)
    content = measure.evaluate(config, result, reference)
    if baselines:
        content["rows"] += evaluation.effective_robustness_rows(content["rows"], baselines, config.seed)
    compared = {"reference": arguments.reference, "baselines": arguments.baselines}
    content |= {name: given for name, given in compared.items() if given}
    if jax.process_index() == 0:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            files.write_json(out / results.EVALUATION, content)
            print(f"results: {out / results.EVALUATION}")
            if runs and out == runs[0]:
                report.run_page(out)
        print(report.evaluation_table(content))
    return 0


def _is_shipped(name: str) -> bool:
    from rmtjax.models import SHIPPED

    return name in SHIPPED


def _evaluated(run: str) -> dict[str, Any]:
    path = pathlib.Path(run) / results.EVALUATION
    if not path.is_file():
        raise InputError(f"{run!r} has no evaluation.json: give the folder of a run that was evaluated")
    return dict(json.loads(path.read_text(encoding="utf-8")))
