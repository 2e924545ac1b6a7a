"""Is the tail a power law, or something that looks like one? Likelihood-ratio tests against three rivals.

All on the chosen tail x >= xmin, in y = ln(x / xmin) >= 0, where the power law is an exponential law of rate alpha - 1.
The rivals are exponential families there, so that maximum likelihood is a matter of matching moments:

  exponential    rate n / Σ (x - xmin), in closed form
  lognormal      y is normal, truncated at 0: its first two moments are matched, by bisection in mean / deviation;
                 where the second moment is too large for any, the best lognormal is the power law itself, which
                 is its limit: R is never above 0
  truncated      x^-alpha exp(-Lambda x): the means of y and x are matched by Newton's method, the integrals by
  power law      Gauss-Legendre quadrature in y

R is the log-likelihood ratio over its standard deviation (Vuong, Econometrica 57 (1989)): above 0 it speaks for the
power law, and p says how often a difference as large comes from rivals equally far from the truth. The truncated
law contains the power law (Lambda = 0), so that its R is the plain log-likelihood ratio, at most 0, and p that of
half a χ² of one degree of freedom. Formulas: Clauset, Shalizi and Newman, SIAM Review 51 (2009), appendix C.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)
_FARTHEST = 30.0  # integrands below e^-30 of the largest are left out


def against_rivals(
    eigenvalues: Float[Array, "layers size"],
    tail: Float[Array, " layers"],
    alpha: Float[Array, " layers"],
    xmin: Float[Array, " layers"],
) -> dict[str, Float[Array, " layers"]]:
    """Tests of a fitted power law against its rivals.

    Args:
      eigenvalues: ascending, right-aligned.
      tail: how many of the largest are the tail (0: no fit; all results are NaN).
      alpha, xmin: of the fit (`tails.power_law`).

    Returns:
      R_exponential, p_exponential, R_lognormal, p_lognormal, R_tpl, p_tpl; alpha_tpl, and Lambda in units of 1 / λ.
    """
    size = eigenvalues.shape[1]
    fits = (tail > 1) & (alpha > 1) & (xmin > 0)
    used = (jnp.arange(size) >= size - tail[:, None]) & fits[:, None]
    n = jnp.where(fits, tail, 1.0)
    ratio = jnp.where(used, eigenvalues / jnp.where(fits, xmin, 1.0)[:, None], 1.0)
    y = jnp.log(ratio)
    rate = jnp.where(fits, alpha - 1, 1.0)

    def column(values: Array) -> Array:
        return values[:, None]

    power = column(jnp.log(rate)) - column(rate) * y  # densities of y; the Jacobian is common to all
    excess = jnp.where(used, ratio - 1, 0.0).sum(-1) / n
    exponential = y - jnp.log(column(excess)) - (ratio - 1) / column(excess)
    mean, square = y.sum(-1) / n, jnp.square(y).sum(-1) / n
    lognormal = _lognormal(y, mean, square, power)
    k, cut, truncated = _truncated(y, ratio, rate, mean, excess + 1)
    out: dict[str, Array] = {}
    for name, other in (("exponential", exponential), ("lognormal", lognormal)):
        difference = jnp.where(used, power - other, 0.0)
        total = difference.sum(-1)
        spread = jnp.sqrt(jnp.maximum(jnp.square(difference).sum(-1) - total**2 / n, 0.0))
        standard = jnp.where(spread > 0, total / spread, 0.0)
        out[f"R_{name}"] = standard
        out[f"p_{name}"] = jax.scipy.special.erfc(jnp.abs(standard) / np.sqrt(2))
    gain = jnp.where(used, truncated - power, 0.0).sum(-1)
    better = (
        gain > 0
    )  # else the best cut-off is none, which Newton's method, for which Lambda > 0, only nears
    out |= {
        "R_tpl": jnp.where(better, -gain, 0.0),
        "p_tpl": jnp.where(better, jax.scipy.special.erfc(jnp.sqrt(jnp.maximum(gain, 0.0))) / 2, 1.0),
        "alpha_tpl": jnp.where(better, k, rate) + 1,
        "Lambda": jnp.where(better, cut / jnp.where(fits, xmin, 1.0), 0.0),
    }
    return {name: jnp.where(fits, values, jnp.nan) for name, values in out.items()}


def _lognormal(y: Array, mean: Array, square: Array, power: Array) -> Array:
    """Log density of y under the best truncated normal law; that of the power law where there is none."""
    target = square / jnp.square(mean)  # 2 for the power law, 1 for a narrow peak

    def moments(z: Array) -> tuple[Array, Array]:
        mills = jnp.exp(-(z**2) / 2 - np.log(2 * np.pi) / 2 - jax.scipy.special.log_ndtr(z))
        # Far from the mean both terms nearly cancel: the asymptotic series instead.
        w = 1 / jnp.square(jnp.minimum(z, -8.0))
        second = w * (2 - w * (10 - w * (74 - w * 706)))
        far = z < -8
        first = jnp.where(far, (second - 1) / z, z + mills)
        return first, jnp.where(far, second, 1 + z * first)

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low + high) / 2
        first, second = moments(middle)
        wide = second / first**2 > target
        return jnp.where(wide, middle, low), jnp.where(wide, high, middle)

    edge = jnp.full_like(mean, 20.0)
    low, high = jax.lax.fori_loop(0, 40, halve, (-edge, edge))
    z = (low + high) / 2
    s = mean / moments(z)[0]
    density = (
        -jnp.square(y / s[:, None] - z[:, None]) / 2
        - (jnp.log(s) + np.log(2 * np.pi) / 2 + jax.scipy.special.log_ndtr(z))[:, None]
    )
    return jnp.where((z > -19.9)[:, None], density, power)


def _truncated(y: Array, ratio: Array, rate: Array, mean: Array, level: Array) -> tuple[Array, Array, Array]:
    """k = alpha - 1, Lambda xmin, and the log density of y under the best truncated power law."""
    nodes = jnp.asarray((_NODES + 1) / 2, y.dtype)
    weights = jnp.asarray(_WEIGHTS / 2, y.dtype)

    def integrals(k: Array, cut: Array) -> tuple[Array, Array, Array]:
        # Where the exponent k y + cut (e^y - 1) has grown by _FARTHEST, with either term alone.
        reach = jnp.log1p(_FARTHEST / cut)
        reach = jnp.where(
            k > 0,
            jnp.minimum(reach, _FARTHEST / jnp.maximum(k, 1e-6)),
            reach + jnp.log1p(-k * reach / _FARTHEST) * (k < 0),
        )
        at = nodes * reach[:, None]
        exponent = -k[:, None] * at - cut[:, None] * jnp.expm1(at)
        top = exponent.max(-1, keepdims=True)
        mass = weights * jnp.exp(exponent - top)
        total = mass.sum(-1)
        return at, mass / total[:, None], jnp.log(total * reach) + top[:, 0]

    def step(_: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        k, cut = state
        at, mass, _norm = integrals(k, cut)
        x = jnp.exp(at)
        ey, ex = (mass * at).sum(-1), (mass * x).sum(-1)
        dy, dx = at - ey[:, None], x - ex[:, None]
        vy, vx, c = (mass * dy**2).sum(-1), (mass * dx**2).sum(-1), (mass * dx * dy).sum(-1)
        # Newton for the two means; the covariance matrix is the Hessian.
        gy, gx = ey - mean, ex - level
        det = jnp.maximum(vy * vx - c**2, 1e-12 * vy * vx + float(np.finfo(y.dtype).tiny))
        dk, dcut = (vx * gy - c * gx) / det, (vy * gx - c * gy) / det
        # One factor for both, so that the direction stays Newton's while the steps are long.
        room = jnp.minimum(
            1 / jnp.maximum(jnp.abs(dk), 1.0),
            jnp.where(dcut < 0, 0.75 * cut, 3 * cut) / jnp.maximum(jnp.abs(dcut), 1e-30),
        )
        share = jnp.minimum(room, 1.0)
        return k + share * dk, cut + share * dcut

    start = jnp.clip(0.1 / level, 1e-6, 10.0)
    k, cut = jax.lax.fori_loop(0, 40, step, (rate, start))
    cut_least = jnp.maximum(cut, 1e-12)
    log_total = integrals(k, cut_least)[2]
    return k, cut_least, -k[:, None] * y - cut_least[:, None] * (ratio - 1) - log_total[:, None]
