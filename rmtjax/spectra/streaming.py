"""Weights through the device, once: a list of matrices in, their eigenvalues out.

Matrices stream. They are loaded when their turn comes, in stacks of a common padded shape of at most
STACK_BYTES; while the device reduces one stack to tridiagonal matrices the next is read. What is kept of a
matrix are the two diagonals; from these all eigenvalues are found at the end, in a call per rung of a
short ladder of sizes. A stack is split evenly over the devices: its matrices have one shape, so that an even
split is one by cost, n³.
"""

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

from rmtjax.spectra import eigensolver
from rmtjax.spectra.matrices import Matrix

# A stack, its Gram matrices and their tridiagonal reduction together; two stacks are in memory at a time.
STACK_BYTES = 1 << 28
# Operations that padding to a common shape may cost before another shape is compiled: about as long as that takes.
_PADDING = 4e9
_AXIS = "matrices"
_OVER = PartitionSpec(_AXIS)  # type: ignore[no-untyped-call]


class Spectrum(NamedTuple):
    """Eigenvalues of W^T W of one matrix divided by 2^exponent, slices pooled, ascending.

    `bad` counts entries that are not finite; with any, the eigenvalues are zeros.
    """

    eigenvalues: np.ndarray
    exponent: int
    bad: int


class _Reduced(NamedTuple):
    """What is kept of a matrix: tridiagonal matrices `[slices, size]`, and per slice exponent and bad entries."""

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
      devices: to split the work over; None: all accelerators of this process, or one CPU (emulated CPU devices
        share the same cores, and would only get into each other's way).
      partial: a folder where what is done is kept, so that a stopped call goes on from there. It must belong to
        these weights alone: only names, shapes, dtype and `made` are checked.
      made: how the matrices were made of the weights, where it can be done in several ways (seed, layout).
      progress: show a bar.
    """
    if devices is None:
        local = jax.local_devices()
        devices = local[:1] if local[0].platform == "cpu" else local
    mesh = Mesh(np.asarray(devices), (_AXIS,))
    x64 = jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()
    with x64:
        reduced = _reduce(found, np.dtype(dtype), mesh, _Store(partial, found, dtype, made), progress)
        return _roots(found, reduced, np.dtype(dtype))


def _reduce(
    found: Sequence[Matrix], dtype: np.dtype, mesh: Mesh, store: "_Store", progress: bool
) -> list[_Reduced]:
    done = store.read()
    left = [i for i in range(len(found)) if i not in done]
    costs = [_cost(*found[i].shape) for i in range(len(found))]
    bar = tqdm(total=sum(costs), initial=sum(costs[i] for i in done), disable=not progress, unit="flop",
               unit_scale=True, desc="spectra", smoothing=0.1)  # fmt: skip
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
        bar.set_postfix_str(found[members[-1]].name[-40:], refresh=False)
        # Costs are large numbers of which sums in another order differ: the bar must not pass its end.
        bar.update(min(sum(costs[i] for i in members), bar.total - bar.n))

    # Threads as for all of the matrices: what a resumed call adds is what an unbroken one would have found.
    every = [
        [found[i].shape for i in members] for _, members in _stacks(found, range(len(found)), dtype.itemsize)
    ]
    with bar, _blas_threads(every):
        for shape, members in _stacks(found, left, dtype.itemsize):
            stack, widths = _fill([found[i] for i in members], shape, mesh.size)
            while running:
                finish()  # the device works while the next stack is read, and never on two
            grams, exponents, bad = gram(*jax.device_put((stack, widths), rows_over))
            running.append((members, (*tridiagonal(grams), exponents, bad)))
            del stack, grams
        while running:
            finish()
    return [done[i] for i in range(len(found))]


def _cost(slices: int, N: int, M: int) -> float:
    """Operations of product and reduction."""
    return slices * (N * M**2 + 4 / 3 * M**3)


def padded_shapes(
    rows: dict[tuple[int, int], int], padding: float = _PADDING
) -> dict[tuple[int, int], tuple[int, int]]:
    """For each shape `(N, M)` the one to pad it to: few shapes are compiled, little is computed in vain.

    Args:
      rows: how many matrices there are of each shape.
      padding: operations that may be wasted on each common shape.
    """
    out: dict[tuple[int, int], tuple[int, int]] = {}
    members: list[tuple[int, int]] = []
    for shape in sorted(rows, key=lambda shape: (shape[1], shape[0]), reverse=True):
        together = [*members, shape]
        common = (max(n for n, _ in together), max(m for _, m in together))
        waste = sum(rows[s] * (_cost(1, *common) - _cost(1, *s)) for s in together)
        members = together if waste <= padding else [shape]
        common = common if waste <= padding else shape
        out |= dict.fromkeys(members, common)
    return out


def _stacks(
    found: Sequence[Matrix], wanted: Sequence[int], itemsize: int
) -> Iterator[tuple[tuple[int, int], list[int]]]:
    """Padded shapes with the indices of the matrices of one stack, the costliest shapes first."""
    rows: dict[tuple[int, int], int] = {}
    for i in wanted:
        slices, N, M = found[i].shape
        rows[N, M] = rows.get((N, M), 0) + slices
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
    """The next of 1, 2, 3, 4, 6, 8, 12, ... times the devices: few numbers of rows are compiled."""
    size = 1
    while size * devices < rows:
        size = (
            size * 3 // 2
            if size & (size - 1) == 0 and size > 1
            else (size * 4 // 3 if size > 2 else size + 1)
        )
    return size * devices


def _fill(members: Sequence[Matrix], shape: tuple[int, int], devices: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices in a stack `[rows, N, M]` of their own dtype, zeros around them, and how wide each is."""
    rows = round_rows(sum(matrix.shape[0] for matrix in members), devices)
    widths = np.ones(rows, np.int32)
    stack = np.zeros((0, *shape), np.float16)
    start = 0
    for matrix in members:
        weights = matrix.load()
        slices, N, M = weights.shape
        wider = weights.dtype if start == 0 else np.promote_types(stack.dtype, weights.dtype)
        if start == 0:
            stack = _aligned_zeros((rows, *shape), wider)
        elif wider != stack.dtype:
            stack = stack.astype(wider)
        stack[start : start + slices, :N, :M] = weights
        widths[start : start + slices] = M
        start += slices
    return stack, widths


def _aligned_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Where a CPU device can use it without a copy."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    buffer = np.zeros(size + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    aligned: np.ndarray = buffer[start : start + size].view(dtype).reshape(shape)
    return aligned


@functools.cache
def _programs(mesh: Mesh, dtype: np.dtype) -> tuple[Any, Any]:
    def split(of: Any) -> Any:
        return jax.jit(jax.shard_map(of, mesh=mesh, in_specs=_OVER, out_specs=_OVER, check_vma=False))

    # The platform's own blocking is better where there is one.
    block = {"block": 1 << 30} if mesh.devices.flat[0].platform != "cpu" else {}
    return split(lambda stack, widths: eigensolver.gram_stack(stack, widths, dtype, **block)), split(
        eigensolver.tridiagonal
    )


@contextlib.contextmanager
def _blas_threads(stacks: Sequence[Sequence[tuple[int, int, int]]]) -> Iterator[None]:
    """LAPACK's own threads only where there are fewer matrices than cores: many matrices go side by side.

    Decided by the stack that costs most. Idle BLAS threads spin, and would take the time of those that work.
    """
    import scipy.linalg.cython_lapack  # noqa: F401  (loads the library that JAX calls)
    from threadpoolctl import threadpool_limits

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    costliest = max(stacks, key=lambda shapes: sum(_cost(*shape) for shape in shapes), default=[(1, 1, 1)])
    rows = sum(slices for slices, _, _ in costliest)
    with threadpool_limits(max(1, cores // rows), user_api="blas"):
        yield


class _Store:
    """What is done, in files of a folder; without a folder nothing is kept."""

    def __init__(
        self, folder: str | os.PathLike[str] | None, found: Sequence[Matrix], dtype: Any, made: str
    ) -> None:
        self.folder = None if folder is None else pathlib.Path(folder)
        told = "\n".join(f"{matrix.name} {matrix.shape}" for matrix in found)
        self.key = hashlib.sha256(f"{np.dtype(dtype)}\n{made}\n{told}".encode()).hexdigest()[:16]

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


_solve = jax.jit(eigensolver.tridiagonal_eigenvalues)


def _roots(found: Sequence[Matrix], reduced: Sequence[_Reduced], dtype: np.dtype) -> list[Spectrum]:
    rows: dict[int, int] = {}
    for one in reduced:
        rows[one.diagonal.shape[1]] = rows.get(one.diagonal.shape[1], 0) + len(one.diagonal)
    ladder = eigensolver.padded_sizes(rows)
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
            # Slices of a layer get one scale. What is padded here sorts below every eigenvalue of a Gram matrix.
            exponents[i] = int(one.exponent.max())
            shift = 2 * (one.exponent - exponents[i])[:, None]
            place = slice(start, start + len(one.diagonal))
            size = one.diagonal.shape[1]
            diagonal[place, :size] = np.ldexp(one.diagonal, shift)
            diagonal[place, size:] = -diagonal[place, :size].max(1, keepdims=True)
            off_diagonal[place, : size - 1] = np.ldexp(one.off_diagonal, shift)
            widths[place] = M
            start = place.stop
        roots, start = np.asarray(_solve(diagonal, off_diagonal, widths)), 0
        for i in members:
            slices, _, M = found[i].shape
            own = np.maximum(roots[start : start + slices, rung - M :], 0)
            bad = int(reduced[i].bad.sum())
            out[i] = Spectrum(
                np.zeros(own.size, dtype) if bad else np.sort(own, axis=None), exponents[i], bad
            )
            start += slices
    return [out[i] for i in range(len(found))]
