"""The page of a study: answers first, then figures, then tables. Drawn from the study's CSV files alone."""

import os
import pathlib

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rmtjax import results
from rmtjax.errors import InputError
from rmtjax.report import style, tables, template
from rmtjax.statistics import mean_interval

_DOSED = (
    ("backbone", "update/stable_rank"), ("backbone", "update/log_norm"), ("backbone", "after/alpha"),
    ("run", "accuracy"), ("run", "ood_accuracy"), ("run", "ece"),
)  # fmt: skip
_DIVERSITY = (
    "vendi_score_feature",
    "vendi_score_pixel",
    "weighted_vendi_unpaired_feature",
    "coverage_feature",
)
_SHOWN = 40  # effects in the page; effects.csv has all


def study_page(out: str | os.PathLike[str]) -> pathlib.Path:
    """Draws `study.html` of a study's folder, and its figures as `figures/*.png`, from the study's CSV files.

    answers.csv and study.csv must be there; effects.csv, similarity.csv and spectra.csv may be.

    Raises:
      InputError: a table is not there.
    """
    folder = pathlib.Path(out)
    answers, table = _read(folder / "answers.csv"), _read(folder / "study.csv")
    runs = table.drop_duplicates(["arm", "seed"])
    seeds = runs.groupby("arm")["seed"].nunique()
    header = (
        f"<p>{len(runs)} runs in {len(seeds)} arms, {_range(int(seeds.min()), int(seeds.max()))} seeds an arm. The unit is the seed: intervals are of "
        "95 %, over seeds.</p>"
    )
    sections = [template.Section("answers", "Answers", _answers(answers))]
    figures = []

    def add(drawn: Figure | None, alt: str, name: str, caption: str) -> None:
        """To the page, and as figures/NAME.png."""
        if drawn is not None:
            style.save_png(drawn, folder / results.FIGURES / f"{name}.png")
            figures.append(template.picture(drawn, alt, name, caption))

    with style.drawing():
        add(
            _similarity(folder / "similarity.csv"),
            "cosines between the effects of families",
            "similarity",
            "Cosine between the effects of two families on all layer groups and metrics, without what a common baseline "
            "makes alike (similarity.csv). On the diagonal the reliability: how much of a family's effect is more than noise.",
        )
        add(
            _doses(table),
            "numbers against doses by family",
            "doses",
            "Means over seeds with their intervals (study.csv); the line is the baseline.",
        )
        add(
            _spectra(folder / "spectra.csv"),
            "densities of the updates' eigenvalues by arm",
            "spectra",
            "Eigenvalues of the backbone matrices of the update, each matrix's divided by their mean: mean over seeds with its interval, the "
            "highest dose of each family beside its baseline in grey; those below 1e-4 are in the first bin (spectra.csv has all arms).",
        )
        add(
            _calibration(table),
            "calibration errors by arm",
            "calibration",
            "Expected calibration error of each arm, mean over seeds with its interval (study.csv); the line is the baseline.",
        )
        add(
            _ranking(table),
            "accuracy out of distribution against diversity",
            "diversity",
            "Each point is an arm, the mean over its seeds (study.csv).",
        )
    shown = "\n".join(figures)
    sections += [
        template.Section("figures", "Figures", shown or template.absent("Too few runs so far for a figure.")),
        template.Section("effects", "Largest effects", _effects(folder / "effects.csv")),
    ]
    page = template.page("Study", header, sections)
    return results.write(folder / "study.html", page.encode())


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _answers(answers: pd.DataFrame) -> str:
    return "\n".join(
        f"<p><strong>{tables.escape(row.question)}: {tables.escape(row.verdict)}.</strong> {tables.escape(row.sentence)}</p>"
        for row in answers.itertuples()
    )


