"""Runs arms x seeds and makes one table of them. The same command goes on where it stopped.

python -m rmtjax.study --config=configs/study_digits.py --out=runs/study --workers=2      # with answers
python -m rmtjax.study --config=configs/digits.py --arms=configs/arms_transfer_synthetic.py --seeds=0-4 --out=runs/table
"""

import argparse
import pathlib
import sys

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
        help="a Python file whose get_arms(config) gives name -> ['field=value', ...]; without it, the config's design",
    )
    parser.add_argument("--seeds", help="such as 0-4 or 0,3,7; default 0-4, or what the design says")
    parser.add_argument("--out", required=True, help="folder of the runs and tables")
    parser.add_argument(
        "--workers", type=int, default=1, help="runs at the same time, each on its share of the cores"
    )
    parser.add_argument("--pairs", default="", help="paired differences to add, such as A-B,C-D")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    arguments = parser.parse_args()
    if arguments.workers < 1:
        raise InputError(f"--workers={arguments.workers} is out of range: it must be 1 or more")
    base = config_lib.load(arguments.config)
    design = None if arguments.arms else study.load_design(arguments.config, base)
    arms = design.overrides if design else study.load_arms(arguments.arms, base)
    pairs = [_pair(text, arms) for text in arguments.pairs.split(",") if text]
    seeds = design.seeds if design and not arguments.seeds else flags.seeds(arguments.seeds or "0-4")
    runs = study.plan(arguments.config, arms, seeds, arguments.out)
    if arguments.dry_run:
        for run in runs:
            print(" ".join(run.command))
        left = study.expected_seconds(runs, arguments.workers)
        if left is not None:
            print(f"about {left / 60:.0f} minutes for the runs that are left", file=sys.stderr)
        return 0
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    print(f"{len(arms)} arms, {len(runs)} runs; results go to {out}")
    failed = study.execute(runs, arguments.workers)
    results = study.write_tables(runs, out, pairs)
    if len(results):
        report.seeds_figure(results, out / "results.png")
        print(study.overview(results).to_string(index=False))
        if design:
            for row in study.answer(design, out).itertuples():
                print(f"{row.question}: {row.verdict}. {row.sentence}")
            print(f"page: {report.study_page(out)}")
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
