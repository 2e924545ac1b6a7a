"""Weights stream through the device once: a list of matrices in, their eigenvalues out.

Matrices are loaded when they are needed, in stacks of a common padded shape of at most STACK_BYTES. While the
device reduces one stack to tridiagonal matrices, the next stack is read. Only the two diagonals of each
matrix are kept. From these all eigenvalues are found at the end, with one call per rung of a short ladder of
sizes. A stack is split evenly over the devices: its matrices have one shape, and so one cost.
"""

import collections
import contextlib
import functools
import hashlib
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from rmtjax.errors import printable
from rmtjax.spectra import compiled, eigensolver
from rmtjax.spectra.matrices import Matrix

# For a stack, its Gram matrices and their reduction together. Two stacks are in memory at a time.
STACK_BYTES = 1 << 28
# Padding to a common shape may cost this many operations before another shape is compiled: about as long as a
# compilation.
_PADDING = 4e9
_AXIS = "matrices"
_OVER = PartitionSpec(_AXIS)  # type: ignore[no-untyped-call]


class Spectrum(NamedTuple):
    """Eigenvalues of W^T W of one matrix W divided by 2^exponent; slices pooled, ascending.

    `bad` is the number of entries that are not finite. If there are any, the eigenvalues are zeros.
    """

    eigenvalues: np.ndarray
    exponent: int
    bad: int


class _Reduced(NamedTuple):
    """What is kept of a matrix: tridiagonal form `[slices, size]`, exponent and bad entries of each slice."""

    diagonal: np.ndarray
    off_diagonal: np.ndarray
    exponent: np.ndarray
    bad: np.ndarray


def spectra(
    found: Sequence[Matrix],
    dtype: Any,
    *,
    devices: Sequence[jax.Device] | None = None,
    partial: str | os.PathLike[str] | None = None,
    made: str = "",
    progress: bool = False,
) -> list[Spectrum]:
    """Eigenvalues of all matrices, in their order.

    Args:
      found: the matrices; each is loaded once.
      dtype: of the Gram matrices and all that follows, float32 or float64.
      devices: to split the work over. None: all accelerators of this process, or one CPU (emulated CPU
        devices share the same cores and would only slow each other down).
      partial: a folder that keeps what is done, so that a stopped call continues from there. It must belong
        to these weights alone: only names, shapes, dtype and `made` are checked.
      made: how the matrices were made from the weights, where there are several ways (seed, layout).
      progress: show a bar.

    >>> weights = np.array([[[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]])
    >>> (found,) = spectra([Matrix("w", "dense", (1, 3, 2), lambda: weights)], np.float64)
    >>> np.ldexp(found.eigenvalues, 2 * found.exponent).round(6).tolist()
    [9.0, 16.0]
    """
    if devices is None:
        local = jax.local_devices()
        devices = local[:1] if local[0].platform == "cpu" else local
    mesh = Mesh(np.asarray(devices), (_AXIS,))
    with precision(dtype):
        reduced = _reduce(found, np.dtype(dtype), mesh, _Store(partial, found, dtype, made), progress)
        return _roots(found, reduced, np.dtype(dtype))


@contextlib.contextmanager
def precision(dtype: Any) -> Iterator[None]:
    """A context in which JAX computes in double precision where `dtype` is float64.

    NaN is what a metric is where it is not defined, and so no error under JAX_DEBUG_NANS.
    """
    double = jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()
    with double, jax.debug_nans(False):
        yield


