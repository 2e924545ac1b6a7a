"""The page of a study: answers, figures and tables, made from the CSV files of the study alone."""

import itertools
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from rmtjax import results, statistics
from rmtjax.errors import InputError
from rmtjax.report import pages, png
from rmtjax.report.chart import (
    Axis,
    Band,
    Cells,
    Chart,
    Dots,
    Key,
    Line,
    Mark,
    Rule,
    estimates,
    fitted,
    named,
)
from rmtjax.report.colours import look
from rmtjax.report.numbers import interval, show
from rmtjax.report.pages import (
    Cards,
    Cell,
    Charts,
    Details,
    Heading,
    Pairs,
    Section,
    Table,
    Text,
    number_cell,
    text_cell,
)
from rmtjax.report.seeds import intervals
from rmtjax.statistics.wording import capital

_DOSED = (
    ("backbone", "update/stable_rank"),
    ("backbone", "update/log_norm"),
    ("backbone", "after/alpha"),
    ("run", "accuracy"),
    ("run", "ood_accuracy"),
    ("run", "ece"),
)
_DIVERSITY = (
    "vendi_score_feature",
    "vendi_score_pixel",
    "weighted_vendi_unpaired_feature",
    "coverage_feature",
)
_ARMS = (Key("after", "line", "highest dose"), Key("null", "line", "baseline"))
_AGAINST = (Key("after", "line", "arm"), Key("null", "line", "baseline"))
_CAPTIONS = {
    "similarity": "Cosine between the effects of two families on all layer groups and metrics, corrected for "
    "the similarity that a common baseline causes (similarity.csv). The diagonal shows the reliability: how "
    "much of the effect of a family is more than noise.",
    "doses": "Means over seeds with their intervals, against the dose of each family (study.csv); the line "
    "is the baseline.",
    "spectra": "Density of the eigenvalues of the update, over the matrices of the backbone; the eigenvalues "
    "of each matrix are divided by their mean. Shown are the mean over seeds and its interval, for the "
    "highest dose of each family and, in grey, its baseline. Eigenvalues below 1e-4 are in the first bin. "
    "spectra.csv has all arms.",
    "curvature": "Trace and largest eigenvalue of the Hessian of the training loss, in evaluation mode: mean "
    "over seeds with its interval, each arm beside its baseline in grey (curvature.csv).",
    "calibration": "Expected calibration error of each arm, mean over seeds with its interval (study.csv); "
    "the line is the baseline.",
    "diversity": "Accuracy out of distribution against diversity. Each point is an arm, the mean over its "
    "seeds (study.csv).",
}
_SHORT = {
    "T1": "like dropout, not like decay?",
    "T2": "the same as dropout?",
    "T3": "a best share of synthetic data?",
    "T4": "does diversity rank families?",
    "T5": "does diversity move weights?",
    "T6": "is the effect that on the fit?",
    "T7": "do numbers tell families apart?",
}
_WORDS = (
    ("arm", "a cell of the design: runs that differ in their seeds alone"),
    ("family, dose", "what an arm changes, such as dropout, and how strongly"),
    ("baseline", "the arm without any change, from which effects are measured"),
    ("effect", "mean of an arm less that of its baseline, in standard deviations of the baseline's seeds"),
    ("null", "the baseline once more, on other seeds: what is found in it is found where nothing is"),
    ("placebo", "a change that has nothing to do with the question, such as of the learning rate"),
    ("update", "the weights after training less those before"),
    ("floor", "the cosine that unrelated directions exceed in 2.5 % of cases, in as few dimensions"),
    ("cannot tell", "the seeds or the doses do not suffice for a yes or a no"),
)
_SHOWN = 40  # effects in the page; effects.csv has all


