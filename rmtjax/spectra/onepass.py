"""The metrics of many spectra in one compiled call for each rung of a short ladder of sizes."""

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rmtjax.spectra import bulk, correlation, eigen, measures, mp_fit, rivals, shuffles, tails
from rmtjax.spectra.solve import Spectrum, round_rows

_WEIGHT_EPS = float(np.finfo(np.float32).eps)


def measure(
    spectra: Sequence[Spectrum],
    shapes: Sequence[tuple[int, int, int]],
    groups: frozenset[str],
    dtype: Any,
    shuffled: Sequence[Spectrum] = (),
) -> dict[str, np.ndarray]:
    """Raw metrics of spectra, in their order.

    Args:
      spectra: of scaled matrices.
      shapes: (slices, N, M) of each.
      groups: of metrics; those that need no more than eigenvalues.
      dtype: of the computation, float32 or float64.
      shuffled: spectra of the same matrices with their entries shuffled, if the group "shuffles" is wanted.

    Returns:
      Arrays of one value per spectrum, in the units of the scaled matrices; `exponent` and `bad` are theirs.
    """
    rows: dict[int, int] = {}
    for one in spectra:
        rows[len(one.eigenvalues)] = rows.get(len(one.eigenvalues), 0) + 1
    ladder = eigen.padded_sizes(rows)
    constants = _constants(np.array(shapes), dtype)
    out: dict[str, np.ndarray] = {
        "exponent": np.array([one.exponent for one in spectra]),
        "bad": np.array([one.bad for one in spectra]),
    }
    x64 = jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()
    with x64:
        for rung in sorted(set(ladder.values())):
            members = [i for i, one in enumerate(spectra) if ladder[len(one.eigenvalues)] == rung]
            padding = [members[0]] * (round_rows(len(members)) - len(members))
            rows_padded = len(members) + len(padding)
            values = _aligned([spectra[i] for i in members], rows_padded, rung, dtype)
            others = _aligned([shuffled[i] for i in members], rows_padded, rung, dtype) if shuffled else None
            given = {name: column[[*members, *padding]] for name, column in constants.items()}
            count = given.pop("count")
            for name, column in jax.device_get(_measure(values, count, given, others, groups)).items():
                out.setdefault(name, np.zeros(len(spectra), column.dtype))[members] = column[: len(members)]
    return out


def _aligned(spectra: Sequence[Spectrum], rows: int, size: int, dtype: Any) -> np.ndarray:
    """Spectra as rows, each with zeros in front."""
    values = np.zeros((rows, size), dtype)
    for row, one in zip(values, spectra, strict=False):
        row[size - len(one.eigenvalues) :] = one.eigenvalues
    return values


def _constants(shapes: np.ndarray, dtype: Any) -> dict[str, np.ndarray]:
    """Per matrix: what the metrics need of the shape, and the least share of λ_max that counts.

    Weights are kept in float32 or less, so that singular values below N ε(float32) of the largest are rounding
    (numpy's convention for `matrix_rank`, applied to the weights as stored); the eigenvalues' own resolution
    may be coarser.
    """
    slices, N, M = shapes.T
    resolution = eigen.resolution(M, dtype)
    of_shape = bulk.shape_constants(slices, N, M) | {
        "rank_cut": np.maximum((N * _WEIGHT_EPS) ** 2, resolution),
        "resolution": resolution,
    }
    return {name: value.astype(dtype) for name, value in of_shape.items()} | {
        "count": (slices * M).astype(np.int32)
    }


@functools.partial(jax.jit, static_argnums=4)
def _measure(
    eigenvalues: Float[Array, "layers size"],
    count: Int[Array, " layers"],
    constants: dict[str, Array],
    shuffled: Float[Array, "layers size"] | None,
    groups: frozenset[str],
) -> dict[str, Array]:
    metrics = measures.measures(eigenvalues, count, constants["rank_cut"])
    nonzero = metrics["matrix_rank"].astype(jnp.int32)
    resolved = measures.nonzero_eigenvalues(eigenvalues, count, constants["resolution"])
    metrics["num_unresolved"] = (count - resolved).astype(eigenvalues.dtype)
    tail = tails.power_law(eigenvalues, nonzero)
    N = constants["N"]
    M = jnp.round(N * constants["c"])
    if "tail" in groups:
        metrics |= tail | rivals.rivals(eigenvalues, tail["num_pl_spikes"], tail["alpha"], tail["xmin"])
        metrics["log_alpha_norm"] = tails.log_power_sum(eigenvalues, tail["alpha"])
        metrics["alpha_hill"] = tails.hill(eigenvalues, nonzero // 2)
        metrics["alpha_hill_10"] = tails.hill(eigenvalues, nonzero // 10)
        metrics["alpha_hill_sqrt"] = tails.hill(eigenvalues, jnp.sqrt(nonzero).astype(jnp.int32))
    if "bulk" in groups:
        metrics |= bulk.bulk(eigenvalues, count, constants)
        metrics |= mp_fit.mp_fit(eigenvalues, count, N, M)
    if "correlation" in groups:
        metrics |= correlation.erg(eigenvalues, count, tail["num_pl_spikes"])
    if shuffled is not None:
        metrics |= shuffles.against_shuffled(eigenvalues, shuffled)
        fit = mp_fit.mp_fit(shuffled, count, N, M)
        metrics |= {"rand_" + name.removesuffix("_mp_fit"): value for name, value in fit.items()}
        metrics["num_traps"] = bulk.bulk(shuffled, count, constants)["num_spikes"]
    return metrics
