"""Converts texts to words, and words to the tokens of a model.

A text is stored as a row of numbers of words, so that augmentation can act on words inside tf.data. A table
then converts words to tokens. This is possible because the pieces of a word do not depend on its neighbours:
BERT's tokenizer first splits at white space and punctuation, then splits the resulting words (WordPiece; Wu
et al. 2016, 1609.08144). So the tokens of a row equal those of the whole text.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from jaxtyping import Int

from rmtjax.data.modalities import Rows
from rmtjax.errors import InputError

PADDING = 0  # the token, and the word, that stands where a text has ended
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_LEAST_OFTEN = 2  # a rarer word is unknown: so the token of unknown words is trained as well
_APOSTROPHES = ("'", "’")


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """How texts are split into words, and words into tokens.

    Attributes:
      split: returns the words of a text, normalised as the tokenizer does (lower case, no accents).
      pieces: returns the tokens of each word; at least one, and none is 0.
      read: returns the text of a row of tokens.
      begin, end: the tokens around a text ([CLS] and [SEP] of BERT).
      size: size of the vocabulary; every token is below it.
    """

    split: Callable[[str], list[str]]
    pieces: Callable[[Sequence[str]], list[list[int]]]
    read: Callable[[Sequence[int]], str]
    begin: int
    end: int
    size: int


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens(Rows):
    """The modality of texts: how rows of words become rows of tokens.

    Attributes:
      words: the words by number; number 0 is "", no word.
      pieces: int32 [words, most pieces], the tokens of each word, 0 after the last.
      length: number of tokens in every row: begin, pieces, end, then 0; longer texts are cut.
      tokenizer: the tokenizer that made `pieces`, for other texts of the same model.
    """

    words: tuple[str, ...]
    pieces: Int[np.ndarray, "words most"]
    length: int
    tokenizer: Tokenizer

    @property
    def vocabulary_size(self) -> int:
        return self.tokenizer.size

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self.length,)

    def inputs(self, words: tf.Tensor) -> tf.Tensor:
        """Converts rows of words int32 [..., w] to rows of tokens int32 [..., length]."""
        pieces = tf.gather(tf.constant(self.pieces), words)
        pieces = tf.reshape(
            pieces, tf.concat([tf.shape(words)[:-1], [words.shape[-1] * pieces.shape[-1]]], 0)
        )
        inner = moved_left(pieces)[..., : self.length - 2]
        count = tf.reduce_sum(tf.cast(inner != PADDING, tf.int32), -1, keepdims=True)
        begin, padding = tf.fill(tf.shape(count), self.tokenizer.begin), tf.zeros_like(count)
        tokens = tf.concat([begin, inner, padding], -1)
        tokens = tf.where(tf.range(self.length) == count + 1, self.tokenizer.end, tokens)
        return tf.ensure_shape(tokens, (*words.shape[:-1], self.length))

    def arrays(self, examples: Int[np.ndarray, "n w"]) -> Int[np.ndarray, "n {self.length}"]:
        return self.inputs(tf.constant(examples)).numpy()

    def shown(self, inputs: Int[np.ndarray, "n {self.length}"]) -> np.ndarray:
        return np.array([self.tokenizer.read(row) for row in inputs], str)

    def joined(self, other: "Tokens", examples: Int[np.ndarray, "n w"]) -> tuple["Tokens", np.ndarray]:
        both = self.with_words(other.words)
        number = {word: i for i, word in enumerate(both.words)}
        return both, np.array([number[word] for word in other.words], np.int32)[examples]

    def using(self, tokenizer: Tokenizer) -> "Tokens":
        """The same words with another tokenizer that splits texts in the same way."""
        return dataclasses.replace(self, pieces=_table(self.words, tokenizer), tokenizer=tokenizer)

    def with_words(self, words: Iterable[str]) -> "Tokens":
        """A copy with further words, numbered after its own."""
        every = tuple(dict.fromkeys([*self.words, *words]))
        return dataclasses.replace(self, words=every, pieces=_table(every, self.tokenizer))


def moved_left(row: tf.Tensor) -> tf.Tensor:
    """Moves zeros to the end of rows int32 [..., n]; the rest keeps its order."""
    order = tf.argsort(tf.cast(row == 0, tf.int32), axis=-1, stable=True)
    return tf.gather(row, order, batch_dims=row.shape.rank - 1, axis=-1)


def rows(
    texts: Iterable[Sequence[str]], tokenizer: Tokenizer, length: int
) -> tuple[list[Int[np.ndarray, "n w"]], Tokens]:
    """Rows of words int32 [n, length - 2] of several groups of texts, and the words with their tokens.

    A row holds at most as many words as fit if each has one token; further words are left out.
    """
    number = {"": PADDING}
    groups = []
    for group in texts:
        out = np.zeros((len(group), length - 2), np.int32)
        for i, text in enumerate(group):
            words = tokenizer.split(text)[: length - 2]
            out[i, : len(words)] = [number.setdefault(word, len(number)) for word in words]
        groups.append(out)
    words = tuple(number)
    return groups, Tokens(words, _table(words, tokenizer), length, tokenizer)


def _table(words: Sequence[str], tokenizer: Tokenizer) -> Int[np.ndarray, "words most"]:
    pieces = [[], *tokenizer.pieces(words[1:])]
    table = np.zeros((len(words), max(1, *map(len, pieces))), np.int32)
    for row, tokens in zip(table, pieces, strict=True):
        row[: len(tokens)] = tokens
    return table


def unknown_words() -> Tokenizer:
    """BERT's splitting of texts without a vocabulary, so that every word is unknown."""
    return _whole_words({})


