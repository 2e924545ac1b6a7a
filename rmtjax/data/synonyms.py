"""Synonyms of words: neighbours in the training texts, or those of WordNet."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse import linalg

from rmtjax.data.sources import Source
from rmtjax.data.tokens import PADDING
from rmtjax.errors import InputError

MOST = 5  # synonyms of a word
_OFTEN = 5  # occurrences that a word must have for its neighbours to be known
_WINDOW = 2  # words on each side
_SMOOTHING = 0.75  # exponent of the contexts' frequencies (Levy, Goldberg & Dagan 2015)
_RANK = 100
_ENDINGS = ("ing", "ed", "ly", "s")  # coarse parts of speech


def find_synonyms(source: Source, kind: str, cosine: float) -> dict[str, list[str]]:
    """Synonyms of words, nearest first, at most five; stop words and words without any are absent.

    Args:
      source: the training texts.
      kind: "corpus" for words of `source` in similar contexts, see `neighbours`; "wordnet" for the lemmas of
        the synsets of a word, by nltk.
      cosine: the smallest cosine of corpus neighbours.

    Raises:
      InputError: nltk or its WordNet is not installed.
    """
    words, rows = source.tokens.words, source.examples
    count = np.bincount(rows.reshape(-1), minlength=len(words))
    wanted = [i for i in range(len(words)) if count[i] and _means_something(words[i])]
    if kind == "wordnet":
        return _wordnet([words[i] for i in wanted])
    wanted = np.array([i for i in wanted if count[i] >= _OFTEN], np.int64)
    near = neighbours(rows, wanted, cosine)
    found = {
        words[i]: [words[j] for j in row if _ending(words[j]) == _ending(words[i])]
        for i, row in zip(wanted, near, strict=True)
    }
    return {word: row[:MOST] for word, row in found.items() if row}


def neighbours(rows: Int[np.ndarray, "n w"], wanted: Int[np.ndarray, " k"], cosine: float) -> list[list[int]]:
    """For each of the words `wanted`, others of them that occur in similar contexts, nearest first.

    The vector of a word is its positive pointwise mutual information with the words within two places of it,
    with context frequencies to the power .75, reduced to 100 dimensions by the singular value decomposition
    with singular values to the power 1/2 (Levy, Goldberg & Dagan 2015). Similarity is the cosine.
    """
    if len(wanted) < 2:
        return [[] for _ in wanted]
    size = int(rows.max()) + 1
    pairs = [
        (rows[:, :-d].reshape(-1), rows[:, d:].reshape(-1))
        for d in range(1, _WINDOW + 1)
        if d < rows.shape[1]
    ]
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    real = (left != PADDING) & (right != PADDING)
    left, right = left[real], right[real]
    counts = sparse.coo_matrix((np.ones(len(left)), (left, right)), (size, size))
    counts = (counts + counts.T).tocsr()[wanted].tocoo()
    of_word = np.maximum(np.asarray(counts.sum(1)).ravel(), 1)
    of_context = np.asarray(counts.sum(0)).ravel() ** _SMOOTHING
    information = np.log(counts.data * of_context.sum() / (of_word[counts.row] * of_context[counts.col]))
    matrix = sparse.csr_matrix((np.maximum(information, 0), (counts.row, counts.col)), counts.shape)
    rank = min(_RANK, min(matrix.shape) - 1)
    # Begun from a fixed vector: the same texts have the same synonyms.
    left_vectors, values, _ = linalg.svds(matrix, rank, v0=np.ones(min(matrix.shape)))
    vectors = left_vectors * np.sqrt(values)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return [_nearest(vectors, i, cosine, wanted) for i in range(len(wanted))]


def _nearest(
    vectors: Float[np.ndarray, "k d"], i: int, cosine: float, wanted: Int[np.ndarray, " k"]
) -> list[int]:
    likeness = vectors @ vectors[i]
    likeness[i] = -1
    order = np.argsort(-likeness, kind="stable")[: 4 * MOST]
    return [int(wanted[j]) for j in order if likeness[j] >= cosine]


def _means_something(word: str) -> bool:
    """Whether a word is neither a stop word nor a number nor a punctuation mark."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return word.isalpha() and len(word) > 1 and word not in ENGLISH_STOP_WORDS


def _ending(word: str) -> str:
    return next((ending for ending in _ENDINGS if word.endswith(ending)), "")


def _wordnet(words: Sequence[str]) -> dict[str, list[str]]:
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError) as error:
        raise InputError(
            "augment.text.synonyms='wordnet' needs nltk and its corpus wordnet, and one of them is not "
            "installed: "
            "install them, or use corpus"
        ) from error
    found = {}
    for word in words:
        lemmas = [
            lemma.replace("_", " ").lower()
            for synset in wordnet.synsets(word)
            for lemma in synset.lemma_names()
        ]
        others = list(dict.fromkeys(lemma for lemma in lemmas if lemma != word))
        if others:
            found[word] = others[:MOST]
    return found
