"""Accuracy, negative log-likelihood and Brier score of a classifier's logits.

Every metric takes optional example weights. A weight of 2 counts an example twice, which is what makes a
bootstrap resample a vector of weights (`rmtjax.evaluation.resampling`). All are float32. Lower is better,
except for accuracy.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int


def mean(values: Float[Array, " n"], weights: Float[Array, " n"] | None = None) -> Float[Array, ""]:
    """The mean of per-example values, weighted if there are weights."""
    if weights is None:
        return jnp.mean(values)
    return jnp.dot(values, weights, precision=jax.lax.Precision.HIGHEST) / jnp.sum(weights)


@jax.jit
def accuracy(
    logits: Float[Array | np.ndarray, "n k"],
    labels: Int[Array | np.ndarray, " n"],
    weights: Float[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Share of examples whose largest logit is that of the label (the first of equal ones counts).

    >>> float(accuracy(np.array([[2.0, 1.0], [0.0, 3.0]], np.float32), np.array([0, 0])))
    0.5
    """
    correct = jnp.argmax(jnp.asarray(logits), axis=-1) == jnp.asarray(labels)
    return mean(correct.astype(jnp.float32), weights)


@jax.jit
def nll(
    logits: Float[Array | np.ndarray, "n k"],
    labels: Int[Array | np.ndarray, " n"],
    weights: Float[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Mean negative log-likelihood of the labels, in nats."""
    log_probabilities = jax.nn.log_softmax(jnp.asarray(logits))
    of_label = jnp.take_along_axis(log_probabilities, jnp.asarray(labels)[:, None], axis=-1)[:, 0]
    return mean(-of_label, weights)


@jax.jit
def brier_score(
    logits: Float[Array | np.ndarray, "n k"],
    labels: Int[Array | np.ndarray, " n"],
    weights: Float[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Brier score: squared distance of the probabilities from the one-hot label, summed over classes.

    In [0, 2] (Brier 1950). With two classes it is twice the score of the positive class alone.
    """
    probabilities = jax.nn.softmax(jnp.asarray(logits))
    targets = jax.nn.one_hot(jnp.asarray(labels), probabilities.shape[-1])
    return mean(jnp.sum((probabilities - targets) ** 2, axis=-1), weights)


def no_merit(labels: Int[Array | np.ndarray, " n"]) -> dict[str, float]:
    """The metrics of a model that knows the frequencies of the labels and nothing of the inputs.

    It gives every example the class frequencies p as probabilities: accuracy is the share of the largest
    class, NLL the entropy of p in nats, and the Brier score 1 - sum p^2. No constant prediction does better.

    >>> {name: round(value, 4) for name, value in no_merit(np.array([0, 0, 0, 1])).items()}
    {'accuracy': 0.75, 'nll': 0.5623, 'brier': 0.375}
    """
    counts = np.bincount(np.asarray(labels))
    p = counts[counts > 0] / counts.sum()
    return {
        "accuracy": float(p.max()),
        "nll": float(-np.sum(p * np.log(p))),
        "brier": float(1 - np.sum(p**2)),
    }
