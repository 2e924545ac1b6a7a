"""Diversity of a set of images, texts or features, or of two compared at equal n: scores with intervals and nulls.

python -m rmtjax.diversity SET [--against=SET] [--space=pixel|feature|unigram] [--model=letters|RUN] [--metrics=default] [--out=DIR]

SET: digits, tfds:NAME, npz:FILE, folder:PATH, a set of texts, or another source of data/, with @train or @test for one part of
it; the folder of a set that python -m rmtjax.generate made; an npy or npz file of `features` [n, d] (and `labels`).
Features come from the shipped letters model (16 x 16 grey images) or from the model of a run; texts are words, or the tokens
of that run. Scores of whole sets come first, then by class. With --out: diversity.csv, rarefaction.csv and rarefaction.png.
"""

import argparse
import math
import os
import pathlib
import sys
from typing import Any

import numpy as np

from rmtjax.commands import flags
from rmtjax.errors import InputError

NEED_REFERENCE = ("coverage", "precision", "recall", "density")
NEED_TWO = (*NEED_REFERENCE, "weighted_vendi_unpaired")
MOST = 2000  # examples of each set where --n does not say
LEAST = {"n": 2, "class_n": 2, "seed": 0, "neighbours": 1, "top": 1, "image_size": 1}


def main() -> int:
    arguments = _parse()
    flags.initialise(arguments)
    from rmtjax import diversity, files, report
    from rmtjax.commands import named_sets as sets_lib

    wanted, asked = _metrics(arguments.metrics, diversity)
    _check_asked(asked, arguments)
    model = sets_lib.model(arguments.model)
    sets = sets_lib.read_together(
        list(filter(None, (arguments.set, arguments.against))),
        model,
        image_size=arguments.image_size,
        most=max(arguments.n or 0, MOST),
    )
    if len(sets) == 2 and sets[0].name == sets[1].name:
        raise InputError(
            f"SET and --against are both {sets[0].name!r}: name two sets, or leave --against out"
        )
    if len({(s.kind, s.values.shape[1:] if s.kind != "tokens" else ()) for s in sets}) > 1:
        facts = " and ".join(f"{s.name} has {s.kind} of shape {list(s.values.shape[1:])}" for s in sets)
        raise InputError(
            f"{facts}: sets that are compared must be alike (--image_size sets the side of images)"
        )
    of_texts = [m for m in asked if m in diversity.TEXT_METRICS]
    if of_texts and sets[0].kind != "tokens":
        raise InputError(
            f"--metrics asks for {of_texts[0]}, which is of texts, and {sets[0].name} has {sets[0].kind}: leave it out"
        )
    most = arguments.n or min(MOST, *(len(s.values) for s in sets))
    short = [s for s in sets if len(s.values) < most]
    if short:
        raise InputError(
            f"{short[0].name} has {len(short[0].values)} examples, fewer than --n={most}: choose a smaller --n"
        )
    if arguments.paired and (len(sets) < 2 or len(sets[0].values) != len(sets[1].values)):
        raise InputError(
            f"--paired needs --against with a row for each row of SET: they have {' and '.join(str(len(s.values)) for s in sets)}"
        )
    counts = [np.unique(s.labels, return_counts=True)[1] for s in sets if s.labels is not None]
    of_class = arguments.class_n or min((min(int(c.min()), most // len(c)) for c in counts), default=0)
    out = _folder(arguments.out) if arguments.out else None
    rows, curves = [], []
    options = {"seed": arguments.seed, "q": arguments.order, "n": most}
    try:
        if sets[0].kind == "tokens" and (text_metrics := [m for m in wanted if m in diversity.TEXT_METRICS]):
            _say(f"n-grams of {most} texts of each set")
            rows += diversity.text_rows({s.name: s.values for s in sets}, metrics=text_metrics, **options)
        for space, values in sets_lib.spaces(sets, arguments.space, model).items():
            of_features = [m for m in wanted if m in diversity.METRICS]
            whole = dict(zip((s.name for s in sets), values, strict=True))
            both = diversity.at_equal_n(whole, seed=arguments.seed, n=most)
            reference = both[sets[1].name] if len(sets) == 2 else None
            shared: dict[str, Any] = {
                "space": space,
                "k": arguments.neighbours,
                "top": arguments.top,
                **options,
            }
            rows += diversity.diversity_rows(
                both, reference, metrics=[m for m in of_features if m not in NEED_REFERENCE], report=_say,
                paired={sets[0].name: sets[1].name} if arguments.paired else None,
                base=sets[1].name if len(sets) == 2 else None, bandwidth=arguments.bandwidth, **shared,
            )  # fmt: skip
            against = [m for m in of_features if m in NEED_REFERENCE]
            if reference is not None and against:
                _say(f"{', '.join(against)} of {sets[0].name} in {space}s")
                rows += diversity.diversity_rows(
                    {sets[0].name: both[sets[0].name]}, reference, metrics=against, **shared
                )
            for one in sets:
                flat, cut = (v[one.name].reshape(len(v[one.name]), -1) for v in (whole, both))
                rows += _by_class(one, flat, space, of_class, arguments, diversity)
                if out:
                    _say(f"{one.name}: how the score grows with n, in {space}s")
                    curve = diversity.rarefaction(cut, q=arguments.order, seed=arguments.seed)
                    curves += [{"set": one.name, "space": space, **row} for row in curve]
    except ValueError as error:
        raise InputError(f"{' and '.join(s.name for s in sets)}: {error}") from error
    import pandas as pd

    columns = ["set", "space", "class", "metric", "value", "low", "high", "null", "n", "detail"]
    rows.sort(key=lambda row: ("class" in row) + (row.get("class", "all") != "all"))  # the pooled first
    table = pd.DataFrame(rows).reindex(columns=columns)
    if out:
        files.write_text(out / "diversity.csv", table.to_csv(index=False))
        files.write_text(out / "rarefaction.csv", pd.DataFrame(curves).to_csv(index=False))
        report.rarefaction_figure(out / "rarefaction.csv", out / "rarefaction.png")
    print(report.diversity_table(table))
    if "feature" in set(table["space"]):
        print(f"features: {'as they were given' if sets[0].kind == 'features' else model.name}")
    if out:
        print(f"results: {out / 'diversity.csv'}, {out / 'rarefaction.csv'}, {out / 'rarefaction.png'}")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rmtjax.diversity", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("set", metavar="SET")
    parser.add_argument(
        "--against", metavar="SET", help="compared at equal n; the reference of coverage, cut to n as well"
    )
    parser.add_argument("--paired", action="store_true", help="row i of SET was made from row i of --against")
    parser.add_argument("--space", choices=["pixel", "feature", "unigram"], help="default: all there are")
    parser.add_argument("--model", default="letters", help="letters, or the folder of a run")
    parser.add_argument(
        "--metrics", default="default", help="default, all, or names such as vendi_score,density,distinct_2"
    )
    parser.add_argument("--out", help="a folder for the tables and the picture")
    parser.add_argument(
        "--n", type=int, help="examples of each set; default: as many as the smaller set has, 2,000 at most"
    )
    parser.add_argument(
        "--class_n",
        type=int,
        help="examples of each class, classes with fewer being left out; default: as many as the smallest has, and no more than "
        "n in all",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--order", type=float, default=1.0, help="q of the Vendi scores")
    parser.add_argument("--neighbours", type=int, default=3, help="k of coverage and density")
    parser.add_argument("--top", type=int, default=20, help="eigenvalues of the truncated score")
    parser.add_argument(
        "--bandwidth",
        type=float,
        help="of gaussian_vendi; default: the median distance within --against, or SET",
    )
    parser.add_argument(
        "--image_size",
        type=int,
        help="side that images get; default: the run's, 16 for digits and letters, else 32",
    )
    flags.add_process_flags(parser)
    arguments = parser.parse_args()
    for name, least in LEAST.items():
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise InputError(f"--{name}={value} is out of range: it must be at least {least}")
    if arguments.bandwidth is not None and not 0 < arguments.bandwidth < math.inf:
        raise InputError(f"--bandwidth={arguments.bandwidth} is out of range: it must be above 0")
    return arguments


def _check_asked(asked: list[str], arguments: argparse.Namespace) -> None:
    for metric in asked:
        if metric in NEED_TWO and not arguments.against:
            raise InputError(f"--metrics asks for {metric}, which needs a second set: give --against=SET")
        if metric == "weighted_vendi" and not arguments.paired:
            raise InputError(
                "--metrics asks for weighted_vendi, which needs rows that are paired: give --against=SET --paired, or take "
                "weighted_vendi_unpaired"
            )


def _folder(name: str) -> pathlib.Path:
    folder = pathlib.Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out={name!r} cannot be made ({error.strerror}): name a folder that is new or there"
        ) from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"--out={name!r} cannot be written to: name another folder")
    return folder


def _metrics(words: str, diversity: Any) -> tuple[list[str], list[str]]:
    """The metrics wanted, and those of them that were asked for by name."""
    known = [*diversity.METRICS, *diversity.TEXT_METRICS]
    named = {
        "default": ["vendi_score", "coverage", "weighted_vendi", "distinct_2", "ngram_vendi"],
        "all": known,
    }
    wanted: list[str] = [m for word in words.split(",") for m in named.get(word, [word])]
    unknown = [m for m in wanted if m not in known]
    if unknown:
        raise InputError(f"--metrics has {unknown[0]!r}: use default, all, or of {', '.join(known)}")
    return list(dict.fromkeys(wanted)), [m for m in words.split(",") if m in known]


def _by_class(
    one: Any, features: np.ndarray, space: str, n: int, arguments: argparse.Namespace, diversity: Any
) -> list[dict[str, Any]]:
    if one.labels is None or len(np.unique(one.labels)) < 2:
        return []
    if n < 2:
        _say(
            f"{one.name}: nothing by class, since --n or the smallest class leaves {n} of each: scores need 2 or more, as "
            "--class_n=2 has it (classes with fewer are left out)"
        )
        return []
    _say(f"{one.name}: by class, in {space}s")
    try:
        rows = diversity.class_rows(
            features, one.labels, one.classes, n=n, q=arguments.order, seed=arguments.seed
        )
    except ValueError as error:
        _say(f"{one.name}: nothing by class at --class_n={n}, since {error}")
        return []
    return [{"set": one.name, "space": space, **row} for row in rows]


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
