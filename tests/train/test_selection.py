"""Training examples that are selected by their diversity, or repeated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmtjax import config as config_lib
from rmtjax import data, diversity
from rmtjax.errors import InputError
from rmtjax.train import members, selection

SELECT = ("random", "least", ".5", "most")


def digits(select_features="inputs", **fields):
    config = config_lib.base()
    config.data.update({"train_examples": 100, "select_features": select_features} | fields)
    config_lib.validate(config)
    return config


def numbers(source):
    """The number of each training example among all of them, by its pixels."""
    pool = data.load(digits(train_examples=None, image_size=source.shape[0]).data, 0).train
    number = {image.tobytes(): i for i, image in enumerate(pool.inputs())}
    return np.array([number[image.tobytes()] for image in source.inputs()])


@settings(max_examples=12, deadline=None)
@given(
    select=st.sampled_from(SELECT),
    n=st.integers(20, 200),
    share=st.floats(0, 1),
    seed=st.integers(0, 3),
)
def test_every_setting_has_equal_n_and_equal_classes(select, n, share, seed):
    distinct = max(10, round(share * n))
    config = digits(select=select, train_examples=n, distinct=distinct)
    config.seed = seed
    train = selection.load(config).train
    plain = digits(train_examples=n)
    np.testing.assert_array_equal(train.labels, data.load(plain.data, seed).train.labels)
    rows, place = np.unique(train.examples.reshape(n, -1), axis=0, return_inverse=True)
    assert len(rows) == distinct
    for k in range(10):  # in turn
        copies = np.bincount(place[train.labels == k])
        assert np.ptp(copies[copies > 0]) <= 1
    again = selection.load(config).train
    np.testing.assert_array_equal(again.examples, train.examples)


def test_the_same_examples_are_selected_for_a_generator_of_another_size():
    config = digits(select="most", distinct=50)
    whole, small = selection.load(config), selection.load(config, 8)
    np.testing.assert_array_equal(numbers(small.train), numbers(whole.train))
    np.testing.assert_array_equal(small.test.labels, whole.test.labels)
    assert small.train.shape == (8, 8, 1)


def test_diversity_is_that_of_the_setting_and_sets_are_nested():
    scores = {}
    for select in SELECT:
        train = selection.load(digits(select=select)).train
        scores[select] = diversity.vendi_score(train.inputs().reshape(100, -1))
        fewer = selection.load(digits(select=select, train_examples=60)).train
        np.testing.assert_array_equal(fewer.examples, train.examples[:60])
    assert scores["least"] < scores["random"] < scores["most"]
    assert scores["least"] < scores[".5"] < scores["most"]


def test_copies_have_one_wrong_label():
    config = digits(distinct=25, label_noise=0.4)
    train, clean = selection.load(config).train, selection.load(digits(distinct=25)).train
    wrong = train.labels != clean.labels
    assert len(set(numbers(train)[wrong])) == 10  # of 25
    for number in np.unique(numbers(train)):
        assert len(set(train.labels[numbers(train) == number])) == 1


def test_features_of_the_model_are_stored_for_other_seeds(tmp_path, monkeypatch):
    config = digits("model", select="most")
    config.synthetic.cache = str(tmp_path)
    computed = selection.load(config).train
    assert not list(tmp_path.iterdir())  # they are few
    monkeypatch.setattr(selection, "STORED", 0)
    asked = []
    model = selection._model

    def counted(*about):
        predict, *rest = model(*about)
        return lambda p, s, batches: asked.append(list(batches)) or predict(p, s, asked[-1]), *rest

    monkeypatch.setattr(selection, "_model", counted)
    for seed in (0, 0, 1):
        selection._pool.cache_clear()
        config.seed = seed
        stored = selection.load(config).train
        if not seed:
            np.testing.assert_array_equal(stored.examples, computed.examples)
    first, other = (sum(int(batch["mask"].sum()) for batch in batches) for batches in asked)
    mine, theirs = (
        {x.tobytes() for x in data.load(digits(train_examples=800).data, k).train.inputs()} for k in (0, 1)
    )
    assert (first, other) == (800, len(theirs - mine))  # seed 1 has other examples for validation
    (file,) = tmp_path.glob("features_*.npz")
    whole = file.read_bytes()
    file.write_bytes(whole[:2000])
    selection._pool.cache_clear()
    config.seed = 0
    np.testing.assert_array_equal(selection.load(config).train.examples, computed.examples)
    pixels = selection.load(digits(select="most")).train
    assert set(numbers(pixels)) != set(numbers(computed))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"select": "all"},
            r"data\.select='all' is out of range: it must be random, least, most or a number",
        ),
        ({"select": "1.5"}, r"data\.select='1\.5' is out of range"),
        ({"select": "most", "train_examples": None}, r"data\.select='most' needs data\.train_examples"),
        ({"distinct": 101}, r"data\.distinct=101 is more than data\.train_examples=100: lower it"),
        ({"distinct": 5}, r"data\.distinct=5 leaves class '\d' without an example: raise it"),
        ({"distinct": 801, "train_examples": None}, "801 is more than the 800 training examples: lower it"),
        ({"select": "most", "train_examples": 801}, "801 is more than there are: digits has 800"),
    ],
)
def test_what_cannot_be_is_one_sentence(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        selection.load(digits(**fields))


def test_features_of_a_model_need_one():
    config = config_lib.base()
    config.data.select = "least"
    config.model.init_from = None
    with pytest.raises(
        InputError, match=r"features of model\.init_from, which is None: name weights, or set"
    ):
        config_lib.validate(config)
    config.model.update(init_from="letters", name="bert")
    config.data.source = "texts:set.csv"
    with pytest.raises(InputError, match=r"needs data\.vocabulary: name that of the model, or set"):
        config_lib.validate(config)


def test_selections_and_copies_train_together():
    keys = {members.key(digits(select=select, distinct=m)) for select in SELECT for m in (None, 50)}
    assert len(keys) == 1


def test_texts_are_selected_by_their_words_and_copies_make_no_word_frequent(tmp_path):
    rows = [f"the {who} {does} q{i % 7} r{i % 5},{label}" for i, (who, does, label) in enumerate(
        [("cat", "runs", "animal"), ("nurse", "reads", "person")] * 20)]  # fmt: skip
    alike = ["the cat sleeps,animal", "the nurse writes,person"] * 20
    (tmp_path / "set.csv").write_text("text,label\n" + "\n".join(rows + alike) + "\n")
    config = config_lib.base()
    config.data.update(
        source=f"texts:{tmp_path / 'set.csv'}", train_examples=16, validation_examples=16, max_tokens=8,
        select_features="inputs",
    )  # fmt: skip
    config.model.update(name="bert", init_from=None)
    config.evaluation.shifts = ()
    different = {}
    for select in ("least", "most"):
        config.data.select = select
        config_lib.validate(config)
        train = selection.load(config).train
        different[select] = len(np.unique(train.examples, axis=0))
    assert different["least"] < different["most"]
    assert different["most"] >= 14
    config.data.distinct = 2
    train = selection.load(config).train
    known = {train.tokens.words[i] for i in np.unique(train.examples)}
    assert len(np.unique(train.examples, axis=0)) == 2
    often = {word for word in known if (train.tokens.pieces[train.tokens.words.index(word)] > 1).any()}
    assert often < known  # [UNK] is trained too
