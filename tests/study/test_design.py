"""Designs in config files, and a study's tables and page from finished runs."""

import html
import json
import pathlib

import numpy as np
import pandas as pd
import pytest

from rmtjax import config as config_lib
from rmtjax import report, results, study
from rmtjax.commands import study as command
from rmtjax.errors import InputError
from rmtjax.generate import methods
from rmtjax.statistics import QUESTIONS
from rmtjax.statistics.fit import Fit
from rmtjax.study import design

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
CELL = {"family": "none", "dose": 0, "seeds": "0-5"}


def plain(**arms):
    roles = {"diversity": "augmentation", "dropout": "dropout", "decay": "decay"}
    cells = {
        "none": CELL,
        "flip_1": CELL | {"family": "augmentation", "dose": 1.0},
        "flip_2": CELL | {"family": "augmentation", "dose": 2.0},
        "dropout_1": CELL | {"family": "dropout", "dose": 0.3},
        "dropout_2": CELL | {"family": "dropout", "dose": 0.5},
        "decay_1": CELL | {"family": "decay", "dose": 0.1},
        "decay_2": CELL | {"family": "decay", "dose": 0.2},
    }
    return {"arms": cells | arms, "roles": roles}


def test_the_shipped_study_is_as_the_issue_plans_it(tmp_path):
    path = str(CONFIGS / "study_digits.py")
    loaded = study.load_design(path, config_lib.load(path))
    runs = study.plan(path, loaded.overrides, loaded.seeds, tmp_path)
    assert len(runs) == sum(map(len, loaded.seeds.values()))
    families = {}
    for name, arm in loaded.arms.items():
        if arm.family not in ("none", "null"):
            families.setdefault(arm.family, []).append((arm.dose, len(loaded.seeds[name])))
    assert len(families) >= 6
    placebos = {family: families.pop(family) for family in loaded.roles.placebos}
    assert len(placebos) >= 5
    assert all(len(loaded.seeds[name]) == 5 for name, arm in loaded.arms.items() if arm.family in placebos)
    assert all(len(doses) >= 3 for doses in families.values())
    for family in ("augmentation", "replace", "dropout", "decay"):
        assert sorted(n for _, n in families[family]) == [5, 5, 20]
    assert len(loaded.seeds["none"]) == 20
    assert not set(loaded.seeds["again"]) & set(loaded.seeds["none"])
    real = [run for run in runs if loaded.arms[run.arm].family not in placebos]
    assert len({run.config.optim.learning_rate for run in real}) == 1


@pytest.mark.parametrize(
    ("name", "many", "least"),
    [("digits", 20, 5), ("digits_100", 20, 5), ("vit", 10, 3), ("vit_slow", 5, 3), ("text", 10, 3)],
)
def test_a_study_of_transfer_is_as_the_issue_plans_it(tmp_path, name, many, least):
    path = str(CONFIGS / f"study_transfer_{name}.py")
    loaded = study.load_design(path, config_lib.load(path))
    runs = {run.arm: run.config for run in study.plan(path, loaded.overrides, loaded.seeds, tmp_path)}
    base, roles, own = runs["none"], loaded.roles, set(loaded.seeds["none"])
    assert len(own) == many
    assert base.model.init_from is not None
    assert all(len(seeds) >= least for seeds in loaded.seeds.values())
    for arm, (family, dose, baseline) in loaded.arms.items():
        seeds = set(loaded.seeds[arm])
        assert not seeds & own if family == "null" else seeds <= set(loaded.seeds[baseline])
        same = config_lib.to_json(runs[arm]) == config_lib.to_json(runs[baseline])
        assert same == (arm == baseline), arm  # but for the seed, and for the null arm it
        n, section = base.data.train_examples, runs[arm].data
        if family == "distinct":
            assert 2**dose == pytest.approx(section.distinct / n)
        elif family == "selection":
            assert dose == config_lib.quantile(section.select) - 0.5
        else:
            assert (section.select, section.distinct) == ("random", None)
        if runs[arm].synthetic.share:
            methods.check(runs[arm])
    if name != "vit_slow":  # four arms
        assert set(roles.alone) == {"selection", "distinct"}
        assert len(roles.placebos) == 8
        assert loaded.arms["another_head"].family in roles.placebos


