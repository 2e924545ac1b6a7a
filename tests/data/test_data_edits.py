"""Augmentation of texts: EDA, AEDA, and where synonyms come from."""

import itertools
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from rmtjax import config as config_lib
from rmtjax import data
from rmtjax.data import edits, synonyms
from rmtjax.errors import InputError

NAMES = [edit.__name__ for edit in edits.EDITS]
LENGTH = 12


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Texts of a grammar in which lost and stolen, card and phone keep the same company."""
    rng = np.random.default_rng(0)
    lines = ["text,label"]
    for _ in range(300):
        thing, fate = rng.choice(["card", "phone"]), rng.choice(["lost", "stolen"])
        place = rng.choice(["rome", "london", "berlin"])
        lines.append(f"my {thing} was {fate} yesterday near {place},{fate}")
    file = tmp_path_factory.mktemp("texts") / "set.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = config_lib.base().data
    config.update(source=f"texts:{file}", train_examples=None, validation_examples=10, max_tokens=LENGTH + 2)
    return data.load(config, 0).train


@pytest.fixture(scope="module")
def known(source):
    return edits.lexicon(source, "corpus", 0.5)


def strengths(source, **values):
    config = config_lib.base().augment
    config.text.update(values)
    return data.augmentation(config, source)


def words_of(known, row):
    return [known.tokens.words[word] for word in row if word]


def draws(edit, words, strength, known, count=300):
    seeds = np.stack([np.arange(count), np.full(count, 7)], axis=1).astype(np.int32)
    plainly = tf.autograph.experimental.do_not_convert(
        lambda seed: edit(tf.constant(words), seed, strength, known)
    )
    dataset = tf.data.Dataset.from_tensor_slices(seeds).map(plainly)
    out = next(dataset.batch(count).as_numpy_iterator())
    eager = edit(tf.constant(words), tf.constant(seeds[3]), strength, known)
    np.testing.assert_array_equal(out[3], eager)
    for row in out:  # words first, then zeros
        assert not np.any(row[np.count_nonzero(row) :])
    return out


def row(known, text):
    number = {word: i for i, word in enumerate(known.tokens.words)}
    words = np.zeros(LENGTH, np.int32)
    words[: len(text.split())] = [number[word] for word in text.split()]
    return words


def test_no_strength_is_no_augmentation(source):
    assert strengths(source) is None
    assert strengths(source, random_swap=0.5, proportion=0.0) is None
    assert tuple(NAMES) == config_lib.TEXT_STRENGTHS


@pytest.mark.parametrize("edit", edits.EDITS, ids=NAMES)
def test_strength_0_is_the_identity_bit_for_bit(edit, source, known):
    words = source.examples[0]
    np.testing.assert_array_equal(draws(edit, words, 0.0, known, 5), np.stack([words] * 5))


@pytest.mark.parametrize("edit", edits.EDITS, ids=NAMES)
@pytest.mark.parametrize("text", ["", "lost", "my card was lost yesterday near rome"])
@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_any_text_survives_any_strength(edit, text, strength, known):
    out = draws(edit, row(known, text), strength, known, 20)
    if not text:
        assert not out.any()
    else:
        assert out.any(1).all()


def test_synonyms_of_the_corpus_keep_like_company(source):
    found = synonyms.find_synonyms(source, "corpus", 0.5)
    assert found["lost"][0] == "stolen"
    assert found["phone"][0] == "card"
    assert set(found["rome"]) == {"london", "berlin"}
    assert "my" not in found  # a stop word
    assert "was" not in found
    assert found == synonyms.find_synonyms(source, "corpus", 0.5)


def test_synonym_replacement_changes_a_share_of_the_words(known):
    words = row(known, "my card was lost yesterday near rome")
    once = draws(edits.synonym_replacement, words, 0.2, known)
    assert set((once != words).sum(1)) == {1}
    thrice = draws(edits.synonym_replacement, words, 3 / 7 + 0.01, known)
    assert set((thrice != words).sum(1)) == {3}
    after = np.array([words_of(known, r) for r in thrice])  # three words have synonyms
    assert [set(column) for column in after.T] == [
        {"my"},
        {"phone"},
        {"was"},
        {"stolen"},
        {"yesterday"},
        {"near"},
        {"london", "berlin"},
    ]
    assert set(np.array([words_of(known, r) for r in once])[:, 3]) == {"lost", "stolen"}


def test_random_insertion_adds_synonyms_anywhere(known):
    words = row(known, "my card was lost yesterday near rome")
    out = draws(edits.random_insertion, words, 2 / 7 + 0.01, known)
    places = set()
    for line in (words_of(known, r) for r in out):
        assert len(line) == 9
        new = list(line)
        for word in words_of(known, words):
            new.remove(word)
        assert set(new) <= {"phone", "stolen", "london", "berlin"}
        places |= {i for i, word in enumerate(line) if word in new}
    assert places == set(range(9))
    full = np.full(LENGTH, words[3])
    assert np.count_nonzero(draws(edits.random_insertion, full, 0.5, known, 5)) == 5 * LENGTH


def test_random_swap_moves_pairs(known):
    words = row(known, "my card was lost yesterday near rome")
    for strength, moved in ((0.2, 2), (2 / 7 + 0.01, 4), (1.0, 6)):  # of seven words, three pairs at most
        out = draws(edits.random_swap, words, strength, known)
        assert set((out != words).sum(1)) == {moved}
        np.testing.assert_array_equal(np.sort(out, 1), np.stack([np.sort(words)] * len(out)))


def test_random_deletion_leaves_out_words_independently(known):
    words = row(known, "my card was lost yesterday near rome")
    out = draws(edits.random_deletion, words, 0.3, known, 2000)
    kept = np.count_nonzero(out, axis=1)
    assert abs(kept.mean() - 4.9) < 0.1
    assert abs(kept.var() - 7 * 0.21) < 0.15
    alone = draws(edits.random_deletion, words, 1.0, known)
    assert set(np.count_nonzero(alone, axis=1)) == {1}
    assert set(alone[:, 0]) == set(words[:7])


def test_punctuation_is_put_before_words(known):
    words = row(known, "my card was lost yesterday near rome")
    out = draws(edits.punctuation_insertion, words, 3 / 7 + 0.01, known)
    assert set(np.count_nonzero(out, axis=1)) == {8, 9, 10}
    for line in (words_of(known, r) for r in out):
        assert [word for word in line if word not in edits.MARKS] == words_of(known, words)
        assert line[-1] == "rome"
        assert not any(a in edits.MARKS and b in edits.MARKS for a, b in itertools.pairwise(line))
    assert {word for r in out for word in words_of(known, r)} > set(edits.MARKS)


def test_batches_are_edited_for_a_proportion_of_the_texts_by_seed_epoch_and_example(source):
    augment = strengths(source, random_swap=0.3, punctuation_insertion=0.3, proportion=0.3)
    options = {"batch_size": 58, "seed": 3}
    stream = data.train_batches(source, augment=augment, **options)
    epochs = [next(stream) for _ in range(20)]
    n = source.num_examples
    by_epoch = np.concatenate([b["inputs"] for b in epochs])[: 4 * n].reshape(4, n, -1)
    index = np.concatenate([b["index"] for b in epochs])[: 4 * n].reshape(4, n)
    changed = [(x != source.inputs(i)).any(1) for x, i in zip(by_epoch, index, strict=True)]
    assert abs(np.mean(changed) - 0.3) < 0.05
    first, second = (
        dict(zip(i.tolist(), x, strict=True)) for x, i in zip(by_epoch[:2], index[:2], strict=True)
    )
    assert any(not np.array_equal(first[i], second[i]) for i in first)
    later = next(data.train_batches(source, augment=augment, start_step=7, **options))
    np.testing.assert_array_equal(later["inputs"], epochs[7]["inputs"])


def test_switching_one_edit_on_leaves_the_others_draws(source):
    one = strengths(source, random_swap=0.3)
    both = strengths(source, random_swap=0.3, punctuation_insertion=0.3)
    for k in range(20):
        words, seed = tf.constant(source.examples[k]), tf.constant([k, 5], tf.int32)
        swapped, marked = one.image(words, seed).numpy(), both.image(words, seed).numpy()
        names = [both.modality.words[w] for w in marked if both.modality.words[w] not in (*edits.MARKS, "")]
        assert names == [one.modality.words[w] for w in swapped if w]


def test_texts_are_not_mixed_up(source):
    with pytest.raises(InputError, match="cannot be mixed"):
        data.train_batches(source, batch_size=8, seed=0, augment=data.Augmentation(mixup=0.2))


def test_wordnet_where_it_is_installed(source, monkeypatch):
    class Synset:
        def lemma_names(self):
            return ["missing", "gone_astray", "lost"]

    wordnet = types.SimpleNamespace(
        ensure_loaded=lambda: None, synsets=lambda word: [Synset()] if word == "lost" else []
    )
    monkeypatch.setitem(sys.modules, "nltk", types.ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", types.SimpleNamespace(wordnet=wordnet))
    known = edits.lexicon(source, "wordnet", 0.5)
    out = draws(edits.synonym_replacement, row(known, "my card was lost"), 0.5, known)
    assert {known.tokens.words[word] for word in out[:, 3]} == {"missing", "gone astray"}
    assert known.tokens.pieces.shape[0] == len(known.tokens.words)


def test_wordnet_that_is_not_installed_is_said(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    with pytest.raises(InputError, match="needs nltk and its corpus"):
        strengths(source, synonym_replacement=0.1, synonyms="wordnet")
