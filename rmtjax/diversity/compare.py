"""Compares sets at equal size, and makes the rows of diversity.json."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Num

from rmtjax.diversity import kernels, texts
from rmtjax.diversity.manifolds import coverage, expected_coverage, manifold_intervals, manifold_scores
from rmtjax.diversity.spectrum import Estimate
from rmtjax.diversity.vendi import (
    effective_rank,
    effective_rank_of_isotropic,
    vendi_entropy,
    vendi_interval,
    vendi_of_isotropic,
)
from rmtjax.diversity.weighted import Weighted, weighted_vendi, weighted_vendi_unpaired

Examples = Num[jax.Array | np.ndarray, "_ ..."]
DEFAULT = ("vendi_score", "coverage", "weighted_vendi")
METRICS = (  # in the order of the rows
    *DEFAULT,
    "weighted_vendi_unpaired",
    "rke",
    "truncated_vendi",
    "gaussian_vendi",
    "effective_rank",
    "precision",
    "recall",
    "density",
)
TEXT_METRICS = (*(f"distinct_{n}" for n in texts.SIZES), "ngram_vendi")
_EXACT = 2000  # the largest number of examples for which the Gaussian kernel's matrix is made


def at_equal_n(sets: Mapping[str, Examples], *, seed: int, n: int | None = None) -> dict[str, np.ndarray]:
    """Draws the same number of examples from each set, without replacement; their order is kept.

    In sets of the same length the same rows are drawn, so that paired sets (real and augmented) stay paired.

    Args:
      sets: arrays [n_i, ...] by name.
      seed: seed of the draw.
      n: examples of each set; None is the size of the smallest set.

    Raises:
      ValueError: a set has fewer than n examples.

    >>> equal = at_equal_n({"a": np.zeros((5, 2)), "b": np.zeros((3, 2))}, seed=0)
    >>> {name: len(x) for name, x in equal.items()}
    {'a': 3, 'b': 3}
    """
    n = min(len(examples) for examples in sets.values()) if n is None else n
    equal = {}
    for name, examples in sets.items():
        if len(examples) < n:
            raise ValueError(
                f"set {name!r} has {len(examples)} examples, fewer than n={n}: choose a smaller n"
            )
        rows = np.sort(np.random.default_rng(seed).permutation(len(examples))[:n])
        equal[name] = np.asarray(examples)[rows]
    return equal


class _Measured(NamedTuple):
    estimate: Estimate
    null: float
    detail: str | None = None


@dataclasses.dataclass(frozen=True)
class _Settings:
    """Settings that all sets of one table share."""

    q: float | int
    k: int
    seed: int
    top: int
    bandwidth: float | int | None
    bandwidth_source: str
    reference: Num[np.ndarray, "n d"] | None

    @functools.cached_property
    def manifold_nulls(self) -> dict[str, float]:
        """Precision and recall of one half of the reference against the other; a density of 1."""
        assert self.reference is not None
        order = np.random.default_rng(self.seed).permutation(len(self.reference))
        half = len(self.reference) // 2
        if half <= self.k:
            return {"precision": math.nan, "recall": math.nan, "density": 1.0}
        one, other = self.reference[order[:half]], self.reference[order[half : 2 * half]]
        return {**manifold_scores(one, other, self.k)._asdict(), "density": 1.0}


def diversity_rows(
    sets: Mapping[str, Examples],
    reference: Examples | None,
    *,
    space: str,
    k: int = 3,
    q: float | int = 1.0,
    seed: int = 0,
    n: int | None = None,
    metrics: Sequence[str] = DEFAULT,
    paired: Mapping[str, str] | None = None,
    base: str | None = None,
    top: int = 20,
    bandwidth: float | int | None = None,
    report: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Scores of several sets at equal n, with intervals and nulls.

    Args:
      sets: examples by name, e.g. "real", "augmented", "synthetic", "mixed": images (flattened here, for
        pixel space) or features (for feature space). `at_equal_n` cuts them to equal n.
      reference: the whole set that coverage is measured against, e.g. the test set; without it there are no
        rows of coverage.
      space: "pixel" or "feature"; it is only noted in the rows.
      k: the balls of coverage reach to the k-th neighbour.
      q: order of the Vendi scores.
      seed: seed of `at_equal_n` and of all other random draws.
      n: examples of each set; None is the size of the smallest set.
      metrics: names from `METRICS`. A metric that lacks its reference, pair or base has no row.
      paired: for `weighted_vendi`, the set that each set was made from row by row, e.g. {"augmented":
        "real"}.
      base: the set that `weighted_vendi_unpaired` compares the others with.
      top: number of eigenvalues that `truncated_vendi` keeps.
      bandwidth: bandwidth of `gaussian_vendi`. None is the median distance within the reference, or within
        the first set if there is no reference. The column `detail` states it.
      report: called with a sentence before each set is measured.

    Returns:
      Rows `{"set", "space", "metric", "value", "low", "high", "null", "n"}`, for each set in the order of
      `METRICS`. The nulls are:
      Vendi scores, RKE, effective rank: isotropic noise of the same n and d, an upper end of the score;
      the Gaussian kernel: noise with the total variance of the set;
      "coverage", "density": samples of these sizes from the distribution of the reference;
      "precision", "recall": one half of the reference against the other;
      "weighted_vendi": rows that are paired at random;
      "weighted_vendi_unpaired": 0.

    Raises:
      ValueError: a metric is unknown, sets differ in width, or the function of a metric raises it.
    """
    _check_names(metrics, METRICS)
    flat = {name: _flat(examples) for name, examples in at_equal_n(sets, seed=seed, n=n).items()}
    against = None if reference is None else _flat(reference)
    _check_widths(flat, against)
    source = "as given"
    if "gaussian_vendi" in metrics and bandwidth is None:
        bandwidth = kernels.median_distance(next(iter(flat.values())) if against is None else against, seed)
        source = f"the median distance within the {'first set' if against is None else 'reference'}"
    settings = _Settings(q, k, seed, top, bandwidth, source, against)
    rows = []
    for name, features in flat.items():
        if report is not None:
            report(f"{name}, {space}: {len(features)} examples of {features.shape[1]} numbers")
        pair = (paired or {}).get(name) if "weighted_vendi" in metrics else None
        other = base if "weighted_vendi_unpaired" in metrics and base != name else None
        made_from, compared = (None if key is None else flat[key] for key in (pair, other))
        available = _available(features, made_from, compared, settings)
        for metric in (m for m in METRICS if m in metrics and m in available):
            estimate, null, detail = available[metric]()
            row = {"set": name, "space": space, "metric": metric, **estimate._asdict(), "null": null}
            rows.append({**row, "n": len(features), **({"detail": detail} if detail else {})})
    return rows