@pytest.mark.parametrize("path", sorted((CONFIGS / "rows").glob("*.parquet")), ids=lambda path: path.stem)
def test_kept_rows_are_those_of_the_config_as_it_is(tmp_path, path):
    made = results.read_rows(path).made
    config = str(CONFIGS / f"study_{path.stem}.py")
    loaded = study.load_design(config, config_lib.load(config))
    runs = study.plan(config, loaded.overrides, loaded.seeds, tmp_path, made)  # refuses other configs
    assert made
    assert set(made) <= {(run.arm, run.seed) for run in runs}


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"x": CELL | {"dosis": 1}}, "arm 'x' of 'mine' has the unknown field 'dosis'"),
        ({"x": {"family": "a", "dose": 1}}, "arm 'x' of 'mine' lacks 'seeds'"),
        ({"x": CELL | {"baseline": "base"}}, "arm 'x' of 'mine' has the baseline 'base', which is no arm"),
        ({"x/y": CELL}, "arm name 'x/y' is to be a folder's name"),
        ({"decay_1": CELL, "decay_2": CELL}, "name the family 'decay', of which there is no arm"),
    ],
)
def test_a_bad_design_is_refused_in_one_sentence(arms, message):
    with pytest.raises(InputError, match=message):
        design.of_plain(plain(**arms), "mine")


