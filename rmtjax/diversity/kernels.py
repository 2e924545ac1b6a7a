"""Vendi scores with other kernels: the Gaussian, exactly or by random features; any kernel at order 2.

The Gaussian kernel is k(x, y) = exp(-|x - y|^2 / (2 s^2)) with bandwidth s. The bandwidth decides the score:
if s is small all examples differ, if it is large none do. So all sets that are compared use one bandwidth,
that of the reference (`median_distance`), and it is stated beside the numbers.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from rmtjax.diversity import spectrum
from rmtjax.diversity.neighbours import squared_distances
from rmtjax.diversity.spectrum import NORMAL_975, Estimate, Features
from rmtjax.diversity.vendi import check_order, checked

Kernel = Callable[[Array, Array], Array]  # (example [d], examples [n, d]) -> similarities [n], 1 to itself
_SAMPLE = 1000  # examples whose distances are taken


def median_distance(features: Features, seed: int = 0) -> float:
    """The median distance between two examples, as a bandwidth for the Gaussian kernel.

    It uses at most 1,000 random examples.

    Raises:
      ValueError: there are fewer than two examples, features are not finite, or half the pairs are copies.
    """
    checked(features)
    rows = np.sort(np.random.default_rng(seed).permutation(len(features))[:_SAMPLE])
    if len(rows) < 2:
        raise ValueError("one example has no distances: give at least two, or a bandwidth")
    some = np.asarray(features)[rows]
    copies = np.unique(some, axis=0, return_counts=True)[1]
    with jax.enable_x64(True):
        wide = jnp.asarray(some, jnp.float64)
        wide = wide - jnp.mean(wide, axis=0)[None]
        distances = np.sqrt(np.asarray(jax.vmap(squared_distances, (0, None))(wide, wide)))
    median = float(np.median(distances[np.triu_indices(len(rows), 1)]))
    # Distances of copies are counted, since rounding need not make them 0.
    if 2 * np.sum(copies * (copies - 1)) > len(rows) * (len(rows) - 1) or not median > 0:
        raise ValueError(
            "the median distance of the examples is 0, most are copies: "
            "give a bandwidth, or leave gaussian_vendi out"
        )
    return median


def gaussian(bandwidth: float | int) -> Kernel:
    """The Gaussian kernel, for `rke`."""
    kernel: Kernel = jax.tree_util.Partial(_gaussian, bandwidth)  # type: ignore[no-untyped-call]
    return kernel


def _gaussian(
    bandwidth: Float[Array, ""], example: Float[Array, " d"], examples: Float[Array, "n d"]
) -> Array:
    return jnp.exp(-squared_distances(example, examples) / (2 * bandwidth**2))


def gaussian_vendi(
    features: Features, bandwidth: float | int, q: float | int = 1.0, top: int | None = None
) -> Estimate:
    """Vendi score of order q of the Gaussian kernel, exactly, with a 95 % interval.

    It makes the n x n matrix, at a cost of n^2 d + n^3. Use it for at most a few thousand examples, and
    `fkea` for more.

    Raises:
      ValueError: see `vendi_score`; also if the bandwidth is not above 0.
    """
    _check(features, bandwidth, q, top)
    with jax.enable_x64(True):
        wide = jnp.asarray(features, jnp.float64)
        gram = _similarities(wide - jnp.mean(wide, axis=0)[None], gaussian(bandwidth)) / len(wide)
        return spectrum.of_gram(gram, q, top).effective_number()


def fkea(
    features: Features, bandwidth: float | int, q: float | int = 1.0, top: int | None = None, *,
    frequencies: int = 1000, seed: int = 0,
) -> Estimate:  # fmt: skip
    """Vendi score of order q of the Gaussian kernel by random Fourier features, at a cost linear in n (FKEA).

    The inner products of cosines and sines of r random frequencies, drawn from N(0, 1/bandwidth^2), equal the
    kernel up to r^(-1/2) (Rahimi & Recht 2007; Ospanov et al., NeurIPS 2024). The score is at most 2 r, and
    too low if the exact one is near 2 r. The interval is over examples, with fixed frequencies.

    Args:
      frequencies: the number r; the second moment is 2 r x 2 r.
      seed: seed of the frequencies. Use the same seed for sets that are compared.

    Raises:
      ValueError: see `vendi_score`; also if the bandwidth is not above 0.
    """
    _check(features, bandwidth, q, top)
    with jax.enable_x64(True):
        shape = (features.shape[1], frequencies)
        drawn = jax.random.normal(jax.random.key(seed), shape, jnp.float64) / bandwidth
    return spectrum.entropy(features, spectrum.fourier, drawn, q=q, top=top).effective_number()


def rke(features: Features, kernel: Kernel | None = None) -> Estimate:
    """The Vendi score of order 2 without eigenvalues, with a 95 % interval (RKE).

    The Renyi kernel entropy score is 1 / ||K / n||_F^2 (Jalali et al., NeurIPS 2023). It is computed in
    blocks, at a cost of n^2 d, or of n d^2 for the cosine if d < n.

    Args:
      kernel: `(example [d], examples [n, d]) -> similarities [n]`, which is 1 for an example and itself; None
        is the cosine.

    Raises:
      ValueError: there are no examples, or features are not finite.
    """
    rows = checked(features)
    if kernel is None:
        squares = spectrum.mean_squares(features, rows)
    else:
        with jax.enable_x64(True):
            squares = np.asarray(_kernel_squares(jnp.asarray(features, jnp.float64), _hashable(kernel)))
    value = 1 / float(np.mean(squares))
    half = NORMAL_975 * 2 * value * float(np.std(squares)) / math.sqrt(len(squares))
    return Estimate(value, value * math.exp(-half), value * math.exp(half))


def _check(features: Features, bandwidth: float | int, q: float | int, top: int | None) -> None:
    check_order(q, top)
    checked(features)
    if not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth={bandwidth} is out of range: it must be above 0")


def _hashable(kernel: Kernel) -> Kernel:
    """A kernel that is an argument of jit, so that another bandwidth needs no new compilation."""
    if isinstance(kernel, jax.tree_util.Partial):
        return kernel
    wrapped: Kernel = jax.tree_util.Partial(kernel)  # type: ignore[no-untyped-call]
    return wrapped


@jax.jit
def _similarities(features: Float[Array, "n d"], kernel: Kernel) -> Float[Array, "n n"]:
    made: Array = jax.vmap(kernel, (0, None))(features, features)
    return made


@jax.jit
def _kernel_squares(features: Float[Array, "n d"], kernel: Kernel) -> Float[Array, " n"]:
    def fill(block: Array, first: Array, _: Array, out: Array) -> Array:
        squares = jnp.mean(jax.vmap(kernel, (0, None))(block, features) ** 2, axis=1)
        return jax.lax.dynamic_update_slice_in_dim(out, squares, first, 0)

    start = jnp.zeros(len(features), jnp.float64)
    out: Array = spectrum.blocks(features, max(features.shape), fill, start)
    return out
