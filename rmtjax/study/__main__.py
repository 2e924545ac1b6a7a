"""Runs arms x seeds and makes one table of them. The same command goes on where it stopped.

python -m rmtjax.study --config=configs/digits.py --arms=configs/arms_transfer_synthetic.py --seeds=0-4 --out=runs/table
"""

import argparse
import pathlib

from rmtjax import config as config_lib
from rmtjax import flags, report, study
from rmtjax.errors import InputError, run_command


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="the config that every arm starts from")
    parser.add_argument(
        "--arms",
        required=True,
        help="a Python file whose get_arms(config) gives name -> ['field=value', ...]",
    )
    parser.add_argument("--seeds", default="0-4", help="such as 0-4 or 0,3,7; default 0-4")
    parser.add_argument("--out", required=True, help="folder of the runs and tables")
    parser.add_argument(
        "--workers", type=int, default=1, help="runs at the same time, each on its share of the cores"
    )
    parser.add_argument("--pairs", default="", help="paired differences to add, such as A-B,C-D")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    arguments = parser.parse_args()
    if arguments.workers < 1:
        raise InputError(f"--workers={arguments.workers} is out of range: it must be 1 or more")
    arms = study.load_arms(arguments.arms, config_lib.load(arguments.config))
    pairs = [_pair(text, arms) for text in arguments.pairs.split(",") if text]
    runs = study.plan(arguments.config, arms, flags.seeds(arguments.seeds), arguments.out)
    if arguments.dry_run:
        for run in runs:
            print(" ".join(run.command))
        return 0
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    print(f"{len(arms)} arms x {len(runs) // len(arms)} seeds = {len(runs)} runs; results go to {out}")
    failed = study.execute(runs, arguments.workers)
    results = study.write_tables(runs, out, pairs)
    if len(results):
        report.seeds_figure(results, out / "results.png")
        print(study.overview(results).to_string(index=False))
    print(f"tables: {out / 'results.csv'}, {out / 'summary.csv'}; figure: {out / 'results.png'}")
    if failed:
        print(f"{len(failed)} of {len(runs)} runs failed: the same command tries them again")
    return 1 if failed else 0


def _pair(text: str, arms: dict[str, list[str]]) -> tuple[str, str]:
    for arm in arms:
        other = text.removeprefix(f"{arm}-")
        if other != text and other in arms:
            return arm, other
    raise InputError(f"--pairs: {text!r} is not ARM-OTHER of the arms {', '.join(arms)}")


if __name__ == "__main__":
    run_command(main)
