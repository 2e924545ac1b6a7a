"""Calibration errors, their values for a perfectly calibrated model, and temperature scaling.

All errors here are for the top label: they compare confidence c with the share of correct examples among
those predicted with confidence c (Guo et al. 2017, arXiv 1706.04599).

**Bias.** A calibration error is a sum of absolute values, so it is not 0 for a perfectly calibrated model:
with 15 bins and confidences distributed as Beta(8, 1) it is .020 at n = 1000 and .0065 at n = 10000. Nothing
is subtracted here; `calibration_null` gives the value for a calibrated model with the same confidences, to be
read beside the error.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.special import log_softmax

_ROUNDING = 5e-7  # of a confidence in float32, with room
TEMPERATURES = (0.01, 100.0)  # bounds of a fitted temperature


@jax.jit
def top_label(
    logits: Float[Array | np.ndarray, "n k"], labels: Int[Array | np.ndarray, " n"]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """The largest probability of each example, and 1.0 if its class is the label, else 0.0."""
    logits = jnp.asarray(logits)
    correct = jnp.argmax(logits, axis=-1) == jnp.asarray(labels)
    return jnp.max(jax.nn.softmax(logits), axis=-1), correct.astype(jnp.float32)


@functools.partial(jax.jit, static_argnames="bins")
def expected_calibration_error(
    confidence: Float[Array | np.ndarray, " n"],
    correct: Float[Array | np.ndarray, " n"],
    bins: int = 15,
    weights: Float[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """ECE: sum over bins of (share of examples in the bin) * |accuracy - mean confidence|.

    The bins have equal width and are closed on the right: (j / bins, (j + 1) / bins]. A confidence on a
    border, as shares of votes are, counts as on it although rounding puts it up to 5e-7 above. Naeini et al.
    2015, in the form of Guo et al. 2017.

    Args:
      confidence: probability of the predicted class, in [0, 1].
      correct: 1.0 if the prediction is right, else 0.0.
      bins: number of bins.
      weights: weights of the examples; None means all 1.

    >>> confidence, correct = np.array([0.9, 0.9, 0.6, 0.6], np.float32), np.array([1, 1, 1, 0], np.float32)
    >>> round(float(expected_calibration_error(confidence, correct)), 4)
    0.1
    """
    confidence, correct = jnp.asarray(confidence, jnp.float32), jnp.asarray(correct, jnp.float32)
    bin_of = jnp.clip(jnp.ceil((confidence - _ROUNDING) * bins).astype(jnp.int32) - 1, 0, bins - 1)
    gap = correct - confidence
    weights = jnp.ones_like(confidence) if weights is None else weights
    # A matrix product, so that many weight vectors, or outcomes, cost one product under vmap.
    per_bin = jnp.dot(weights * gap, jax.nn.one_hot(bin_of, bins), precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(jnp.abs(per_bin)) / jnp.sum(weights)


@functools.partial(jax.jit, static_argnames="bins")
def adaptive_calibration_error(
    confidence: Float[Array | np.ndarray, " n"],
    correct: Float[Array | np.ndarray, " n"],
    bins: int = 15,
    weights: Float[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """ECE over bins that hold equal numbers of examples, ordered by confidence (equal mass).

    The bins hold exactly n / bins examples each: an example on a border is divided between its two bins, and
    examples of equal confidence share their mean outcome, so that the value depends neither on the order of
    the examples nor on whether bins divides n. (Top label, no threshold; Nixon et al. 2019, arXiv 1904.01685,
    call the version over all classes ACE.)

    For arguments see `expected_calibration_error`.
    """
    confidence, correct = jnp.asarray(confidence, jnp.float32), jnp.asarray(correct, jnp.float32)
    order = jnp.argsort(confidence)
    confidence, correct = confidence[order], correct[order]
    # The last example of equal confidence stands for all of them: a knot of the cumulated gap.
    last = jnp.searchsorted(confidence, confidence, side="right") - 1
    weights = jnp.ones_like(confidence) if weights is None else weights[order]
    mass = jnp.cumsum(weights)
    gap = jnp.cumsum(weights * (correct - confidence))
    zero = jnp.zeros(1, jnp.float32)
    borders = jnp.linspace(0.0, mass[-1], bins + 1)
    at_borders = jnp.interp(borders, jnp.concatenate([zero, mass[last]]), jnp.concatenate([zero, gap[last]]))
    return jnp.sum(jnp.abs(jnp.diff(at_borders))) / mass[-1]


def calibration_null(
    confidence: Float[Array | np.ndarray, "*conditions n"], bins: int = 15, *, seed: int, draws: int = 200
) -> tuple[Float[np.ndarray, "*conditions"], Float[np.ndarray, "*conditions"]]:
    """Mean ECE and adaptive ECE of a perfectly calibrated model with these confidences.

    A drawn outcome is right with probability `confidence`, as if labels were drawn from the predicted
    probabilities.

    Args:
      confidence: confidences of the top label, for any number of conditions.
      bins: number of bins of both errors.
      seed: seed of the draws.
      draws: number of draws for each condition.

    Returns:
      The means over the draws of (`expected_calibration_error`, `adaptive_calibration_error`).
    """
    confidence = np.asarray(confidence, np.float32)
    *conditions, n = confidence.shape
    uniform = np.random.default_rng(seed).random((draws, n), np.float32)
    ece, adaptive = _null_means(jnp.asarray(confidence.reshape(-1, n)), jnp.asarray(uniform), bins)
    return np.asarray(ece).reshape(conditions), np.asarray(adaptive).reshape(conditions)


@functools.partial(jax.jit, static_argnames="bins")
def _null_means(
    confidences: Float[Array, "s n"], uniform: Float[Array, "r n"], bins: int
) -> tuple[Float[Array, " s"], Float[Array, " s"]]:
    def of_condition(confidence: Array) -> tuple[Array, Array]:
        outcomes = (uniform < confidence[None]).astype(jnp.float32)
        ece = jax.vmap(lambda correct: expected_calibration_error(confidence, correct, bins))(outcomes)
        adaptive = jax.vmap(lambda correct: adaptive_calibration_error(confidence, correct, bins))(outcomes)
        return jnp.mean(ece), jnp.mean(adaptive)

    ece, adaptive = jax.lax.map(of_condition, confidences)
    return ece, adaptive


def fit_temperature(logits: Float[Array | np.ndarray, "n k"], labels: Int[Array | np.ndarray, " n"]) -> float:
    """The temperature T that minimises the NLL of softmax(logits / T), fitted on validation data.

    The NLL is convex in 1/T, so its minimum is the root of its derivative, sum_k p_k z_k - z_label averaged
    over the examples. It is found by Brent's method in ln T, in float64 (Guo et al. 2017), within
    `TEMPERATURES`. If every label has the largest logit, the NLL falls without end as T goes to 0: such data
    do not determine the temperature, and 1.0 is returned. A logit of -inf masks a class: its probability is 0
    at every temperature.

    Raises:
      ValueError: a logit is NaN or +inf, or that of a label is -inf, so that the NLL is infinite.

    >>> logits = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    >>> round(fit_temperature(logits, np.array([0, 0, 0, 1])), 4)  # softmax(2 / T) = 3 / 4
    1.8205
    """
    z = np.asarray(logits, np.float64)
    of_label = z[np.arange(len(z)), np.asarray(labels)]
    for what, bad, mend in (
        ("a logit that is NaN or +inf", (np.isnan(z) | np.isposinf(z)).any(-1), "mend what made it"),
        ("a label whose logit is -inf", np.isneginf(of_label), "do not mask the class of the label"),
    ):
        if bad.any():
            raise ValueError(
                f"{bad.sum()} of {len(z)} examples have {what}, first example {bad.argmax()}: leave them "
                f"out, or {mend}"
            )
    masked = np.isneginf(z)
    if np.all(of_label >= z.max(axis=-1)):
        return 1.0

    def slope(log_temperature: float) -> float:
        p = np.exp(log_softmax(z / np.exp(log_temperature), axis=-1))
        return float(np.mean(np.sum(p * np.where(masked, 0.0, z), axis=-1) - of_label))

    low, high = (float(np.log(t)) for t in TEMPERATURES)
    # Upwards in 1/T the slope rises, so upwards in ln T it falls, from above 0 to below 0 round a minimum.
    if slope(high) >= 0:
        return TEMPERATURES[1]
    if slope(low) <= 0:
        return TEMPERATURES[0]
    return float(np.exp(brentq(slope, low, high, xtol=1e-10)))