def _reduce(
    found: Sequence[Matrix], dtype: np.dtype, mesh: Mesh, store: "_Store", progress: bool
) -> list[_Reduced]:
    done = store.read()
    left = [i for i in range(len(found)) if i not in done]
    costs = [_cost(*found[i].shape) for i in range(len(found))]
    bar = tqdm(
        desc="spectra",
        total=sum(costs),
        initial=sum(costs[i] for i in done),
        # By operations, of which a person wants to know the share and not the number.
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        dynamic_ncols=True,
        smoothing=0.1,
        disable=not progress,
    )
    gram, tridiagonal = _programs(mesh, dtype)
    rows_over = NamedSharding(mesh, _OVER)
    running: list[tuple[list[int], Any]] = []

    def finish() -> None:
        members, arrays = running.pop()
        diagonal, off_diagonal, exponents, bad = jax.device_get(arrays)
        new, start = {}, 0
        for i in members:
            rows = slice(start, start := start + found[i].shape[0])
            new[i] = _Reduced(diagonal[rows], off_diagonal[rows], exponents[rows], bad[rows])
        store.write(new)
        done.update(new)
        bar.set_postfix_str(printable(found[members[-1]].name)[-40:], refresh=False)
        # Sums of large costs depend on their order by rounding: the bar must not pass its end.
        bar.update(min(sum(costs[i] for i in members), bar.total - bar.n))

    # The number of threads is that of all matrices: a resumed call gives the same numbers as an unbroken one.
    stacks = _stacks(found, range(len(found)), dtype.itemsize)
    with bar, _blas_threads([[found[i].shape for i in members] for _, members in stacks]):
        for shape, members in _stacks(found, left, dtype.itemsize):
            stack, widths = _fill([found[i] for i in members], shape, mesh.size)
            while running:
                finish()  # the device works while the next stack is read, but only on one stack at a time
            with np.errstate(over="ignore"):  # what is too large for single precision is counted as bad
                put = jax.device_put((stack, widths), rows_over)
            grams, exponents, bad = gram(*put)
            running.append((members, (*tridiagonal(grams), exponents, bad)))
            del stack, put, grams
        while running:
            finish()
    return [done[i] for i in range(len(found))]


def _cost(slices: int, N: int, M: int) -> float:
    """Number of operations of the Gram matrix and its reduction."""
    return slices * (N * M**2 + 4 / 3 * M**3)


def padded_shapes(
    rows: dict[tuple[int, int], int], padding: float = _PADDING
) -> dict[tuple[int, int], tuple[int, int]]:
    """For each shape `(N, M)` the shape to pad it to: few shapes are compiled, and little work is wasted.

    Args:
      rows: how many matrices there are of each shape.
      padding: how many operations may be wasted on each common shape.

    >>> padded_shapes({(768, 768): 4, (760, 760): 1, (64, 8): 1}, padding=1e8)
    {(768, 768): (768, 768), (760, 760): (768, 768), (64, 8): (64, 8)}
    """
    out: dict[tuple[int, int], tuple[int, int]] = {}
    members: list[tuple[int, int]] = []
    for shape in sorted(rows, key=lambda shape: (shape[1], shape[0]), reverse=True):
        together = [*members, shape]
        common = (max(n for n, _ in together), max(m for _, m in together))
        waste = sum(rows[s] * (_cost(1, *common) - _cost(1, *s)) for s in together)
        if waste > padding:
            together, common = [shape], shape
        members = together
        out |= dict.fromkeys(members, common)
    return out


