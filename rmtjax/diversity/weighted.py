"""The weighted Vendi score: the diversity of the data of an arm, times their similarity to their source.

    WVS_q = VS_q(arm) * rho,   rho = <X_base, X_arm>_F / (||X_base||_F ||X_arm||_F)

The rows are paired: row i of the arm was made from row i of the base, as augmentation does. (The score is
from Ba et al., the code released with arXiv 2410.14602, in the features of a model.) A set against itself has
WVS = VS. If rows are not paired, as for synthetic data, rho is the cosine between the mean features of the
two sets. Both rho are near 1 if all features share a direction, whatever the sets hold.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Num

from rmtjax.diversity.spectrum import NORMAL_975, Entropy, Features
from rmtjax.diversity.vendi import checked, vendi_entropy

Arm = Num[Array | np.ndarray, "_ _"]


class Weighted(NamedTuple):
    """A weighted score, its 95 % interval, and its null: arm and base share only their means."""

    value: float
    low: float
    high: float
    null: float


def weighted_vendi(base: Features, arm: Arm, q: float | int = 1.0, of_arm: Entropy | None = None) -> Weighted:
    """Weighted Vendi score of order q of an arm whose rows are paired with those of the base.

    Args:
      base: features [n, d] of the source.
      arm: features [n, d] of the arm.
      q: order of the Vendi score.
      of_arm: `vendi_entropy(arm, q)`, if it is known.

    Returns:
      The score. The interval is over pairs, by the influence of each pair (see `vendi`). The null is the
      expectation of the score if rows are paired at random.

    Raises:
      ValueError: the shapes differ, or all features of a set are 0; see also `vendi_score`.

    >>> base = np.eye(3)
    >>> round(weighted_vendi(base, base).value, 6), round(weighted_vendi(base, -base).value, 6)
    (3.0, -3.0)
    """
    if base.shape != arm.shape:
        raise ValueError(
            f"base and arm have shapes {list(base.shape)} and {list(arm.shape)}: "
            "paired rows need equal shapes; sets that are not paired have weighted_vendi_unpaired"
        )
    for features in (base, arm):
        checked(features)
    entropy = of_arm or vendi_entropy(arm, q)
    score = entropy.effective_number().value
    with jax.enable_x64(True):
        across, left, right, means = map(np.asarray, _products(jnp.asarray(base), jnp.asarray(arm)))
    size = float(np.sqrt(left.mean() * right.mean()))
    if size == 0:
        raise ValueError("all features of base or arm are 0: nothing to compare them by")
    rho = float(across.mean()) / size
    influence = across / size - rho * (left / left.mean() + right / right.mean()) / 2
    error = float(np.std(score * (rho * entropy.influence + influence)) / np.sqrt(len(across)))
    value, null = score * rho, score * float(means) / size
    return Weighted(value, value - NORMAL_975 * error, value + NORMAL_975 * error, null)


def weighted_vendi_unpaired(
    base: Features, arm: Arm, q: float | int = 1.0, of_arm: Entropy | None = None
) -> Weighted:
    """Weighted Vendi score of order q of an arm whose rows are not paired with those of the base.

    The weight is the cosine between the mean features.

    Args:
      base: features [m, d] of the source.
      arm: features [n, d] of the arm.
      q: order of the Vendi score.
      of_arm: `vendi_entropy(arm, q)`, if it is known.

    Returns:
      The score. The interval is over the examples of both sets. The null is 0, for means in unrelated
      directions.

    Raises:
      ValueError: a mean is 0; see also `vendi_score`.
    """
    if base.shape[1] != arm.shape[1]:
        raise ValueError(
            f"base has {base.shape[1]} numbers an example and arm {arm.shape[1]}: they must be alike"
        )
    for features in (base, arm):
        checked(features)
    entropy = of_arm or vendi_entropy(arm, q)
    score = entropy.effective_number().value
    with jax.enable_x64(True):
        held = [jnp.asarray(features) for features in (base, arm)]
        means = [jnp.mean(features, axis=0, dtype=jnp.float64) for features in held]
        lengths = [float(jnp.linalg.norm(mean)) for mean in means]
        if min(lengths) == 0:
            raise ValueError("the mean of base or arm is 0: it has no direction to compare")
        units = [mean / length for mean, length in zip(means, lengths, strict=True)]
        cosine = float(units[0] @ units[1])
        of_base, in_arm = (
            np.asarray(_along(held[i], (units[1 - i] - cosine * units[i]) / lengths[i])) for i in (0, 1)
        )
    variance = np.var(cosine * entropy.influence + in_arm) / len(in_arm) + np.var(of_base) / len(of_base)
    value, error = score * cosine, score * float(np.sqrt(variance))
    return Weighted(value, value - NORMAL_975 * error, value + NORMAL_975 * error, 0.0)


@jax.jit
def _products(
    base: Num[Array, "n d"], arm: Num[Array, "n d"]
) -> tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, " n"], Float[Array, ""]]:
    """b_i . a_i, |b_i|^2, |a_i|^2, and the product of the means; each set has its own scale."""
    wide = [features.astype(jnp.float64) for features in (base, arm)]
    scales = [jnp.max(jnp.abs(features)) for features in wide]
    b, a = (x / jnp.where(scale == 0, 1.0, scale) for x, scale in zip(wide, scales, strict=True))
    return jnp.sum(b * a, 1), jnp.sum(b * b, 1), jnp.sum(a * a, 1), jnp.dot(jnp.mean(b, 0), jnp.mean(a, 0))


@jax.jit
def _along(features: Num[Array, "n d"], direction: Float[Array, " d"]) -> Float[Array, " n"]:
    return jnp.sum(features.astype(jnp.float64) * direction[None], axis=1)
