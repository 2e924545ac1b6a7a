"""Covariance of the activations of layers over a data set: eigenvalues, and what noise of that shape shows.

The activations of a layer are a matrix X, one row an example, one column a feature, less the columns' means.
Its table is that of a weight matrix of the same shape, of kind "activation", with the Marchenko-Pastur law of
its shape. The mean takes one degree of freedom: n examples of d features make N x M of n - 1 and d, sorted.
Rows must be independent, so of a layer with positions (tokens, pixels) an example gives one, not all.
Examples go through in batches, and what is kept of a layer is d x d.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rmtjax.spectra import metrics as metrics_lib
from rmtjax.spectra import programs, table
from rmtjax.spectra.analysis import Analysis
from rmtjax.spectra.curvature import Batches, sum_over
from rmtjax.spectra.matrices import Matrix
from rmtjax.spectra.streaming import Spectrum

Layers = Callable[[Any, Any], dict[str, Array]]  # (params, examples) -> name: [B, d]


def analyze(layers: Layers, params: Any, batches: Batches) -> Analysis:
    """Spectra and metrics of the activations of all layers, as `spectra.analyze` gives them of weights.

    The eigenvalues are of Xᵀ X, not divided by n: those of the covariance times n - 1.

    Args:
      layers: activations by name, one row an example.
    """
    grams = jax.device_get(_grams(layers, params, batches))
    rows = int((np.asarray(batches.weights) > 0).sum()) - 1
    found, spectra = [], []
    for name, gram in grams.items():
        N, M = max(rows, len(gram)), min(rows, len(gram))
        found.append(Matrix(name, "activation", (1, N, M), functools.partial(_not_kept, name)))
        spectra.append(_spectrum(gram, M))
    dtype = jax.tree.leaves(grams)[0].dtype.type
    raw = programs.measure(spectra, [one.shape for one in found], metrics_lib.chosen("default"), dtype)
    values = {
        one.name: np.ldexp(of.eigenvalues, 2 * of.exponent) for one, of in zip(found, spectra, strict=True)
    }
    return Analysis(table.make(found, raw), values, {})


@functools.partial(jax.jit, static_argnums=0)
def _grams(layers: Layers, params: Any, batches: Batches) -> dict[str, Array]:
    """Xᵀ X of centred X by layer, in two passes: sums of squares less the squared sum would lose digits."""

    def mean(batch: Batches) -> dict[str, Array]:
        return {name: batch.weights @ x for name, x in layers(params, batch.examples).items()}

    means = sum_over(mean, batches)

    def gram(batch: Batches) -> dict[str, Array]:
        real = (batch.weights > 0)[:, None]
        found = layers(params, batch.examples)
        centred = {name: jnp.where(real, x - means[name][None], 0) for name, x in found.items()}
        return {name: x.T @ x for name, x in centred.items()}

    grams: dict[str, Array] = sum_over(gram, batches)
    return grams


def _spectrum(gram: np.ndarray, M: int) -> Spectrum:
    """The M largest eigenvalues, scaled as those of weights are."""
    if not np.isfinite(gram).all():
        return Spectrum(np.zeros(M), 0, int((~np.isfinite(gram)).sum()))
    values = np.maximum(np.linalg.eigvalsh(gram.astype(np.float64))[-M:], 0.0)
    exponent = int(np.frexp(values[-1])[1]) // 2
    return Spectrum(np.ldexp(values, -2 * exponent), exponent, 0)


def _not_kept(name: str) -> np.ndarray:
    raise ValueError(f"the activations of {name} are not kept: their covariance is")
