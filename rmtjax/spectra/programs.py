"""The metrics of many spectra, with two compiled calls per rung of a short ladder of sizes.

`metrics.METRICS` says which metrics there are, and how each is computed.
"""

import collections
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rmtjax.spectra import bulk, compiled, eigensolver, fingers, goodness, metrics, neighbours, shuffles
from rmtjax.spectra.batch import Batch
from rmtjax.spectra.streaming import Spectrum, precision, round_rows

_ROWS = 64  # spectra in a call, at most
_MULTIPLE = 16  # of which lengths are multiples: few are compiled, and the scan over tails takes blocks of it
# Padding may cost this many steps before another size is compiled: a tenth of a second. A compilation takes
# seconds, and tracing takes half a second even if the program is cached.
_PADDING = 4e7
_WEIGHT_EPS = float(np.finfo(np.float32).eps)
# Up to so many eigenvalues in all a program that compiles quickly and runs slowly is done sooner, by seconds
# in a first call, and is later by a tenth of a second in each further one.
_FEW = 1 << 14


def measure(
    spectra: Sequence[Spectrum],
    shapes: Sequence[tuple[int, int, int]],
    groups: frozenset[str],
    dtype: Any,
    shuffled: Sequence[Spectrum] = (),
    seeds: Sequence[int] = (),
) -> dict[str, np.ndarray]:
    """Metrics of spectra in the units of the scaled matrices.

    Args:
      spectra: of scaled matrices.
      shapes: (slices, N, M) of each.
      groups: of metrics. Groups that need more than eigenvalues are ignored.
      dtype: of the computation, float32 or float64.
      shuffled: spectra of the same matrices with shuffled entries, for the group "shuffles".
      seeds: of the bootstrap, one for each spectrum; none: no bootstrap.

    Returns:
      Arrays with one value per spectrum, in their order, and the columns `exponent` and `bad` of the spectra.
    """
    constants = _constants(np.array(shapes), dtype)
    out: dict[str, np.ndarray] = {
        "exponent": np.array([one.exponent for one in spectra]),
        "bad": np.array([one.bad for one in spectra]),
    }
    sizes = [len(one.eigenvalues) for one in spectra]
    level = _level(sizes)
    with precision(dtype):
        for rung, rows, members in _calls(sizes):
            padded = [*members, *[members[0]] * (rows - len(members))]
            given = {name: column[padded] for name, column in constants.items()}
            count = given.pop("count")
            values = _aligned([spectra[i] for i in members], rows, rung, dtype)
            found: dict[str, Array] = {}
            for names in _names(groups):
                found |= _program(names, level)(values, count, given)
            if "bootstrap" in groups and len(seeds):
                rank = found["matrix_rank"].astype(jnp.int32)
                of_spectra = np.asarray(seeds, np.int32)[padded]
                found |= _jitted(goodness.goodness_of_fit)(values, rank, of_spectra)
            if "fingers" in groups:
                rank = found["matrix_rank"].astype(jnp.int32)
                found |= _jitted(fingers.clip_fingers)(values, rank)
            if "local" in groups:
                noise = found if "bulk" in groups else _noise(values, count, given, level)
                of_bulk = (noise[name] for name in ("num_spikes", "num_removed", "noise_variance"))
                spacings = _jitted(neighbours.spacing_statistics)
                found |= spacings(values, count, *of_bulk, given["N"], given["c"])
            if shuffled:
                others = _aligned([shuffled[i] for i in members], rows, rung, dtype)
                found |= _jitted(shuffles.against_shuffled)(values, others)
                noise = _noise(others, count, given, level)
                found |= {name: noise[source] for name, source in _SHUFFLED.items()}
            for name, column in jax.device_get(found).items():
                out.setdefault(name, np.zeros(len(spectra), column.dtype))[members] = column[: len(members)]
    return out


# Column of the table -> the metric of the shuffled spectrum that stands there.
_SHUFFLED = {
    "num_traps": "num_spikes",
    "rand_num_spikes": "num_spikes_mp_fit",
    "rand_sigma_mp": "sigma_mp",
    "rand_mp_softrank": "mp_softrank_mp_fit",
    "rand_bulk_min": "bulk_min_mp_fit",
    "rand_bulk_max": "bulk_max_mp_fit",
}


