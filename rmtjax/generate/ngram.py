"""Class-conditional n-grams: the control that knows which words follow each other, and no more.

Interpolated Kneser-Ney of order 3 with one discount (Chen & Goodman 1999, section 2.7) over two collections,
the texts of the class and all texts: the class's trigrams, where those leave off all texts' trigrams, then
bigrams of the class and of all, then single words likewise, at last any word alike. Lower orders count the
different words that an n-gram stands after. The end of a text is a word, and two signs before its beginning
are.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from rmtjax import data
from rmtjax.train.step import named_key

ORDER = 3
DISCOUNT = 0.75  # of every count


class Table(NamedTuple):
    """Counts of the n-grams of one order, those of one context side by side."""

    contexts: Int[np.ndarray, " k"]  # codes, ascending
    starts: Int[np.ndarray, " k+1"]  # where each context's words begin among all
    words: Int[np.ndarray, " m"]
    ends: Float[np.ndarray, " m"]  # discounted counts, summed over all words up to this one
    totals: Float[np.ndarray, " k"]  # counts of each context, without discount

    def draw(
        self, context: Int[np.ndarray, " n"], u: Float[np.ndarray, " n"]
    ) -> tuple[Int[np.ndarray, " hits"], Int[np.ndarray, " hits"]]:
        """Which of `context` (codes) give a word for u in [0, 1), as numbers into it, and the words.

        A context gives a word with the share of its counts that is left after discounting; one not seen gives
        none.
        """
        at = np.minimum(np.searchsorted(self.contexts, context), len(self.contexts) - 1)
        before = np.concatenate([[0.0], self.ends])[self.starts]
        target = before[at] + u * self.totals[at]
        hit = (self.contexts[at] == context) & (target < before[at + 1])
        place = np.searchsorted(self.ends, target[hit], side="right")
        # Against rounding at the borders of a context.
        place = np.clip(place, self.starts[at[hit]], self.starts[at[hit] + 1] - 1)
        return np.flatnonzero(hit), self.words[place]


def tables(rows: Int[np.ndarray, "n w"], labels: Int[np.ndarray, " n"], words: int) -> list[list[Table]]:
    """`[[of the class, of all] of order 3, 2, 1]`. Codes of contexts are those of `code`."""
    symbols = words + 2  # 0: the end, 1 to words, words + 1: before the beginning
    padded = np.pad(rows, ((0, 0), (ORDER - 1, 0)), constant_values=words + 1)
    padded = np.pad(padded, ((0, 0), (0, 1)))
    width = padded.shape[1] - ORDER + 1
    grams = np.stack([padded[:, k : k + width] for k in range(ORDER)], -1)
    there = grams[..., -2] != 0  # words, and the first 0 after them
    of = np.broadcast_to(labels[:, None], there.shape)[there]
    every = []
    for collection in (of, np.zeros_like(of)):
        keyed, counts = np.unique(np.column_stack([collection, grams[there]]), axis=0, return_counts=True)
        levels = [_table(keyed, counts, symbols)]
        for _ in range(ORDER - 1):
            # Each different n-gram counts once for the shorter one that it ends in.
            keyed, counts = np.unique(np.delete(keyed, 1, axis=1), axis=0, return_counts=True)
            levels.append(_table(keyed, counts, symbols))
        every.append(levels)
    return [list(pair) for pair in zip(*every, strict=True)]


def code(
    collection: Int[np.ndarray, " n"], context: Int[np.ndarray, "n c"], symbols: int
) -> Int[np.ndarray, " n"]:
    """One number for a collection (a class, or 0 for all texts) and the words before."""
    out = collection.astype(np.int64)
    for column in context.T:
        out = out * symbols + column
    return out


def _table(keyed: Int[np.ndarray, "m c"], counts: Int[np.ndarray, " m"], symbols: int) -> Table:
    codes = code(keyed[:, 0], keyed[:, 1:-1], symbols)  # ascending, as `keyed` is sorted
    contexts, starts = np.unique(codes, return_index=True)
    totals = np.add.reduceat(counts, starts).astype(np.float64)
    ends = np.cumsum(counts - DISCOUNT)
    return Table(contexts, np.append(starts, len(codes)), keyed[:, -1].astype(np.int32), ends, totals)


def make(
    train: data.Source, seed: int
) -> Callable[[Int[np.ndarray, " n"], Int[np.ndarray, " n"]], Int[np.ndarray, "n w"]]:
    """`sample(labels [n], numbers [n]) -> rows [n, w]` in the words of a training split (`word_rows.closed`).

    Sample number i is a function of (seed, i) and its class. No text is empty: an end that is drawn at once
    is any word instead.
    """
    words, length = len(train.tokens.words) - 1, train.shape[0]
    levels = tables(train.examples, train.labels, words)
    key = named_key(seed, "samples")
    shape = (length, 2 * ORDER + 1)
    uniform = jax.jit(jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), shape)))

    def sample(labels: Int[np.ndarray, " n"], numbers: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n w"]:
        u = np.asarray(uniform(numbers.astype(np.uint32)), np.float64)
        history = np.full((len(labels), ORDER - 1 + length), words + 1)
        collections = labels, np.zeros_like(labels)
        going = np.ones(len(labels), bool)
        for place in range(length):
            context = history[:, place : place + ORDER - 1]
            word = np.floor(u[:, place, -1] * (words + 1)).astype(np.int64)
            left = np.arange(len(labels))
            for shorter, pair in enumerate(levels):
                for which, (table, of) in enumerate(zip(pair, collections, strict=True)):
                    asked = code(of[left], context[left, shorter:], words + 2)
                    hit, drawn = table.draw(asked, u[left, place, 2 * shorter + which])
                    word[left[hit]] = drawn
                    left = np.delete(left, hit)
            if place == 0:
                word = np.where(word == 0, 1 + np.floor(u[:, 0, -1] * words).astype(np.int64), word)
            history[:, place + ORDER - 1] = np.where(going, word, 0)
            going &= word != 0
        return history[:, ORDER - 1 :].astype(np.int32)

    return sample
