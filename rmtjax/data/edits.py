"""Augmentation of texts: EDA (Wei & Zou 2019, 1901.11196) and AEDA (Karimi et al. 2021, 2108.13230).

Each edit is a stateless function of (words int32 [w], seed int32 [2], strength, lexicon), which returns words
of the same shape. Words are numbers, with 0 after the last. Strength is a share of the words of the text; 0
returns the text itself. Words that an insertion pushes beyond the end of the row are lost, as their tokens
would be.

Differences from the programs of the papers: synonym replacement draws places, not words (a word that occurs
twice may be replaced once); swapped pairs do not overlap; several insertions are drawn together, not one
after the other, and may come last.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from jaxtyping import Int
from ml_collections import ConfigDict

from rmtjax.data.sources import Source
from rmtjax.data.synonyms import find_synonyms
from rmtjax.data.tokens import PADDING, Tokens, moved_left

MARKS = (".", ";", "?", ":", "!", ",")  # of AEDA
_CHANGED = 2000  # folded into a text's seed for whether it is changed at all, apart from the edits' numbers


class Lexicon(NamedTuple):
    """The words that edits use.

    Attributes:
      tokens: the words of the source and those that edits add.
      synonyms: int32 [words, most], the numbers of the synonyms of each word, 0 after the last.
      marks: int32 [6], the numbers of the punctuation marks of AEDA.
    """

    tokens: Tokens
    synonyms: Int[np.ndarray, "words most"]
    marks: Int[np.ndarray, " marks"]


def lexicon(source: Source, kind: str, cosine: float) -> Lexicon:
    """The words of a source of texts, with their synonyms.

    Args:
      kind, cosine: see `find_synonyms`.
    """
    found = find_synonyms(source, kind, cosine)
    tokens = source.tokens.with_words([*MARKS, *(word for row in found.values() for word in row)])
    number = {word: i for i, word in enumerate(tokens.words)}
    table = np.zeros((len(number), max((len(row) for row in found.values()), default=1)), np.int32)
    for word, row in found.items():
        table[number[word], : len(row)] = [number[synonym] for synonym in row]
    return Lexicon(tokens, table, np.array([number[mark] for mark in MARKS], np.int32))


def text_operation(config: ConfigDict, source: Source) -> tuple[functools.partial, Tokens] | None:
    """The edits of the `augment.text` section of a config, one after the other, and their table of words.

    Args:
      source: the training texts, from which synonyms come.

    Returns:
      A function (words int32 [w], seed int32 [2]) -> words, and the table of words; None if all strengths are
      0.
    """
    active = tuple(
        (k, edit, float(config[edit.__name__])) for k, edit in enumerate(EDITS) if config[edit.__name__]
    )
    if not active or not config.proportion:
        return None
    known = lexicon(source, config.synonyms, config.synonym_cosine)
    return functools.partial(_edit_text, active, float(config.proportion), known), known.tokens


def _edit_text(
    active: tuple, proportion: float, known: Lexicon, words: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    fold_in = tf.random.experimental.stateless_fold_in
    out = words
    for k, edit, strength in active:
        out = edit(out, fold_in(seed, k), strength, known)
    return tf.where(tf.random.stateless_uniform((), fold_in(seed, _CHANGED)) < proportion, out, words)


def synonym_replacement(words: tf.Tensor, seed: tf.Tensor, strength: float, known: Lexicon) -> tf.Tensor:
    """Replaces a share `strength` of the words by synonyms, chosen among words that have one."""
    if not strength:
        return words
    seeds = tf.random.experimental.stateless_split(seed, 2)
    synonym = _synonym(words, seeds[0], known)
    chosen = _choose_places(synonym != PADDING, seeds[1], _number_of_words(words, strength))
    return tf.where(chosen, synonym, words)


def random_insertion(words: tf.Tensor, seed: tf.Tensor, strength: float, known: Lexicon) -> tf.Tensor:
    """Inserts synonyms of random words at random places; their number is a share `strength` of the words."""
    if not strength:
        return words
    seeds = tf.random.experimental.stateless_split(seed, 3)
    with_synonyms = moved_left(tf.where(tf.gather(known.synonyms[:, 0], words) != PADDING, words, PADDING))
    drawn = tf.gather(with_synonyms, _integers(words.shape, seeds[0], _length(with_synonyms)))
    gap = _integers(words.shape, seeds[1], _length(words) + 1)
    new = _synonym(drawn, seeds[2], known)
    return _insert(
        words, tf.where(tf.range(words.shape[0]) < _number_of_words(words, strength), new, PADDING), gap
    )


def random_swap(words: tf.Tensor, seed: tf.Tensor, strength: float, known: Lexicon) -> tf.Tensor:
    """Swaps pairs of words; their number is a share `strength` of the words, at most half of them."""
    if not strength:
        return words
    length, pairs = _length(words), words.shape[0] // 2
    key = tf.random.stateless_uniform(words.shape, seed)
    order = tf.argsort(tf.where(words != PADDING, key, 2.0))[
        : 2 * pairs
    ]  # the words' places, at random; then the rest
    pair = tf.reshape(order, (pairs, 2))
    number = tf.range(pairs)
    acts = (number < _number_of_words(words, strength)) & (2 * number + 1 < length)
    other = tf.where(acts[:, None], pair[:, ::-1], pair)
    return tf.tensor_scatter_nd_update(words, order[:, None], tf.gather(words, tf.reshape(other, (-1,))))


def random_deletion(words: tf.Tensor, seed: tf.Tensor, strength: float, known: Lexicon) -> tf.Tensor:
    """Deletes every word with probability `strength`; if none would be left, keeps a random one."""
    if not strength:
        return words
    key = tf.random.stateless_uniform(words.shape, seed)
    key = tf.where(words != PADDING, key, -1.0)
    keep = (key >= strength) | (tf.range(words.shape[0]) == tf.argmax(key, output_type=tf.int32))
    return moved_left(tf.where(keep, words, PADDING))


def punctuation_insertion(words: tf.Tensor, seed: tf.Tensor, strength: float, known: Lexicon) -> tf.Tensor:
    """Inserts punctuation marks before 1 to strength x length words (AEDA, whose strength is 1/3)."""
    if not strength:
        return words
    seeds = tf.random.experimental.stateless_split(seed, 3)
    count = 1 + _integers((), seeds[0], _number_of_words(words, strength))
    chosen = _choose_places(words != PADDING, seeds[1], count)
    mark = tf.gather(known.marks, _integers(words.shape, seeds[2], len(MARKS)))
    return _insert(words, tf.where(chosen, mark, PADDING), tf.range(words.shape[0]))


EDITS = (synonym_replacement, random_insertion, random_swap, random_deletion, punctuation_insertion)


def _length(words: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(words != PADDING, tf.int32))


def _number_of_words(words: tf.Tensor, strength: float) -> tf.Tensor:
    """A share of the number of words, rounded down, at least 1."""
    return tf.maximum(tf.cast(strength * tf.cast(_length(words), tf.float32), tf.int32), 1)


def _integers(shape: tf.TensorShape | tuple[()], seed: tf.Tensor, end: tf.Tensor | int) -> tf.Tensor:
    """A uniform whole number in 0..end - 1; 0 if `end` is 0."""
    end = tf.cast(end, tf.int32)
    drawn = tf.random.stateless_uniform(shape, seed) * tf.cast(end, tf.float32)
    return tf.maximum(tf.minimum(tf.cast(drawn, tf.int32), end - 1), 0)


def _choose_places(among: tf.Tensor, seed: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Marks `count` random places among those that `among` marks, or all if there are fewer."""
    key = tf.where(among, tf.random.stateless_uniform(among.shape, seed), 2.0)
    return among & (tf.argsort(tf.argsort(key)) < count)


def _synonym(words: tf.Tensor, seed: tf.Tensor, known: Lexicon) -> tf.Tensor:
    """A random synonym of each word; 0 for a word without any."""
    row = tf.gather(known.synonyms, words)
    count = tf.reduce_sum(tf.cast(row != PADDING, tf.int32), -1)
    drawn = tf.random.stateless_uniform(words.shape, seed) * tf.cast(count, tf.float32)
    place = tf.maximum(tf.minimum(tf.cast(drawn, tf.int32), count - 1), 0)
    return tf.gather(row, place, batch_dims=1)


def _insert(words: tf.Tensor, new: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
    """`words` with each entry of `new` that is not 0 inserted before its place in `before`."""
    places = tf.concat([2 * tf.range(words.shape[0]) + 1, 2 * before], 0)
    both = tf.concat([words, new], 0)
    return moved_left(tf.gather(both, tf.argsort(places, stable=True)))[: words.shape[0]]
