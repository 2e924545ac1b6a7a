"""Diversity of texts from their tokens: distinct n-grams, and the Vendi score of n-gram counts.

Tokens are numbers above 0, in rows `[n, T]` with 0 after the end of a text, or a list of numbers for each
text. Both measures depend on the lengths of the texts and on their number (long texts repeat n-grams, and
share them with others). So compare sets of equal n and similar lengths, and read each value beside its null:
the same tokens in random order in texts of the same lengths.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from rmtjax.diversity import spectrum
from rmtjax.diversity.spectrum import NORMAL_975, Estimate
from rmtjax.diversity.vendi import check_order

Tokens = Int[np.ndarray, "n T"] | Sequence[Sequence[int]]
SIZES = (1, 2, 3, 4)


def distinct_n(tokens: Tokens, n: int = 2) -> Estimate:
    """The share of distinct n-grams among all n-grams (Li et al. 2016), with a 95 % interval.

    The interval is by the jackknife over texts: without text i the n-grams that only it has are missing.

    Raises:
      ValueError: n is below 1, or no text has n tokens.

    >>> distinct_n([[1, 2, 3], [1, 2, 4]], n=2).value
    0.75
    """
    padded = _padded(tokens)
    text, gram = _grams(padded, n)
    if not len(gram):
        raise ValueError(f"no text has {n} tokens: give longer texts or a smaller n")
    texts, different = len(padded), int(gram.max()) + 1
    pairs = np.unique(np.stack([gram, text]), axis=1)
    owners = np.bincount(pairs[0], minlength=different)
    alone = np.bincount(pairs[1], weights=owners[pairs[0]] == 1, minlength=texts)
    rest = len(gram) - np.bincount(text, minlength=texts)
    value = different / len(gram)
    without = np.where(rest > 0, (different - alone) / np.maximum(rest, 1), value)
    half = NORMAL_975 * float(np.sqrt((texts - 1) * np.var(without)))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def ngram_vendi(tokens: Tokens, sizes: Sequence[int] = SIZES, q: float | int = 1.0) -> Estimate:
    """Vendi score of order q of the mean over n of the cosines between n-gram counts, with a 95 % interval.

    The kernel is that of Friedman & Dieng (2022). Texts that are too short for an n-gram count, for that n,
    as equal to one another and different from all others. The matrix is n x n and its cost grows with n^3, so
    use a sample of at most a few thousand. (Hashing the counts into fewer columns would add collisions to
    every similarity, and noise to the score.)

    Raises:
      ValueError: there are no texts, an n is below 1, or q is not above 0.
    """
    check_order(q)
    padded = _padded(tokens)
    gram = np.zeros((len(padded), len(padded)))
    for n in sizes:
        gram += _cosines(*_grams(padded, n), len(padded))
    return spectrum.of_gram(gram / (len(sizes) * len(padded)), q).effective_number()


def dealt_anew(tokens: Tokens, seed: int = 0) -> Int[np.ndarray, "n T"]:
    """The same tokens in random order across all texts, which keep their lengths; it is the null."""
    padded = _padded(tokens).copy()
    present = padded > 0
    padded[present] = np.random.default_rng(seed).permutation(padded[present])
    return padded


def _padded(tokens: Tokens) -> Int[np.ndarray, "n T"]:
    if not len(tokens):
        raise ValueError("there are no texts: give at least one")
    if isinstance(tokens, np.ndarray):
        made = tokens.astype(np.int64)
    else:
        made = np.zeros((len(tokens), max([1, *map(len, tokens)])), np.int64)
        for row, text in zip(made, tokens, strict=True):
            row[: len(text)] = text
    if made.min(initial=0) < 0:
        raise ValueError(f"token {made.min()} is below 0: tokens are numbers above 0, and 0 is padding")
    return made


def _grams(padded: Int[np.ndarray, "n T"], n: int) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """For every n-gram its text and its number (equal n-grams have equal numbers, from 0 without gaps)."""
    if n < 1:
        raise ValueError(f"n={n} is out of range: n-grams have at least one token")
    width = padded.shape[1] - n + 1
    if width < 1:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    columns: Iterator[np.ndarray] = (padded[:, k : k + width] for k in range(n))
    whole = np.all([column > 0 for column in (padded[:, k : k + width] for k in range(n))], axis=0)
    text = np.nonzero(whole)[0]
    number = np.zeros(len(text), np.int64)
    many = int(padded.max(initial=0)) + 1
    for column in columns:
        number = np.unique(number * many + column[whole], return_inverse=True)[1].reshape(-1)
    return text, number


def _cosines(
    text: Int[np.ndarray, " m"], gram: Int[np.ndarray, " m"], texts: int
) -> Float[np.ndarray, "n n"]:
    counts = scipy.sparse.csr_array(
        (np.ones(len(gram)), (text, gram)), shape=(texts, int(gram.max(initial=0)) + 1)
    )
    counts.sum_duplicates()
    lengths = np.sqrt(np.asarray((counts**2).sum(axis=1)).reshape(-1))
    scale = scipy.sparse.diags_array(1 / np.where(lengths == 0, 1, lengths))
    rows = scale @ counts
    none = (lengths == 0).astype(float)
    return np.asarray((rows @ rows.T).toarray()) + np.outer(none, none)
