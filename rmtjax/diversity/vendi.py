"""The Vendi score: how many different examples a set holds, from the eigenvalues of its similarity matrix.

With features x_i scaled to unit length, K_ij = x_i . x_j is the un-centred cosine similarity and p the eigenvalues
of K / n, which sum to 1. The score of order q is the exponential of their Renyi entropy,

    VS_q = (sum_k p_k^q)^(1 / (1 - q)),   VS_1 = exp(-sum_k p_k ln p_k),   VS_inf = 1 / max_k p_k

(Friedman & Dieng 2022, arXiv 2210.02410; orders: Pasarkar & Dieng 2023, arXiv 2310.12952). It is 1 for identical
examples, n for orthogonal ones, and does not change when every example is doubled. Features that all
point much the same way (images with positive pixels, outputs of a ReLU) have a score near 1 whatever they show.

The non-zero eigenvalues of K / n are those of C = X^T X / n: with d < n they come from the d x d matrix, so that the
cost is n d min(n, d) + min(n, d)^3 and no n x n matrix is made. All is float64: in float32 the rounding of
hundreds of small eigenvalues would add to the entropy.

**Interval.** The score grows with n, so sets are compared at equal n (`compare.at_equal_n`), and the interval is for
the score expected at this n, not for a limit. A bootstrap is no good here: it doubles examples, and a resample has
about .63 n distinct ones, so that its scores lie far below. Instead each example's influence on the
entropy is taken (the infinitesimal jackknife): for order 1 the entropy is the mean over examples of
h_i = -x_i^T ln(C) x_i, and its standard error that of a mean, std(h) / sqrt(n); likewise for other
orders. It needs no resampling. Measured coverage of the 95 % interval: .93 to .99 for Gaussian, mixed,
heavy-tailed and unbalanced populations and for UCI digits at n = 200 with d = 32 or 64; .85 for isotropic noise
with d > n, where the first order is not enough. It takes the
examples for independent draws, so that copies within a set make it too narrow, and is over examples: the choice of
a generator, or of its seed, is not in it.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from rmtjax.diversity.neighbours import check_finite

NORMAL_975 = 1.959963984540054  # quantile of the normal law: half a 95 % interval in standard errors


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


def vendi_score(features: Float[Array | np.ndarray, "n d"], q: float | int = 1.0) -> float:
    """Vendi score of order q of a set of examples.

    Examples whose features are all 0 have no direction: they count as like one another and unlike all others.

    Args:
      features: one row per example, of any scale.
      q: order, above 0; `math.inf` for the largest eigenvalue alone. Small orders count rare kinds more.

    Raises:
      ValueError: no examples, features that are not finite, q not above 0.
    """
    return vendi_interval(features, q).value


def vendi_interval(features: Float[Array | np.ndarray, "n d"], q: float | int = 1.0) -> Estimate:
    """Vendi score of order q with a 95 % interval for the score expected at this n.

    See the module's text for the method. Args and errors as `vendi_score`.
    """
    if not q > 0:
        raise ValueError(f"q={q!r} is out of range: the order of a Vendi score must be above 0 (or math.inf)")
    if not features.size:
        raise ValueError(f"features of shape {features.shape} hold no examples: give at least one row")
    check_finite(features)
    with jax.enable_x64(True):
        spectrum, share = _spectrum(jnp.asarray(features, jnp.float64))
        p = np.asarray(spectrum)
        entropy, direction = _entropy(
            np.where(p > max(features.shape) * np.finfo(p.dtype).eps * p.max(), p, 0), q
        )
        half = NORMAL_975 * float(_standard_error(share, jnp.asarray(direction)))
    return Estimate(math.exp(entropy), math.exp(entropy - half), math.exp(entropy + half))


@jax.jit
def _spectrum(features: Float[Array, "n d"]) -> tuple[Float[Array, " r"], Float[Array, "n r"]]:
    """Eigenvalues p_k of C, and (x_i . v_k)^2 for its eigenvectors v_k: each example's share, of mean p_k."""
    n, d = features.shape
    # Scaled by the largest entry first: the squares of very large or small features leave float64's range.
    scale = jnp.max(jnp.abs(features), axis=1, keepdims=True)
    zero = scale == 0
    scaled = features / jnp.where(zero, 1.0, scale)
    x = scaled / jnp.where(zero, 1.0, jnp.linalg.norm(scaled, axis=1, keepdims=True))
    if d < n:
        p, vectors = jnp.linalg.eigh(x.T @ x / n)
        share = (x @ vectors) ** 2
    else:
        p, vectors = jnp.linalg.eigh(x @ x.T / n)
        share = n * vectors**2 * p
    zero_share = zero.astype(x.dtype)
    return jnp.concatenate([p, jnp.mean(zero_share, axis=0)]), jnp.concatenate([share, zero_share], axis=1)


def _entropy(p: Float[np.ndarray, " r"], q: float | int) -> tuple[float, Float[np.ndarray, " r"]]:
    """Renyi entropy of order q in nats, and f such that x^T f(C) x is an example's influence, up to a constant."""
    present = p > 0
    safe = np.where(present, p, 1.0)
    if q == 1:
        return float(-np.sum(p * np.log(safe))), -np.log(safe)
    if math.isinf(q):
        return float(-np.log(p.max())), np.where(np.arange(p.size) == p.argmax(), -1 / p.max(), 0.0)
    total = np.sum(safe**q, where=present)
    return float(np.log(total) / (1 - q)), q / (1 - q) * np.where(present, safe ** (q - 1), 0.0) / total


@jax.jit
def _standard_error(share: Float[Array, "n r"], direction: Float[Array, " r"]) -> Float[Array, ""]:
    return jnp.std(share @ direction) / jnp.sqrt(share.shape[0])


def vendi_of_isotropic(n: int, d: int, q: float | int = 1.0) -> float:
    """The Vendi score of isotropic Gaussian noise in d dimensions, the most diverse set there is for that d.

    From the Marchenko-Pastur law of the eigenvalues, with M = min(n, d) and c = M / max(n, d): VS_1 = M exp(-c/2),
    VS_2 = n d / (n + d), VS_inf = M / (1 + sqrt c)^2. Exact as n and d grow together; for d = 1 it is 1.
    """
    if not q > 0:
        raise ValueError(f"q={q!r} is out of range: the order of a Vendi score must be above 0 (or math.inf)")
    small, c = min(n, d), min(n, d) / max(n, d)
    if q == 1:
        score = small * math.exp(-c / 2)
    elif math.isinf(q):
        score = small / (1 + math.sqrt(c)) ** 2
    else:
        # E x^q over the law of mean 1, x = 1 + c + 2 sqrt(c) cos t: periodic in t, so midpoints converge fast.
        t = (np.arange(20000) + 0.5) * math.pi / 20000
        x = 1 + c + 2 * math.sqrt(c) * np.cos(t)
        moment = 2 * np.mean(np.sin(t) ** 2 * x ** (q - 1))
        score = small * float(moment) ** (1 / (1 - q))
    return max(1.0, score)