def _stacks(
    found: Sequence[Matrix], wanted: Sequence[int], itemsize: int
) -> Iterator[tuple[tuple[int, int], list[int]]]:
    """The padded shape of each stack and the indices of its matrices, the costliest shapes first."""
    rows: collections.Counter[tuple[int, int]] = collections.Counter()
    for i in wanted:
        slices, N, M = found[i].shape
        rows[N, M] += slices
    shapes = padded_shapes(rows)
    by_shape: dict[tuple[int, int], list[int]] = {}
    for i in wanted:
        by_shape.setdefault(shapes[found[i].shape[1:]], []).append(i)
    for shape in sorted(by_shape, key=lambda shape: _cost(1, *shape), reverse=True):
        N, M = shape
        room = max(1, STACK_BYTES // ((N * M + 3 * M * M) * itemsize))
        members: list[int] = []
        filled = 0
        for i in by_shape[shape]:
            slices = found[i].shape[0]
            if members and filled + slices > room:
                yield shape, members
                members, filled = [], 0
            members.append(i)
            filled += slices
        yield shape, members


def round_rows(rows: int, devices: int = 1) -> int:
    """`rows` rounded up to 1, 2, 3, 4, 6, 8, 12, ... times the devices: few numbers of rows are compiled.

    >>> [round_rows(rows) for rows in (1, 3, 5, 9, 13)], round_rows(9, devices=8)
    ([1, 3, 6, 12, 16], 16)
    """
    each = -(-rows // devices)
    power = 1 << (each - 1).bit_length()
    return devices * (power * 3 // 4 if each <= power * 3 // 4 else power)


def _fill(members: Sequence[Matrix], shape: tuple[int, int], devices: int) -> tuple[np.ndarray, np.ndarray]:
    """The matrices, padded with zeros, in one stack `[rows, N, M]` of their own dtype; the width of each."""
    rows = round_rows(sum(matrix.shape[0] for matrix in members), devices)
    widths = np.ones(rows, np.int32)
    stack = np.zeros((0, *shape), np.float16)
    start = 0
    for matrix in members:
        weights = matrix.load()
        slices, N, M = weights.shape
        wider = weights.dtype if start == 0 else _common(stack.dtype, weights.dtype)
        if start == 0:
            stack = _aligned_zeros((rows, *shape), wider)
        elif wider != stack.dtype:
            stack = stack.astype(wider)
        stack[start : start + slices, :N, :M] = weights
        widths[start : start + slices] = M
        start += slices
    return stack, widths


def _common(one: np.dtype, other: np.dtype) -> np.dtype:
    """A dtype that holds the numbers of both.

    >>> import ml_dtypes
    >>> _common(np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)).name
    'float32'
    """
    try:
        return np.promote_types(one, other)
    except TypeError:  # numpy knows none for two kinds of 8 or 16 bits, and float32 holds all of those
        return np.dtype(np.float32)


def _aligned_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros whose memory is aligned so that a CPU device can use it without a copy."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.zeros(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    aligned: np.ndarray = buffer[start : start + size].view(dtype).reshape(shape)
    return aligned


@functools.cache
def _programs(mesh: Mesh, dtype: np.dtype) -> tuple[Any, Any]:
    """The Gram matrices and their reduction as compiled functions, split over the devices."""

    def split(function: Any) -> Any:
        return compiled.jit(
            jax.shard_map(function, mesh=mesh, in_specs=_OVER, out_specs=_OVER, check_vma=False)
        )

    # Accelerators have a blocking of their own, which is better.
    block = {"block": 1 << 30} if mesh.devices.flat[0].platform != "cpu" else {}
    gram = split(lambda stack, widths: eigensolver.gram_stack(stack, widths, dtype, **block))
    return gram, split(eigensolver.tridiagonal)


@contextlib.contextmanager
def _blas_threads(stacks: Sequence[Sequence[tuple[int, int, int]]]) -> Iterator[None]:
    """Gives LAPACK several threads only where the costliest stack has fewer matrices than there are cores.

    Otherwise matrices run side by side, and idle BLAS threads, which spin, would slow down those that work.
    """
    import scipy.linalg.cython_lapack  # noqa: F401  (loads the library that JAX calls)
    from threadpoolctl import threadpool_limits

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    costliest = max(stacks, key=lambda shapes: sum(_cost(*shape) for shape in shapes), default=[(1, 1, 1)])
    rows = sum(slices for slices, _, _ in costliest)
    with threadpool_limits(max(1, cores // rows), user_api="blas"):
        yield


class _Store:
    """Keeps finished matrices in files of a folder; without a folder it keeps nothing."""

    def __init__(
        self, folder: str | os.PathLike[str] | None, found: Sequence[Matrix], dtype: Any, made: str
    ) -> None:
        self.folder = None if folder is None else pathlib.Path(folder)
        matrices = "\n".join(f"{matrix.name} {matrix.shape}" for matrix in found)
        self.key = hashlib.sha256(f"{np.dtype(dtype)}\n{made}\n{matrices}".encode()).hexdigest()[:16]

    def read(self) -> dict[int, _Reduced]:
        done: dict[int, _Reduced] = {}
        if self.folder is None:
            return done
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.folder.glob(f"{self.key}-*.npz")):
            with np.load(path, allow_pickle=False) as stored:
                for name in stored.files:
                    index, field = name.split("/")
                    if field == "diagonal":
                        done[int(index)] = _Reduced(*(stored[f"{index}/{part}"] for part in _Reduced._fields))
        return done

    def write(self, new: dict[int, _Reduced]) -> None:
        if self.folder is None:
            return
        arrays = {f"{i}/{name}": part for i, one in new.items() for name, part in one._asdict().items()}
        target = self.folder / f"{self.key}-{min(new)}.npz"
        temporary = target.with_name(f".{target.stem}.{os.getpid()}.npz")
        np.savez(temporary, **arrays)
        os.replace(temporary, target)


# Up to so many steps of the Sturm recurrence (rows x size x size) a program that compiles quickly and runs
# slowly is done sooner: two seconds of processor time earlier in a first call, at most .2 s later in others.
_FEW_STEPS = 1e6


@functools.cache
def _solver(few: bool) -> Any:
    options = {"compiler_options": compiled.options(0)} if few else {}
    return compiled.jit(eigensolver.tridiagonal_eigenvalues, **options)


def _roots(found: Sequence[Matrix], reduced: Sequence[_Reduced], dtype: np.dtype) -> list[Spectrum]:
    """Eigenvalues of all tridiagonal matrices, with one call per rung of the ladder of sizes."""
    rows: collections.Counter[int] = collections.Counter()
    for one in reduced:
        rows[one.diagonal.shape[1]] += len(one.diagonal)
    ladder = eigensolver.padded_sizes(rows)
    solve = _solver(sum(rows[size] * ladder[size] ** 2 for size in rows) <= _FEW_STEPS)
    out: dict[int, Spectrum] = {}
    for rung in sorted(set(ladder.values())):
        members = [i for i, one in enumerate(reduced) if ladder[one.diagonal.shape[1]] == rung]
        total = sum(len(reduced[i].diagonal) for i in members)
        diagonal = np.zeros((round_rows(total), rung), dtype)
        off_diagonal = np.zeros((len(diagonal), rung - 1), dtype)
        widths = np.ones(len(diagonal), np.int32)
        exponents, start = {}, 0
        for i in members:
            one, M = reduced[i], found[i].shape[2]
            # The slices of a layer get one scale. Padding sorts below every eigenvalue of a Gram matrix.
            exponents[i] = int(one.exponent.max())
            shift = 2 * (one.exponent - exponents[i])[:, None]
            place = slice(start, start + len(one.diagonal))
            size = one.diagonal.shape[1]
            diagonal[place, :size] = np.ldexp(one.diagonal, shift)
            diagonal[place, size:] = -diagonal[place, :size].max(1, keepdims=True)
            off_diagonal[place, : size - 1] = np.ldexp(one.off_diagonal, shift)
            widths[place] = M
            start = place.stop
        roots, start = np.asarray(solve(diagonal, off_diagonal, widths)), 0
        for i in members:
            slices, _, M = found[i].shape
            own = np.maximum(roots[start : start + slices, rung - M :], 0)
            bad = int(reduced[i].bad.sum())
            out[i] = Spectrum(
                np.zeros(own.size, dtype) if bad else np.sort(own, axis=None), exponents[i], bad
            )
            start += slices
    return [out[i] for i in range(len(found))]
