"""Curvature of the training loss while a model trains: an observer for the loop.

The loss is the mean cross-entropy over fixed real training examples, with the model in evaluation mode: no
augmentation, no label smoothing, no decay, no dropout, and the statistics of batch norm as constants. So runs
that differ in those are measured alike. The parameters are all of them, frozen ones too.

An observed step costs `PROBES + DEPTH` products with each of the two matrices, and a product costs two to
three gradients over the examples. On two cores, with 128 examples: 43 s for the 800,000 parameters of
configs/digits.py, where a training step takes 0.076 s; 1.9 s for the 18,538 of configs/reproduce_hessian.py,
where a step takes 0.004 s. The four programs are compiled once a run, which takes about
half a minute unless JAX has them in its compilation cache.
"""

import logging
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P

from rmtjax import data, files, models, results
from rmtjax.errors import InputError
from rmtjax.spectra import curvature
from rmtjax.train import sharding as sharding_lib
from rmtjax.train.loop import Observer
from rmtjax.train.step import State

LOG = logging.getLogger(__name__)
PROBES = 8  # random signs for each trace
DEPTH = 32  # products of the one Lanczos process that the largest eigenvalues and the density come from
EIGENVALUES = 10  # largest ones kept


def every(
    steps: int,
    folder: pathlib.Path,
    model: models.Model,
    source: data.Source,
    *,
    examples: int,
    batch_size: int,
    mesh: jax.sharding.Mesh,
    seed: int,
) -> Observer:
    """An observer that measures the curvature at every step that `steps` divides.

    It writes `<folder>/curvature_steps/<step>.npz`: for `hessian/` and `gauss_newton/` the largest
    eigenvalues and bounds on their errors, Ritz values and weights, and the density with its band.

    Args:
      source: whose first `examples` the loss is of; all, where it has fewer.
      seed: of the probes, the same at all steps: what changes between steps is the model.
      batch_size: examples in memory at a time; a multiple of the number of devices.

    Returns:
      `(step, state) -> scalars`: curvature/<matrix>_trace, its standard error over probes _trace_error, and
      _largest and _smallest, the outermost eigenvalues; curvature/overhead, the share of the time since the
      first call that was spent here. None at other steps.

    Raises:
      InputError: several processes.
    """
    if jax.process_count() > 1:
        raise InputError(
            f"spectra.curvature_every_steps={steps} needs one process, and there are {jax.process_count()}: "
            "set it to None"
        )

    def outputs(params: Any, example: Any) -> jax.Array:
        return model.apply({"params": params} | example["model_state"], example["inputs"], train=False)[0]

    def loss(logits: jax.Array, example: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits, example["label"])

    products = {
        "hessian": curvature.hessian(outputs, loss),
        "gauss_newton": curvature.gauss_newton(outputs, loss),
    }
    chosen = data.take(source, np.arange(min(examples, source.num_examples)))
    made = list(data.evaluation_batches(chosen, batch_size=batch_size))
    stacked = {name: np.stack([batch[name] for batch in made]) for name in ("inputs", "label", "mask")}
    placed = sharding_lib.put_batch(stacked, mesh, P(None, *sharding_lib.BATCH))
    weights = placed.pop("mask").astype(jnp.float32) / chosen.num_examples
    began, spent = time.monotonic(), 0.0

    def observe(step: int, state: State) -> dict[str, float] | None:
        nonlocal spent
        if step % steps:
            return None
        start = time.monotonic()
        of_batches = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(made), *x.shape)), state.model_state)
        batches = curvature.Batches(placed | {"model_state": of_batches}, weights)
        scalars, arrays = {}, {}
        for name, product in products.items():
            numbers, found = measured(product, state.params, batches, seed)
            scalars |= {f"curvature/{name}_{key}": value for key, value in numbers.items()}
            arrays |= {f"{name}/{key}": value for key, value in found.items()}
        target = folder / results.CURVATURE / f"{step:08d}.npz"
        target.parent.mkdir(exist_ok=True)
        with files.atomic(target) as temporary:
            np.savez(temporary, **arrays)
        spent += time.monotonic() - start
        LOG.info("curvature of step %d: %.1f s", step, time.monotonic() - start)
        return scalars | {"curvature/overhead": spent / (time.monotonic() - began)}

    return observe


def measured(
    product: curvature.Product, params: Any, batches: curvature.Batches, seed: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Trace and ends of the spectrum of a matrix as scalars, and what is kept of it as arrays."""
    trace = curvature.trace(curvature.lanczos(product, params, batches, probes=PROBES, depth=1, seed=seed))
    found = curvature.lanczos(product, params, batches, probes=1, depth=DEPTH, seed=seed)
    top, bottom = curvature.largest(found, EIGENVALUES), curvature.smallest(found, 1)
    scalars = {
        "trace": trace.value,
        "trace_error": trace.error,
        "largest": float(top.values[0]),
        "smallest": float(bottom.values[0]),
    }
    arrays = {"largest": top.values, "largest_error": top.errors, "traces": trace.of_probes}
    arrays |= {"values": found.values, "weights": found.weights}
    if np.isfinite(trace.value):
        band = curvature.density(found)
        arrays |= {"grid": band.grid, "density": band.density, "low": band.low, "high": band.high}
    return scalars, arrays
