"""python -m rmtjax.diversity, on files of features, images and digits."""

import itertools
import json
import sys

import forked
import numpy as np
import pandas as pd
import pytest

from rmtjax import config as config_lib
from rmtjax import data, diversity, generate
from rmtjax.commands import diversity as command
from rmtjax.commands import named_sets
from rmtjax.generate import store


def run(*words):
    return forked.run([sys.executable, "-m", "rmtjax.diversity", *map(str, words)])


@pytest.fixture
def main(monkeypatch):
    """The command in this process, without its settings of JAX and logging."""
    monkeypatch.setattr(command.flags, "initialise", lambda arguments: None)

    def call(*words):
        return command.main(list(map(str, words)))

    return call


def test_features_of_two_sets(tmp_path):
    rng = np.random.default_rng(0)
    first = rng.normal(size=(160, 8)).astype(np.float32) + 0.5
    np.savez(tmp_path / "first.npz", features=first, labels=np.arange(160) % 4)
    np.save(tmp_path / "second.npy", first[:120] + 0.1)
    out = tmp_path / "out"
    done = run(
        tmp_path / "first.npz", f"--against={tmp_path / 'second.npy'}", f"--out={out}", "--metrics=all"
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out / "diversity.csv")
    assert list(table) == ["set", "space", "class", "metric", "value", "low", "high", "null", "n", "detail"]
    assert set(table["set"]) == {"first", "second"}
    pooled = table[table["class"].isna()]
    assert set(pooled.loc[pooled["set"] == "first", "metric"]) == set(diversity.METRICS) - {"weighted_vendi"}
    assert set(pooled["n"]) == {120}
    assert table[["value", "low", "high", "null"]].notna().all(axis=None)
    classes = table[(table["set"] == "first") & (table["metric"] == "vendi_score")]["class"]
    assert list(classes.dropna()) == ["all", "0", "1", "2", "3"]
    assert table["class"].isna().is_monotonic_decreasing  # the pooled rows of both sets come first
    curve = pd.read_csv(out / "rarefaction.csv")
    assert list(curve.loc[curve["set"] == "first", "n"]) == [50, 100, 120]
    assert (out / "rarefaction.png").read_bytes().startswith(b"\x89PNG")
    assert "effective number of classes" in done.stdout
    assert "features: as they were given" in done.stdout
    assert "median distance within the reference" in done.stdout


