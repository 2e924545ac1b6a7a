"""A run on texts, from the command to the page."""

import json

import jax
import numpy as np
import pandas as pd
import pytest

from rmtjax import config as config_lib
from rmtjax import measure, report, train
from rmtjax.commands import train as train_command
from rmtjax.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Texts of two classes, their shifted kin and others."""
    root = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)

    def lines(animals, people, number):
        out = ["text,label"]
        for i in range(number):
            animal = (
                f"the {rng.choice(animals)} {rng.choice(['runs', 'sleeps', 'waits'])} "
                "near the old stable,animal"
            )
            person = (
                f"the {rng.choice(people)} {rng.choice(['reads', 'writes', 'talks'])} in a new office,person"
            )
            out.append((animal, person)[i % 2])
        return "\n".join(out) + "\n"

    (root / "set.csv").write_text(lines(["cat", "dog", "horse"], ["baker", "nurse", "judge"], 120))
    (root / "shift.csv").write_text(lines(["cat", "wolf"], ["nurse", "priest"], 20))
    (root / "other.csv").write_text("text,label\n" + "stones fall into deep water,other\n" * 8)
    return root


def settings(folder, **fields):
    config = config_lib.base()
    config.data.update(source=f"texts:{folder / 'set.csv'}", train_examples=None, max_tokens=12)
    config.model.name = "bert"
    config.model.init_from = None
    config.optim.learning_rate = 3e-3
    config.augment.text.random_swap = 0.3
    config.augment.text.synonym_replacement = 0.3
    config.evaluation.shifts = (f"texts:{folder / 'shift.csv'}",)
    config.evaluation.ood = (f"texts:{folder / 'other.csv'}",)
    config_lib.smoke(config)
    config.data.test_examples = None
    config.spectra.metrics = "scale"
    config.train.update(total_steps=40, batch_size=16, checkpoint_steps=20, evaluation_steps=20)
    for name, value in fields.items():
        config.update_from_flattened_dict({name.replace("__", "."): value})
    config_lib.validate(config)
    return config


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    config = settings(folder)
    result = train.run(config, workdir)
    measure.evaluation_of_runs([config], [workdir], result)
    measure.spectra_of_runs(config, [workdir])
    measure.diversity_of_run(config, workdir, result)
    result.record.update(status="finished")
    report.run_page(workdir)
    return config, workdir, result


def test_it_learns_and_is_evaluated(run):
    _, workdir, _ = run
    rows = json.loads((workdir / "evaluation.json").read_text())["rows"]
    found = {(row["kind"], row["metric"]): row["value"] for row in rows}
    assert found["id", "accuracy"] == 1.0
    assert found["shift", "accuracy"] > 0.5
    assert 0 <= found["ood", "auroc_energy"] <= 1


def test_every_matrix_is_in_the_spectra(run):
    _, workdir, result = run
    names = set(pd.read_parquet(workdir / "spectra.parquet")["name"])
    assert {
        "embed/word/embedding",
        "encoder/block_0/attention/query/kernel",
        "pooler/kernel",
        "head/kernel",
    } <= names
    assert result.model.vocabulary == result.train.vocabulary_size


def test_diversity_is_of_words_and_of_features(run):
    _, workdir, _ = run
    content = json.loads((workdir / "diversity.json").read_text())
    assert "before training" in content["feature_model"]
    value = {(r["set"], r["space"], r["metric"]): r for r in content["rows"]}
    assert {space for _, space, _ in value} == {"unigram", "feature"}
    real, augmented = (value[name, "unigram", "vendi_score"] for name in ("real", "augmented"))
    assert 1 < real["value"] < real["n"] == augmented["n"]
    assert augmented["value"] != real["value"]


def test_samples_are_texts_before_and_after_augmentation(run):
    _, workdir, _ = run
    with np.load(workdir / "samples.npz", allow_pickle=False) as stored:
        samples = dict(stored)
    assert samples["real"].dtype.kind == samples["augmented"].dtype.kind == "U"
    assert (samples["real"] != samples["augmented"]).any()
    assert all(text.startswith("the ") and text.endswith(("stable", "office")) for text in samples["real"])
    page = (workdir / "report.html").read_text(encoding="utf-8")
    for text in (*samples["real"][:3], *samples["augmented"][:3]):
        assert f">{text}<" in page
    assert "text encoder (BERT)" in page
    assert "random swap 0.3" in page
    assert not (workdir / "samples.png").exists()


def test_a_run_that_was_cut_off_ends_with_the_same_weights(run, tmp_path):
    config, _, result = run

    def cut(step, state):
        if step == 25:
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        train.run(config, tmp_path / "run", observers=[cut])
    again = train.run(config, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, again.state.params, result.state.params)


def test_a_run_is_restored_with_its_vocabulary(run):
    config, workdir, result = run
    again = train.restore(config, workdir)
    assert again.train.modality.tokenizer.size == result.train.vocabulary_size
    content, stored = measure.evaluate(config, again), json.loads((workdir / "evaluation.json").read_text())
    assert [row["value"] for row in content["rows"]] == pytest.approx(
        [row["value"] for row in stored["rows"]]
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"evaluation__ood": ("letters",)}, "has images, not texts"),
        ({"evaluation__shifts": ("other",)}, "classes"),
    ],
)
def test_evaluation_sets_that_do_not_fit_are_said_before_training(folder, tmp_path, fields, words):
    if fields.get("evaluation__shifts"):
        fields = {"evaluation__shifts": (f"texts:{folder / 'other.csv'}",)}
    with pytest.raises(InputError, match=words):
        train.run(settings(folder, **fields), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_texts_among_the_evaluation_sets_of_images_are_said(folder, tmp_path):
    config = config_lib.smoke(config_lib.base())
    config.evaluation.ood = (f"texts:{folder / 'other.csv'}",)
    with pytest.raises(InputError, match="holds texts, not images"):
        train.run(config, tmp_path / "run")


def test_a_run_on_a_diverse_subset_copies_and_imported_texts(folder, tmp_path):
    """What is selected, repeated, imported and augmented goes through one pipeline, and is measured."""
    rows = [f'{{"text": "the {who} {does} by the barn", "label": "animal"}}\n'
            f'{{"text": "the {who} {does} at a desk", "label": "person"}}\n'
            for who in ("fox", "owl") for does in ("sings", "walks", "rests", "hides", "eats")]  # fmt: skip
    (tmp_path / "theirs.jsonl").write_text("".join(rows))
    config = settings(
        folder, data__train_examples=32, data__select="most", data__select_features="inputs",
        data__distinct=16, synthetic__method="import", synthetic__texts=str(tmp_path / "theirs.jsonl"),
        synthetic__share=0.5, synthetic__examples=20, synthetic__cache=str(tmp_path / "cache"),
        evaluation__enabled=False, spectra__enabled=False, train__total_steps=4,
    )  # fmt: skip
    workdir = tmp_path / "run"
    assert train_command.train_and_measure([config], [workdir]) == 0
    record = json.loads((workdir / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["examples"] | {"train": 32, "synthetic": 16} == record["examples"]
    manifest = json.loads((workdir / "synthetic.json").read_text())
    assert manifest["imported_from"].endswith("theirs.jsonl")
    rows = json.loads((workdir / "diversity.json").read_text())["rows"]
    value = {(row["set"], row["space"], row["metric"]): row["value"] for row in rows}
    assert value["mixed", "unigram", "vendi_score"] > value["real", "unigram", "vendi_score"] > 1
    assert ("fed", "feature", "coverage") in value
    with np.load(workdir / "samples.npz", allow_pickle=False) as stored:
        assert len(stored["synthetic"])
