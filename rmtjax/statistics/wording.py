"""An answer, and how numbers and names stand in its sentence."""

from typing import NamedTuple

import numpy as np


class Answer(NamedTuple):
    """The answer to one question.

    Attributes:
      question: "T1" to "T7".
      block: of T1 which numbers and doses, first "primary", which is both primary rows together; of T4 which
        outcome; of T3 which family; of T5 which family and part of the question.
      verdict: "yes", "no", "cannot tell", or for T1 also "placebo" and "neither"; for the direction in T5 the
        name of a family, "a placebo", "none" or "cannot tell".
      sentence: the answer in plain English, with the numbers.
      value, low, high: the number that the sentence rests on, with its interval.
      control, control_low, control_high: the same where there is nothing to be found.
    """

    question: str
    block: str
    verdict: str
    sentence: str
    value: float
    low: float
    high: float
    control: float
    control_low: float
    control_high: float


def with_interval(value: float, low: float, high: float, digits: int = 2) -> str:
    if not np.isfinite(low):
        return f"{value:.{digits}f} [no interval]"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def words(metric: str) -> str:
    names = {"accuracy": "accuracy in distribution", "ood_accuracy": "accuracy out of distribution"}
    return names.get(metric, metric.replace("_", " "))


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