def study_page(out: str | os.PathLike[str]) -> pathlib.Path:
    """Draws `study.html` and its figures `figures/*.png` from the CSV files in the folder of a study.

    answers.csv and study.csv are needed; the other tables of `study.tables.answer` are used if they exist.

    Raises:
      InputError: a needed table is missing.
    """
    folder = pathlib.Path(out)
    answers, table = needed_table(folder / "answers.csv"), needed_table(folder / "study.csv")
    runs = table.drop_duplicates(["arm", "seed"])
    seeds = runs.groupby("arm")["seed"].nunique()
    few, many = int(seeds.min()), int(seeds.max())
    header = Text(
        f"{len(runs)} runs in {len(seeds)} arms, {few if few == many else f'{few} to {many}'} seeds per arm. "
        "Intervals are 95 % intervals over seeds.",
        "",
    )
    # The other rows of T1 and T6 are in tables below, side by side; those of T5 stand in the joined ones.
    first = ~answers.duplicated("question")
    of_block = (answers["question"] == "T5") & answers["block"].astype(object).fillna("").str.contains(": ")
    shown = answers[(first | ~answers["question"].isin(["T1", "T6"])) & ~of_block]
    told = answer_blocks([(row.question, row.verdict, row.sentence) for row in shown.itertuples()])
    sections = [
        Section(
            "answers", "Answers", [_in_short(shown), *told, Details("What these words mean", [Pairs(_WORDS)])]
        ),
        Section("likeness", "T1 by numbers and doses", [_likeness(found_table(folder / "likeness.csv"))]),
        Section("fit", "T6: effects at equal fit", [_fit(found_table(folder / "fit.csv"))]),
        Section("separation", "T7 by numbers", [_separation(found_table(folder / "separation.csv"))]),
        Section("figures", "Figures", _figures(folder, table)),
        Section("effects", "Largest effects", [_effects(found_table(folder / "effects.csv"))]),
    ]
    return results.write(folder / "study.html", pages.render("Study", [header], sections))


def _in_short(shown: pd.DataFrame) -> Cards:
    """The verdicts of each question: of the one that names it, and below it those of others that differ."""
    cards = []
    for question, rows in shown.groupby("question", sort=False):
        first, *rest = dict.fromkeys(rows["verdict"])
        below = f"also: {', '.join(map(str, rest))}" if rest else ""
        cards.append((f"{question}: {_SHORT.get(str(question), '')}", str(first), below))
    return Cards(cards)


def answer_blocks(answers: Iterable[tuple[str, str, str]]) -> list[Heading | Text]:
    """Questions in words with their answers below. `answers` has (question, verdict, sentence)."""
    blocks: list[Heading | Text] = []
    for question, rows in itertools.groupby(answers, key=lambda row: row[0]):
        blocks.append(Heading(f"{question}. {statistics.QUESTIONS.get(question, '')}"))
        blocks += [Text(sentence, "", strong=f"{capital(verdict)}.") for _, verdict, sentence in rows]
    return blocks


def needed_table(path: pathlib.Path) -> pd.DataFrame:
    """As `found_table`. Raises InputError where there is no such file."""
    table = found_table(path)
    if table is None:
        raise InputError(f"no table {str(path)!r}: run the study first")
    return table