def trained_words(text: Tokens, words: Int[np.ndarray, "n w"]) -> Tokenizer:
    """A vocabulary of all words that occur at least twice in these rows, the most frequent first."""
    count = np.bincount(words.reshape(-1), minlength=len(text.words))
    often = [i for i in np.argsort(-count, kind="stable") if i != PADDING and count[i] >= _LEAST_OFTEN]
    return _whole_words({text.words[i]: len(_SPECIAL) + place for place, i in enumerate(often)})


def _whole_words(number: dict[str, int]) -> Tokenizer:
    from tokenizers import normalizers, pre_tokenizers

    unknown, begin, end = (_SPECIAL.index(token) for token in ("[UNK]", "[CLS]", "[SEP]"))
    name = [*_SPECIAL, *number]
    return Tokenizer(
        split=_splitter(normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()),
        pieces=lambda words: [[number.get(word, unknown)] for word in words],
        read=lambda row: " ".join(name[token] for token in row if token not in (PADDING, begin, end)),
        begin=begin,
        end=end,
        size=len(name),
    )


def read_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Reads a WordPiece tokenizer from `tokenizer.json`, `vocab.txt`, or a folder with one of them.

    For a `vocab.txt`, `do_lower_case` in `tokenizer_config.json` beside it decides the case; without it,
    texts become lower case.

    Raises:
      InputError: there is no file, it is of another kind, or a special token is missing.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        there = [file / name for name in ("tokenizer.json", "vocab.txt") if (file / name).is_file()]
        if not there:
            raise InputError(f"data.vocabulary: {str(path)!r} has neither tokenizer.json nor vocab.txt")
        file = there[0]
    if not file.is_file():
        raise InputError(f"data.vocabulary: there is no file or folder {str(path)!r}")
    tokenizer = _from_vocabulary(file) if file.suffix == ".txt" else _from_json(file)
    numbers = {token: tokenizer.token_to_id(token) for token in _SPECIAL}
    missing = [token for token, number in numbers.items() if number is None]
    if missing or numbers["[PAD]"] != PADDING:
        what = f"lacks {', '.join(missing)}" if missing else f"has [PAD] as number {numbers['[PAD]']}, not 0"
        raise InputError(f"data.vocabulary: {str(file)!r} {what}: give a vocabulary like that of BERT")

    def pieces(words: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.encode_batch(words, add_special_tokens=False)]

    begin, end = numbers["[CLS]"], numbers["[SEP]"]

    def read(row: Sequence[int]) -> str:
        inner = [int(token) for token in row if token not in (PADDING, begin, end)]
        return tokenizer.decode(inner, skip_special_tokens=False)

    return Tokenizer(
        split=_splitter(tokenizer.normalizer, tokenizer.pre_tokenizer),
        pieces=pieces,
        read=read,
        begin=begin,
        end=end,
        size=tokenizer.get_vocab_size(),
    )


def _from_vocabulary(file: pathlib.Path) -> Any:
    from tokenizers import Tokenizer as Built
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    config = file.with_name("tokenizer_config.json")
    try:
        facts = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        words = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except ValueError as error:
        raise InputError(
            f"data.vocabulary: {str(file)!r} or its tokenizer_config.json is damaged: {error}"
        ) from error
    number = {word.rstrip("\r"): i for i, word in enumerate(words)}
    built = Built(models.WordPiece(number, unk_token="[UNK]", max_input_chars_per_word=100))
    built.normalizer = normalizers.BertNormalizer(
        lowercase=facts.get("do_lower_case", True),
        strip_accents=facts.get("strip_accents"),
        handle_chinese_chars=facts.get("tokenize_chinese_chars", True),
    )
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.decoder = decoders.WordPiece()
    return built


def _from_json(file: pathlib.Path) -> Any:
    from tokenizers import Tokenizer as Built
    from tokenizers import models, pre_tokenizers

    try:
        built = Built.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise InputError(
            f"data.vocabulary: {str(file)!r} cannot be read as a tokenizer.json: {error}"
        ) from error
    if not isinstance(built.model, models.WordPiece) or not isinstance(
        built.pre_tokenizer, pre_tokenizers.BertPreTokenizer
    ):
        raise InputError(
            f"data.vocabulary: {str(file)!r} is not a WordPiece tokenizer like that of BERT: use the "
            "vocab.txt of the model (byte-level BPE, as of RoBERTa, is not read)"
        )
    built.no_truncation()
    built.no_padding()
    return built


def _splitter(normalizer: Any, pre_tokenizer: Any) -> Callable[[str], list[str]]:
    def split(text: str) -> list[str]:
        """Splits words as the tokenizer does, except "can't", which augmentation should not take apart."""
        clean = normalizer.normalize_str(text) if normalizer is not None else text
        cuts = pre_tokenizer.pre_tokenize_str(clean)
        words: list[str] = []
        joined = False
        for i, (word, (start, end)) in enumerate(cuts):
            before, after = cuts[i - 1 : i], cuts[i + 1 : i + 2]
            joins = (
                word in _APOSTROPHES
                and any(last[-1].isalnum() and place[1] == start for last, place in before)
                and any(first[0].isalnum() and place[0] == end for first, place in after)
            )
            if joins or joined:
                words[-1] += word
            else:
                words.append(word)
            joined = joins
        return words

    return split
