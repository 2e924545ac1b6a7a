"""Makes the rows of evaluation.json from logits and labels.

A row is `{"set", "kind", "metric", "value", "low", "high", "null", "n"}`: the value, its 95 % bootstrap
interval over examples (for this model; it does not include the spread between training seeds), and the value
for a model that has learned nothing. Kinds are "id" (in-distribution), "shift" (same classes, other inputs)
and "ood".
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from rmtjax.errors import InputError
from rmtjax.evaluation import calibration, classification, ood, robustness
from rmtjax.evaluation.corruptions import SEVERITIES
from rmtjax.evaluation.resampling import Statistic, bootstrap, percentile_interval

METRICS = ("accuracy", "nll", "brier", "ece", "adaptive_ece")
SCALED_METRICS = ("nll_ts", "brier_ts", "ece_ts", "adaptive_ece_ts")  # after temperature scaling
OOD_METRICS = ("auroc_max_softmax", "auroc_energy", "fpr95_max_softmax", "fpr95_energy")

Row = dict[str, Any]


def classification_rows(
    name: str,
    kind: str,
    logits: Float[Array | np.ndarray, "*conditions n k"],
    labels: Int[Array | np.ndarray, " labels"],
    *,
    temperature: float,
    bins: int = 15,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Row]:
    """A row for each of `METRICS` and `SCALED_METRICS`.

    If the same examples were seen under several conditions (logits [s, n, k], e.g. corruptions), a metric is
    the mean of its s values, and a resample draws examples with all their conditions, since the conditions of
    one example are not independent.

    Intervals of calibration errors are recentred, and their nulls are those of `calibration_null`; all other
    nulls are those of `no_merit`.

    Args:
      name: name of the set, e.g. "test".
      kind: "id" or "shift".
      logits: outputs before the softmax, [n, k] or [s, n, k].
      labels: labels in [0, k).
      temperature: temperature from `fit_temperature` on validation logits.
      bins: number of bins of the calibration errors.
      resamples: number of resamples of the bootstrap.
      seed: seed of the bootstrap and of the draws of nulls.

    Raises:
      InputError: there are no examples, sizes differ, labels are out of range, or logits are not finite.
    """
    stacked = jnp.asarray(_checked(name, logits, labels))
    n = stacked.shape[1]
    temperatures = jnp.asarray([1.0, temperature], jnp.float32)
    values, replicates = bootstrap(
        _classification_statistic(bins),
        (stacked, jnp.asarray(labels), temperatures),
        (n,),
        seed=seed,
        resamples=resamples,
    )
    merit = classification.no_merit(labels)
    nulls: dict[str, float] = {**merit, "nll_ts": merit["nll"], "brier_ts": merit["brier"]}
    confidences = jnp.stack([_confidences(stacked, t) for t in temperatures])
    ece, adaptive = calibration.calibration_null(confidences, bins, seed=seed)
    nulls["ece"], nulls["ece_ts"] = map(float, np.mean(ece, axis=1))
    nulls["adaptive_ece"], nulls["adaptive_ece_ts"] = map(float, np.mean(adaptive, axis=1))
    rows = []
    for metric in METRICS + SCALED_METRICS:
        base, scaled = metric.removesuffix("_ts"), int(metric.endswith("_ts"))
        interval = percentile_interval(
            float(values[base][scaled]), replicates[base][:, scaled], recentre="ece" in base
        )
        rows.append(_row(name, kind, metric, interval, nulls[metric], n))
    return rows


@jax.jit
def _confidences(logits: Float[Array, "s n k"], temperature: Float[Array, ""]) -> Float[Array, "s n"]:
    confidences: Array = jax.vmap(ood.max_softmax)(logits / temperature)
    return confidences


@functools.cache
def _classification_statistic(bins: int) -> Statistic:
    """Each of `METRICS` [temperature], averaged over the conditions."""

    def at_temperature(logits: Array, labels: Array, weights: Array) -> dict[str, Array]:
        outcome = calibration.top_label(logits, labels)
        return {
            "accuracy": classification.accuracy(logits, labels, weights),
            "nll": classification.nll(logits, labels, weights),
            "brier": classification.brier_score(logits, labels, weights),
            "ece": calibration.expected_calibration_error(*outcome, bins, weights),
            "adaptive_ece": calibration.adaptive_calibration_error(*outcome, bins, weights),
        }

    def statistic(data: tuple[Array, Array, Array], weights: Array) -> dict[str, Array]:
        logits, labels, temperatures = data

        def of_condition(z: Array) -> dict[str, Array]:
            return jax.vmap(lambda t: at_temperature(z / t, labels, weights))(temperatures)

        # One condition at a time: memory does not grow with their number.
        values: dict[str, Array] = jax.lax.map(of_condition, logits)
        return {metric: jnp.mean(value, axis=0) for metric, value in values.items()}

    return statistic


def corrupted_rows(
    logits: Mapping[str, Float[Array | np.ndarray, "severities n k"]],
    clean: Float[Array | np.ndarray, "n k"],
    labels: Int[Array | np.ndarray, " labels"],
    *,
    temperature: float,
    severities: Sequence[int] = SEVERITIES,
    reference: robustness.Reference | None = None,
    bins: int = 15,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Row]:
    """Rows for the set "corrupted" and, accuracy only, "corrupted/<type>" and "corrupted/<type>/<severity>".

    "corrupted" is the mean over types and severities, "corrupted/<type>" the mean over severities. The set
    "corrupted_without_noise" (accuracy only) leaves out the types of noise, since arms that augment with
    noise are trained on them. "corrupted/clean" has the same examples without corruption. "corrupted" also
    has the plain mean error as `corruption_error` and, with a reference, `mce` and `relative_mce` (see
    `robustness`). For other arguments see `classification_rows`.

    Args:
      logits: logits of the same examples, by corruption type, in the order of `severities`.
      clean: logits of these examples without corruption.
      reference: errors of another model on the same images, with at least the same types and severities.

    Raises:
      InputError: see `classification_rows`; also if the reference lacks a corruption or a severity.
    """
    shapes = {np.shape(of_type) for of_type in logits.values()}
    if len(shapes) != 1:
        raise InputError(
            f"corrupted logits have shapes {sorted(shapes)}: give every type the same [severities, n, k]"
        )
    stacked = np.stack([np.asarray(of_type) for of_type in logits.values()])
    types, count, n, k = stacked.shape
    divisors = _divisors(reference, list(logits), severities[:count])
    together = stacked.reshape(types * count, n, k)
    rows = classification_rows(
        "corrupted",
        "shift",
        together,
        labels,
        temperature=temperature,
        bins=bins,
        resamples=resamples,
        seed=seed,
    )
    noiseless = [t for t, name in enumerate(logits) if not name.endswith("_noise")]
    values, replicates = bootstrap(
        _robustness_statistic(tuple(noiseless)),
        (jnp.asarray(stacked), jnp.asarray(clean), jnp.asarray(labels), divisors),
        (n,),
        seed=seed,
        resamples=resamples,
    )
    accuracy = classification.no_merit(labels)["accuracy"]

    def add(name: str, metric: str, null: float, key: str, *place: int) -> None:
        every = replicates[key].T[place[::-1]]
        interval = percentile_interval(float(values[key][place]), every)
        rows.append(_row(name, "shift", metric, interval, null, n))

    add("corrupted", "corruption_error", 1 - accuracy, "error")
    if reference is not None:
        # A model that has learned nothing is equally bad on all images, so it loses nothing by a shift.
        constant = np.full((types, count), 1 - accuracy)
        add("corrupted", "mce", float(robustness.mean_corruption_error(constant, divisors.errors)), "mce")
        add("corrupted", "relative_mce", 0.0, "relative_mce")
    if 0 < len(noiseless) < types:
        add("corrupted_without_noise", "accuracy", accuracy, "noiseless")
    add(robustness.CLEAN, "accuracy", accuracy, "clean")
    for t, corruption in enumerate(logits):
        add(f"corrupted/{corruption}", "accuracy", accuracy, "type", t)
        for s, severity in enumerate(severities[:count]):
            add(f"corrupted/{corruption}/{severity}", "accuracy", accuracy, "severity", t, s)
    return rows


class _Divisors(NamedTuple):
    """Errors [types, severities] and clean error of a reference; ones if there is no reference."""

    errors: Array
    clean: Array


def _divisors(
    reference: robustness.Reference | None, types: list[str], severities: Sequence[int]
) -> _Divisors:
    if reference is None:
        return _Divisors(jnp.ones((len(types), len(severities))), jnp.zeros(()))
    for name in types:
        missing = [severity for severity in severities if severity not in reference.errors.get(name, {})]
        if missing:
            raise InputError(
                f"the reference has no errors under {name!r} at severity {missing[0]}: "
                "evaluate it with the same evaluation.corruptions and evaluation.severities"
            )
    errors = np.asarray([[reference.errors[name][severity] for severity in severities] for name in types])
    return _Divisors(jnp.asarray(errors, jnp.float32), jnp.float32(reference.clean))


@functools.cache
def _robustness_statistic(noiseless: tuple[int, ...]) -> Statistic:
    def statistic(data: tuple[Array, Array, Array, _Divisors], weights: Array) -> dict[str, Array]:
        logits, clean_logits, labels, reference = data
        by_severity = _accuracies(logits, labels, weights)
        clean = _accuracies(clean_logits, labels, weights)
        return {
            "severity": by_severity,
            "type": jnp.mean(by_severity, axis=-1),
            "clean": clean,
            "noiseless": jnp.mean(by_severity[np.asarray(noiseless, int)]),
            "error": 1 - jnp.mean(by_severity),
            "mce": robustness.mean_corruption_error(1 - by_severity, reference.errors),
            "relative_mce": robustness.mean_corruption_error(
                clean - by_severity, reference.errors - reference.clean
            ),
        }

    return statistic


def _accuracies(logits: Array, labels: Array, weights: Array) -> Array:
    predicted = jnp.argmax(logits, axis=-1)
    correct = (predicted == jnp.broadcast_to(labels, predicted.shape)).astype(jnp.float32)
    return jnp.dot(correct, weights, precision=jax.lax.Precision.HIGHEST) / jnp.sum(weights)


def ood_rows(
    name: str,
    id_logits: Float[Array | np.ndarray, "n k"],
    ood_logits: Float[Array | np.ndarray, "m k_ood"],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Row]:
    """A row for each of `OOD_METRICS`: ID test examples against examples of unknown classes.

    Scores come from the logits without temperature scaling; both sets are resampled. `n` is the number of OOD
    examples.

    Raises:
      InputError: there are no examples, the numbers of classes differ, or logits are not finite.
    """
    inside, outside = (np.asarray(x, np.float32) for x in (id_logits, ood_logits))
    for which, z in (("in-distribution set", inside), (f"OOD set {name!r}", outside)):
        _check_logits(which, z)
    if inside.shape[1] != outside.shape[1]:
        raise InputError(
            f"OOD set {name!r} has logits of {outside.shape[1]} classes, the in-distribution set of "
            f"{inside.shape[1]}: score both with the same model"
        )
    data = (jnp.asarray(inside), jnp.asarray(outside))
    sizes = (len(inside), len(outside))
    values, replicates = bootstrap(_ood_statistic, data, sizes, seed=seed, resamples=resamples)
    nulls = {"auroc": 0.5, "fpr95": 0.95}
    rows = []
    for metric in OOD_METRICS:
        base, _, score = metric.partition("_")
        index = ("max_softmax", "energy").index(score)
        interval = percentile_interval(float(values[base][index]), replicates[base][:, index])
        rows.append(_row(name, "ood", metric, interval, nulls[base], len(outside)))
    return rows


def _ood_statistic(logits: tuple[Array, Array], id_weights: Array, ood_weights: Array) -> dict[str, Array]:
    """AUROC and FPR95 [score], for max-softmax, by its log-odds, and energy."""
    inside, outside = (jnp.stack([ood.max_log_odds(z), ood.energy(z)]) for z in logits)
    return {
        "auroc": jax.vmap(lambda i, o: ood.auroc(i, o, id_weights, ood_weights))(inside, outside),
        "fpr95": jax.vmap(lambda i, o: ood.fpr_at_tpr(i, o, id_weights, ood_weights))(inside, outside),
    }


def _row(name: str, kind: str, metric: str, interval: tuple[float, float, float], null: float, n: int) -> Row:
    value, low, high = interval
    return {
        "set": name,
        "kind": kind,
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "null": null,
        "n": n,
    }


def _checked(
    name: str,
    logits: Float[Array | np.ndarray, "*conditions n k"],
    labels: Int[Array | np.ndarray, " labels"],
) -> Float[np.ndarray, "s n k"]:
    array = np.asarray(logits, np.float32)
    _check_logits(f"set {name!r}", array)
    array = array.reshape(-1, *array.shape[-2:])
    _, n, classes = array.shape
    if len(labels) != n:
        raise InputError(
            f"set {name!r} has {n} examples and {len(labels)} labels: give one label per example"
        )
    if np.min(labels) < 0 or np.max(labels) >= classes:
        raise InputError(
            f"set {name!r} has labels from {np.min(labels)} to {np.max(labels)} and logits of {classes} "
            f"classes: labels must lie in [0, {classes})"
        )
    return array


def _check_logits(which: str, logits: np.ndarray) -> None:
    if not logits.size:
        raise InputError(f"the {which} has no examples: give at least one")
    bad = int(np.sum(~np.isfinite(logits).all(axis=-1)))
    if bad:
        raise InputError(
            f"the {which} has {bad} examples whose logits are not finite: evaluate an earlier checkpoint"
        )
