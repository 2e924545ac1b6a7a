"""Measures the diversity of a set of images, texts or features, or compares two sets at equal n.

python -m rmtjax.diversity SET [--against=SET] [--space=pixel|feature|unigram] [--model=RUN] [--out=DIR]
python -m rmtjax.diversity digits@train --against=digits@test

SET is one of:
  digits, tfds:NAME, npz:FILE, folder:PATH, a set of texts, or another source that a config may name;
    @train or @test at the end picks one part of it
  the folder of a set that python -m rmtjax.generate made
  an npy or npz file of `features` [n, d] (and `labels`)

Features of images come from the shipped letters model (16 x 16 grey images) or from the model of a run.
Texts are read as words, or as the tokens of that run. Scores come with intervals and nulls, first for whole
sets and then by class. --out=DIR writes diversity.csv, rarefaction.csv and rarefaction.png to DIR.
"""

import argparse
import contextlib
import math
import pathlib
import sys
from typing import TYPE_CHECKING, Any

from rmtjax.commands import flags
from rmtjax.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

NEED_REFERENCE = ("coverage", "precision", "recall", "density")
NEED_TWO = (*NEED_REFERENCE, "weighted_vendi_unpaired")
MOST = 2000  # examples of each set, unless --n is given
LEAST = {"n": 2, "class_n": 2, "seed": 0, "neighbours": 1, "top": 1, "image_size": 1}
COLUMNS = ["set", "space", "class", "metric", "value", "low", "high", "null", "n", "detail"]


@flags.command
def main(argv: list[str] | None = None) -> int:
    arguments = _parse(argv)
    flags.initialise(arguments)
    from rmtjax import files, report
    from rmtjax.commands import named_sets

    wanted, asked = _metrics(arguments.metrics)
    _check_asked(asked, arguments)
    model = named_sets.model(arguments.model)
    sets = named_sets.read_together(
        list(filter(None, (arguments.set, arguments.against))),
        model,
        image_size=arguments.image_size,
        most=max(arguments.n or 0, MOST),
    )
    _check_alike(sets, asked)
    n = _examples_of_each(sets, arguments)
    with contextlib.ExitStack() as stack:
        out = None
        if arguments.out:
            out = stack.enter_context(files.writing_to(arguments.out, "--out", "--out"))
        try:
            rows, curves = _measure(sets, model, wanted, n, arguments, with_curves=out is not None)
        except ValueError as error:
            raise InputError(f"{' and '.join(s.name for s in sets)}: {error}") from error
        table = _table(rows)
        written = _write(out, table, curves) if out else []
    flags.found(table=table, files=written)
    print(report.diversity_table(table))
    if "feature" in set(table["space"]):
        print(f"features: {'as they were given' if sets[0].kind == 'features' else model.name}")
    if written:
        print(f"results: {', '.join(map(str, written))}")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = flags.parser("diversity", __doc__)
    parser.add_argument("set", metavar="SET", help="the set that is measured: see above")
    parser.add_argument(
        "--against",
        metavar="SET",
        help="a second set, compared at equal n; it is also the reference of coverage",
    )
    parser.add_argument("--paired", action="store_true", help="row i of SET was made from row i of --against")
    parser.add_argument("--space", choices=["pixel", "feature", "unigram"], help="default: all that apply")
    parser.add_argument("--model", default="letters", help="letters, or the folder of a run")
    parser.add_argument(
        "--metrics", default="default", help="default, all, or names such as vendi_score,density,distinct_2"
    )
    parser.add_argument("--out", help="folder for the tables and the picture")
    parser.add_argument(
        "--n", type=int, help="examples of each set; default: the size of the smaller set, at most 2,000"
    )
    parser.add_argument(
        "--class_n",
        type=int,
        help="examples of each class (classes with fewer are left out); default: the size of the smallest "
        "class, at most n in all",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of subsets and intervals; default: 0")
    parser.add_argument("--order", type=float, default=1.0, help="order q of the Vendi scores")
    parser.add_argument("--neighbours", type=int, default=3, help="k of coverage and density")
    parser.add_argument("--top", type=int, default=20, help="eigenvalues of the truncated score")
    parser.add_argument(
        "--bandwidth",
        type=float,
        help="bandwidth of gaussian_vendi; default: the median distance within --against, or SET",
    )
    parser.add_argument(
        "--image_size",
        type=int,
        help="side that images are resized to; default: that of the run, 16 for digits and letters, else 32",
    )
    flags.add_process_flags(parser)
    arguments = parser.parse_args(argv)
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
                "--metrics asks for weighted_vendi, which needs paired rows: give --against=SET --paired, "
                "or use weighted_vendi_unpaired"
            )


def _metrics(words: str) -> tuple[list[str], list[str]]:
    """The metrics to compute, and those among them that the user named."""
    from rmtjax import diversity

    known = [*diversity.METRICS, *diversity.TEXT_METRICS]
    named = {
        "default": ["vendi_score", "coverage", "weighted_vendi", "distinct_2", "ngram_vendi"],
        "all": known,
    }
    wanted: list[str] = [m for word in words.split(",") for m in named.get(word, [word])]
    unknown = [m for m in wanted if m not in known]
    if unknown:
        raise InputError(f"--metrics has {unknown[0]!r}: use default, all, or some of {', '.join(known)}")
    return list(dict.fromkeys(wanted)), [m for m in words.split(",") if m in known]


def _check_alike(sets: list[Any], asked: list[str]) -> None:
    """Refuses two sets with the same name or with different shapes, and metrics of texts for other sets."""
    from rmtjax import diversity

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
            f"--metrics asks for {of_texts[0]}, which is for texts, but {sets[0].name} has {sets[0].kind}: "
            "leave it out"
        )