def _available(
    features: Num[np.ndarray, "n d"], pair: np.ndarray | None, base: np.ndarray | None, settings: _Settings
) -> dict[str, Callable[[], _Measured]]:
    """The functions of the metrics that can be measured on a set, by metric."""
    n, d = features.shape
    q, k, top = settings.q, settings.k, settings.top
    entropy = functools.cache(lambda: vendi_entropy(features, q))
    measures: dict[str, Callable[[], _Measured]] = {
        "vendi_score": lambda: _Measured(entropy().effective_number(), vendi_of_isotropic(n, d, q)),
        "rke": lambda: _Measured(kernels.rke(features), vendi_of_isotropic(n, d, 2)),
        "truncated_vendi": lambda: _Measured(
            vendi_interval(features, q, top),
            vendi_of_isotropic(n, d, q, top),
            f"the {top} largest eigenvalues",
        ),
        "gaussian_vendi": lambda: _gaussian(features, settings),
        "effective_rank": lambda: _Measured(effective_rank(features), effective_rank_of_isotropic(n, d)),
    }
    if pair is not None:
        measures["weighted_vendi"] = lambda: _weighted(weighted_vendi(pair, features, q, entropy()))
    if base is not None:
        measures["weighted_vendi_unpaired"] = lambda: _weighted(
            weighted_vendi_unpaired(base, features, q, entropy())
        )
    reference = settings.reference
    if reference is not None:
        intervals = functools.cache(lambda: manifold_intervals(reference, features, k))
        measures["coverage"] = lambda: _Measured(
            coverage(reference, features, k), expected_coverage(len(reference), n, k)
        )

        def manifold_metric(metric: str) -> _Measured:
            return _Measured(intervals()[metric], settings.manifold_nulls[metric])

        for metric in ("precision", "recall", "density"):
            measures[metric] = functools.partial(manifold_metric, metric)
    return measures


