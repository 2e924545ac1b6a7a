"""Trains and measures arms by seeds, and makes one table. A stopped study continues with the same command.

python -m rmtjax.study --config=configs/study_digits.py --out=runs/study --workers=2      # with answers
python -m rmtjax.study --config=configs/digits.py --arms=configs/arms_transfer_synthetic.py --out=runs/table
python -m rmtjax.study --over runs/digits runs/vit runs/text --out=runs/over      # one answer over models
"""

import argparse
import pathlib
import re

from rmtjax.commands import flags
from rmtjax.errors import InputError


@flags.command
def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.over:
        return _over(arguments.over, arguments.out)
    if not arguments.config:
        raise InputError(
            "--config is missing: give the config of the study, or --over and folders of studies"
        )
    from rmtjax import config as config_lib
    from rmtjax import report, results, study

    arguments.config = config_lib.located(arguments.config)
    base = config_lib.load(arguments.config)
    design = None if arguments.arms else study.load_design(arguments.config, base)
    arms = design.overrides if design else study.load_arms(arguments.arms, base)
    members = arguments.population
    if members is None:
        members = design.population if design else 1
    for name, value in (("workers", arguments.workers), ("population", members)):
        if value < 1:
            raise InputError(f"--{name}={value} is out of range: it must be 1 or more")
    shard = _shard(arguments.shard) if arguments.shard else None
    pairs = [_pair(text, arms) for text in arguments.pairs.split(",") if text]
    seeds = design.seeds if design else study.seeds_of(arguments.seeds or "0-4")
    if design and arguments.seeds:
        seeds = study.fewer_seeds(design, study.seeds_of(arguments.seeds))
    kept = study.KeptRows(arguments.rows)
    runs = study.plan(arguments.config, arms, seeds, arguments.out, kept.made)
    if arguments.dry_run:
        print(study.listing(runs, members).to_string(index=False))
        left = study.expected_seconds(runs, arguments.workers)
        known = "not known before a run is finished" if left is None else f"about {left / 60:.0f} minutes"
        print(f"{len(runs)} runs; time for those that are left: {known}")
        flags.found(runs=study.listing(runs, members), seconds_left=left)
        return 0
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    print(f"{len(arms)} arms, {len(runs)} runs; results go to {out}")
    kept.add_finished(runs)  # a file that cannot be written is told before anything is trained
    failed = study.execute(runs, arguments.workers, members, shard, lambda: kept.add_finished(runs))
    kept.add_finished(runs)
    if shard:
        print(f"shard {arguments.shard} is done: the command without --shard makes the tables")
        return 0  # that command reports failed runs
    by_arm = seeds if isinstance(seeds, dict) else dict.fromkeys(arms, seeds)
    table = kept.table(by_arm)
    found = study.write_tables(table, out, pairs)
    flags.found(out=out, results=found, failed=len(failed))
    if len(found):
        report.seeds_figure(found, out / "results.png")
        print(results.overview(found).to_string(index=False))
        if design:
            answers = study.answer(design, table, out)
            flags.found(answers=answers, page=out / "study.html")
            for row in answers.itertuples():
                print(f"{row.question}: {row.verdict}. {row.sentence}")
            print(f"page: {report.study_page(out)}")
    print(f"tables: {out / 'results.csv'}, {out / 'summary.csv'}; figure: {out / 'results.png'}")
    if failed:
        print(f"{len(failed)} of {len(runs)} runs failed: the same command repeats them")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = flags.parser("study", __doc__)
    flags.config_flag(parser, "the config that every arm starts from, needed but with --over")
    parser.add_argument(
        "--arms",
        help="a Python file whose get_arms(config) returns name -> ['field=value', ...]; "
        "default: the design in the config's file",
    )
    parser.add_argument(
        "--seeds",
        help="such as 0-4 or 0,3,7; default 0-4, or all seeds of the design, from which this picks",
    )
    parser.add_argument("--out", required=True, help="folder of the runs and tables")
    parser.add_argument(
        "--workers", type=int, default=1, help="number of parallel runs, each on its share of the cores"
    )
    parser.add_argument(
        "--population",
        type=int,
        help="the most runs that one process trains together, if they differ only in numbers and data; "
        "default 1, or the number in the design",
    )
    parser.add_argument(
        "--shard",
        help="K/N: do only the K-th of N parts of the work (K from 0 to N - 1), and make no tables",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="FILE",
        help="Parquet files with the numbers of finished runs, which count as done without their folders. "
        "The first is written whenever runs finish; others, such as those of other machines, are added to it",
    )
    parser.add_argument("--pairs", default="", help="paired differences to add, such as A-B,C-D")
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="print the runs and the expected time, and stop"
    )
    parser.add_argument(
        "--over",
        nargs="+",
        metavar="FOLDER",
        help="folders of finished studies, one for each model: nothing is run, and their answers are joined "
        "into answers_over_models.csv and models.html",
    )
    return parser


def _over(folders: list[str], out: str) -> int:
    from rmtjax import report, study

    named = study.names_of(folders)
    answers = study.answer_over_models(folders, out)
    flags.found(answers=answers, page=pathlib.Path(out) / "models.html")
    for row in answers.itertuples():
        if row.verdict:
            print(f"{row.question}{f', {row.block}' if row.block else ''}: {row.verdict}. {row.sentence}")
    print(f"page: {report.models_page(out, named)}")
    return 0


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise InputError(f"--shard={text!r} is not K/N with K from 0 to N - 1: write 0/4, 1/4, 2/4 and 3/4")
    return int(found[1]), int(found[2])


def _pair(text: str, arms: dict[str, list[str]]) -> tuple[str, str]:
    for arm in arms:
        other = text.removeprefix(f"{arm}-")
        if other != text and other in arms:
            return arm, other
    raise InputError(f"--pairs: {text!r} is not ARM-OTHER of the arms {', '.join(arms)}")