def found_table(path: pathlib.Path) -> pd.DataFrame | None:
    """Reads a CSV file, in which "null" is the name of a family; None if there is no such file."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""]) if path.is_file() else None


def _figures(folder: pathlib.Path, table: pd.DataFrame) -> list[Charts | Text]:
    """All figures for which there are data; each is also written to figures/NAME.png."""
    families = [str(family) for family in dict.fromkeys(table["family"])]
    doses = _doses(table)
    several = len({chart.x.label for chart in doses})
    drawn: dict[str, tuple[list[Chart], int, Sequence[Key]]] = {
        "similarity": (similarity_charts(found_table(folder / "similarity.csv")), 1, ()),
        "doses": (doses, several, ()),
        "spectra": (_spectra(found_table(folder / "spectra.csv")), 4, _ARMS),
        "curvature": (_curvature(found_table(folder / "curvature.csv")), 4, _AGAINST),
        "calibration": (_calibration(table), 4, ()),
        "diversity": (_ranking(table, families), 4, [Key(*look(k), name) for k, name in enumerate(families)]),
    }
    blocks: list[Charts | Text] = []
    for name, (charts, columns, keys) in drawn.items():
        if charts:
            png.save(folder / results.FIGURES / f"{name}.png", charts, columns, keys)
            blocks.append(Charts(charts, _CAPTIONS[name], columns if columns < 4 else 0, keys))
    return blocks or [pages.absent("Too few runs so far for a figure.")]


def similarity_charts(found: pd.DataFrame | None) -> list[Chart]:
    """The cosines of similarity.csv as one matrix; no chart without them."""
    if found is None or found.empty:
        return []
    both = pd.concat([found, found.rename(columns={"family": "other", "other": "family"})])
    wide = both.drop_duplicates(["family", "other"]).pivot(index="family", columns="other", values="cosine")
    names = list(dict.fromkeys([*found["family"], *found["other"]]))
    values = wide.reindex(index=names, columns=names).to_numpy(float)
    x = Axis(-0.5, len(names) - 0.5, ticks=tuple(enumerate(names)))
    y = Axis(len(names) - 0.5, -0.5, ticks=tuple(enumerate(names)))
    size = (150 + 62 * len(names), 60 + 46 * len(names))
    return [Chart(x, y, (Cells(values),), "Cosines between the effects of families", size=size)]


def _doses(table: pd.DataFrame) -> list[Chart]:
    """Numbers against doses: a row of charts for each number, a chart for each family with several doses."""
    there = set(zip(table["group"], table["metric"], strict=True))
    dosed = table[table["arm"] != table["baseline"]].groupby("family", sort=False)["dose"].nunique()
    families = [str(name) for name, count in dosed.items() if count > 1]
    charts = []
    for group, metric in (number for number in _DOSED if number in there):
        of = table[(table["group"] == group) & (table["metric"] == metric)]
        shared = fitted([of["value"].to_numpy(float)], log=False)
        charts += [_dose_chart(of, family, group, metric, shared) for family in families]
    return charts


def _dose_chart(of: pd.DataFrame, family: str, group: str, metric: str, y: Axis) -> Chart:
    part = of[of["family"] == family]
    base = of[of["arm"].isin(part["baseline"].unique())]["value"].to_numpy(float)
    doses = np.sort(part["dose"].unique())
    means = intervals(part.loc[part["dose"] == dose, "value"] for dose in doses)
    places = np.arange(len(doses), dtype=float)
    marks: list[Mark] = [Rule(float(np.nanmean(base)), "null", "solid", level=True)] if len(base) else []
    marks += estimates(places, means, joined=True)
    ticks = tuple((float(place), f"{dose:g}") for place, dose in zip(places, doses, strict=True))
    x = Axis(-0.4, len(doses) - 0.6, label=f"dose of {family}", ticks=ticks)
    number = f"{metric.replace('/', ', ').replace('_', ' ')}, {group}"
    return Chart(x, y, tuple(marks), f"{number}, by dose of {family}", number, (260, 170))


def _spectra(found: pd.DataFrame | None) -> list[Chart]:
    """Densities of the eigenvalues of the update: the highest dose of each family beside its baseline."""
    if found is None or found.empty:
        return []
    arms = found.drop_duplicates("arm")
    highest = arms[arms["arm"] != arms["baseline"]].sort_values("dose").drop_duplicates("family", keep="last")
    chosen = arms[arms["arm"].isin(highest["arm"])]  # in the order of the design
    shown = found[found["arm"].isin([*chosen["arm"], *chosen["baseline"]])]
    x = fitted([shown["log10_eigenvalue"].to_numpy(float)], log=False, label="log₁₀ eigenvalue / mean")
    y = fitted([shown["high"].to_numpy(float)], log=False, floor=0.0)
    charts = []
    for row in chosen.itertuples():
        marks: list[Mark] = []
        for arm, colour in ((row.baseline, "null"), (row.arm, "after")):
            part = found[found["arm"] == arm]
            names = ("log10_eigenvalue", "low", "high", "density")
            at, low, high, density = (part[name].to_numpy(float) for name in names)
            marks += [Band(at, low, high, colour), Line(at, density, colour)]
        name = str(row.arm).replace("_", " ")
        charts.append(Chart(x, y, tuple(marks), f"Eigenvalues of the update in {name}", name, (270, 190)))
    return charts


def _curvature(found: pd.DataFrame | None) -> list[Chart]:
    """The Hessian in training: a row of charts for each number, a chart for each arm beside its baseline."""
    charts: list[Chart] = []
    if found is None:
        return charts
    arms = found.drop_duplicates("arm")
    for metric in ("hessian_trace", "hessian_largest"):
        of = found[found["metric"] == metric]
        x = fitted([of["step"].to_numpy(float)], log=False, label="step")
        y = fitted([of[name].to_numpy(float) for name in ("mean", "low", "high")], log=False)
        for row in arms[arms["arm"] != arms["baseline"]].itertuples():
            marks: list[Mark] = []
            for arm, colour in ((row.baseline, "null"), (row.arm, "after")):
                part = of[of["arm"] == arm]
                step, mean, low, high = (
                    part[name].to_numpy(float) for name in ("step", "mean", "low", "high")
                )
                marks += [Band(step, low, high, colour), Line(step, mean, colour)]
            title = f"{metric.replace('_', ' ')}, {str(row.arm).replace('_', ' ')}"
            charts.append(Chart(x, y, tuple(marks), f"{title}, by step", title, (270, 190)))
    return charts


def _calibration(table: pd.DataFrame) -> list[Chart]:
    of_run = table[(table["group"] == "run") & table["metric"].str.fullmatch(r"(.+_)?ece")]
    arms = list(dict.fromkeys(of_run["arm"]))
    places = np.arange(len(arms), dtype=float)
    charts = []
    for metric in dict.fromkeys(of_run["metric"]):
        of = of_run[of_run["metric"] == metric]
        base = of[of["arm"] == of["baseline"]]["value"].to_numpy(float)
        means = intervals(of.loc[of["arm"] == arm, "value"] for arm in arms)
        marks: list[Mark] = [Rule(float(np.nanmean(base)), "null", "solid")] if len(base) else []
        marks += estimates(places, means, level=True)
        title = "test" if metric == "ece" else metric.removesuffix("_ece").replace("_", " ")
        names = named([arm.replace("_", " ") for arm in arms])
        x = fitted([means], log=False, label="ECE")
        size = (340, 60 + 20 * len(arms))
        charts.append(Chart(x, names, tuple(marks), f"Calibration error of each arm on {title}", title, size))
    return charts


def _ranking(table: pd.DataFrame, families: list[str]) -> list[Chart]:
    of_run = table[table["group"] == "run"]
    wide = of_run.pivot_table(index=["family", "arm"], columns="metric", values="value")
    if "ood_accuracy" not in wide:
        return []
    y = fitted([wide["ood_accuracy"].to_numpy(float)], log=False)
    charts = []
    for measure in (name for name in _DIVERSITY if name in wide):
        marks: list[Mark] = []
        for family, part in wide.groupby(level="family", sort=False):
            colour, shape = look(families.index(family))
            tips = [str(arm) for arm in part.index.get_level_values("arm")]
            x, accuracy = (part[name].to_numpy(float) for name in (measure, "ood_accuracy"))
            marks.append(Dots(x, accuracy, colour, shape, tips=tips))
        label = measure.replace("_", " ")
        axis = fitted([wide[measure].to_numpy(float)], log=False, label=label)
        alt = f"Accuracy out of distribution against {label}"
        charts.append(Chart(axis, y, tuple(marks), alt, "accuracy out of distribution", (320, 240)))
    return charts


def _likeness(found: pd.DataFrame | None) -> Table | Text:
    """The rows of T1 side by side, the primary ones first."""
    if found is None or found.empty:
        return pages.absent("There are too few seeds so far for T1.")
    rows = [
        [
            text_cell(row.block, row.condition),
            text_cell(row.verdict, "" if pd.isna(row.reason) else str(row.reason)),
            _cosine(row.dropout, row.dropout_low, row.dropout_high),
            _cosine(row.decay, row.decay_low, row.decay_high),
            _cosine(row.contrast, row.contrast_low, row.contrast_high),
            _cosine(row.placebo_cosine, row.placebo_low, row.placebo_high, row.placebo),
            _cosine(row.margin, row.margin_low, row.margin_high, row.rival),
            number_cell(row.floor)._replace(
                below=f"of {show(row.dimensions)} dimensions" if np.isfinite(row.dimensions) else ""
            ),
        ]
        for row in found.itertuples()
    ]
    heads = [
        "numbers, doses", "verdict", "dropout", "decay", "contrast",
        "greatest placebo", "least over placebos", "floor",
    ]  # fmt: skip
    caption = (
        "Cosines of the effects of diversity with those of dropout, of weight decay and of the placebo that "
        "is the most alike or the most opposed, with 95 % intervals below. Yes requires that the lower end "
        "of dropout's interval is above the floor, the contrast with decay above 0, and the cosine above the "
        "size of every placebo's. The first rows are the primary analysis; likeness.csv has more."
    )
    return Table(caption, heads, rows, left=2)


def _fit(found: pd.DataFrame | None) -> Table | Text:
    """T6: families at equal training loss and at equal norm of the update."""
    if found is None or found.empty:
        return pages.absent("No placebo of training for longer, or too few seeds so far for T6.")
    rows = [
        [
            text_cell(row.family, row.arm),
            text_cell(row.block, f"equal {row.by.replace('_', ' ')}"),
            number_cell(row.change)._replace(below=interval(row.reach_low, row.reach_high)),
            number_cell(row.effect)._replace(below=interval(row.effect_low, row.effect_high)),
            _cosine(row.share, row.share_low, row.share_high),
            _cosine(row.left, row.left_low, row.left_high),
            text_cell("" if pd.isna(row.reason) else row.reason),
        ]
        for row in found.itertuples()
    ]
    heads = ["family", "numbers, equal", "change", "effect", "share of the fit", "left", "why not"]
    caption = (
        "Of each family's squared effect on the weights, the share that training for more or fewer steps has "
        "as well where it changes the training loss, or the norm of the update, by as much; effects are root "
        "mean squares in standard deviations of seed noise, with 95 % intervals below, and below 0 "
        "where there is less than noise. Below the change stands what the steps reach."
    )
    return Table(caption, heads, rows, left=3)  # so that reasons are wrapped


def _separation(found: pd.DataFrame | None) -> Table | Text:
    """T7: each number of the update, beside it the same of the weights after training."""
    if found is None or found.empty:
        return pages.absent("There are too few families or seeds so far for T7.")
    names = found["metric"].str.split("/").str[-1]
    wide = found.assign(name=names).set_index(["group", "name", "stage"])
    keys = list(dict.fromkeys(zip(found["group"], names, strict=True)))
    rows = []
    for group, name in keys:
        cells = [text_cell(group), text_cell(name.replace("_", " "))]
        for stage in ("update", "after"):
            if (group, name, stage) in wide.index:
                row = wide.loc[(group, name, stage)]
                cells += [_cosine(row["accuracy"], row["low"], row["high"]), number_cell(row["p"])]
                cells.append(number_cell(row["p_best"]))
            else:
                cells += [number_cell(float("nan"))] * 3
        rows.append(cells)
    of = ("update", "after")
    heads = [
        "layers",
        "metric",
        *(f"{head}, {stage}" for stage in of for head in ("accuracy", "p", "p best")),
    ]
    caption = (
        "Balanced accuracy of guessing the family of a run from one number, by the nearest of the families' "
        "means over the other seeds, with 95 % t intervals over seeds below, which may pass 1. p is from "
        "shuffling families within each seed: of this number alone, and of the best number of each shuffle."
    )
    return Table(caption, heads, rows, left=2)


def _cosine(value: float, low: float, high: float, family: str | float = "") -> Cell:
    """A number above its interval and the family that it is of, which is NaN where there is none."""
    named = family if isinstance(family, str) and not np.isnan(value) else ""
    return number_cell(value)._replace(below=interval(low, high), null=named)


def _effects(found: pd.DataFrame | None) -> Table | Text:
    if found is None or found.empty:
        return pages.absent("There are too few seeds so far for effects.")
    order = found["standardised"].abs().sort_values(ascending=False, na_position="last").index[:_SHOWN]
    rows = [
        [
            text_cell(row.arm),
            text_cell(row.group),
            text_cell(row.metric),
            number_cell(row.effect),
            text_cell(interval(row.low, row.high)),
            number_cell(row.standardised),
            number_cell(row.p_holm),
            text_cell(f"{row.seeds:.0f} and {row.baseline_seeds:.0f}, {row.test}"),
        ]
        for row in found.loc[order].itertuples()
    ]
    heads = ["arm", "layers", "metric", "effect", "95 %", "in seed s.d.", "p, Holm", "seeds, test"]
    caption = (
        f"The {len(rows)} largest of {len(found)}, each against the baseline of its arm; effects.csv has all."
    )
    return Table(caption, heads, rows, left=3)