def _weighted(score: Weighted) -> _Measured:
    return _Measured(Estimate(score.value, score.low, score.high), score.null)


def text_rows(
    sets: Mapping[str, Num[np.ndarray, "_ _"]],
    *,
    q: float | int = 1.0,
    seed: int = 0,
    n: int | None = None,
    metrics: Sequence[str] = TEXT_METRICS,
) -> list[dict[str, Any]]:
    """Rows like those of `diversity_rows`, for sets of tokens `[n, T]` (0 is padding), at equal n.

    The null is the same tokens in random order in texts of the same lengths (`texts.dealt_anew`). For
    distinct_1 it equals the value.

    Raises:
      ValueError: a metric is unknown, or the function of a metric raises it.
    """
    _check_names(metrics, TEXT_METRICS)
    rows = []
    for name, tokens in at_equal_n(sets, seed=seed, n=n).items():
        random = texts.dealt_anew(tokens, seed)
        for metric in metrics:
            kind, _, size = metric.partition("_")
            if kind == "distinct":
                estimate, null = (texts.distinct_n(x, int(size)) for x in (tokens, random))
            else:
                estimate, null = (texts.ngram_vendi(x, q=q) for x in (tokens, random))
            row = {"set": name, "space": "token", "metric": metric, **estimate._asdict()}
            rows.append({**row, "null": null.value, "n": len(tokens)})
    return rows


def _gaussian(features: Num[np.ndarray, "n d"], settings: _Settings) -> _Measured:
    """The score of the Gaussian kernel and its null: exact for few examples, by random features for more."""
    assert settings.bandwidth is not None
    bandwidth, q, seed = settings.bandwidth, settings.q, settings.seed
    noise = np.random.default_rng(seed).standard_normal(features.shape, np.float32)
    noise *= np.float32(math.sqrt(float(jnp.mean(jnp.var(jnp.asarray(features, jnp.float32), axis=0)))))
    detail = f"bandwidth {bandwidth:.4g}, {settings.bandwidth_source}"
    if len(features) <= _EXACT:
        score, null = (kernels.gaussian_vendi(x, bandwidth, q) for x in (features, noise))
    else:
        score, null = (kernels.fkea(x, bandwidth, q, seed=seed) for x in (features, noise))
        detail += "; 1000 random frequencies (FKEA)"
    return _Measured(score, null.value, detail)


def _check_names(metrics: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in metrics if name not in known]
    if unknown:
        raise ValueError(f"metric {unknown[0]!r} is unknown: it must be one of {', '.join(known)}")


def _check_widths(flat: Mapping[str, np.ndarray], reference: np.ndarray | None) -> None:
    widths = {f"set {name!r}": features.shape[1] for name, features in flat.items()}
    if reference is not None:
        widths["the reference"] = reference.shape[1]
    first, *rest = widths.items()
    for name, width in rest:
        if width != first[1]:
            raise ValueError(
                f"{first[0]} has {first[1]} numbers an example and {name} {width}: "
                "sets that are compared must be alike"
            )


def _flat(examples: Examples) -> Num[np.ndarray, "n d"]:
    return np.asarray(examples).reshape(len(examples), math.prod(examples.shape[1:]))