def _examples_of_each(sets: list[Any], arguments: argparse.Namespace) -> int:
    """How many examples of each set are compared. Raises InputError if a set has fewer than --n."""
    n = arguments.n or min(MOST, *(len(s.values) for s in sets))
    short = [s for s in sets if len(s.values) < n]
    if short:
        raise InputError(
            f"{short[0].name} has {len(short[0].values)} examples, fewer than --n={n}: choose a smaller --n"
        )
    if arguments.paired and (len(sets) < 2 or len(sets[0].values) != len(sets[1].values)):
        numbers = " and ".join(str(len(s.values)) for s in sets)
        raise InputError(f"--paired needs --against with a row for each row of SET: they have {numbers}")
    return int(n)


def _examples_of_a_class(sets: list[Any], n: int, arguments: argparse.Namespace) -> int:
    """How many examples of each class are scored: the size of the smallest class, at most n for a set."""
    import numpy as np

    counts = [np.unique(s.labels, return_counts=True)[1] for s in sets if s.labels is not None]
    return arguments.class_n or min((min(int(c.min()), n // len(c)) for c in counts), default=0)


def _measure(
    sets: list[Any],
    model: Any,
    wanted: list[str],
    n: int,
    arguments: argparse.Namespace,
    *,
    with_curves: bool,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of scores, and rows of rarefaction curves (how the score grows with n)."""
    from rmtjax import diversity
    from rmtjax.commands import named_sets

    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    of_texts = [m for m in wanted if m in diversity.TEXT_METRICS]
    if sets[0].kind == "tokens" and of_texts:
        _report(f"n-grams of {n} texts of each set")
        values = {s.name: s.values for s in sets}
        rows += diversity.text_rows(values, metrics=of_texts, seed=arguments.seed, q=arguments.order, n=n)
    of_class = _examples_of_a_class(sets, n, arguments)
    for space, values_of_sets in named_sets.spaces(sets, arguments.space, model).items():
        whole = dict(zip((s.name for s in sets), values_of_sets, strict=True))
        cut = diversity.at_equal_n(whole, seed=arguments.seed, n=n)
        rows += _rows_of_whole_sets(list(cut), cut, space, wanted, n, arguments)
        for one in sets:
            flat = whole[one.name].reshape(len(whole[one.name]), -1)
            rows += _rows_by_class(one, flat, space, of_class, arguments)
            if with_curves:
                _report(f"{one.name}: how the score grows with n, in {space}s")
                features = cut[one.name].reshape(len(cut[one.name]), -1)
                curve = diversity.rarefaction(features, q=arguments.order, seed=arguments.seed)
                curves += [{"set": one.name, "space": space, **row} for row in curve]
    return rows, curves


def _rows_of_whole_sets(
    names: list[str],
    cut: "dict[str, np.ndarray]",
    space: str,
    wanted: list[str],
    n: int,
    arguments: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Scores of each set, then those of the first against the second; `cut` has n examples of each set."""
    from rmtjax import diversity

    first, second = names[0], names[1] if len(names) == 2 else None
    reference = cut[second] if second else None
    of_features = [m for m in wanted if m in diversity.METRICS]
    options: dict[str, Any] = {
        "space": space,
        "k": arguments.neighbours,
        "top": arguments.top,
        "seed": arguments.seed,
        "q": arguments.order,
        "n": n,
    }
    rows = diversity.diversity_rows(
        cut,
        reference,
        metrics=[m for m in of_features if m not in NEED_REFERENCE],
        report=_report,
        paired={first: second} if arguments.paired and second else None,
        base=second,
        bandwidth=arguments.bandwidth,
        **options,
    )
    against = [m for m in of_features if m in NEED_REFERENCE]
    if reference is not None and against:
        _report(f"{', '.join(against)} of {first} in {space}s")
        rows += diversity.diversity_rows({first: cut[first]}, reference, metrics=against, **options)
    return rows


def _rows_by_class(
    one: Any, features: "np.ndarray", space: str, n: int, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Scores of the classes of a set, n examples of each; none if there is one class or n is below 2."""
    from rmtjax import diversity

    if one.labels is None or len(set(one.labels.tolist())) < 2:
        return []
    if n < 2:
        _report(
            f"{one.name}: no scores by class, since --n or the smallest class leaves {n} of each: "
            "give --class_n=2 or more, which leaves out classes with fewer"
        )
        return []
    _report(f"{one.name}: by class, in {space}s")
    try:
        rows = diversity.class_rows(
            features, one.labels, one.classes, n=n, q=arguments.order, seed=arguments.seed
        )
    except ValueError as error:
        _report(f"{one.name}: no scores by class at --class_n={n}, since {error}")
        return []
    return [{"set": one.name, "space": space, **row} for row in rows]


def _table(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    """A table of the rows of whole sets, then those pooled over classes, then those of single classes."""
    import pandas as pd

    rows = sorted(rows, key=lambda row: ("class" in row) + (row.get("class", "all") != "all"))
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _write(out: pathlib.Path, table: "pd.DataFrame", curves: list[dict[str, Any]]) -> list[pathlib.Path]:
    """Writes the tables and the figure; returns their paths."""
    import pandas as pd

    from rmtjax import files, report

    names = ("diversity.csv", "rarefaction.csv", "rarefaction.png")
    scores, growth, figure = (out / name for name in names)
    files.write_text(scores, table.to_csv(index=False))
    files.write_text(growth, pd.DataFrame(curves).to_csv(index=False))
    report.rarefaction_figure(growth, figure)
    return [scores, growth, figure]


def _report(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
