"""The worth of synthetic texts: how many a judge recognises, how many are copies, and how varied they are."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from rmtjax import data, diversity
from rmtjax.generate import word_rows
from rmtjax.generate.quality import share_with_interval

NAME = "logistic regression on TF-IDF of words and word pairs"
INVERSE_PENALTY = 10.0  # scikit-learn's C
MOST = 1000  # texts of a set whose diversity is measured
METRICS = ("distinct_1", "distinct_2", "ngram_vendi")

Judge = Callable[[Sequence[str]], Float[np.ndarray, "n k"]]


def fit_judge(shown: Sequence[str], labels: Int[np.ndarray, " n"], num_classes: int) -> Judge:
    """`probabilities(texts) -> [n, num_classes]` of a classifier.

    The words of texts have spaces between them. A class that the classifier was not shown has probability 0.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    present = np.unique(labels)
    if len(present) < 2:
        certain = np.zeros(num_classes)
        certain[present] = 1
        return lambda asked: np.tile(certain, (len(asked), 1))
    words = TfidfVectorizer(token_pattern=r"\S+", lowercase=False, ngram_range=(1, 2), sublinear_tf=True)
    machine = make_pipeline(words, LogisticRegression(C=INVERSE_PENALTY, max_iter=1000))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
        machine.fit(shown, labels)  # a few texts of many classes are no mistake here

    def probabilities(asked: Sequence[str]) -> Float[np.ndarray, "n k"]:
        out = np.zeros((len(asked), num_classes))
        out[:, present] = machine.predict_proba(asked)
        return out

    return probabilities


def describe(made: data.Source, splits: data.Splits, config: ConfigDict) -> dict[str, Any]:
    """Facts for a set's manifest.

    Args:
      made: the synthetic set, in the words of `splits.train`, which the generator was fitted to.
      config: the whole config.

    Returns:
      `recognised` (value, low, high, n: the share whose class a judge names, with Wilson's 95 % interval; the
      judge was shown the test and validation texts, which neither generator nor filter knows, and
      `judge_accuracy` is its share of training texts); `classification_accuracy_score`: test accuracy of such
      a classifier trained on the set alone (Ravuri & Vinyals 2019, 1905.10887), beside one trained on as many
      training texts; `identical`: the share of texts that are, word for word, training texts, beside that of
      test texts; `different`: the share of different texts in the set; `diversity`, rows as in diversity.json
      of at most 1,000 texts each, at equal n (distinct-n and Vendi of n-grams depend on n and on lengths,
      which `words_per_text` has).
    """
    train, test = splits.train, splits.test
    shown, real, unseen = (word_rows.of_source(source) for source in (made, train, test))
    others = [*unseen, *word_rows.of_source(splits.validation)]
    other_labels = np.concatenate([test.labels, splits.validation.labels])
    classes, training = len(train.classes), set(real)
    judge = fit_judge(others, other_labels, classes)
    known = judge(real).argmax(1) == train.labels
    n = min(len(shown), len(real))
    scores: dict[str, Any] = {"n_train": n, "n_test": len(unseen), "classifier": NAME}
    for name, source, of in (("synthetic", made, shown), ("real", train, real)):
        rows = np.linspace(0, len(of) - 1, n).astype(np.int64)
        classifier = fit_judge([of[i] for i in rows], source.labels[rows], classes)
        scores[name] = share_with_interval(classifier(unseen).argmax(1) == test.labels)
    words = {"synthetic": made.examples, "real": train.examples}
    return {
        "recognised": share_with_interval(judge(shown).argmax(1) == made.labels)
        | {
            "n": len(shown),
            "judge": f"{NAME}, of test and validation texts",
            "judge_accuracy": float(known.mean()),
        },
        "classification_accuracy_score": scores,
        "identical": {
            "synthetic": share_with_interval(np.array([text in training for text in shown])),
            "test": share_with_interval(np.array([text in training for text in unseen])),
        },
        "different": len(set(shown)) / len(shown),
        "words_per_text": {name: float((rows != 0).sum(1).mean()) for name, rows in words.items()},
        "diversity": diversity.text_rows(words, seed=config.seed, n=min(n, MOST), metrics=METRICS),
    }
