"""Diversity within classes and between them, and how it grows with the number of examples.

With K classes of n examples each, H the entropy of all together and H_k that of class k (in nats, order 1),

    pooled = exp(H),   within = exp(mean_k H_k),   between = pooled / within,   share = (H - mean_k H_k) / H.

`between` is the effective number of classes: 1 if all classes look alike, K if no two have a direction in
common. (Ecology divides diversity in this way: Jost 2007.) H - mean_k H_k is never negative at order 1, since
the entropy is concave; at orders above 1 it can be. Meaningless groups have `between` above 1 too, since
fewer examples show less diversity. Therefore the null is the same number with the labels in random order.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Num

from rmtjax.diversity.spectrum import NORMAL_975, Entropy
from rmtjax.diversity.vendi import vendi_entropy, vendi_of_isotropic

SIZES = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)


def class_rows(
    features: Num[np.ndarray, "m d"],
    labels: Int[np.ndarray, " m"],
    classes: Sequence[str],
    *,
    n: int | None = None,
    q: float | int = 1.0,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The Vendi score of each class at equal n, and the diversity within and between classes.

    Args:
      features: features of the examples of all classes.
      labels: for each example, the position of its class in `classes`.
      classes: names of the classes.
      n: examples of each class; smaller classes are left out. None is the size of the smallest class.
      q: order of the Vendi scores.
      seed: seed of the examples, drawn without replacement, and of the random labels of the null.

    Returns:
      Rows `{"class", "metric", "value", "low", "high", "null", "n"}`: first one row "vendi_score" for each
      class, then the rows of the class "all": "vendi_score" (n is that of all classes together),
      "within_classes", "between_classes" (effective number of classes) and "between_share". The null is
      isotropic noise of the same n and d; for the last two it is random labels.

    Raises:
      ValueError: fewer than two classes are left, or n is below 2.
    """
    counts = np.bincount(labels, minlength=len(classes))
    size = int(counts[counts > 0].min()) if n is None else n
    chosen = [int(c) for c in np.flatnonzero(counts >= max(size, 1))]
    if n is not None and n < 2:
        raise ValueError(f"n={n} examples of each class are too few: scores by class need at least 2")
    if size < 2:
        raise ValueError(
            f"class {classes[int(np.argmin(np.where(counts > 0, counts, len(labels))))]!r} gives {size} "
            "example: scores by class need at least 2 of each; give n, and smaller classes are left out"
        )
    if len(chosen) < 2:
        raise ValueError(
            f"{len(chosen)} of {np.count_nonzero(counts)} classes have {size} examples: "
            "give fewer, so that two or more do"
        )
    rng = np.random.default_rng(seed)
    drawn = [np.sort(rng.permutation(np.flatnonzero(labels == c))[:size]) for c in chosen]
    everything = np.concatenate(drawn)
    groups = np.repeat(np.arange(len(chosen)), size)
    pooled = vendi_entropy(features[everything], q)
    alone = [vendi_entropy(features[rows], q) for rows in drawn]
    d = features.shape[1]
    rows = [
        _row(
            str(classes[c]), "vendi_score", *entropy.effective_number(), vendi_of_isotropic(size, d, q), size
        )
        for c, entropy in zip(chosen, alone, strict=True)
    ]
    shuffled = everything[rng.permutation(len(everything))]
    chance = np.mean([vendi_entropy(features[shuffled[groups == g]], q).value for g in range(len(chosen))])
    null = vendi_of_isotropic(len(everything), d, q)
    rows.append(_row("all", "vendi_score", *pooled.effective_number(), null, len(everything)))
    within = float(np.mean([entropy.value for entropy in alone]))
    of_within = np.concatenate([entropy.influence for entropy in alone])
    parts: dict[str, tuple[float, np.ndarray, float]] = {
        "within_classes": (within, of_within, math.log(vendi_of_isotropic(size, d, q))),
        "between_classes": (
            pooled.value - within,
            pooled.influence - of_within,
            pooled.value - float(chance),
        ),
        "between_share": _share(pooled, within, of_within, float(chance)),
    }
    for metric, (value, influence, null) in parts.items():
        half = NORMAL_975 * _stratified_error(influence, groups)
        shown = [value, value - half, value + half, null]
        if metric != "between_share":  # the others are logarithms so far
            shown = [math.exp(x) for x in shown]
        rows.append(_row("all", metric, shown[0], shown[1], shown[2], shown[3], len(everything)))
    return rows


def _share(
    pooled: Entropy, within: float, of_within: np.ndarray, chance: float
) -> tuple[float, np.ndarray, float]:
    """The share between classes, the influence of each example on it, and the share by chance."""
    if pooled.value < 1e-9:  # all examples are alike
        return 0.0, np.zeros_like(of_within), 0.0
    influence = (within / pooled.value * pooled.influence - of_within) / pooled.value
    return 1 - within / pooled.value, influence, 1 - chance / pooled.value


def _stratified_error(influence: np.ndarray, groups: np.ndarray) -> float:
    """The standard error of a mean over examples that are drawn class by class."""
    variances = [np.var(influence[groups == g]) / np.sum(groups == g) for g in np.unique(groups)]
    return float(np.sqrt(np.sum(variances)) / len(variances))


def _row(
    name: str, metric: str, value: float, low: float, high: float, null: float, n: int
) -> dict[str, Any]:
    interval = {"value": value, "low": low, "high": high}
    return {"class": name, "metric": metric, **interval, "null": float(null), "n": n}


def rarefaction(
    features: Num[np.ndarray, "m d"],
    sizes: Sequence[int] = SIZES,
    *,
    draws: int = 5,
    q: float | int = 1.0,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The Vendi score at growing numbers of examples: rows `{"n", "value", "low", "high", "null"}`.

    If the curve still climbs at its end, the examples do not show the whole diversity of their source, and
    scores at different n cannot be compared.

    Args:
      features: features [m, d].
      sizes: numbers of examples; those below m are used, and m itself is the last.
      draws: number of samples of each size, drawn without replacement; the value is their geometric mean.
      q: order of the Vendi score.
      seed: seed of the draws.

    Returns:
      The rows. The interval is that of the score of one sample of that size, by the jackknife (`vendi`);
      compare it with the score of another set at the same n. The null is isotropic noise of the same n and d.
    """
    rows = []
    for n in [size for size in sizes if size < len(features)] + [len(features)]:
        entropies = []
        for draw in range(draws if n < len(features) else 1):
            chosen = np.sort(np.random.default_rng([seed, n, draw]).permutation(len(features))[:n])
            entropies.append(vendi_entropy(features[chosen], q))
        value = float(np.mean([entropy.value for entropy in entropies]))
        half = NORMAL_975 * float(np.sqrt(np.mean([entropy.standard_error**2 for entropy in entropies])))
        ends = {"value": math.exp(value), "low": math.exp(value - half), "high": math.exp(value + half)}
        rows.append({"n": n, **ends, "null": vendi_of_isotropic(n, features.shape[1], q)})
    return rows