def test_a_file_without_a_design(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text("from rmtjax import config\n\ndef get_config():\n    return config.base()\n")
    with pytest.raises(
        InputError, match=r"defines no get_design\(config\): add it to the config, or give --arms"
    ):
        study.load_design(str(path), config_lib.base())


def finished(folder, shift, rng):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": "finished"}))
    (folder / "metrics.jsonl").write_text(
        json.dumps({"step": 3, "validation/loss": 1 + rng.normal() / 10}) + "\n"
    )
    row = {
        "set": "test",
        "kind": "id",
        "metric": "accuracy",
        "value": 0.9,
        "low": 0,
        "high": 1,
        "null": 0.1,
        "n": 9,
    }
    rows = [row | {"value": 0.9 + rng.normal() / 100}]
    rows += [row | {"set": "printed", "kind": "shift", "value": 0.5 + rng.normal() / 50}]
    rows += [
        row | {"set": name, "kind": kind, "metric": "ece", "value": 0.1}
        for name, kind in (("test", "id"), ("printed", "shift"))
    ]
    (folder / "evaluation.json").write_text(json.dumps({"temperature": 1.0, "rows": rows}))
    row = {
        "set": "fed",
        "space": "feature",
        "metric": "vendi_score",
        "value": 5 + rng.normal(),
        "low": 1,
        "high": 9,
    }
    (folder / "diversity.json").write_text(
        json.dumps({"feature_model": "x", "rows": [row | {"null": 9, "n": 9}]})
    )
    parts = []
    for stage in ("before", "after", "update"):
        noise = rng.normal(size=(3, 2))
        moved = noise + (np.asarray(shift) if stage != "before" else 0)
        parts.append(
            pd.DataFrame(
                {
                    "stage": stage,
                    "name": ["a/kernel", "b/kernel", "head/kernel"],
                    "kind": ["mlp", "attention_query", "head"],
                    "alpha": 4 + moved[:, 0],
                    "log_norm": 1 + moved[:, 1] / 5,
                }
            )
        )
    pd.concat(parts).to_parquet(folder / "spectra.parquet")
    eigenvalues = {
        f"{stage}/{name}": np.sort(rng.exponential(size=50))
        for stage in ("after", "update")
        for name in ("a/kernel", "b/kernel", "head/kernel")
    }
    np.savez(folder / "spectra.npz", **eigenvalues)


def test_a_study_is_answered_and_has_a_page(tmp_path):
    made = design.of_plain(plain(again_1=CELL | {"family": "null", "dose": 0, "seeds": "6-11"}), "mine")
    rng = np.random.default_rng(0)
    shift = {"none": (0, 0), "again": (0, 0), "flip": (3, 0), "dropout": (3, 0), "decay": (0, -9)}
    for name, seeds in made.seeds.items():
        for seed in seeds:
            finished(
                tmp_path / name / str(seed),
                np.multiply(shift[name.split("_")[0]], 1 + name.endswith("2")),
                rng,
            )
    answers = study.answer(made, results.collect(tmp_path, made.arms), tmp_path)
    assert answers["question"].drop_duplicates().tolist() == ["T1", "T2", "T4", "T7"]
    rows = pd.read_csv(tmp_path / "likeness.csv")
    assert rows["block"].drop_duplicates().tolist() == [
        "the paper's four, weights after", "the paper's four, update", "scale", "shape", "all"
    ]  # fmt: skip
    assert (answers["question"] == "T1").sum() == len(rows) + 1  # both primary rows together
    assert answers.loc[0, "verdict"] == "yes"
    assert "like dropout and not like weight decay" in answers.loc[0, "sentence"]
    for name in ("study", "effects", "similarity", "doses", "answers", "spectra", "separation"):
        assert len(pd.read_csv(tmp_path / f"{name}.csv"))
    page = report.study_page(tmp_path).read_text()
    assert answers.loc[0, "sentence"] in html.unescape(page)
    assert page.count('<figure class="sheet">') == 5
    similar = pd.read_csv(tmp_path / "similarity.csv", keep_default_na=False)
    assert "null" in set(similar["family"])
    assert page.count(">null<") >= 2  # named at both axes of the matrix, not lost as a missing value
    pictures = sorted(path.stem for path in (tmp_path / "figures").glob("*.png"))
    assert pictures == ["calibration", "diversity", "doses", "similarity", "spectra"]
    assert page.index("weights after") < page.rindex("T1 by numbers and doses")
    assert "unrelated" in page
    assert (
        page.index("Answers")
        < page.index("T1 by numbers and doses")
        < page.index("Figures")
        < page.index("Largest effects")
    )


def with_alone(folder, seed):
    """A finished study with a family that varies diversity alone and a placebo of training for longer."""
    more = {
        "less": CELL | {"family": "selection", "dose": -0.5},
        "more": CELL | {"family": "selection", "dose": 0.5},
        "steps": CELL | {"family": "steps x2", "dose": 1},
    }
    content = plain(**more)
    content["roles"] |= {"alone": ["selection"], "placebos": ["steps x2"], "progress": "steps x2"}
    made = design.of_plain(content, "mine")
    rng = np.random.default_rng(seed)
    shift = {
        "none": (0, 0), "flip": (3, 0), "dropout": (3, 3), "decay": (0, -9), "less": (-3, 0), "more": (3, 0),
        "steps": (-2, 5),
    }  # fmt: skip
    for name, seeds in made.seeds.items():
        for place in seeds:
            finished(folder / name / str(place), shift[name.split("_")[0]], rng)
    return study.answer(made, results.collect(folder, made.arms), folder)


def test_a_family_of_diversity_alone_has_to_be_there():
    content = plain()
    content["roles"] |= {"alone": ["selection"]}
    with pytest.raises(InputError, match="name the family 'selection', of which there is no arm"):
        design.of_plain(content, "mine")


def test_the_page_shows_t5_to_t7(tmp_path):
    answers = with_alone(tmp_path, 0)
    assert answers["question"].drop_duplicates().tolist() == ["T1", "T2", "T4", "T5", "T6", "T7"]
    fit = Fit(
        "augmentation", "flip_2", "the paper's four, update", 4, "training_loss", 0.5, -1.0, 1.0,
        2.0, 1.5, 2.5, 0.25, 0.1, 0.4, 1.7, 1.2, 2.2, "",
    )  # fmt: skip
    beyond = fit._replace(family="decay", share=np.nan, reason="beyond the reach of the steps")
    pd.DataFrame([fit, beyond]).to_csv(tmp_path / "fit.csv", index=False)
    page = html.unescape(report.study_page(tmp_path).read_text())
    for question, block in (("T5", "selection, moves"), ("T5", "selection, direction"), ("T7", "update")):
        row = answers[(answers["question"] == question) & (answers["block"] == block)].iloc[0]
        assert row["sentence"] in page
    assert "beyond the reach of the steps" in page
    assert "0.25" in page
    assert "T7 by numbers" in page
    alone = answers[(answers["question"] == "T5") & answers["block"].str.contains(": ")]
    assert len(alone) == 4
    of_t5 = page.partition("<h3>T5. ")[2].partition("<h3>")[0]
    assert of_t5.count("<strong>") == 2  # what both blocks say together, not each
    assert all(text in page for text in QUESTIONS.values() if text != QUESTIONS["T3"])


def test_two_studies_have_one_answer(tmp_path, capsys):
    for seed, name in enumerate(("digits", "vit")):
        with_alone(tmp_path / name, seed)
    (tmp_path / "vit" / "spectra.csv").unlink()
    folders = [str(tmp_path / name) for name in ("digits", "vit")]
    assert command.main(["--over", *folders, f"--out={tmp_path / 'over'}"]) == 0
    found = pd.read_csv(tmp_path / "over" / "answers_over_models.csv")
    assert {"T1", "T2", "T4", "T5", "T7"} <= set(found["question"])
    of_t2 = found[found["question"] == "T2"].iloc[0]
    assert of_t2["models"] == 2
    assert of_t2["verdicts"].startswith("digits: ")
    page = html.unescape((tmp_path / "over" / "models.html").read_text())
    assert of_t2["sentence"] in page
    assert of_t2["sentence"] in capsys.readouterr().out
    assert (tmp_path / "over" / "figures" / "similarity_by_model.png").exists()
    # One model has no spectra: there is nothing to compare.
    assert not (tmp_path / "over" / "figures" / "spectra_by_model.png").exists()
    (tmp_path / "vit" / "spectra.csv").write_bytes((tmp_path / "digits" / "spectra.csv").read_bytes())
    assert command.main(["--over", *folders, f"--out={tmp_path / 'over'}"]) == 0
    assert (tmp_path / "over" / "figures" / "spectra_by_model.png").exists()


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["one"], "--over has 1 folder: give the folders of two studies or more"),
        (["one", "one"], "--over has '.*one' twice: give each study once"),
        (["one", "two"], "no table '.*two/answers.csv': run that study first"),
    ],
)
def test_folders_that_are_no_studies(tmp_path, folders, message):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "answers.csv").write_text("question\n")
    with pytest.raises(InputError, match=message):
        study.names_of([tmp_path / name for name in folders])


