"""Fits a generator to the training split of a config; stores a synthetic set, a manifest and a picture.

python -m rmtjax.generate --config=configs/synthetic.py [--cache=DIR] [--config.synthetic.guidance=1.5 ...]
python -m rmtjax.generate --config=configs/synthetic.py --curve=guidance:0,1,2,4 --seeds=0-4 --out=DIR

The second command makes a set for each setting and seed, and writes their quality and diversity to
knobs.csv and knobs.png.
"""

import argparse
import contextlib
import json

from rmtjax import files
from rmtjax.commands import flags
from rmtjax.errors import InputError, say_stopped


def _add_flags_of_curves(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--curve", action="append", default=[], help="a knob and its settings, such as guidance:0,1,2"
    )
    parser.add_argument("--seeds", default="0-4", help="seeds for --curve, such as 0-4 or 0,3,7; default 0-4")
    parser.add_argument("--out", default="", help="folder for the table and the picture of --curve")


@flags.command
def main(argv: list[str] | None = None) -> int:
    config, arguments = flags.parse("generate", __doc__, argv, workdir=False, more=_add_flags_of_curves)
    if bool(arguments.curve) != bool(arguments.out):
        raise InputError("--curve and --out go together: a table and a picture need a folder")
    flags.initialise(arguments)

    import jax

    from rmtjax import generate, report, study, train
    from rmtjax.generate import curves

    try:
        if arguments.curve:
            with contextlib.ExitStack() as stack:
                if jax.process_index() == 0:
                    out = stack.enter_context(files.writing_to(arguments.out, "--out", "--out"))
                settings, seeds = curves.parse(arguments.curve), study.seeds_of(arguments.seeds)
                table = curves.measure(config, settings, seeds)
                if jax.process_index() == 0:
                    with files.atomic(out / "knobs.csv") as temporary:
                        table.to_csv(temporary, index=False)
                    picture = report.knobs_figure(table, out / "knobs.png")
                    flags.found(table=table, files=[out / "knobs.csv", picture])
                    print(f"table {out / 'knobs.csv'}, picture {picture}")
            return 0
        made = generate.ensure(config)
    except train.Stopped as stopped:
        where = f"after step {stopped.step} of the generator"
        say_stopped(stopped.signal, "the same command continues from there", where)
        return 128 + stopped.signal
    if jax.process_index() == 0:
        texts = made.modality.kind == "texts"
        shown = made.path / "synthetic_by_class.csv" if texts else report.synthetic(made.path)
        flags.found(manifest=json.loads((made.path / "manifest.json").read_text()), samples=shown)
        print(f"manifest {made.path / 'manifest.json'}, samples by class {shown}")
    return 0
