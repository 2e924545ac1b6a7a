"""The cost of a shift, relative to another model and to what the accuracy in distribution predicts.

- **mCE** (Hendrycks & Dietterich 2019): the errors of a model under a corruption, summed over severities,
  divided by those of a reference model, averaged over corruptions; 1 is as robust as the reference. Their
  reference is AlexNet on ImageNet-C. For CIFAR-10-C there is no standard reference: it is the run that the
  user gives, and a value means nothing without its name. The plain mean error (`corruption_error`) needs no
  reference, but gives more weight to corruptions that are hard for every model.
- **Relative mCE**: the same for the increase of the error over the clean error of each model. It favours
  models with a large clean error.
- **Effective robustness** (Taori et al. 2020, 2007.00644; Miller et al. 2021, 2107.04649): accuracy under a
  shift minus the accuracy predicted by the line of baseline models, with both accuracies on a logit or probit
  scale. It separates "more robust" from "better in distribution". It is 0 on the line.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy
from jax import Array
from jaxtyping import Float

from rmtjax.errors import InputError
from rmtjax.evaluation.resampling import Interval

CLEAN = "corrupted/clean"  # the set of the examples that are corrupted, as they were before
LEAST_BASELINES = 5  # for a line: with fewer the prediction interval has two degrees of freedom or none


class Images(NamedTuple):
    """Identifies the images that were corrupted."""

    n: int
    shape: list[int]  # that they had then; what the model gets may be larger
    labels: str  # a digest of their labels, in order


class Reference(NamedTuple):
    """Errors of another model, for `mean_corruption_error`."""

    errors: dict[str, dict[int, float]]  # by corruption and severity
    clean: float
    name: str
    images: Images


def check_same_images(reference: Reference, images: Images) -> None:
    """Raises InputError unless the errors of the reference are those on these images."""
    if reference.images.n != images.n:
        raise InputError(
            f"the reference {reference.name!r} was evaluated on {reference.images.n} corrupted examples and "
            f"this one is on {images.n}: give both the same evaluation.corrupted_examples"
        )
    if reference.images != images:
        raise InputError(
            f"the reference {reference.name!r} was evaluated on other corrupted images "
            f"({reference.images.shape}, labels {reference.images.labels}) than this one "
            f"({images.shape}, labels {images.labels}): give both the same data"
        )


def mean_corruption_error(
    errors: Float[Array | np.ndarray, "types severities"],
    reference: Float[Array | np.ndarray, "types severities"],
) -> Float[Array, ""]:
    """mCE: mean over types of (sum over severities of the errors / the same sum for the reference).

    >>> round(float(mean_corruption_error(np.array([[0.1, 0.3]]), np.array([[0.2, 0.6]]))), 4)
    0.5
    """
    return jnp.mean(jnp.sum(jnp.asarray(errors), -1) / jnp.sum(jnp.asarray(reference), -1))


def relative_mean_corruption_error(
    errors: Float[Array | np.ndarray, "types severities"],
    clean: float | Float[Array, ""],
    reference: Float[Array | np.ndarray, "types severities"],
    reference_clean: float,
) -> Float[Array, ""]:
    """Relative mCE: `mean_corruption_error` of the increase over the clean error of each model."""
    return mean_corruption_error(jnp.asarray(errors) - clean, jnp.asarray(reference) - reference_clean)


def reference_of(content: Mapping[str, Any], name: str) -> Reference:
    """A reference from its evaluation.json.

    Args:
      content: `rows` with the sets "corrupted/<type>/<severity>" and "corrupted/clean", and `corrupted`, the
        `Images`.
      name: name of the run, for messages.

    Raises:
      InputError: the run was not evaluated on corrupted examples.
    """
    errors: dict[str, dict[int, float]] = {}
    clean = None
    for row in content["rows"]:
        parts = row["set"].split("/")
        if row["metric"] == "accuracy" and parts[0] == "corrupted":
            if len(parts) == 3:
                errors.setdefault(parts[1], {})[int(parts[2])] = 1 - row["value"]
            elif row["set"] == CLEAN:
                clean = 1 - row["value"]
    if not errors or clean is None or "corrupted" not in content:
        raise InputError(
            f"{name!r} has no accuracies on corrupted examples: "
            "evaluate it with evaluation.shifts=corrupted, or anew"
        )
    return Reference(errors, clean, name, Images(**content["corrupted"]))


def effective_robustness(
    accuracy: float,
    shifted: float,
    baselines: Float[np.ndarray, " runs"],
    baselines_shifted: Float[np.ndarray, " runs"],
    *,
    scale: str = "logit",
) -> Interval:
    """Accuracy under a shift minus the prediction of the line of baselines for the accuracy in distribution.

    The line is fitted by least squares on the chosen scale; the difference is one of accuracies. The interval
    is Student's prediction interval for one more model on the line. It covers how well the baselines fix the
    line and how far a single model lies from it, which includes the error of its test set where the baselines
    were tested on as many examples. For a model on the line, 95 % of the intervals hold 0.

    Args:
      accuracy, shifted: accuracies of the model in distribution and under the shift, in (0, 1).
      baselines, baselines_shifted: the same for the baseline runs.
      scale: "logit" or "probit".

    Raises:
      InputError: there are fewer than five baselines, all have one accuracy, or an accuracy is 0 or 1.
    """
    to, back = {
        "logit": (scipy.special.logit, scipy.special.expit),
        "probit": (scipy.special.ndtri, scipy.special.ndtr),
    }[scale]
    values = np.asarray([[accuracy, *baselines], [shifted, *baselines_shifted]], np.float64)
    if not ((values > 0) & (values < 1)).all():
        raise InputError(
            "effective robustness needs accuracies between 0 and 1, "
            f"and one is {values.min():g} or {values.max():g}"
        )
    n = len(baselines)
    if n < LEAST_BASELINES or np.ptp(baselines) == 0:
        raise InputError(
            "effective robustness needs a line and the scatter about it: "
            f"give at least five baselines whose accuracies differ, not {n}"
        )
    x, y = to(values[:, 1:])
    slope, intercept = np.polyfit(x, y, 1)
    expected = intercept + slope * to(accuracy)
    scatter = np.square(y - intercept - slope * x).sum() / (n - 2)
    centred = x - x.mean()
    error = np.sqrt(scatter * (1 + 1 / n + (to(accuracy) - x.mean()) ** 2 / (centred @ centred)))
    half = scipy.stats.t.ppf(0.975, n - 2) * error
    value, low, high = (float(shifted - back(expected + side * half)) for side in (0, 1, -1))
    return Interval(value, low, high)


def effective_robustness_rows(
    rows: Sequence[Mapping[str, Any]], baselines: Sequence[Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Rows "effective_robustness" on the logit scale, one for each shifted set that all baselines have.

    Args:
      rows: rows of the model's evaluation.json.
      baselines: rows of each baseline run.

    Raises:
      InputError: there is no such set, or there are too few baselines for a line.
    """

    def accuracies(of: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        return {
            row["set"]: row["value"]
            for row in of
            if row["metric"] == "accuracy" and not row["set"].startswith("corrupted/")
        }

    mine, others = accuracies(rows), [accuracies(of) for of in baselines]
    out = []
    for row in rows:
        name = row["set"]
        if row["kind"] != "shift" or row["metric"] != "accuracy" or name.startswith("corrupted/"):
            continue
        if all(name in of for of in others):
            value, low, high = effective_robustness(
                mine["test"],
                mine[name],
                np.asarray([of["test"] for of in others]),
                np.asarray([of[name] for of in others]),
            )
            out.append(
                dict(row)
                | {"metric": "effective_robustness", "value": value, "low": low, "high": high, "null": 0.0}
            )
    if not out:
        raise InputError(
            "the baselines share no shifted set with this run: evaluate them with the same shifts"
        )
    return out
