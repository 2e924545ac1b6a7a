"""Sets compared at equal size, and the rows of diversity.json."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from rmtjax.diversity import kernels, texts
from rmtjax.diversity.coverage import coverage, expected_coverage, manifold_intervals, manifold_scores
from rmtjax.diversity.spectrum import Estimate
from rmtjax.diversity.vendi import effective_rank, vendi_entropy, vendi_interval, vendi_of_isotropic
from rmtjax.diversity.weighted import weighted_vendi, weighted_vendi_unpaired

Examples = Num[jax.Array | np.ndarray, "_ ..."]
DEFAULT = ("vendi_score", "coverage", "weighted_vendi")
METRICS = (
    *DEFAULT, "weighted_vendi_unpaired", "rke", "truncated_vendi", "gaussian_vendi", "effective_rank",
    "precision", "recall", "density",
)  # fmt: skip
TEXT_METRICS = (*(f"distinct_{n}" for n in texts.SIZES), "ngram_vendi")
_EXACT = 2000  # examples up to which the Gaussian kernel's matrix is made


def at_equal_n(sets: Mapping[str, Examples], *, seed: int, n: int | None = None) -> dict[str, np.ndarray]:
    """Each set cut to the same number of examples, drawn without replacement, in their old order.

    Sets of the same length keep the same rows, so that sets paired by row (real and augmented) stay paired.

    Args:
      sets: arrays [n_i, ...] by name.
      seed: of the draw.
      n: examples of each; None: as many as the smallest set has.

    Raises:
      ValueError: a set has fewer than n examples.
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
    """Rows `{"set", "space", "metric", "value", "low", "high", "null", "n"}`: scores at equal n, each beside its null.

    Args:
      sets: examples by name, e.g. "real", "augmented", "synthetic", "mixed": images (flattened here; for pixel
        space) or features (for feature space). Cut to equal n by `at_equal_n`.
      reference: examples that coverage is measured against, e.g. the test set, whole; None: no coverage rows.
      space: what the numbers are, "pixel" or "feature"; only noted in the rows.
      k: neighbour whose distance is the radius of a ball of coverage.
      q: order of the Vendi scores.
      seed: of `at_equal_n`, and of all that is drawn.
      n: examples of each set; None: as many as the smallest has.
      metrics: of `METRICS`. Those that lack what they need (a reference, a pair, a base) have no rows.
      paired: the set that each set was made from, row by row, e.g. {"augmented": "real"}: for `weighted_vendi`.
      base: the set that the others are compared with by `weighted_vendi_unpaired`.
      top: eigenvalues that `truncated_vendi` keeps.
      bandwidth: of `gaussian_vendi`; None: the median distance within the reference, or the first set. What it was is in the
        rows' `detail`.
      report: gets a sentence before each set's metrics.

    Returns:
      Null of Vendi scores, RKE and effective rank: isotropic noise of the same n and d (an upper end, that says how far
      the score could go); of the Gaussian kernel, noise drawn with the set's total variance. Null of "coverage", "density":
      samples of the reference's own law, at these sizes; of "precision", "recall": one half of the reference
      against the other. Null of "weighted_vendi": pairs at random; unpaired: 0.

    Raises:
      ValueError: an unknown metric, sets of different widths, or as the metrics' own functions.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ValueError(f"metric {unknown[0]!r} is unknown: it must be one of {', '.join(METRICS)}")
    flat = {name: _flat(examples) for name, examples in at_equal_n(sets, seed=seed, n=n).items()}
    against = None if reference is None else _flat(reference)
    _check_widths(flat, against)
    if "gaussian_vendi" in metrics and bandwidth is None:
        bandwidth = kernels.median_distance(next(iter(flat.values())) if against is None else against, seed)
        chosen = f"the median distance within the {'first set' if against is None else 'reference'}"
    else:
        chosen = "as given"
    rows = []
    for name, features in flat.items():
        if report is not None:
            report(f"{name}, {space}: {len(features)} examples of {features.shape[1]} numbers")
        size, d = features.shape
        made: list[tuple[str, Estimate, float, dict[str, str]]] = []
        if {"vendi_score", "weighted_vendi", "weighted_vendi_unpaired"} & set(metrics):
            entropy = vendi_entropy(features, q)
        if "vendi_score" in metrics:
            made.append(("vendi_score", entropy.effective_number(), vendi_of_isotropic(size, d, q), {}))
        if "coverage" in metrics and against is not None:
            null = expected_coverage(len(against), size, k)
            made.append(("coverage", coverage(against, features, k), null, {}))
        pairs = {
            "weighted_vendi": (paired or {}).get(name),
            "weighted_vendi_unpaired": base if base != name else None,
        }
        for metric, function in (
            ("weighted_vendi", weighted_vendi), ("weighted_vendi_unpaired", weighted_vendi_unpaired)
        ):  # fmt: skip
            other = pairs[metric]
            if metric in metrics and other is not None:
                weighted = function(flat[other], features, q, entropy)
                made.append((metric, Estimate(*weighted[:3]), weighted.null, {}))
        if "rke" in metrics:
            made.append(("rke", kernels.rke(features), vendi_of_isotropic(size, d, 2), {}))
        if "truncated_vendi" in metrics:
            detail = {"detail": f"the {top} largest eigenvalues"}
            null = vendi_of_isotropic(size, d, q, top)
            made.append(("truncated_vendi", vendi_interval(features, q, top), null, detail))
        if "gaussian_vendi" in metrics and bandwidth is not None:
            made.append(("gaussian_vendi", *_gaussian(features, bandwidth, chosen, q, seed)))
        if "effective_rank" in metrics:
            made.append(
                ("effective_rank", effective_rank(features), vendi_of_isotropic(max(1, size - 1), d), {})
            )
        if {"precision", "recall", "density"} & set(metrics) and against is not None:
            nulls = _between_halves(against, k, seed) | {"density": 1.0}
            for metric, estimate in manifold_intervals(against, features, k).items():
                if metric in metrics:
                    made.append((metric, estimate, nulls[metric], {}))
        for metric, (value, low, high), null, detail in made:
            row = {"set": name, "space": space, "metric": metric, "value": value, "low": low, "high": high}
            rows.append({**row, "null": null, "n": size, **detail})
    return rows


def text_rows(
    sets: Mapping[str, Num[np.ndarray, "_ _"]],
    *,
    q: float | int = 1.0,
    seed: int = 0,
    n: int | None = None,
    metrics: Sequence[str] = TEXT_METRICS,
) -> list[dict[str, Any]]:
    """Rows as those of `diversity_rows`, of tokens `[n, T]` (0: padding), at equal n.

    Null: the same tokens dealt out anew to texts of the same lengths (`texts.dealt_anew`), under which only
    distinct_1 cannot change.

    Raises:
      ValueError: an unknown metric, or as the metrics' own functions.
    """
    unknown = [name for name in metrics if name not in TEXT_METRICS]
    if unknown:
        raise ValueError(f"metric {unknown[0]!r} is unknown: it must be one of {', '.join(TEXT_METRICS)}")
    rows = []
    for name, tokens in at_equal_n(sets, seed=seed, n=n).items():
        random = texts.dealt_anew(tokens, seed)
        for metric in metrics:
            kind, _, size = metric.partition("_")
            if kind == "distinct":
                estimate, null = (
                    texts.distinct_n(tokens, int(size)),
                    texts.distinct_n(random, int(size)).value,
                )
            else:
                estimate, null = texts.ngram_vendi(tokens, q=q), texts.ngram_vendi(random, q=q).value
            row = {"set": name, "space": "token", "metric": metric, **estimate._asdict()}
            rows.append({**row, "null": null, "n": len(tokens)})
    return rows


def _gaussian(
    features: Float[np.ndarray, "n d"], bandwidth: float | int, chosen: str, q: float | int, seed: int
) -> tuple[Estimate, float, dict[str, str]]:
    """Exact for few examples, else by random features; the null by the same way."""
    noise = np.random.default_rng(seed).standard_normal(features.shape, np.float32)
    noise *= np.float32(math.sqrt(float(jnp.mean(jnp.var(jnp.asarray(features, jnp.float32), axis=0)))))
    detail = f"bandwidth {bandwidth:.4g}, {chosen}"
    if len(features) <= _EXACT:
        score, null = (kernels.gaussian_vendi(x, bandwidth, q) for x in (features, noise))
        return score, null.value, {"detail": detail}
    score, null = (kernels.fkea(x, bandwidth, q, seed=seed) for x in (features, noise))
    return score, null.value, {"detail": f"{detail}; 1000 random frequencies (FKEA)"}


def _between_halves(reference: Float[np.ndarray, "n d"], k: int, seed: int) -> dict[str, float]:
    order = np.random.default_rng(seed).permutation(len(reference))
    half = len(reference) // 2
    if half <= k:
        return dict.fromkeys(("precision", "recall"), math.nan)
    return manifold_scores(reference[order[:half]], reference[order[half : 2 * half]], k)._asdict()


def _check_widths(flat: Mapping[str, np.ndarray], reference: np.ndarray | None) -> None:
    widths = {f"set {name!r}": features.shape[1] for name, features in flat.items()}
    if reference is not None:
        widths["the reference"] = reference.shape[1]
    first, *rest = widths.items()
    for name, width in rest:
        if width != first[1]:
            raise ValueError(
                f"{first[0]} has {first[1]} numbers an example and {name} {width}: sets that are compared must be alike"
            )


def _flat(examples: Examples) -> Num[np.ndarray, "n d"]:
    return np.asarray(examples).reshape(len(examples), math.prod(examples.shape[1:]))
