"""Texts: the sets, words and tokens, batches."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from rmtjax import config as config_lib
from rmtjax import data
from rmtjax.data import texts, tokens
from rmtjax.errors import InputError

CASES = json.loads((pathlib.Path(__file__).parent / "wordpiece.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A vocab.txt of the cases' pieces: a part of the real one, which cuts these texts in the same way."""
    pieces = sorted({piece for _, pieces in CASES for piece in pieces} - {"[PAD]", "[UNK]", "[CLS]", "[SEP]"})
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *pieces]) + "\n", encoding="utf-8")
    return file


def table(
    folder, name="set.csv", rows=(("good morning", "hello"), ("bye now", "parting")) * 10, head="text,label"
):
    separator = "\t" if name.endswith(".tsv") else ","
    lines = [head.replace(",", separator), *(separator.join(row) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def section(source, **fields):
    config = config_lib.base().data
    config.update(source=str(source), train_examples=None, validation_examples=2, max_tokens=8, **fields)
    return config


@pytest.mark.parametrize("length", [6, 12, 64])
def test_tokens_are_those_of_the_whole_text(vocabulary, length):
    """Special tokens, truncation, accents, punctuation, apostrophes, currency, ideographs, unknown words."""
    tokenizer = tokens.read_tokenizer(vocabulary)
    names = vocabulary.read_text(encoding="utf-8").split("\n")
    (rows,), table = tokens.rows([[text for text, _ in CASES]], tokenizer, length)
    for row, (text, pieces) in zip(table.inputs(tf.constant(rows)).numpy(), CASES, strict=True):
        expected = [*pieces[:-1][: length - 1], "[SEP]"]
        expected += ["[PAD]"] * (length - len(expected))
        assert [names[token] for token in row] == expected, text


def test_a_word_keeps_its_apostrophe_and_is_read_back(vocabulary):
    tokenizer = tokens.read_tokenizer(vocabulary)
    assert tokenizer.split("I can't 'see' it, sir!") == ["i", "can't", "'", "see", "'", "it", ",", "sir", "!"]
    assert tokenizer.split("") == tokenizer.split(" \t ") == []
    row = [2, *(token for pieces in tokenizer.pieces(["card", "arrived"]) for token in pieces), 3, 0, 0]
    assert tokenizer.read(row) == "card arrived"


def test_faults_of_a_vocabulary_are_said(tmp_path, vocabulary):
    with pytest.raises(InputError, match=r"neither tokenizer\.json nor vocab\.txt"):
        tokens.read_tokenizer(tmp_path)
    with pytest.raises(InputError, match="no file or folder"):
        tokens.read_tokenizer(tmp_path / "none.txt")
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n[PAD]\n")
    with pytest.raises(InputError, match=r"\[PAD\] as number 3"):
        tokens.read_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\ncard\n")
    with pytest.raises(InputError, match=r"lacks \[CLS\], \[SEP\]"):
        tokens.read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        tokens.read_tokenizer(tmp_path)


def test_case_is_kept_where_the_tokenizer_keeps_it(tmp_path, vocabulary):
    (tmp_path / "vocab.txt").write_text(vocabulary.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert tokens.read_tokenizer(tmp_path).split("My Card") == ["My", "Card"]


def test_words_of_the_training_texts_alone_are_a_vocabulary(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    table(folder, "train.csv")
    table(folder, "test.csv", rows=[("good evening", "hello")])
    splits = data.load(section(f"texts:{folder}"), seed=0)
    assert splits.train.vocabulary_size == 4 + 4  # good, morning, bye, now
    (row,) = splits.test.inputs()
    names = splits.test.modality.tokenizer
    assert row[0] == names.begin
    assert list(row[1:]) == [row[1], 1, names.end, 0, 0, 0, 0]  # evening is unknown
    assert splits.test.modality.shown(row[None])[0] == "good [UNK]"
    again = data.load(section(f"texts:{folder}"), seed=0)
    np.testing.assert_array_equal(again.train.inputs(), splits.train.inputs())


def test_tables_of_parts_have_their_usual_names(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(texts.logging, "warning", lambda text, *parts: said.append(text % parts))
    for name in ("Train.csv", "valid.TSV", "testing_set.csv", "._train.csv", "more.csv"):
        made = table(tmp_path, name.replace("TSV", "tsv"))
        pathlib.Path(made).rename(tmp_path / name)
    splits = data.load(section(f"texts:{tmp_path}"), seed=0)
    assert [part.num_examples for part in splits] == [20, 2, 20]
    assert said[0] == f"texts:{tmp_path}: tables of no part are passed over (more.csv)"
    table(tmp_path, "training.csv")
    with pytest.raises(InputError, match=r"has Train.csv and training.csv: keep one of them"):
        data.load(section(f"texts:{tmp_path}"), seed=0)


def test_labels_that_are_long_numbers_are_sorted_too(tmp_path):
    rows = [("good", "9"), ("bye", "1" + 5000 * "0"), ("well", "08")] * 5
    classes = texts.parts(f"texts:{table(tmp_path, 'a.csv', rows)}", tokens.unknown_words(), 8)["all"].classes
    assert [len(name) for name in classes] == [2, 1, 5001]


@pytest.mark.parametrize("name", ["set.csv", "set.tsv", "set.jsonl"])
def test_a_table_of_ones_own(tmp_path, name):
    path = tmp_path / name
    if name.endswith("l"):
        lines = table(tmp_path, "set.csv").read_text().splitlines()[1:]
        objects = [dict(zip(("text", "category", "n"), (*line.split(","), 1), strict=True)) for line in lines]
        path.write_text("\n".join(map(json.dumps, objects)) + "\n\n")
    else:
        table(tmp_path, name)
    splits = data.load(section(f"texts:{path}"), seed=0)
    assert [part.num_examples for part in splits] == [14, 2, 4]  # a fifth to test
    assert splits.train.classes == ("hello", "parting")
    shown = splits.train.modality.shown(splits.train.inputs())
    for text, label in zip(shown, splits.train.labels, strict=True):
        assert text == ("good morning", "bye now")[label]


def test_labels_that_are_numbers_are_sorted_as_numbers(tmp_path):
    rows = [(f"word{i} word", str(i)) for i in (10, 9, 2)] * 4
    assert data.load(section(f"texts:{table(tmp_path, rows=rows)}"), 0).train.classes == ("2", "9", "10")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("sentence,label\na,b\n", "text and label are wanted"),
        ("text,label\n", "no rows"),
        ("text,label\n ,b\n", "no text in row 1"),
        ("text,label\na,b\nc,\n", "no label in row 2"),
        ('text,label\n"a,b\n', "cannot be read as a table"),
    ],
)
def test_faults_of_a_table_are_said(tmp_path, content, words):
    (tmp_path / "set.csv").write_text(content)
    with pytest.raises(InputError, match=words):
        data.load(section(f"texts:{tmp_path / 'set.csv'}"), 0)


ROWS = [(f"{'bad' if i % 2 else 'good'} film {i}", "neg" if i % 2 else "pos") for i in range(40)]


def test_quotes_that_nobody_closes_swallow_no_row(tmp_path):
    quoted = [(('"' if i in (4, 13) else "") + text, label) for i, (text, label) in enumerate(ROWS)]
    path = tmp_path / "set.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in quoted))
    assert texts.parts(f"texts:{path}", tokens.unknown_words(), 24)["all"].num_examples == 40
    path = table(tmp_path, rows=quoted)
    with pytest.raises(InputError, match="has a cell in row 5 that holds whole rows: close its quote"):
        texts.parts(f"texts:{path}", tokens.unknown_words(), 24)


def test_a_text_of_several_lines_is_one_row(tmp_path):
    poem = '"roses are red, they say\nviolets are blue, I think\nand so on"'
    path = table(tmp_path, rows=[(poem, "good"), ("short", "bad ")] * 5)
    found = texts.parts(f"texts:{path}", tokens.unknown_words(), 24)["all"]
    assert found.num_examples == 10
    assert found.classes == ("bad", "good")  # without the space


def test_rows_with_more_cells_than_columns_are_refused(tmp_path):
    path = table(tmp_path, rows=[("one", "a,b"), ("two", "a,c")])
    with pytest.raises(InputError, match="rows have more cells than there are columns"):
        texts.parts(f"texts:{path}", tokens.unknown_words(), 24)


def test_what_is_not_there_is_said(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no file"):
        data.load(section(f"texts:{tmp_path / 'none.csv'}"), 0)
    with pytest.raises(InputError, match=r"no train\.csv"):
        data.load(section(f"texts:{tmp_path}"), 0)
    (tmp_path / "latin.csv").write_bytes("text,label\ntea,b\ncafé,b\n".encode("latin-1"))
    with pytest.raises(InputError, match="is not in UTF-8: line 3 has a byte that is not"):
        data.load(section(f"texts:{tmp_path / 'latin.csv'}"), 0)
    monkeypatch.delenv("RMTJAX_DATA", raising=False)
    with pytest.raises(InputError, match="set RMTJAX_DATA"):
        data.load(section("banking77"), 0)
    monkeypatch.setenv("RMTJAX_DATA", str(tmp_path))
    for name in config_lib.TEXT_SETS:
        with pytest.raises(InputError, match="there is no"):
            data.load(section(name), 0)
    with pytest.raises(InputError, match="holds texts, not images"):
        data.load_source("banking77", 16)


def test_the_public_sets_from_files_of_their_layout(tmp_path, monkeypatch):
    """Latin-1 with a character at which str.splitlines cuts; out-of-scope texts; an own validation part."""
    monkeypatch.setenv("RMTJAX_DATA", str(tmp_path))
    (tmp_path / "sentence_cls").mkdir()
    (tmp_path / "clinc150").mkdir()
    (tmp_path / "sentence_cls" / "subj.all").write_bytes("0 caf\xe9 \x85 bar\n1 b\n".encode("latin-1") * 5)
    (tmp_path / "sentence_cls" / "TREC.train.all").write_text("0 what ?\n5 how many ?\n" * 6)
    (tmp_path / "sentence_cls" / "TREC.test.all").write_text("4 where ?\n")
    clinc = {f"{part}": [["a b", "x"], ["c d", "y"]] * 3 for part in ("train", "val", "test")}
    clinc |= {f"oos_{part}": [["e f", "oos"]] for part in ("train", "val", "test")}
    (tmp_path / "clinc150" / "data_full.json").write_text(json.dumps(clinc))
    subj = texts.parts("subj", tokens.unknown_words(), 8)["all"]
    assert subj.num_examples == 10
    assert subj.classes[subj.labels[0]] == "subjective"
    trec = data.load(section("trec"), 0)
    assert (trec.train.num_examples, trec.test.num_examples) == (10, 1)
    assert trec.test.classes[trec.test.labels[0]] == "location"
    splits = data.load(section("clinc150"), 0)
    assert [part.num_examples for part in splits] == [6, 2, 6]
    assert splits.train.classes == ("x", "y")
    outside = data.load_source("clinc150_oos", 16, splits.test.modality)
    assert outside.num_examples == 1
    assert outside.input_shape == splits.test.input_shape


def test_batches_of_texts(tmp_path):
    rows = [(" ".join(f"word{j}" for j in range(i, i + 1 + i % 5)), str(i % 2)) for i in range(30)] * 2
    source = data.load(section(f"texts:{table(tmp_path, rows=rows)}"), 0).train
    stream = data.train_batches(source, batch_size=8, seed=1)
    for _ in range(3):
        batch = next(stream)
        assert batch["inputs"].dtype == np.int32
        np.testing.assert_array_equal(batch["inputs"], source.inputs(batch["index"]))
        np.testing.assert_array_equal(batch["label"], source.labels[batch["index"]])
    later = next(data.train_batches(source, batch_size=8, seed=1, start_step=2))
    np.testing.assert_array_equal(later["inputs"], batch["inputs"])
    batches = list(data.evaluation_batches(source, batch_size=32))
    real = np.concatenate([batch["inputs"][batch["mask"]] for batch in batches])
    np.testing.assert_array_equal(real, source.inputs())
    assert (batches[-1]["inputs"][~batches[-1]["mask"]] == 0).all()


def test_texts_are_mixed_with_texts(tmp_path):
    one = data.load(section(f"texts:{table(tmp_path)}"), 0).train
    other = table(tmp_path, "other.csv", [("good day", "hello"), ("so long now", "parting")] * 10)
    other = data.load_source(f"texts:{other}", 16, one.modality)
    mixed = data.mix(one, other, "add", 0.5, seed=0)
    shown = mixed.modality.shown(mixed.inputs())
    np.testing.assert_array_equal(shown[: one.num_examples], one.modality.shown(one.inputs()))
    assert set(shown[mixed.origin == 1]) == {"good [UNK]", "[UNK] [UNK] now"}
    images = data.from_arrays(
        "images", np.zeros((4, 2, 2, 1), np.float32), np.array([0, 0, 1, 1]), one.classes
    )
    with pytest.raises(InputError, match="images and texts"):
        data.mix(one, images, "add", 0.5, seed=0)
