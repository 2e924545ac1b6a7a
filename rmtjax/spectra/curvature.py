"""Curvature of a loss: products with its Hessian and Gauss-Newton matrix, and the spectra of both.

Of a mean loss L(θ) = 1/n Σ_i l(z_i, y_i) with outputs z_i = f(θ, x_i) and Jacobians J_i = ∂z_i / ∂θ:

  Hessian                H = ∇²L
  Gauss-Newton matrix    G = 1/n Σ_i J_iᵀ (∂²l / ∂z²) J_i, which is H without the curvature of f

G is positive semidefinite where l is convex in z, and G = H where f is linear in θ (Martens, JMLR 21 (2020);
the large eigenvalues of H are those of G, about one a class: Papyan, JMLR 21 (2020)). A product with H is the
directional derivative of the gradient (forward over reverse: Pearlmutter, Neural Comput. 6 (1994)); one with
G goes forward through f, through ∂²l / ∂z², and back through f. The examples go through in batches, one after
the other.

    product = hessian(outputs, loss)  # outputs(params, examples) -> z, loss(z, examples) -> one each
    batches = batched({"inputs": x, "label": y}, 64)
    found = lanczos(product, params, batches, probes=8, depth=80)
    trace(found), largest(found, 5), density(found)

Spectra come from stochastic Lanczos quadrature (Ubaru, Chen and Saad, SIAM J. Matrix Anal. Appl. 38 (2017);
for networks Ghorbani, Krishnan and Xiao, arXiv 1901.10159; PyHessian: Yao et al., arXiv 1912.07145). A
Lanczos process of `depth` products from v / √P, where v has P random signs, gives Ritz values θ_k and weights
w_k, the squared first components of the eigenvectors of its tridiagonal matrix. For a polynomial g of degree
below 2 depth, Σ_k w_k g(θ_k) = vᵀ g(H) v / P, whose mean over v is tr g(H) / P. Other functions are as exact
as polynomials of that degree follow them.

The vectors have the parameters' type, float32 or float64. What the caller puts into `outputs` decides what
the loss is: the training loss in evaluation mode has no dropout and keeps the statistics of batch norm as
constants.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from matfree import decomp

Params = Any
Outputs = Callable[[Params, Any], Array]  # (params, examples) -> [B, ...]
Loss = Callable[[Array, Any], Array]  # (outputs, examples) -> [B]
_AT_ONCE = 2**26  # numbers in the Lanczos vectors of the probes that go side by side


class Batches(NamedTuple):
    """Examples in batches: leaves `[batches, B, ...]`; weights `[batches, B]` of 1/n, and 0 where padded."""

    examples: Any
    weights: Any


Product = Callable[[Params, Params, Batches], Params]
"""`(vector, params, batches) -> matrix @ vector`; vector has the structure of params."""


def batched(examples: Any, size: int, dtype: Any = np.float32) -> Batches:
    """Examples, leaves `[n, ...]`, as batches of `size`; the last is padded with copies of the first example.

    Args:
      dtype: of the weights: the parameters'.
    """
    n = len(jax.tree.leaves(examples)[0])
    rows = np.arange(-(-n // size) * size).reshape(-1, size)
    weights = np.where(rows < n, 1 / n, 0.0).astype(dtype)
    return Batches(
        jax.tree.map(lambda leaf: np.asarray(leaf)[np.where(rows < n, rows, 0)], examples), weights
    )


def hessian(outputs: Outputs, loss: Loss) -> Product:
    """Products with the Hessian of the mean of `loss(outputs(params, examples), examples)`."""

    def product(vector: Params, params: Params, batches: Batches) -> Params:
        def of_batch(batch: Batches) -> Params:
            def mean_loss(params: Params) -> Array:
                mean: Array = batch.weights @ loss(outputs(params, batch.examples), batch.examples)
                return mean

            return jax.jvp(jax.grad(mean_loss), (params,), (vector,))[1]

        return sum_over(of_batch, batches)

    return product


def gauss_newton(outputs: Outputs, loss: Loss) -> Product:
    """Products with the generalised Gauss-Newton matrix of the same mean."""

    def product(vector: Params, params: Params, batches: Batches) -> Params:
        def of_batch(batch: Batches) -> Params:
            def model(params: Params) -> Array:
                return outputs(params, batch.examples)

            def mean_loss(z: Array) -> Array:
                mean: Array = batch.weights @ loss(z, batch.examples)
                return mean

            z, backward = jax.vjp(model, params)
            forward = jax.jvp(model, (params,), (vector,))[1]
            return backward(jax.jvp(jax.grad(mean_loss), (z,), (forward,))[1])[0]

        return sum_over(of_batch, batches)

    return product


def sum_over(of_batch: Callable[[Batches], Any], batches: Batches) -> Any:
    """The sum of a pytree over batches, of which one is in memory at a time."""

    def add(total: Any, batch: Batches) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of_batch(batch)), None

    # Products of rounded matrices are no longer symmetric: accelerators must not round to less than float32.
    with jax.default_matmul_precision("highest"):
        shapes = jax.eval_shape(of_batch, jax.tree.map(lambda leaf: leaf[0], batches))
        zeros = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), shapes)
        return jax.lax.scan(add, zeros, batches)[0]


class Quadrature(NamedTuple):
    """What Lanczos processes from random signs say of a symmetric matrix, one row a probe.

    Attributes:
      values: Ritz values, ascending, `[probes, depth]`; NaN at the end where a process ended before.
      weights: of the quadrature; each row sums to 1, and is 0 where values are NaN.
      residuals: ‖H u - θ u‖ of the Ritz pairs: an eigenvalue lies within that of each Ritz value.
      size: P, the side of the matrix.
    """

    values: Float[np.ndarray, "probes depth"]
    weights: Float[np.ndarray, "probes depth"]
    residuals: Float[np.ndarray, "probes depth"]
    size: int


def lanczos(
    product: Product, params: Params, batches: Batches, *, probes: int, depth: int, seed: int = 0
) -> Quadrature:
    """Lanczos processes with full reorthogonalisation, from vectors of random signs.

    It costs probes * depth products and the memory of depth vectors. With depth 1 it is Hutchinson's
    estimator of the trace. Compiled once for each `product` and each shape.

    Args:
      product: with a symmetric matrix; `hessian` or `gauss_newton`.
      depth: products a probe; no more than there are parameters.
      seed: of the signs.

    Raises:
      ValueError: parameters that are not all float32 or all float64.
    """
    types = {np.dtype(leaf.dtype) for leaf in jax.tree.leaves(params)}
    if types not in ({np.dtype(np.float32)}, {np.dtype(np.float64)}):
        named = ", ".join(sorted(str(one) for one in types))
        raise ValueError(f"the parameters are {named}: make them all float32, or all float64")
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    depth = min(depth, size)
    diagonal, beside = _tridiagonal(product, probes, depth, jax.random.key(seed), params, batches)
    eps = float(np.finfo(diagonal.dtype).eps)
    alphas, betas = (np.asarray(part, np.float64) for part in (diagonal, beside))
    rows = [_ritz(alpha, beta, eps) for alpha, beta in zip(alphas, betas, strict=True)]
    values, weights, residuals = (np.stack(part) for part in zip(*rows, strict=True))
    return Quadrature(values, weights, residuals, size)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _tridiagonal(
    product: Product, probes: int, depth: int, key: Array, params: Params, batches: Batches
) -> tuple[Float[Array, "probes depth"], Float[Array, "probes depth"]]:
    """Diagonals of the tridiagonal matrices; beside them β_1, ..., β_depth, the last of which leads out."""
    flat, unravel = ravel_pytree(params)
    decompose = decomp.tridiag_sym(depth, reortho="full", materialize=False, custom_vjp=False)

    def of_probe(key: Array) -> tuple[Array, Array]:
        signs = unravel(jax.random.rademacher(key, flat.shape, flat.dtype))
        found = decompose(product, signs, params, batches)
        diagonal, beside = found.J_small
        out = jnp.linalg.norm(ravel_pytree(found.residual)[0])
        return diagonal, jnp.append(beside, out)

    side_by_side = max(1, _AT_ONCE // (depth * flat.size))
    found: tuple[Array, Array] = jax.lax.map(
        of_probe, jax.random.split(key, probes), batch_size=min(side_by_side, probes)
    )
    return found


def _ritz(
    diagonal: Float[np.ndarray, " depth"], beside: Float[np.ndarray, " depth"], eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ritz values, weights and residuals of one process; all NaN where the products are not finite.

    A β of nothing but rounding ends the process: its space is invariant, and what follows is noise.
    """
    depth = len(diagonal)
    if not np.isfinite(diagonal[0]):
        return (np.full(depth, np.nan),) * 3
    rounding = depth * eps * np.nanmax(np.abs([diagonal, beside]))
    ended = np.flatnonzero(~(beside[:-1] > rounding))
    k = int(ended[0]) + 1 if len(ended) else depth
    values, vectors = np.linalg.eigh(
        np.diag(diagonal[:k]) + np.diag(beside[: k - 1], 1) + np.diag(beside[: k - 1], -1)
    )
    padding = (0, depth - k)
    out = np.pad(values, padding, constant_values=np.nan)
    residuals = np.pad(beside[k - 1] * np.abs(vectors[-1]), padding, constant_values=np.nan)
    return out, np.pad(np.square(vectors[0]), padding), residuals