def test_folders_of_one_name_keep_their_paths(tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent / "study").mkdir(parents=True)
        (tmp_path / parent / "study" / "answers.csv").write_text("question\n")
    found = study.names_of([tmp_path / "a" / "study", tmp_path / "b" / "study"])
    assert list(found) == [str(tmp_path / "a" / "study"), str(tmp_path / "b" / "study")]


def test_a_study_needs_a_config_or_studies(tmp_path):
    with pytest.raises(InputError, match="--config is missing: give the config of the study, or --over"):
        command.main([f"--out={tmp_path}"])


def test_what_few_runs_cannot_tell_is_said(tmp_path):
    made = design.of_plain(plain(), "mine")
    rng = np.random.default_rng(0)
    for name in made.arms:
        finished(tmp_path / name / "0", (0, 0), rng)
    answers = study.answer(made, results.collect(tmp_path, made.arms), tmp_path)
    assert set(answers["verdict"]) == {"cannot tell"}
    assert report.study_page(tmp_path).exists()


def test_the_curvature_of_observed_runs_is_a_table_and_a_figure(tmp_path):
    made = design.of_plain(plain(), "mine")
    rng = np.random.default_rng(0)
    metrics = ("hessian_trace", "hessian_largest", "gauss_newton_trace", "gauss_newton_largest")
    for place, name in enumerate(made.arms):
        for seed in (0, 1):
            folder = tmp_path / name / str(seed)
            finished(folder, (0, 0), rng)
            lines = [{"step": 1, "loss": 2.0}]
            for step in (2, 4):
                lines.append({"step": step} | {f"curvature/{m}": 10.0 * place + step + seed for m in metrics})
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / "metrics.jsonl").write_text(text if name != "decay_2" else '{"step": 1, "loss": 2.0}\n')
    study.answer(made, results.collect(tmp_path, made.arms), tmp_path)
    found = pd.read_csv(tmp_path / "curvature.csv", keep_default_na=False)
    assert set(found["arm"]) == set(made.arms) - {"decay_2"}  # which was not observed
    rows = found[(found["arm"] == "flip_1") & (found["metric"] == "hessian_trace")]
    assert rows["step"].tolist() == [2, 4]
    assert rows["mean"].tolist() == [12.5, 14.5]
    np.testing.assert_allclose(
        rows["high"] - rows["mean"], 12.706 * 0.5, rtol=1e-4
    )  # t with 1 degree, s.d. √½
    assert set(rows["seeds"]) == {2}
    report.study_page(tmp_path)
    assert (tmp_path / "figures" / "curvature.png").exists()