def test_files_of_one_name_are_told_apart(tmp_path, main, capsys):
    rng = np.random.default_rng(0)
    for name in ("a/features.npy", "b/features.npy", "a/features.npz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        features = rng.normal(size=(20, 3))
        np.save(path, features) if path.suffix == ".npy" else np.savez(path, features=features)
    words = [tmp_path / "a/features.npy", f"--against={tmp_path / 'b/features.npy'}", "--metrics=vendi_score"]
    assert main(*words) == 0
    shown = capsys.readouterr().out
    assert "a/features.npy " in shown
    assert "b/features.npy " in shown
    assert str(tmp_path) not in shown  # no more of the path than that
    assert main(words[0], f"--against={tmp_path / 'a/features.npz'}", "--metrics=vendi_score") == 0
    assert "features.npz" in capsys.readouterr().out


def test_images_and_a_generated_set(tmp_path, main, capsys):
    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 16, 16, 1), np.float32), np.arange(40, dtype=np.int32) % 2
    made_from = {"seed": 0}
    folder = tmp_path / store.digest(made_from)

    def build(where):
        np.savez(where / "images_00000.npz", images=images, labels=labels)
        return {"classes": ["a", "b"]}

    store.ensure(tmp_path, made_from, build, print)
    np.savez(tmp_path / "real.npz", image=images[::-1], label=labels[::-1], classes=np.array(["a", "b"]))
    words = (folder, f"--against={tmp_path / 'real.npz'}", "--image_size=16", "--paired", "--space=pixel")
    assert main(*words) == 0
    shown = capsys.readouterr().out
    assert "weighted Vendi" in shown
    assert "coverage" in shown
    assert "between" in shown
    np.savez(folder / "images_00001.npz", images=1 - images, labels=labels)  # that the manifest does not name
    assert main(*words) == 0
    assert capsys.readouterr().out == shown
    stored = json.loads((folder / "manifest.json").read_text())
    np.savez(folder / "images_00000.npz", images=images / 2, labels=labels)
    assert stored["classes"] == ["a", "b"]
    with pytest.raises(command.InputError, match="was altered"):
        main(folder)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["FEATURES", "--metrics=vendy"], "--metrics has 'vendy'"),
        (["FEATURES", "--against=FEATURES"], "are both 'features'"),
        (["FEATURES", "--n=31"], "features has 30 examples, fewer than --n=31"),
        (["FEATURES", "--n=1"], "--n=1 is out of range: it must be at least 2"),
        (["FEATURES", "--class_n=-3"], "--class_n=-3 is out of range: it must be at least 2"),
        (["FEATURES", "--seed=-1"], "--seed=-1 is out of range: it must be at least 0"),
        (["digits", "--image_size=0"], "--image_size=0 is out of range: it must be at least 1"),
        (["digits", "--image_size=-4"], "--image_size=-4 is out of range"),
        (["FEATURES", "--bandwidth=0"], "--bandwidth=0.0 is out of range"),
        (["FEATURES", "--metrics=default,coverage"], "asks for coverage, which needs a second set"),
        (
            ["FEATURES", "--metrics=weighted_vendi_unpaired"],
            "weighted_vendi_unpaired, which needs a second set",
        ),
        (["FEATURES", "--metrics=weighted_vendi"], "weighted_vendi, which needs paired rows"),
        (
            ["FEATURES", "--metrics=all,distinct_2"],
            "distinct_2, which is for texts, but features has features",
        ),
        (["COPIES", "--metrics=rke,gaussian_vendi"], "give a bandwidth, or leave gaussian_vendi out"),
        (["FEATURES", "--space=pixel"], "--space=pixel does not exist for"),
        (["FEATURES", "--model=elsewhere"], "--model='elsewhere' is not a run"),
        (["FEATURES", "--paired"], "--paired needs --against"),
        (["FEATURES", "--against=OTHER"], "shape \\[4\\] and other has features of shape \\[3\\]"),
        (["FEATURES", "--order=0"], "q=0.0 is out of range"),
        (["missing.npy"], "there is no file"),
        (["digits@half"], "must be @train or @test"),
        (["nothing"], "data source 'nothing' is unknown"),
    ],
)
def test_errors_are_one_sentence(tmp_path, main, words, sentence):
    np.save(tmp_path / "features.npy", np.random.default_rng(0).normal(size=(30, 4)))
    np.save(tmp_path / "other.npy", np.ones((30, 3)))
    np.save(tmp_path / "copies.npy", np.random.default_rng(0).normal(size=(2, 4))[[0] * 25 + [1] * 5])
    for name in ("features", "other", "copies"):
        words = [w.replace(name.upper(), str(tmp_path / f"{name}.npy")) for w in words]
    with pytest.raises(command.InputError, match=sentence):
        main(*words)


def test_a_bandwidth_for_copies(tmp_path, main, capsys):
    np.save(tmp_path / "copies.npy", np.eye(4)[[0] * 25 + [1, 2, 3] * 2])
    assert (
        main(tmp_path / "copies.npy", "--metrics=gaussian_vendi,effective_rank,rke", "--bandwidth=0.5") == 0
    )
    shown = capsys.readouterr().out
    assert "bandwidth 0.5, as given" in shown
    assert "effective rank" in shown


def test_out_must_be_a_folder(tmp_path, main, monkeypatch):
    np.save(tmp_path / "features.npy", np.random.default_rng(0).normal(size=(30, 4)))
    (tmp_path / "there").write_text("")
    with pytest.raises(command.InputError, match="fewer than --n=31"):
        main(tmp_path / "features.npy", "--n=31", f"--out={tmp_path / 'new'}")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(diversity, "diversity_rows", lambda *_, **__: pytest.fail("work has begun"))
    for name in ("there", "there/below"):
        with pytest.raises(command.InputError, match=f"--out '{tmp_path / name}' cannot be made"):
            main(tmp_path / "features.npy", f"--out={tmp_path / name}")