def _similarity(path: pathlib.Path) -> Figure | None:
    if not path.is_file() or (found := _table(path)).empty:
        return None
    both = pd.concat([found, found.rename(columns={"family": "other", "other": "family"})])
    wide = both.drop_duplicates(["family", "other"]).pivot(index="family", columns="other", values="cosine")
    names = list(dict.fromkeys([*found["family"], *found["other"]]))
    wide = wide.reindex(index=names, columns=names)
    size = 1.6 + 0.75 * len(names)
    drawn = style.figure(size + 1, size)
    axes = drawn.subplots()
    axes.imshow(wide.to_numpy(float), vmin=-1, vmax=1, cmap="RdBu_r", alpha=0.6)
    for (i, j), value in np.ndenumerate(wide.to_numpy(float)):
        if np.isfinite(value):
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=style.LIGHT["ink"], fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    drawn.tight_layout()
    return drawn


def _doses(table: pd.DataFrame) -> Figure | None:
    there = set(zip(table["group"], table["metric"], strict=True))
    numbers = [number for number in _DOSED if number in there]
    families = [
        name
        for name, part in table[table["arm"] != table["baseline"]].groupby("family", sort=False)
        if part["dose"].nunique() > 1
    ]
    if not numbers or not families:
        return None
    drawn = style.figure(1.2 + 2.0 * len(families), 0.5 + 1.5 * len(numbers))
    grid = drawn.subplots(len(numbers), len(families), sharey="row", sharex="col", squeeze=False)
    for line, (group, metric) in zip(grid, numbers, strict=True):
        of = table[(table["group"] == group) & (table["metric"] == metric)]
        for axes, family in zip(line, families, strict=True):
            part = of[of["family"] == family]
            base = of[of["arm"].isin(part["baseline"].unique())]["value"].to_numpy(float)
            if len(base):
                axes.axhline(np.nanmean(base), color=style.LIGHT["null"], linewidth=1.2)
            doses = np.sort(part["dose"].unique())
            lines = np.array(
                [mean_interval(part.loc[part["dose"] == d, "value"].to_numpy(float)) for d in doses]
            )
            places = np.arange(len(doses))
            axes.vlines(places, lines[:, 1], lines[:, 2], color=style.LIGHT["after"], linewidth=1.6)
            axes.plot(places, lines[:, 0], "o-", color=style.LIGHT["after"], markersize=4, linewidth=1)
            axes.set_xticks(places, [f"{d:g}" for d in doses])
            axes.set_xlim(-0.4, len(doses) - 0.6)
            axes.grid(axis="y")
        line[0].set_ylabel(f"{metric.replace('/', ', ').replace('_', ' ')}\n{group}")
    for axes, family in zip(grid[0], families, strict=True):
        axes.set_title(str(family))
    drawn.tight_layout()
    return drawn


def _spectra(path: pathlib.Path) -> Figure | None:
    if not path.is_file() or (found := _table(path)).empty:
        return None
    arms = found.drop_duplicates("arm")
    shown = arms[arms["arm"] != arms["baseline"]].sort_values("dose").drop_duplicates("family", keep="last")
    if shown.empty:
        return None
    shown = arms[arms["arm"].isin(shown["arm"])]  # in the design's order
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    drawn = style.figure(1.0 + 2.3 * across, 0.6 + 1.8 * down)
    grid = drawn.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, shown.itertuples(), strict=False):
        for arm, colour in ((row.baseline, style.LIGHT["null"]), (row.arm, style.LIGHT["after"])):
            part = found[found["arm"] == arm]
            axes.fill_between(
                part["log10_eigenvalue"], part["low"], part["high"], color=colour, alpha=0.3, linewidth=0
            )
            axes.plot(part["log10_eigenvalue"], part["density"], color=colour, linewidth=1.2)
        axes.set_title(str(row.arm).replace("_", " "))
        axes.grid()
    for axes in grid[-1]:
        axes.set_xlabel("log10 eigenvalue / mean")
    for axes in grid[:, 0]:
        axes.set_ylabel("density")
    drawn.tight_layout()
    return drawn


