"""Is the tail a power law, or something that looks like one? Likelihood-ratio tests against three rivals.

The tests use the fitted tail x >= xmin, in y = ln(x / xmin) >= 0, where the power law is an exponential law
of rate alpha - 1. The rivals are exponential families there, so their maximum-likelihood fits match moments:

  exponential    rate n / Σ (x - xmin), in closed form
  lognormal      y is normal, truncated at 0. Its first two moments are matched, by bisection in the ratio of
                 mean to deviation. If the second moment is too large for any such law, the best lognormal law
                 is its limit, the power law itself; so R is never above 0
  truncated      x^-alpha exp(-Lambda x). The means of y and x are matched by Newton's method, with integrals
  power law      by Gauss-Legendre quadrature in y

R is the log-likelihood ratio over its standard deviation (Vuong, Econometrica 57 (1989)); for the truncated
law it is the plain ratio. Above 0 it favours the power law. For the exponential law p is the probability of
an R at least as far from 0 if both laws are equally far from the truth. The other two laws contain the power
law on the edge of their parameters, so twice the gain in log-likelihood is half a χ² with one degree of
freedom if the power law is true; p is the probability of a gain at least as large. Formulas: Clauset, Shalizi
and Newman, SIAM Review 51 (2009), appendix C.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)
_FARTHEST = 30.0  # the integrals leave out values of the integrand below e^-30 of its largest


def against_rivals(
    eigenvalues: Float[Array, "layers size"],
    tail: Float[Array, " layers"],
    alpha: Float[Array, " layers"],
    xmin: Float[Array, " layers"],
) -> dict[str, Float[Array, " layers"]]:
    """Tests of a fitted power law against its rivals.

    Args:
      eigenvalues: ascending, right-aligned.
      tail: number of eigenvalues in the tail; 0 if there is no fit, and then all results are NaN.
      alpha, xmin: of the fit (`tails.power_law`).

    Returns:
      R_exponential, p_exponential, R_lognormal, p_lognormal, R_tpl, p_tpl.
      alpha_tpl, Lambda: the truncated power law, Lambda in units of 1 / λ.

    >>> values = 1 - jnp.log(jnp.linspace(1, 0.01, 100))[None]  # quantiles of an exponential law beyond 1
    >>> found = against_rivals(values, jnp.array([100.0]), jnp.array([2.7]), jnp.array([1.0]))
    >>> bool(found["R_exponential"][0] < 0), bool(found["p_exponential"][0] < 0.05)
    (True, True)
    """
    size = eigenvalues.shape[1]
    place = jnp.arange(size, dtype=eigenvalues.dtype)[None]
    fits = (tail > 1) & (alpha > 1) & (xmin > 0)
    used = (place >= size - tail[:, None]) & fits[:, None]
    n = jnp.where(fits, tail, 1.0)
    ratio = jnp.where(used, eigenvalues / jnp.where(fits, xmin, 1.0)[:, None], 1.0)
    y = jnp.log(ratio)
    rate = jnp.where(fits, alpha - 1, 1.0)

    def column(values: Array) -> Array:
        return values[:, None]

    power = column(jnp.log(rate)) - column(rate) * y  # log densities of y; all laws have the same Jacobian
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
    out["p_exponential"] = jax.scipy.special.erfc(jnp.abs(out["R_exponential"]) / np.sqrt(2))
    out["p_lognormal"] = _half_chi_square(jnp.where(used, lognormal - power, 0.0).sum(-1))
    gain = jnp.where(used, truncated - power, 0.0).sum(-1)
    # Without a gain the best cut-off is Lambda = 0, which Newton's method only approaches from above.
    better = gain > 0
    out |= {
        "R_tpl": jnp.where(better, -gain, 0.0),
        "p_tpl": _half_chi_square(gain),
        "alpha_tpl": jnp.where(better, k, rate) + 1,
        "Lambda": jnp.where(better, cut / jnp.where(fits, xmin, 1.0), 0.0),
    }
    return {name: jnp.where(fits, values, jnp.nan) for name, values in out.items()}


def _half_chi_square(gain: Array) -> Array:
    """P(χ²_1 > 2 gain) / 2, the p of a gain in log-likelihood; 1 without a gain."""
    return jnp.where(gain > 0, jax.scipy.special.erfc(jnp.sqrt(jnp.maximum(gain, 0.0))) / 2, 1.0)


def _lognormal(y: Array, mean: Array, square: Array, power: Array) -> Array:
    """Log density of y under the best truncated normal law; that of the power law where there is none."""
    target = square / jnp.square(mean)  # 2 for the power law, 1 for a narrow peak

    def moments(z: Array) -> tuple[Array, Array]:
        mills = jnp.exp(-(z**2) / 2 - np.log(2 * np.pi) / 2 - jax.scipy.special.log_ndtr(z))
        # Far from the mean the two terms nearly cancel, so an asymptotic series replaces them.
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
    nodes = jnp.asarray((_NODES + 1) / 2, y.dtype)[None]
    weights = jnp.asarray(_WEIGHTS / 2, y.dtype)[None]

    def integrals(k: Array, cut: Array) -> tuple[Array, Array, Array]:
        # The y at which either term of the exponent k y + cut (e^y - 1) alone reaches _FARTHEST.
        reach = jnp.log1p(_FARTHEST / cut)
        reach = jnp.where(
            k > 0,
            jnp.minimum(reach, _FARTHEST / jnp.maximum(k, 1e-6)),
            reach + jnp.log1p(-k * reach / _FARTHEST) * (k < 0).astype(k.dtype),
        )
        at = nodes * reach[:, None]
        exponent = -k[:, None] * at - cut[:, None] * jnp.expm1(at)
        top = exponent.max(-1, keepdims=True)
        mass = weights * jnp.exp(exponent - top)
        total = mass.sum(-1)
        return at, mass / total[:, None], jnp.log(total * reach) + top[:, 0]

    def step(_: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        k, cut = state
        at, mass, _ = integrals(k, cut)
        x = jnp.exp(at)
        mean_y, mean_x = (mass * at).sum(-1), (mass * x).sum(-1)
        dy, dx = at - mean_y[:, None], x - mean_x[:, None]
        vy, vx, c = (mass * dy**2).sum(-1), (mass * dx**2).sum(-1), (mass * dx * dy).sum(-1)
        # Newton's method for the two means; their covariance matrix is the Hessian.
        gy, gx = mean_y - mean, mean_x - level
        det = jnp.maximum(vy * vx - c**2, 1e-12 * vy * vx + float(np.finfo(y.dtype).tiny))
        dk, dcut = (vx * gy - c * gx) / det, (vy * gx - c * gy) / det
        # Both steps are shortened by one factor, which keeps the direction.
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