class Trace(NamedTuple):
    """An estimate of a trace and its standard error over probes; by probe."""

    value: float
    error: float
    of_probes: Float[np.ndarray, " probes"]

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """By Student's t over the probes."""
        half = scipy.special.stdtrit(len(self.of_probes) - 1, (1 + level) / 2) * self.error
        return self.value - float(half), self.value + float(half)


def trace(found: Quadrature) -> Trace:
    """Hutchinson's estimate of tr H, the mean of vᵀ H v over the probes; its error is NaN for one probe."""
    of_probes = found.size * (found.weights * np.nan_to_num(found.values)).sum(1)
    m = len(of_probes)
    error = float(of_probes.std(ddof=1) / np.sqrt(m)) if m > 1 else float("nan")
    return Trace(float(of_probes.mean()), error, of_probes)


class Extremes(NamedTuple):
    """Eigenvalues at one end of a spectrum, the outermost first, each with a bound on its error."""

    values: Float[np.ndarray, " count"]
    errors: Float[np.ndarray, " count"]


def largest(found: Quadrature, count: int) -> Extremes:
    """The largest eigenvalues; with `count` above the depth, NaN at the end.

    The i-th Ritz value lies below the i-th eigenvalue, so the best of the probes is the largest one. Its
    residual bounds the distance to the nearest eigenvalue, up to the rounding of the products. Lanczos finds
    an eigenvalue of any multiplicity once.
    """
    # NaN sorts last.
    order = np.argsort(-found.values, 1)[:, :count]
    values, residuals = (np.take_along_axis(part, order, 1) for part in (found.values, found.residuals))
    best = np.argmax(np.nan_to_num(values, nan=-np.inf), 0), np.arange(order.shape[1])
    padding = (0, count - order.shape[1])
    return Extremes(*(np.pad(part[best], padding, constant_values=np.nan) for part in (values, residuals)))


