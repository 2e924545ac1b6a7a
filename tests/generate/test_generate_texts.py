import csv
import dataclasses
import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from rmtjax import config as config_lib
from rmtjax import data, generate
from rmtjax.errors import InputError
from rmtjax.generate import language, methods, ngram, store, synthetic_sets, text_quality, word_rows
from rmtjax.train import loop
from rmtjax.train import sharding as sharding_lib

CLASSES = ("animal", "person")


@pytest.fixture(scope="module", autouse=True)
def on_one_device():
    """Sets are fitted and sampled on one device; the networks' own tests here, and images, use eight."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sharding_lib, "make_mesh", lambda data, fsdp: sharding_lib.local_mesh())
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Texts of two classes, which share a few words."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(120):
        who, does = rng.choice(["cat", "dog", "horse"]), rng.choice(["runs", "sleeps", "waits"])
        animal = f"the {who} {does} near the old stable"
        who, does = rng.choice(["baker", "nurse", "judge"]), rng.choice(["reads", "writes"])
        person = f"the {who} {does} in a new office today"
        rows.append(f"{(animal, person)[i % 2]},{CLASSES[i % 2]}")
    path = tmp_path_factory.mktemp("texts") / "set.csv"
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def settings(table, tmp_path_factory):
    cache = tmp_path_factory.mktemp("synthetic")

    def make(**changes):
        config = config_lib.base()
        config.data.source = f"texts:{table}"
        config.data.max_tokens = 12
        config.model.name = "bert"
        config.evaluation.shifts = config.evaluation.ood = ()
        config_lib.smoke(config)
        config.data.test_examples = None
        config.synthetic.update(
            method="lm",
            share=0.5,
            cache=str(cache),
            width=32,
            depth=1,
            heads=2,
            total_steps=100,
            batch_size=32,
            learning_rate=1e-2,
            ema=0.9,
        )
        config.update_from_flattened_dict(changes)
        config_lib.validate(config)
        return config

    return make


@pytest.fixture(scope="module")
def splits(settings):
    return data.load(settings().data, 0)


@pytest.fixture(scope="module")
def closed(splits):
    return word_rows.closed(splits.train)


@pytest.fixture(scope="module")
def made(settings):
    return generate.ensure(settings())


def network(words=6, classes=2, causal=True):
    model = language.LanguageModel(classes, words, 8, 1, 2, causal)
    params = language.make_init(model, 5)(jax.random.key(1))[0]
    return model, jax.tree.map(lambda leaf: 20 * leaf, params)  # far from uniform


def all_devices():
    axes = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((jax.device_count(), 1), ("data", "fsdp"), axis_types=axes)


# The vocabulary


def test_a_split_keeps_its_texts_and_has_its_own_words_alone(splits, closed):
    assert word_rows.of_source(closed) == word_rows.of_source(splits.train)
    used = sorted({word for text in word_rows.of_source(splits.train) for word in text.split()})
    assert list(closed.tokens.words) == ["", *used]
    np.testing.assert_array_equal(closed.inputs(), splits.train.inputs())  # the same tokens


def test_numbers_of_words_change_neither_the_vocabulary_nor_the_hash(splits, closed):
    text = splits.train.tokens
    backwards = np.array([0, *range(len(text.words) - 1, 0, -1)], np.int32)
    turned = dataclasses.replace(
        splits.train,
        examples=np.argsort(backwards).astype(np.int32)[splits.train.examples],
        modality=dataclasses.replace(
            text, words=tuple(text.words[i] for i in backwards), pieces=text.pieces[backwards]
        ),
    )
    np.testing.assert_array_equal(word_rows.closed(turned).examples, closed.examples)
    assert word_rows.data_hash(turned) == word_rows.data_hash(splits.train)
    relabelled = dataclasses.replace(turned, labels=turned.labels[::-1].copy())
    other = dataclasses.replace(turned, examples=turned.examples[:, ::-1].copy())
    assert len({word_rows.data_hash(source) for source in (turned, relabelled, other)}) == 3


def test_texts_with_other_words_are_left_out(closed):
    pixels = closed.examples[:3].copy()
    words = (*closed.tokens.words, "unheard")
    pixels[1, 2] = len(words) - 1
    source = dataclasses.replace(
        data.take(closed, [0, 1, 2]), examples=pixels, modality=closed.tokens.with_words(words)
    )
    kept = word_rows.known(source, closed.tokens)
    np.testing.assert_array_equal(kept.examples, closed.examples[[0, 2]])
    np.testing.assert_array_equal(kept.labels, closed.labels[[0, 2]])


# The networks


def test_a_causal_place_knows_the_words_before_it_and_the_class():
    model, params = network()
    rows, label = jnp.array([[1, 2, 3, 4, 5]]), jnp.array([0])
    logits = model.apply({"params": params}, rows, label, False)
    changed = model.apply({"params": params}, rows.at[0, 2].set(6), label, False)
    difference = np.abs(logits - changed).max(-1)[0]
    assert (difference[:3] == 0).all()
    assert (difference[3:] > 1e-3).all()
    other = model.apply({"params": params}, rows, jnp.array([1]), False)
    assert (np.abs(logits - other).max(-1) > 1e-3).all()
    alone = model.apply({"params": params}, rows, label, False, jnp.int32(3))
    np.testing.assert_allclose(alone, logits[:, 3], atol=1e-5)


def test_the_loss_is_that_of_words_and_one_end():
    model, params = network()
    rows, labels = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 1]], np.int32), np.array([0, 1], np.int32)
    logs = np.asarray(
        jax.nn.log_softmax(model.apply({"params": params}, jnp.asarray(rows), jnp.asarray(labels), False))
    )
    wanted = [logs[0, 0, 1], logs[0, 1, 2], logs[0, 2, 0], *(logs[1, j, rows[1, j]] for j in range(5))]
    loss = language.make_mean_loss(model)(params, rows, labels)
    assert loss == pytest.approx(-np.mean(wanted), rel=1e-5)


def test_what_fills_a_gap_does_not_see_what_stood_there_nor_padding():
    model, params = network(causal=False)
    label, gap = jnp.array([0]), 7
    logits = model.apply({"params": params}, jnp.array([[1, gap, 3, 0, 0]]), label, False)[0, 1]
    short = model.apply({"params": params}, jnp.array([[1, gap, 3, 0, 0]]), label, False, jnp.int32(1))[0]
    np.testing.assert_allclose(short, logits, atol=1e-5)
    after = model.apply({"params": params}, jnp.array([[1, gap, 4, 0, 0]]), label, False)[0, 1]
    assert np.abs(after - logits).max() > 1e-3
    loud = jax.tree.map(lambda leaf: leaf, params)
    loud["word"]["embedding"] = loud["word"]["embedding"].at[0].mul(100)  # padding is not attended to
    again = model.apply({"params": loud}, jnp.array([[1, gap, 3, 0, 0]]), label, False)[0, 1]
    np.testing.assert_allclose(again[1:], logits[1:], atol=1e-5)


def test_top_p_keeps_the_fewest_words_that_have_it_together():
    probability = np.array([0.1, 0.5, 0.15, 0.25])

    def kept(top_p, temperature=1.0):
        logits = language.nucleus(jnp.log(jnp.asarray(probability)), temperature, top_p)
        return np.flatnonzero(np.isfinite(np.asarray(logits))).tolist()

    assert kept(1.0) == [0, 1, 2, 3]
    assert kept(0.4) == [1]
    assert kept(0.7) == [1, 3]
    assert kept(0.8) == [1, 2, 3]
    assert kept(1.0, temperature=0) == [1]
    hot = jax.nn.softmax(language.nucleus(jnp.log(jnp.asarray(probability)), 2.0, 1.0))
    np.testing.assert_allclose(hot, np.sqrt(probability) / np.sqrt(probability).sum(), rtol=1e-5)


def test_a_written_text_is_a_function_of_its_seed_number_and_class():
    model, params = network()
    knobs = {"temperature": 1.0, "top_p": 1.0, "mesh": all_devices()}
    write = language.make_writer(model, 5, seed=0, **knobs)
    labels, numbers = np.arange(200, dtype=np.int32) % 2, np.arange(200)
    rows = write(params, labels, numbers)
    assert rows.dtype == np.int32
    assert rows.shape == (200, 5)
    assert 1 <= rows[:, 0].min() <= rows.max() <= 6  # no text is empty, and none has a gap
    assert ((rows[:, 1:] == 0) | (rows[:, :-1] != 0)).all()  # after the end there is nothing
    np.testing.assert_array_equal(write(params, labels[150:170], numbers[150:170]), rows[150:170])
    other = language.make_writer(model, 5, seed=1, **knobs)(params, labels, numbers)
    assert (other != rows).any(1).mean() > 0.5
    cold = language.make_writer(model, 5, seed=0, temperature=0.0, top_p=1.0, mesh=all_devices())
    assert len(np.unique(cold(params, labels, numbers), axis=0)) <= 2


def test_filled_texts_keep_their_lengths_and_the_words_that_were_not_taken_out():
    model, params = network(causal=False)
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 7, (60, 8)).astype(np.int32)
    lengths = rng.integers(1, 9, 60)
    rows[np.arange(8) >= lengths[:, None]] = 0
    params["position"] = jnp.zeros((9, 8))
    labels, numbers = np.arange(60, dtype=np.int32) % 2, np.arange(60)

    def fill(share):
        knobs = {"mask_share": share, "temperature": 1.0, "top_p": 1.0, "seed": 0, "mesh": all_devices()}
        return language.make_filler(model, **knobs)(params, labels, numbers, rows)

    np.testing.assert_array_equal(fill(0.0), rows)
    half = fill(0.5)
    np.testing.assert_array_equal(half != 0, rows != 0)
    changed = (half != rows).sum(1)
    assert (changed <= np.maximum(np.round(lengths / 2), 1)).all()
    assert changed.sum() > 0.5 * (lengths / 2).sum()
    assert half.max() <= 6
    assert ((fill(1.0) != rows).sum(1) <= lengths).all()


# N-grams


def test_ngrams_have_the_probabilities_of_kneser_and_ney():
    """Against the formula, term by term, over dictionaries."""
    rows = np.array([[1, 2, 3, 0], [1, 2, 1, 0], [3, 2, 3, 1], [2, 2, 0, 0], [1, 3, 0, 0]], np.int32)
    labels, words = np.array([0, 0, 1, 1, 1], np.int32), 3
    levels = ngram.tables(rows, labels, words)
    begin, context, of = words + 1, (1, 2), 0

    def counts(chosen):
        """Order 3 by count, lower orders by the number of different words before."""
        raw = {}
        for row in rows[chosen]:
            line = [begin, begin, *row, 0]
            for j in range(2, len(line)):
                if line[j - 1] != 0:
                    raw[tuple(line[j - 2 : j + 1])] = raw.get(tuple(line[j - 2 : j + 1]), 0) + 1
        out = [raw]
        for _ in range(2):
            out.append({})
            for gram in out[-2]:
                out[-1][gram[1:]] = out[-1].get(gram[1:], 0) + 1
        return out

    mine, every = counts(labels == of), counts(labels >= 0)
    probability = np.full(words + 1, 1 / (words + 1))
    for shorter in (2, 1, 0):
        for table in (every[shorter], mine[shorter]):
            seen = {g[-1]: c for g, c in table.items() if g[:-1] == context[shorter:]}
            total = sum(seen.values())
            if total:
                probability = probability * ngram.DISCOUNT * len(seen) / total
                for word, count in seen.items():
                    probability[word] += (count - ngram.DISCOUNT) / total
    assert probability.sum() == pytest.approx(1)

    drawn, left = np.zeros(words + 1), 1.0
    u = (np.arange(4000) + 0.5) / 4000
    for shorter, pair in enumerate(levels):
        for which, table in enumerate(pair):
            group = np.full(len(u), of if which == 0 else 0)
            before = np.tile(np.array(context[shorter:], np.int64), (len(u), 1))
            _, word = table.draw(ngram.code(group, before, words + 2), u)
            drawn += left * np.bincount(word, minlength=words + 1) / len(u)
            left *= 1 - len(word) / len(u)
    np.testing.assert_allclose(drawn + left / (words + 1), probability, atol=2e-3)


def test_ngram_texts_are_of_the_split(closed):
    write = ngram.make(closed, seed=0)
    labels, numbers = np.arange(400, dtype=np.int32) % 2, np.arange(400)
    rows = write(labels, numbers)
    assert rows.dtype == np.int32
    assert rows[:, 0].min() >= 1
    assert rows.max() < len(closed.tokens.words)
    assert ((rows[:, 1:] == 0) | (rows[:, :-1] != 0)).all()
    np.testing.assert_array_equal(write(labels[50:60], numbers[50:60]), rows[50:60])
    follows = {
        (label, *pair)
        for label, row in zip(closed.labels, closed.examples, strict=True)
        for pair in itertools.pairwise(row)
    }
    inside = [
        (label, *pair) in follows
        for label, row in zip(labels, rows, strict=True)
        for pair in itertools.pairwise(row)
    ]
    assert np.mean(inside) > 0.8


# Sets


def test_a_set_of_a_language_model(made, settings, closed):
    assert made.examples.dtype == np.int32
    assert made.examples.shape == (40, 10)
    assert made.modality.words == closed.tokens.words
    np.testing.assert_array_equal(np.bincount(made.labels), np.bincount(closed.labels))
    manifest = made.manifest
    assert manifest["recognised"]["value"] > 0.9
    assert manifest["recognised"]["judge_accuracy"] == 1
    assert manifest["generator"]["final_loss"] < 1
    assert manifest["generator"]["final_loss_test"] > 0
    assert manifest["made_from"]["top_p"] == 1
    assert "image_size" not in manifest["made_from"]["generator"]
    rows = {(row["set"], row["metric"]): row for row in manifest["diversity"]}
    assert {metric for _, metric in rows} == {"distinct_1", "distinct_2", "ngram_vendi"}
    assert rows["real", "ngram_vendi"]["n"] == rows["synthetic", "ngram_vendi"]["n"] == 40
    assert {"synthetic", "real"} <= manifest["classification_accuracy_score"].keys()


def test_its_files_can_be_read_without_the_package(made, tmp_path):
    words = json.loads((made.path / "words.json").read_text())
    with np.load(made.path / "texts_00_00000.npz", allow_pickle=False) as stored:
        first = " ".join(words[i] for i in stored["texts"][0] if i)
        label = stored["labels"][0]
    generate.write_run_files(made, tmp_path)
    for folder in (made.path, tmp_path):
        with (folder / "synthetic_by_class.csv").open() as file:
            table = list(csv.DictReader(file))
        assert {"text": first, "label": CLASSES[label]} in table
        assert [row["label"] for row in table] == ["animal"] * 12 + ["person"] * 12
    assert json.loads((tmp_path / "synthetic.json").read_text())["identical"] == made.manifest["identical"]


def test_it_mixes_with_the_training_split(made, splits):
    mixed = data.mix(splits.train, generate.source(made), "replace", 0.5, 0)
    assert int((mixed.origin == 1).sum()) == 20
    synthetic = data.take(mixed, np.flatnonzero(mixed.origin == 1))
    assert set(word_rows.of_source(synthetic)) <= set(word_rows.strings(made.examples, made.modality.words))
    assert mixed.tokens.words == splits.train.tokens.words
    assert mixed.inputs().shape == splits.train.inputs().shape


def test_a_second_call_fits_nothing_and_another_knob_is_another_set(made, settings, monkeypatch):
    monkeypatch.setattr(loop, "fit", None)
    said = []
    again = generate.ensure(settings(), report=said.append)
    np.testing.assert_array_equal(again.examples, made.examples)
    assert "reused" in said[0]
    assert "are training texts word for word" in said[0]
    cold = generate.ensure(settings(**{"synthetic.temperature": 0.0}))
    assert cold.path != made.path
    assert cold.manifest["different"] <= 2 / 40


def test_killed_while_sampling_it_goes_on_to_the_same_set(made, settings, tmp_path, monkeypatch):
    shutil.copytree(made.path.parent / "generators", tmp_path / "generators")
    config = settings(**{"synthetic.cache": str(tmp_path)})
    monkeypatch.setattr(synthetic_sets, "SHARD", 16)
    make, calls = methods.make, []

    def killed(*arguments):
        sample, facts = make(*arguments)

        def until_the_second(*of):
            calls.append(len(of[0]))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return sample(*of)

        return until_the_second, facts

    monkeypatch.setattr(methods, "make", killed)
    with pytest.raises(KeyboardInterrupt):
        generate.ensure(config)
    again = generate.ensure(config)
    assert calls == [16, 16, 16, 8]
    assert again.path.name == made.path.name
    np.testing.assert_array_equal(again.examples, made.examples)
    np.testing.assert_array_equal(again.labels, made.labels)


def test_repeated_texts_are_the_training_texts(settings, closed):
    made = generate.ensure(settings(**{"synthetic.method": "repeat"}))
    assert sorted(word_rows.strings(made.examples, made.modality.words)) == sorted(
        word_rows.of_source(closed)
    )
    assert made.manifest["identical"]["synthetic"]["value"] == 1
    score = made.manifest["classification_accuracy_score"]
    assert score["synthetic"] == score["real"]


def test_infilled_texts_and_a_filter(settings, closed):
    changes = {"synthetic.method": "infill", "synthetic.mask_share": 0.5, "synthetic.least_confidence": 0.9}
    made = generate.ensure(settings(**changes, **{"synthetic.total_steps": 30}))
    assert len(made.labels) == 40
    assert made.manifest["generator"]["final_loss"] > 0
    judge = text_quality.fit_judge(word_rows.of_source(closed), closed.labels, 2)
    sure = judge(word_rows.strings(made.examples, made.modality.words))[np.arange(40), made.labels]
    assert sure.min() >= 0.9
    lengths = np.bincount((closed.examples != 0).sum(1), minlength=12)
    assert lengths[np.unique((made.examples != 0).sum(1))].all()


def test_a_judge_that_was_shown_one_class_names_it():
    judge = text_quality.fit_judge(["a b", "c"], np.array([1, 1]), 3)
    np.testing.assert_array_equal(judge(["x", "y"]), [[0, 1, 0]] * 2)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"synthetic.method": "flow"}, "synthetic.method='flow' does not make texts, which"),
        ({"synthetic.least_distance": 0.1}, "synthetic.least_distance=0.1 is for images"),
        ({"synthetic.top_p": 0.0}, "synthetic.top_p=0.0 is out of range: it must be above 0 and at most 1"),
        ({"synthetic.heads": 3}, "synthetic.width=32 is not a multiple of synthetic.heads=3"),
    ],
)
def test_what_does_not_fit_texts_is_one_sentence(settings, changes, sentence):
    with pytest.raises(InputError) as error:
        settings(**changes)
    assert str(error.value).startswith(sentence)


def test_a_knob_that_the_method_has_not_is_refused(settings):
    for name, value in (("mask_share", 0.5), ("guidance", 2.0)):
        with pytest.raises(
            InputError, match=f"synthetic.{name}={value} does nothing with synthetic.method='lm'"
        ):
            generate.ensure(settings(**{f"synthetic.{name}": value}))


def test_an_altered_text_is_refused_by_name(made, settings):
    path = made.path / "words.json"
    whole = path.read_text()
    try:
        path.write_text(whole.replace("horse", "hearse"))
        with pytest.raises(InputError, match=r"words\.json' was altered"):
            generate.ensure(settings())
    finally:
        path.write_text(whole)
    assert store.read(made.path)["files"]


# Texts of another generator

THEIRS = [
    ("a fox walks past the barn", "animal"),
    ("an owl sings at night", "animal"),
    ("the clerk talks at noon", "person"),
    ("my teacher laughs", "person"),
]


def theirs(settings, tmp_path, rows=THEIRS, name="theirs.csv", **changes):
    """The config that imports these texts, of which it takes four."""
    text = "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)
    (tmp_path / name).write_bytes(text.encode(changes.pop("encoding", "utf-8")))
    fields = {"synthetic.method": "import", "synthetic.texts": str(tmp_path / name), "synthetic.examples": 4}
    return settings(**fields, **changes)


def test_another_generators_texts_keep_their_own_words(settings, splits, tmp_path):
    config = theirs(settings, tmp_path)
    made = generate.ensure(config)
    shown = word_rows.strings(made.examples, made.modality.words)
    named = [(text, CLASSES[label]) for text, label in zip(shown, made.labels, strict=True)]
    assert sorted(named) == sorted(THEIRS)
    assert made.manifest["imported_from"] == config.synthetic.texts
    assert made.manifest["left_out"] == dict.fromkeys(("train", "validation", "test"), 0)
    assert made.manifest["recognised"]["n"] == 4
    assert made.manifest["different"] == 1
    assert json.loads((made.path / "words.json").read_text())[1:]
    mixed = data.mix(splits.train, generate.source(made), "add", 0.1, 0)
    both = dict(zip(word_rows.of_source(mixed), mixed.origin, strict=True))
    assert sum(both[text] for text, _ in THEIRS) == 4
    changed = generate.ensure(theirs(settings, tmp_path, [*THEIRS[:3], ("the judge snores", "person")]))
    assert changed.path != made.path


def test_texts_of_the_data_are_not_imported(settings, splits, tmp_path):
    own = {
        name: (word_rows.of_source(part)[0].upper(), CLASSES[part.labels[0]])
        for name, part in splits._asdict().items()
    }
    said = []
    config = theirs(settings, tmp_path, [THEIRS[0], own["train"], *THEIRS[1:]])
    kept = methods.imported(config, splits._replace(train=word_rows.closed(splits.train)), said.append)
    assert kept.source.num_examples == 4
    assert kept.left_out["train"] == 1
    assert said == [
        f"synthetic.texts='{config.synthetic.texts}': 1 of 5 texts are left out, since they are examples of "
        "the data themselves (1 of the train split; the first is in row 2)"
    ]
    with pytest.raises(InputError, match=r"has [01] texts of class '\w+' and 2 are needed"):
        generate.ensure(theirs(settings, tmp_path, [*THEIRS[:3], own["train"]]))


@pytest.mark.parametrize(
    ("rows", "name", "encoding", "sentence"),
    [
        ([*THEIRS, ("beep", "robot")], "a.csv", "utf-8",
         "has the label 'robot' in row 5, which the training split does not have: its labels are animal, p"),
        ([*THEIRS, (" ", "animal")], "a.csv", "utf-8", "has no text in row 5: fill it in or remove the row"),
        ([("\u200b", "animal"), *THEIRS], "a.csv", "utf-8", "has no text in row 1"),
        ([("at the café", "person"), *THEIRS], "a.csv", "latin-1",
         r"'.*a\.csv' is not in UTF-8: line 2 has a byte that is not .*: save it in UTF-8"),
        (THEIRS, "a.jsonl", "utf-8", "row 1 of '.*' is no object with a text and a label: write one as"),
        (THEIRS, "a.txt", "utf-8", r"is of another kind: give a \.csv, \.tsv or \.jsonl file"),
    ],
)  # fmt: skip
def test_faults_of_texts_to_import_are_one_sentence(settings, tmp_path, rows, name, encoding, sentence):
    config = theirs(settings, tmp_path, rows, name, encoding=encoding)
    with pytest.raises(InputError, match=sentence) as error:
        generate.ensure(config)
    assert str(error.value).startswith("synthetic.texts: ")
    assert "\n" not in str(error.value)


def test_an_import_names_texts(settings, tmp_path):
    with pytest.raises(InputError, match=r"needs synthetic\.texts: a \.csv, \.tsv or \.jsonl file"):
        settings(**{"synthetic.method": "import"})
    with pytest.raises(InputError, match=r"synthetic\.images='npz:x' does nothing with"):
        generate.ensure(theirs(settings, tmp_path, **{"synthetic.images": "npz:x"}))


def test_a_judge_filters_texts_that_are_imported(settings, tmp_path):
    wrong = [
        ("the cat sleeps near the old stable now", "person"),
        ("the dog waits near the stable", "person"),
    ]
    rows = [*THEIRS[:2], *wrong, ("a nurse reads in the office", "person"), ("the baker writes", "person")]
    made = generate.ensure(theirs(settings, tmp_path, rows, **{"synthetic.least_confidence": 0.3}))
    shown = word_rows.strings(made.examples, made.modality.words)
    assert not {text for text, _ in wrong} & set(shown)