def test_n_bounds_all_that_is_compared(tmp_path, main, capsys, monkeypatch):
    """The reference as well, and the classes together; without --out no curve is made that nobody sees."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(160, 8)), rng.normal(size=(300, 8))
    np.savez(tmp_path / "first.npz", features=first, labels=np.arange(160) % 4)
    np.save(tmp_path / "second.npy", second)
    words = tmp_path / "first.npz", f"--against={tmp_path / 'second.npy'}", "--metrics=coverage,density"
    assert main(*words, "--n=50", f"--out={tmp_path / 'out'}") == 0
    table = pd.read_csv(tmp_path / "out" / "diversity.csv")
    cut = diversity.at_equal_n({"first": first, "second": second}, seed=0, n=50)
    wanted = diversity.manifold_scores(cut["second"], cut["first"], 3)
    pooled = table[table["class"].isna()].set_index("metric")
    assert pooled.loc["coverage", "value"] == wanted.coverage
    assert pooled.loc["density", "value"] == pytest.approx(wanted.density)
    assert set(table.loc[table["class"] == "all", "n"]) == {48}
    assert set(table.loc[table["class"] == "0", "n"]) == {12}
    monkeypatch.setattr(diversity, "rarefaction", lambda *_, **__: pytest.fail("nobody asked for it"))
    assert main(*words, "--class_n=30") == 0
    assert "120" in capsys.readouterr().out  # --class_n goes before --n
    assert main(*words, "--n=7") == 0
    assert "--n or the smallest class leaves 1 of each" in capsys.readouterr().err
    assert main(*words, "--class_n=41") == 0
    assert "no scores by class at --class_n=41, since 0 of 4 classes have 41" in capsys.readouterr().err


def test_texts(tmp_path, main, capsys):
    rng = np.random.default_rng(0)
    words = np.array(["one", "two", "three", "four", "five", "six", "seven", "eight"])
    lines = [f"{' '.join(rng.choice(words, 6))},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "texts.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    assert main(f"texts:{tmp_path / 'texts.csv'}@train", "--metrics=vendi_score,distinct_2,ngram_vendi") == 0
    shown = capsys.readouterr().out
    assert "distinct 2" in shown
    assert "Vendi score of n-grams" in shown
    assert "unigram" in shown


def test_generated_texts(tmp_path, main, capsys):
    """A folder of made texts, alone and against its source, whose vocabulary gives words other numbers."""
    rng = np.random.default_rng(0)
    kinds = (["red", "green", "blue"], ["one", "two", "three"])
    lines = [f"{' '.join(rng.choice(kinds[i % 2], 5))},{'ab'[i % 2]}" for i in range(80)]
    real = tmp_path / "real.csv"
    real.write_text("text,label\n" + "\n".join(lines) + "\n")
    config = config_lib.base()
    config.data.update(source=f"texts:{real}", max_tokens=9, train_examples=None, validation_examples=10)
    config.model.name = "bert"
    config.evaluation.shifts = config.evaluation.ood = ()
    config.synthetic.update(method="ngram", share=0.5, cache=str(tmp_path / "made"), examples=40)
    config_lib.validate(config)
    made = generate.ensure(config, report=lambda sentence: None)
    texts = [[made.modality.words[i] for i in row if i] for row in made.examples]
    pairs = [pair for text in texts for pair in itertools.pairwise(text)]
    out = tmp_path / "out"
    words = [made.path, f"--against=texts:{real}@train", f"--out={out}", "--n=40"]
    assert main(*words, "--metrics=vendi_score,coverage,distinct_1,distinct_2,ngram_vendi") == 0
    table = pd.read_csv(out / "diversity.csv")
    of_made = table[(table["set"] == f"made/{made.path.name}") & table["class"].isna()].set_index("metric")
    assert of_made.loc["distinct_1", "value"] == pytest.approx(6 / sum(map(len, texts)))
    assert of_made.loc["distinct_2", "value"] == pytest.approx(len(set(pairs)) / len(pairs))
    assert 1 < of_made.loc["ngram_vendi", "value"] < 40
    assert of_made.loc["vendi_score", "space"] == "unigram"
    assert of_made.loc["coverage", "value"] > 0.5  # words mean the same in both
    assert "unigram" in capsys.readouterr().out
    # For the model of a run they are that model's tokens.
    text = data.load(config.data, 0).test.modality
    of_run = named_sets.Model("a run", lambda tokens: tokens, 16, text)
    names = [str(made.path), f"texts:{real}"]
    tokens, others = named_sets.read_together(names, of_run, image_size=None, most=80)
    assert [text.tokenizer.read(row) for row in tokens.values] == [" ".join(words) for words in texts]
    assert tokens.values.shape[1] == others.values.shape[1] == 9
    assert tokens.words == others.words == ()
