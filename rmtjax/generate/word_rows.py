"""A training split of texts as generators see it: rows of the words that it has itself, and no others.

Words are numbered from 1 in their alphabetical order, 0 stands where a text has ended; so numbers depend on
the split alone, not on the set it was drawn from.
"""

import csv
import dataclasses
import hashlib
import io
import json
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from rmtjax import data, files
from rmtjax.data.modalities import ROWS
from rmtjax.data.tokens import Tokens


def closed(train: data.Source) -> data.Source:
    """The same texts under a vocabulary of the words that occur in them, sorted."""
    text = train.tokens
    there = [i for i in np.unique(train.examples) if i]
    order = [0, *sorted(there, key=lambda i: text.words[i])]
    number = np.zeros(len(text.words), np.int32)
    number[order] = np.arange(len(order))
    words = tuple(text.words[i] for i in order)
    return dataclasses.replace(
        train,
        examples=number[train.examples],
        modality=dataclasses.replace(text, words=words, pieces=text.pieces[order]),
    )


def known(source: data.Source, vocabulary: Tokens) -> data.Source:
    """Those texts of a source that hold no word but those of a vocabulary, in its numbers."""
    number = {word: i for i, word in enumerate(vocabulary.words)}
    here = np.array([number.get(word, -1) for word in source.tokens.words], np.int32)
    rows = here[source.examples]
    whole = np.flatnonzero((rows >= 0).all(1))
    return dataclasses.replace(data.take(source, whole), examples=rows[whole], modality=vocabulary)


def as_rows(source: data.Source) -> data.Source:
    """The same texts, of which batches hold the words' numbers and not tokens."""
    return dataclasses.replace(source, modality=ROWS)


def strings(rows: Int[np.ndarray, "n w"], words: Sequence[str]) -> list[str]:
    """Each text as its words with spaces between them."""
    return [" ".join(words[i] for i in row if i) for row in rows]


def of_source(source: data.Source) -> list[str]:
    """`strings` of a source's own texts."""
    return strings(source.examples, source.tokens.words)


def data_hash(source: data.Source) -> str:
    """SHA-256 of a source's labels and words, in its order, whatever its words' numbers are."""
    content = {"shape": [source.num_examples, *source.shape], "labels": source.labels.tolist()}
    total = hashlib.sha256(json.dumps(content).encode())
    total.update(json.dumps(of_source(source)).encode())
    return total.hexdigest()


def write_by_class(
    path: pathlib.Path, texts: Sequence[str], labels: Int[np.ndarray, " n"], classes: Sequence[str], most: int
) -> None:
    """A table of text and label, the first `most` texts of each class after each other."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["text", "label"])
    for k, name in enumerate(classes):
        table.writerows([texts[i], name] for i in np.flatnonzero(labels == k)[:most])
    files.write_text(path, out.getvalue())
