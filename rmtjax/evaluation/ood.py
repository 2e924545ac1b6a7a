"""Detection of inputs of unknown classes: scores, AUROC and FPR at 95 % TPR.

The **positive class is in-distribution** and a higher score means more in-distribution, as in Hendrycks &
Gimpel 2017 (arXiv 1610.02136) and Liu et al. 2020 (arXiv 2010.03759). Exchanging the classes does not change
AUROC, but it changes FPR95: here it is the share of out-of-distribution inputs that are accepted if 95 % of
the in-distribution inputs are.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Real


@jax.jit
def max_softmax(logits: Float[Array | np.ndarray, "n k"]) -> Float[Array, " n"]:
    """Largest probability p (Hendrycks & Gimpel 2017).

    In float32 it rounds to 1 if the largest logit leads by more than 17, so rank by `max_log_odds`.
    """
    return jnp.max(jax.nn.softmax(jnp.asarray(logits)), axis=-1)


@jax.jit
def max_log_odds(logits: Float[Array | np.ndarray, "n k"]) -> Float[Array, " n"]:
    """ln(p / (1 - p)) of the largest probability p: the largest logit minus logsumexp of the others.

    It is a monotone function of p, so that exact numbers rank examples equally by either. It does not round
    to one value where p is near 1: an error is at most that of a float32 number of its size.

    >>> gaps = np.array([[60.0, 0.0], [59.9, 0.0]], np.float32)
    >>> max_softmax(gaps).tolist(), [round(x, 4) for x in max_log_odds(gaps).tolist()]
    ([1.0, 1.0], [60.0, 59.9])
    """
    logits = jnp.asarray(logits)
    largest = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
    others = jnp.where(largest, -jnp.inf, logits)
    return -jax.nn.logsumexp(others - jnp.max(logits, axis=-1, keepdims=True), axis=-1)


@jax.jit
def energy(logits: Float[Array | np.ndarray, "n k"]) -> Float[Array, " n"]:
    """Negative free energy ln sum_k exp(logits_k); higher is more in-distribution.

    At temperature 1, as Liu et al. 2020 advise. At another temperature T it is T * energy(logits / T).
    """
    return jax.nn.logsumexp(jnp.asarray(logits), axis=-1)


def auroc(
    id_scores: Float[Array | np.ndarray, " n"],
    ood_scores: Float[Array | np.ndarray, " m"],
    id_weights: Float[Array, " n"] | None = None,
    ood_weights: Float[Array, " m"] | None = None,
) -> Float[Array, ""]:
    """P(id score > ood score) + P(equal) / 2, exactly, by ranks (Mann-Whitney).

    Chance is .5, perfect separation 1.

    Scores in numpy are compared as they are, float64 ones too.

    Raises:
      ValueError: a score in numpy is NaN.

    >>> round(float(auroc(np.array([0.9, 0.8, 0.4], np.float32), np.array([0.1, 0.4], np.float32))), 4)
    0.9167
    """
    out: Array = _auroc(
        *_in_order(id_scores, ood_scores), *_weights(id_scores, id_weights, ood_scores, ood_weights)
    )
    return out


@jax.jit
def _auroc(
    id_scores: Real[Array | np.ndarray, " n"],
    ood_scores: Real[Array | np.ndarray, " m"],
    id_weights: Float[Array, " n"],
    ood_weights: Float[Array, " m"],
) -> Float[Array, ""]:
    id_scores, ood_scores = jnp.asarray(id_scores), jnp.asarray(ood_scores)
    order = jnp.argsort(ood_scores)
    sorted_scores = ood_scores[order]
    mass = jnp.concatenate([jnp.zeros(1, jnp.float32), jnp.cumsum(ood_weights[order])])
    below = mass[jnp.searchsorted(sorted_scores, id_scores, side="left")]
    up_to = mass[jnp.searchsorted(sorted_scores, id_scores, side="right")]
    wins = (below + up_to) / (2 * mass[-1])
    return jnp.dot(id_weights, wins, precision=jax.lax.Precision.HIGHEST) / jnp.sum(id_weights)


def fpr_at_tpr(
    id_scores: Float[Array | np.ndarray, " n"],
    ood_scores: Float[Array | np.ndarray, " m"],
    id_weights: Float[Array, " n"] | None = None,
    ood_weights: Float[Array, " m"] | None = None,
    tpr: float = 0.95,
) -> Float[Array, ""]:
    """Share of OOD scores at or above the highest threshold that at least `tpr` of the ID scores reach.

    Chance is `tpr`. The threshold is one of the ID scores, without interpolation.

    Scores in numpy are compared as they are, float64 ones too.

    Raises:
      ValueError: a score in numpy is NaN.

    >>> float(fpr_at_tpr(np.array([0.9, 0.8], np.float32), np.array([0.1, 0.85], np.float32)))
    0.5
    """
    out: Array = _fpr_at_tpr(
        *_in_order(id_scores, ood_scores), *_weights(id_scores, id_weights, ood_scores, ood_weights), tpr
    )
    return out


@jax.jit
def _fpr_at_tpr(
    id_scores: Real[Array | np.ndarray, " n"],
    ood_scores: Real[Array | np.ndarray, " m"],
    id_weights: Float[Array, " n"],
    ood_weights: Float[Array, " m"],
    tpr: float | Float[Array, ""],
) -> Float[Array, ""]:
    id_scores, ood_scores = jnp.asarray(id_scores), jnp.asarray(ood_scores)
    order = jnp.argsort(-id_scores)
    accepted = jnp.cumsum(id_weights[order])
    # Half a count of slack: weights are counts, and a rounding error must not miss tpr * n.
    enough = accepted >= jnp.ceil(tpr * accepted[-1] - 1e-3) - 0.5
    threshold = id_scores[order][jnp.argmax(enough)]
    return jnp.sum(jnp.where(ood_scores >= threshold, ood_weights, 0)) / jnp.sum(ood_weights)


def _weights(
    id_scores: Float[Array | np.ndarray, " n"],
    id_weights: Float[Array, " n"] | None,
    ood_scores: Float[Array | np.ndarray, " m"],
    ood_weights: Float[Array, " m"] | None,
) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
    """The weights; where none are given, each score counts once."""
    return (
        jnp.ones(id_scores.shape, jnp.float32) if id_weights is None else id_weights,
        jnp.ones(ood_scores.shape, jnp.float32) if ood_weights is None else ood_weights,
    )


def _in_order(
    id_scores: Float[Array | np.ndarray, " n"], ood_scores: Float[Array | np.ndarray, " m"]
) -> tuple[Real[Array | np.ndarray, " n"], Real[Array | np.ndarray, " m"]]:
    """The scores, or numbers in the same order, if numpy holds them and JAX's float32 could tie some."""
    if not (isinstance(id_scores, np.ndarray) and isinstance(ood_scores, np.ndarray)):
        return id_scores, ood_scores
    for name, scores in (("id_scores", id_scores), ("ood_scores", ood_scores)):
        if np.isnan(scores).any():
            raise ValueError(
                f"{np.isnan(scores).sum()} of {len(scores)} {name} are NaN, which have no order: leave these "
                "examples out, or mend what scored them"
            )
    if np.float64 not in (id_scores.dtype, ood_scores.dtype):
        return id_scores, ood_scores
    places = np.unique(np.concatenate([id_scores, ood_scores]), return_inverse=True)[1].astype(np.int32)
    return places[: len(id_scores)], places[len(id_scores) :]