def _calibration(table: pd.DataFrame) -> Figure | None:
    of_run = table[(table["group"] == "run") & table["metric"].str.fullmatch(r"(.+_)?ece")]
    metrics, arms = list(dict.fromkeys(of_run["metric"])), list(dict.fromkeys(of_run["arm"]))
    if not metrics:
        return None
    drawn = style.figure(1.6 + 2.4 * len(metrics), 0.8 + 0.21 * len(arms))
    grid = drawn.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(grid, metrics, strict=True):
        of = of_run[of_run["metric"] == metric]
        base = of[of["arm"] == of["baseline"]]["value"].to_numpy(float)
        if len(base):
            axes.axvline(np.nanmean(base), color=style.LIGHT["null"], linewidth=1.2)
        lines = np.array([mean_interval(of.loc[of["arm"] == arm, "value"].to_numpy(float)) for arm in arms])
        axes.hlines(np.arange(len(arms)), lines[:, 1], lines[:, 2], color=style.LIGHT["after"], linewidth=1.6)
        axes.plot(lines[:, 0], np.arange(len(arms)), "o", color=style.LIGHT["after"], markersize=4)
        axes.set_title("test" if metric == "ece" else metric.removesuffix("_ece").replace("_", " "))
        axes.set_xlabel("ECE")
        axes.grid(axis="x")
    grid[0].set_yticks(np.arange(len(arms)), [arm.replace("_", " ") for arm in arms])
    grid[0].invert_yaxis()
    drawn.tight_layout()
    return drawn


def _ranking(table: pd.DataFrame) -> Figure | None:
    of_run = table[table["group"] == "run"]
    wide = of_run.pivot_table(index=["family", "arm"], columns="metric", values="value")
    measures = [name for name in _DIVERSITY if name in wide]
    if "ood_accuracy" not in wide or not measures:
        return None
    drawn = style.figure(1.0 + 2.9 * len(measures), 3.2)
    colours = [*style.PAGE_LIGHT.values()][1:]
    grid = drawn.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axes, measure in zip(grid, measures, strict=True):
        for number, (family, part) in enumerate(wide.groupby(level="family", sort=False)):
            axes.plot(
                part[measure],
                part["ood_accuracy"],
                "osD^"[number // len(colours) % 4],
                color=colours[number % len(colours)],
                markersize=5,
                label=str(family),
            )
        axes.set_xlabel(measure.replace("_", " "))
        axes.grid()
    grid[0].set_ylabel("accuracy out of distribution")
    grid[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    drawn.tight_layout()
    return drawn


def _effects(path: pathlib.Path) -> str:
    if not path.is_file() or (found := _table(path)).empty:
        return template.absent("There are too few seeds so far for effects.")
    order = found["standardised"].abs().sort_values(ascending=False, na_position="last").index[:_SHOWN]
    rows = [
        [
            tables.text_cell(row.arm), tables.text_cell(row.group), tables.text_cell(row.metric), tables.number_cell(row.effect),
            tables.text_cell(tables.interval(row.low, row.high)), tables.number_cell(row.standardised),
            tables.number_cell(row.p_holm), tables.text_cell(f"{row.seeds:.0f} and {row.baseline_seeds:.0f}, {row.test}"),
        ]
        for row in found.loc[order].itertuples()
    ]  # fmt: skip
    heads = ["arm", "layers", "metric", "effect", "95 %", "in seed s.d.", "p, Holm", "seeds, test"]
    return tables.table(
        f"The {len(rows)} largest of {len(found)}, against each arm's baseline; effects.csv has all.",
        heads,
        rows,
        left=3,
    )


def _read(path: pathlib.Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"no table {str(path)!r}: run the study first")
    return _table(path)


def _table(path: pathlib.Path) -> pd.DataFrame:
    """A study's CSV file, in which "null" is the name of a family."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])