def smallest(found: Quadrature, count: int) -> Extremes:
    """The smallest eigenvalues, the least first; as `largest`."""
    values, errors = largest(found._replace(values=-found.values), count)
    return Extremes(-values, errors)


class Density(NamedTuple):
    """Density of the eigenvalues, broadened by Gaussians of standard deviation `width`; its integral is 1.

    `low` and `high` are the 95 % band, point by point, of the density that all P eigenvalues have.
    """

    grid: Float[np.ndarray, " points"]
    density: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]
    width: float


def density(
    found: Quadrature,
    grid: Float[np.ndarray, " points"] | None = None,
    width: float | None = None,
    level: float = 0.95,
) -> Density:
    """Density φ(x) = 1/P Σ_i N(x; λ_i, width²), by quadrature, with a band for the randomness of the probes.

    An eigenvalue's share in the estimate is (uᵀv)² / P, about a χ² of one degree of freedom, independent for
    each eigenvalue and probe. So the estimate is a sum of such χ², and about a multiple of one χ² of the same
    mean and variance, with ν = 2 mean² / variance = m P φ² / (1/P Σ_i N(x; λ_i, width²)²) degrees of freedom:
    near a lone eigenvalue ν is the number of probes m, in the bulk it is large. The band is of those φ that a
    test does not reject, where ν is taken as proportional to φ, as it is to the number of eigenvalues near x.
    Unlike a band from the spread over probes it holds with few probes, and with one.

    Args:
      grid: where; by default 512 points over all Ritz values and four widths beyond.
      width: by default the range of the Ritz values over the depth. A Gaussian so wide is a polynomial of the
        quadrature's degree to within e⁻⁸.
    """
    values, weights = np.nan_to_num(found.values), found.weights
    least, most = np.nanmin(found.values), np.nanmax(found.values)
    if width is None:
        width = float(most - least) / found.values.shape[1] or 1.0
    if grid is None:
        grid = np.linspace(least - 4 * width, most + 4 * width, 512)
    kernel = np.exp(-0.5 * np.square((grid[:, None] - values.ravel()) / width)) / (width * np.sqrt(2 * np.pi))
    shares = weights.ravel() / len(weights)
    middle, square = kernel @ shares, np.square(kernel) @ shares
    # Far from all eigenvalues the kernel is 0, and so is the band.
    freedom = np.fmax(found.size * len(weights) * middle**2 / np.where(square > 0, square, 1.0), 1e-6)
    low, high = (
        middle * scipy.special.chdtriv(share, freedom) / freedom
        for share in ((1 + level) / 2, (1 - level) / 2)
    )
    low = np.minimum(low, middle)  # an estimate far below one eigenvalue's share rejects itself
    return Density(grid, middle, low, high, width)