def prepare(
    shapes: Sequence[tuple[int, int, int]], groups: frozenset[str], dtype: Any
) -> list[threading.Thread]:
    """Starts to compile what `measure` will need for these shapes, while the weights are read and reduced.

    Returns:
      Threads to join before `measure`, which would compile again what is not ready; empty if all is compiled.
    """
    constants = _constants(np.array(shapes[:1]), dtype)
    threads = []
    sizes = [slices * M for slices, _, M in shapes]
    level = _level(sizes)
    for rung, rows, _ in _calls(sizes):
        given = {name: np.repeat(column, rows, 0) for name, column in constants.items()}
        count = given.pop("count")
        if not compiled.is_new((rung, rows, _names(groups), level, np.dtype(dtype))):
            continue
        values = np.zeros((rows, rung), dtype)
        for names in _names(groups):
            arguments = (values, count, given)
            compiling = (_program(names, level), dtype, arguments)
            threads.append(threading.Thread(target=_compile, args=compiling))
    for thread in threads:
        thread.start()
    return threads


def _compile(program: Any, dtype: Any, arguments: tuple[Any, ...]) -> None:
    with precision(dtype):
        program(*arguments)


def _level(sizes: Sequence[int]) -> int:
    """The optimisation level of the metrics of spectra of these sizes."""
    return 0 if sum(sizes) <= _FEW else 1


def _calls(sizes: Sequence[int]) -> Iterator[tuple[int, int, list[int]]]:
    """For each call the length and the number of rows to pad to, and the indices of its spectra.

    Spectra of one rung are split evenly, so that its calls share a program: 74 are 37 and 37, not 64 and 10.

    >>> [(rung, rows, len(members)) for rung, rows, members in _calls([384] * 74)]
    [(384, 48, 37), (384, 48, 37)]
    """
    ladder = eigensolver.padded_sizes(collections.Counter(sizes), _PADDING)
    for rung in sorted(set(ladder.values())):
        members = [i for i, size in enumerate(sizes) if ladder[size] == rung]
        each = -(-len(members) // -(-len(members) // _ROWS))
        for start in range(0, len(members), each):
            length = -(-rung // _MULTIPLE) * _MULTIPLE
            yield length, round_rows(each), members[start : start + each]


def _aligned(spectra: Sequence[Spectrum], rows: int, size: int, dtype: Any) -> np.ndarray:
    """Spectra as right-aligned rows: each with zeros in front."""
    values = np.zeros((rows, size), dtype)
    for row, one in zip(values, spectra, strict=False):
        row[size - len(one.eigenvalues) :] = one.eigenvalues
    return values


def _constants(shapes: np.ndarray, dtype: Any) -> dict[str, np.ndarray]:
    """What the metrics need to know of each matrix's shape, with the smallest share of λ_max that counts.

    Weights are stored in float32 or less. Rounding of the entries moves singular values by about ε(float32)
    times the largest one, and by √N times that at most, where single entries dominate. Singular values below
    ε √N of the largest are therefore rounding noise. (numpy's bound for `matrix_rank`, N ε, is 3 % of the
    largest for a vocabulary of 256,000.) The resolution of the eigenvalues may be coarser.
    """
    slices, N, M = shapes.T
    resolution = eigensolver.resolution(M, dtype)
    of_shape = bulk.shape_constants(slices, N, M) | {
        "rank_cut": np.maximum(N * _WEIGHT_EPS**2, resolution),
        "resolution": resolution,
    }
    return {name: value.astype(dtype) for name, value in of_shape.items()} | {
        "count": (slices * M).astype(np.int32)
    }


_BULK = frozenset({"bulk"})


def _names(groups: frozenset[str]) -> tuple[tuple[str, ...], ...]:
    """The metrics of each compiled program. The bulk has a program of its own: two compile in parallel."""
    computed = metrics.computed(groups)
    parts = (
        tuple(name for name, group in computed.items() if (group == "bulk") is of_bulk)
        for of_bulk in (False, True)
    )
    return tuple(names for names in parts if names)


def _noise(
    values: np.ndarray, count: np.ndarray, constants: dict[str, np.ndarray], level: int
) -> dict[str, Array]:
    """The metrics of the noise in the bulk alone."""
    found: dict[str, Array] = _program(_names(_BULK)[1], level)(values, count, constants)
    return found


@functools.cache
def _program(names: tuple[str, ...], level: int) -> Any:
    """The compiled function from eigenvalues, counts and constants of shapes to metrics."""

    def metrics_of(
        eigenvalues: Float[Array, "layers size"], count: Int[Array, " layers"], constants: dict[str, Array]
    ) -> dict[str, Array]:
        batch = Batch(eigenvalues, count, constants)
        return {name: metrics.compute(name, batch) for name in names}

    return compiled.jit(metrics_of, compiler_options=compiled.options(level))


@functools.cache
def _jitted(function: Callable[..., Any]) -> Any:
    return compiled.jit(function, compiler_options=compiled.options(1))
