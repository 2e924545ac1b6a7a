"""The one pass over all matrices and all metrics, and the table it returns."""

import contextlib
import functools
import os
import pathlib
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from rmtjax.spectra import (
    curves,
    eigensolver,
    farms,
    nulls,
    programs,
    shuffles,
    singular_vectors,
    streaming,
    table,
    update_geometry,
    updates,
)
from rmtjax.spectra import metrics as metrics_lib
from rmtjax.spectra.matrices import Matrix, weight_matrices


class Analysis(NamedTuple):
    """Spectra of a model's weights.

    Attributes:
      table: a row per matrix (and, from `compare`, per stage): layout, metrics, each metric's value for noise
        of that shape beside it (`<metric>_null`), and a `warning` in words where one is due.
      eigenvalues: of W^T W (not divided by N), ascending, slices pooled, float64; by the matrix's name, from
        `compare` by `<stage>/<name>`.
      left_out: path of each tensor without a spectrum -> the reason.

    The table's `attrs` say how it was made: precision, metrics, seed, and the source where the weights know it.
    """

    table: pd.DataFrame
    eigenvalues: dict[str, np.ndarray]
    left_out: dict[str, str]

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes spectra.parquet, spectra.npz and spectra_curves.npz, each whole or not at all.

        Makes the directory. The curves (`curves.curves`) are what the pages draw.

        What was left out is in the parquet file's attributes (`pandas.read_parquet(...).attrs["left_out"]`).
        """
        folder = pathlib.Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        rows = self.table.copy()
        rows.attrs = self.table.attrs | {"left_out": self.left_out}
        with _atomic(folder / "spectra.npz") as path:
            np.savez(path, **self.eigenvalues)  # type: ignore[arg-type]
        drawn = curves.compact(curves.curves(self.table, self.eigenvalues))
        with _atomic(folder / "spectra_curves.npz") as path:
            np.savez_compressed(path, **drawn)  # type: ignore[arg-type]
        with _atomic(folder / "spectra.parquet") as path:
            rows.to_parquet(path)


class Options(NamedTuple):
    """How an analysis is computed: the arguments of `analyze`, checked."""

    groups: frozenset[str]
    dtype: Any
    seed: int
    devices: Sequence[jax.Device] | None
    partial: str | os.PathLike[str] | None
    progress: bool
    layout: dict[str, Any]


def analyze(
    params: Any,
    *,
    metrics: str | Iterable[str] = "default",
    layers: str = "",
    precision: str = "double",
    seed: int = 0,
    devices: Sequence[jax.Device] | None = None,
    partial: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **layout: Any,
) -> Analysis:
    """Spectra and metrics of every weight matrix of a model.

    Args:
      params: a pytree of arrays, in Flax `variables["params"]`, or what `rmtjax.checkpoints.open` gives, which is
        read matrix by matrix.
      metrics: "default" (scale, tail, bulk, correlation), "all", or names of groups, with commas between or in a
        list: what needs resampling, vectors or further spectra comes on request.
      layers: only matrices in whose name this regular expression is found.
      precision: of the Gram matrices. "single" takes about half the time and is enough for norms, alpha and
        spikes; ranks and entropy of nearly singular matrices need "double" (column `num_unresolved`).
      seed: of shuffles and bootstrap.
      devices: to split the matrices over; None: all accelerators, or one CPU.
      partial: a folder, for these weights alone, that keeps what is done: a stopped call goes on from there.
      progress: show a bar.
      layout: how tensors become matrices (`rules`, `conv`, ...): see `weight_matrices`.

    Raises:
      ValueError: no matrix at all, a tensor whose layout no rule knows, an unknown group or precision.
    """
    options = Options(
        metrics_lib.chosen(metrics), _dtype(precision), seed, devices, partial, progress, layout
    )
    options = options._replace(groups=options.groups - {"alignment"})  # it needs a second side
    found, left_out = _chosen(params, layers, layout)
    if not found:
        raise ValueError(_nothing(left_out))
    rows, values = _analyze(found, options)
    rows.attrs = _made_of(options, params)
    return Analysis(rows, dict(zip(rows["name"], values, strict=True)), left_out)


def compare(
    before: Any,
    after: Any,
    *,
    other: Any = None,
    metrics: str | Iterable[str] = "default",
    layers: str = "",
    precision: str = "double",
    seed: int = 0,
    devices: Sequence[jax.Device] | None = None,
    partial: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **layout: Any,
) -> Analysis:
    """Spectra before and after training and of the update, in one table with a column `stage`.

    Rows come stage by stage ("before", "after", "update"); eigenvalues are under `<stage>/<name>`. The
    update's rows also have `norm_ratio`, `spectral_ratio` and `cosine` (`updates.sizes`), and with the group
    "alignment" where the update lies in the weights it changed (`update_geometry.alignment`). A matrix that only
    one side has, or that changed its shape, has no update: `left_out` says so.

    Args and errors: as `analyze`; also ValueError if the two have no matrix in common. In addition:
      other: weights that another run made of the same `before`. The update's rows then have `cosine_other`, the
        cosine of the angle between the two runs' updates, and `cosine_other_null`, 1.96 / √(slices N M): 95 % of
        independent random updates are nearer to orthogonal than that.
    """
    options = Options(
        metrics_lib.chosen(metrics), _dtype(precision), seed, devices, partial, progress, layout
    )
    pair = _pair(before, after, layers, layout)
    rows, values = _analyze(pair.matrices, options)
    return _compared(
        pair, rows, values, options, _chosen(other, layers, layout)[0] if other is not None else None
    )


def compare_many(
    pairs: Mapping[str, tuple[Any, Any]],
    *,
    metrics: str | Iterable[str] = "default",
    layers: str = "",
    precision: str = "double",
    seed: int = 0,
    devices: Sequence[jax.Device] | None = None,
    progress: bool = False,
    **layout: Any,
) -> dict[str, Analysis]:
    """`compare` of many pairs (before, after) in one pass: matrices of one shape go through together, whosever they are.

    Args and errors: as `compare`.
    """
    options = Options(metrics_lib.chosen(metrics), _dtype(precision), seed, devices, None, progress, layout)
    found = {name: _pair(before, after, layers, layout) for name, (before, after) in pairs.items()}
    rows, values = _analyze([matrix for pair in found.values() for matrix in pair.matrices], options)
    out, start = {}, 0
    for name, pair in found.items():
        part = slice(start, start + len(pair.matrices))
        out[name] = _compared(pair, rows[part].reset_index(drop=True), values[part], options)
        start = part.stop
    return out


class _Pair(NamedTuple):
    """Two sides of a comparison and what lies between."""

    sources: tuple[Any, Any]
    old: list[Matrix]
    new: list[Matrix]
    changes: list[Matrix]
    left_out: dict[str, str]

    @property
    def matrices(self) -> list[Matrix]:
        return [*self.old, *self.new, *self.changes]


def _pair(before: Any, after: Any, layers: str, layout: dict[str, Any]) -> _Pair:
    (old, left_out), (new, left_out_after) = (_chosen(tree, layers, layout) for tree in (before, after))
    changes, without = updates.differences(old, new)
    if not changes:
        raise ValueError(
            f"before and after have no weight matrix in common: {_names(old)} before, {_names(new)} after"
        )
    return _Pair((before, after), old, new, changes, left_out | left_out_after | without)


def _compared(
    pair: _Pair,
    rows: pd.DataFrame,
    values: list[np.ndarray],
    options: Options,
    other: list[Matrix] | None = None,
) -> Analysis:
    """The rows and eigenvalues of `pair.matrices`, with their stages and what compares the sides."""
    old, new, changes = pair.old, pair.new, pair.changes
    stages = ["before"] * len(old) + ["after"] * len(new) + ["update"] * len(changes)
    rows.insert(0, "stage", stages)
    added = [updates.sizes(rows)]
    if "alignment" in options.groups:
        earlier, later = ({matrix.name: matrix for matrix in side} for side in (old, new))
        names = [matrix.name for matrix in changes]
        geometry = update_geometry.alignment(
            [earlier[name] for name in names], [later[name] for name in names], options.dtype
        )
        added.append(pd.DataFrame(geometry, index=rows.index[-len(changes) :]).reindex(rows.index))
    if other is not None:
        second = {matrix.name: matrix for matrix in other}
        cosines = update_geometry.cosines_between_updates(old, new, second)
        in_updates = rows["name"].map(cosines).where(rows["stage"] == "update")
        entries = (rows["slices"] * rows["N"] * rows["M"]).astype(float)
        added.append(
            pd.DataFrame(
                {
                    "cosine_other": in_updates,
                    "cosine_other_null": (1.96 / entries**0.5).where(in_updates.notna()),
                }
            )
        )
    joined = pd.concat([rows.drop(columns="warning"), *added, rows["warning"]], axis=1)
    joined.attrs = _made_of(options, *pair.sources)
    keys = (f"{stage}/{name}" for stage, name in zip(stages, rows["name"], strict=True))
    return Analysis(joined, dict(zip(keys, values, strict=True)), pair.left_out)


def eigenvalues(
    params: Any, *, layers: str = "", precision: str = "double", **layout: Any
) -> dict[str, np.ndarray]:
    """Eigenvalues of W^T W (not divided by N) of every weight matrix, by name, ascending, float64.

    Slices of a convolution are pooled; a matrix that is not finite has NaN. Args and errors: as `analyze`.
    """
    dtype = _dtype(precision)
    found, left_out = _chosen(params, layers, layout)
    if not found:
        raise ValueError(_nothing(left_out))
    spectra = streaming.spectra(found, dtype)
    return dict(zip((matrix.name for matrix in found), map(_scaled, spectra), strict=True))


def _analyze(found: Sequence[Matrix], options: Options) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """The table and the eigenvalues, in the order of `found`."""
    wanted = list(found)
    if "shuffles" in options.groups:
        wanted += [shuffles.shuffled(matrix, options.seed) for matrix in found]
    if "farms" in options.groups:
        wanted += [farms.windowed(matrix) for matrix in found]
    shapes = [matrix.shape for matrix in found]
    compiling = programs.prepare(shapes, options.groups, options.dtype)
    solved = streaming.spectra(
        wanted, options.dtype, devices=options.devices, partial=options.partial, made=_made(options),
        progress=options.progress,
    )  # fmt: skip
    for thread in compiling:
        thread.join()
    spectra, rest = solved[: len(found)], solved[len(found) :]
    shuffled = rest[: len(found)] if "shuffles" in options.groups else []
    seeds = [zlib.crc32(f"{options.seed}/{matrix.name}".encode()) >> 1 for matrix in found]
    raw = programs.measure(spectra, shapes, options.groups, options.dtype, shuffled, seeds)
    further: dict[str, np.ndarray] = {}
    if "farms" in options.groups:
        windows = [matrix.shape for matrix in wanted[-len(found) :]]
        pooled = zip(rest[-len(found) :], windows, strict=True)
        further["alpha_farms"] = np.array(
            [
                farms.median_hill(one.eigenvalues, eigensolver.resolution(M, options.dtype))
                for one, (_, _, M) in pooled
            ]
        )
        further["alpha_farms_null"] = nulls.closed_forms(*np.array(windows).T)["alpha_hill"]
    if "nulls" in options.groups:
        further |= _simulated(shapes, options)
    if "vectors" in options.groups:
        tail = raw["num_pl_spikes"] if "tail" in options.groups else np.full(len(found), np.nan)
        further |= singular_vectors.vector_metrics(
            found, np.where(raw["bad"] > 0, np.nan, tail), options.dtype
        )
    return table.make(found, raw, further), [_scaled(one) for one in spectra]


def _made(options: Options) -> str:
    """What, beside the weights, decides the entries of the matrices."""
    rules = [
        (rule.pattern, rule.kind, rule.ndim, getattr(rule.unfold, "__qualname__", repr(rule.unfold)))
        for rule in options.layout.get("rules", ())
    ]
    return f"{options.seed} {sorted((options.layout | {'rules': rules}).items())}"


def _made_of(options: Options, *params: Any) -> dict[Any, Any]:
    sources = [source for tree in params if (source := getattr(tree, "source", None))]
    made = {"precision": "single" if options.dtype == np.float32 else "double", "seed": options.seed}
    return ({"source": sources} if sources else {}) | made | {"metrics": sorted(options.groups)}


def _simulated(shapes: Sequence[tuple[int, int, int]], options: Options) -> dict[str, np.ndarray]:
    """Median, 5 % and 95 % quantile of every metric that has no scale, over REPLICATES matrices of noise of each shape."""
    distinct = sorted(set(shapes))
    which = [distinct.index(shape) for shape in shapes]
    out: dict[str, np.ndarray] = {}
    for place, shape in enumerate(distinct):
        for name, values in _metrics_of_noise(shape, options.groups, options.dtype).items():
            if not table.has_scale(name):
                with warnings.catch_warnings():
                    warnings.simplefilter(
                        "ignore", RuntimeWarning
                    )  # all NaN: the metric is undefined for that shape
                    low, median, high = np.nanquantile(values.astype(np.float64), (0.05, 0.5, 0.95))
                for end, value in (("null", median), ("null_low", low), ("null_high", high)):
                    out.setdefault(f"{name}_{end}", np.full(len(distinct), np.nan))[place] = value
    return {name: column[which] for name, column in out.items()}


@functools.cache
def _metrics_of_noise(shape: tuple[int, int, int], of: frozenset[str], dtype: Any) -> dict[str, np.ndarray]:
    rows = nulls.simulated_spectra(*shape, REPLICATES).astype(dtype)
    noise = [streaming.Spectrum(row, 0, 0) for row in rows]
    return programs.measure(noise, [shape] * len(noise), of - {"shuffles"}, dtype)


REPLICATES = 100  # matrices of noise of each shape, for the group "nulls"


def _scaled(one: streaming.Spectrum) -> np.ndarray:
    if one.bad:
        return np.full(len(one.eigenvalues), np.nan)
    with np.errstate(over="ignore"):  # beyond 1e308: infinite
        values: np.ndarray = np.ldexp(one.eigenvalues.astype(np.float64), 2 * one.exponent)
    return values


def _chosen(params: Any, layers: str, layout: dict[str, Any]) -> tuple[list[Matrix], dict[str, str]]:
    try:
        pattern = re.compile(layers)
    except re.error as error:
        raise ValueError(f"layers={layers!r} is not a regular expression: {error}") from error
    found, left_out = weight_matrices(params, **layout)
    chosen = [matrix for matrix in found if pattern.search(matrix.name)]
    if found and not chosen:
        raise ValueError(f"layers={layers!r} is found in no name of a matrix: they are {_names(found)}, ...")
    return chosen, left_out


def _dtype(precision: str) -> Any:
    if precision not in ("single", "double"):
        raise ValueError(f"precision is {precision!r}: it must be 'single' or 'double'")
    return np.float32 if precision == "single" else np.float64


def _nothing(left_out: dict[str, str]) -> str:
    if not left_out:
        return "no weight matrix to analyse: the pytree has no arrays"
    some = ", ".join(f"{name} ({reason})" for name, reason in list(left_out.items())[:5])
    return f"no weight matrix to analyse: all {len(left_out)} tensors were left out, {some}"


def _names(found: Sequence[Matrix]) -> str:
    return ", ".join(matrix.name for matrix in found[:5]) or "none"


@contextlib.contextmanager
def _atomic(target: pathlib.Path) -> Iterator[pathlib.Path]:
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
