"""Distinct n-grams and the Vendi score of n-grams."""

from collections import Counter

import numpy as np
import pytest

from rmtjax import diversity
from rmtjax.diversity import texts

TOKENS = [[1, 2, 3, 1, 2], [1, 2, 3], [4], [5, 6, 7, 8]]


def test_distinct_by_hand():
    # 13 tokens of 8 kinds; bigrams 12 23 31 12 | 12 23 | | 56 67 78: 9 of 6 kinds
    assert diversity.distinct_n(TOKENS, 1).value == pytest.approx(8 / 13)
    value, low, high = diversity.distinct_n(TOKENS, 2)
    assert value == pytest.approx(6 / 9)
    # Without each text: 5/5 (12 23 56 67 78), 6/7, 6/9 (it has none), 3/6.
    without = np.array([5 / 5, 6 / 7, 6 / 9, 3 / 6])
    assert high == min(1, value + 1.959964 * np.sqrt(3 * np.var(without)))
    assert low == pytest.approx(value - 1.959964 * np.sqrt(3 * np.var(without)), rel=1e-6)
    padded = np.zeros((4, 9), np.int32)
    for row, text in zip(padded, TOKENS, strict=True):
        row[: len(text)] = text
    assert diversity.distinct_n(padded, 2) == diversity.distinct_n(TOKENS, 2)


@pytest.mark.parametrize("q", [1, 2])
def test_ngram_vendi_equals_its_definition(q):
    rng = np.random.default_rng(0)
    tokens = [rng.integers(1, 8, size=rng.integers(4, 12)).tolist() for _ in range(30)]
    gram = np.zeros((30, 30))
    for n in (1, 2, 3):
        counts = [Counter(zip(*(text[k:] for k in range(n)), strict=False)) for text in tokens]
        for i, a in enumerate(counts):
            for j, b in enumerate(counts):
                size = np.sqrt(sum(c * c for c in a.values()) * sum(c * c for c in b.values()))
                gram[i, j] += sum(c * b[g] for g, c in a.items()) / size / 3
    p = np.linalg.eigvalsh(gram / 30)
    p = p[p > 1e-14]
    expected = np.exp(-np.sum(p * np.log(p))) if q == 1 else 1 / np.sum(p**2)
    value, low, high = diversity.ngram_vendi(tokens, (1, 2, 3), q)
    assert value == pytest.approx(expected, rel=1e-9)
    assert low < value < high


def test_limits():
    same = [[3, 1, 2]] * 6
    assert diversity.ngram_vendi(same).value == pytest.approx(1)
    assert diversity.distinct_n(same, 3).value == pytest.approx(1 / 6)
    apart = [[10 * k + j for j in range(1, 6)] for k in range(7)]
    assert diversity.ngram_vendi(apart).value == pytest.approx(7, rel=1e-9)
    assert diversity.distinct_n(apart, 2).value == 1
    short = [[1], [2], [1]]  # no bigrams: alike for n = 2
    assert diversity.ngram_vendi(short, (2,)).value == pytest.approx(1)
    # Word order alone: the unigrams say nothing, the bigrams all.
    orders = [[1, 2, 3], [3, 2, 1]]
    assert diversity.ngram_vendi(orders, (1,)).value == pytest.approx(1)
    assert diversity.ngram_vendi(orders, (2,)).value == pytest.approx(2)


def test_dealt_anew_keeps_tokens_and_lengths():
    dealt = texts.dealt_anew(TOKENS, seed=3)
    np.testing.assert_array_equal((dealt > 0).sum(1), [5, 3, 1, 4])
    assert sorted(dealt[dealt > 0]) == sorted(token for text in TOKENS for token in text)
    assert diversity.distinct_n(dealt, 1).value == diversity.distinct_n(TOKENS, 1).value


def test_rows():
    rng = np.random.default_rng(0)
    sets = {
        "varied": rng.integers(1, 50, size=(40, 8)),
        "copies": np.tile(rng.integers(1, 50, (5, 8)), (10, 1)),
    }
    rows = diversity.text_rows(sets)
    assert [r["metric"] for r in rows[:5]] == [
        "distinct_1",
        "distinct_2",
        "distinct_3",
        "distinct_4",
        "ngram_vendi",
    ]
    assert all(r["low"] <= r["value"] <= r["high"] and r["n"] == 40 for r in rows)
    by = {(r["set"], r["metric"]): r for r in rows}
    assert by["copies", "ngram_vendi"]["value"] == pytest.approx(5, rel=0.25)
    assert by["copies", "ngram_vendi"]["null"] > 2 * by["copies", "ngram_vendi"]["value"]
    assert by["varied", "ngram_vendi"]["null"] == pytest.approx(by["varied", "ngram_vendi"]["value"], rel=0.1)
    with pytest.raises(ValueError, match="metric 'vendi' is unknown"):
        diversity.text_rows(sets, metrics=("vendi",))


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match="no text has 6 tokens"):
        diversity.distinct_n(TOKENS, 6)
    with pytest.raises(ValueError, match="n=0 is out of range"):
        diversity.distinct_n(TOKENS, 0)
    with pytest.raises(ValueError, match="no texts"):
        diversity.ngram_vendi([])
    with pytest.raises(ValueError, match="token -1 is below 0"):
        diversity.distinct_n([[1, -1]])
