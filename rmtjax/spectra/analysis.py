"""One pass over all matrices and all metrics, and the table it returns."""

import contextlib
import functools
import itertools
import os
import pathlib
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from tqdm import tqdm

from rmtjax import checkpoints
from rmtjax.spectra import (
    archives,
    compiled,
    curves,
    eigensolver,
    estimates,
    farms,
    nulls,
    plots,
    programs,
    shuffles,
    singular_vectors,
    streaming,
    table,
    text,
    update_geometry,
    updates,
    wrappers,
)
from rmtjax.spectra.matrices import Matrix, weight_matrices
from rmtjax.spectra.metrics import OF_ENTRIES, chosen

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Analysis(NamedTuple):
    """Spectra of a model's weights.

    Attributes:
      table: one row per matrix (and, from `compare`, per stage): layout, metrics, the value of each metric
        for noise of that shape beside it (`<metric>_null`), and a `warning` in words, empty if there is none.
      eigenvalues: of W^T W (not divided by N), ascending, slices pooled, float64; under the name of the
        matrix, from `compare` under `<stage>/<name>`.
      left_out: path of each tensor without a spectrum -> the reason.

    The table's `attrs` say how it was made: precision, metrics, seed, and the source if the weights have one.
    """

    table: pd.DataFrame
    eigenvalues: dict[str, np.ndarray]
    left_out: dict[str, str]

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes spectra.parquet, spectra.npz and spectra_curves.npz, each completely or not at all.

        Creates the directory. The pages draw the curves (`curves.curves`). What was left out is among the
        attributes of the table: `pandas.read_parquet(...).attrs["left_out"]`.
        """
        folder = pathlib.Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        rows = self.table.copy()
        rows.attrs = self.table.attrs | {"left_out": self.left_out}
        with _atomic(folder / "spectra.npz") as path:
            archives.write(path, self.eigenvalues)
        drawn = curves.compact(curves.curves(self.table, self.eigenvalues))
        with _atomic(folder / "spectra_curves.npz") as path:
            archives.write(path, drawn, compressed=True)
        with _atomic(folder / "spectra.parquet") as path:
            rows.to_parquet(path)

    def summary(self) -> pd.DataFrame:
        """Medians over the matrices of each kind of layer (and stage): `matrices`, and every number."""
        keys = (["stage"] if "stage" in self.table else []) + ["kind"]
        groups = self.table.groupby(keys, sort=False)
        medians = groups[list(self.table.select_dtypes("number"))].median()
        medians.insert(0, "matrices", groups.size())
        return medians

    def plot(self, name: str) -> "Figure":
        """Spectrum of one matrix: its bulk and its tail, with noise and fit. See `plots.matrix`."""
        return plots.matrix(self.table, self.eigenvalues, name)

    def plot_depth(self, metric: str = "alpha") -> "Figure":
        """A metric of every matrix by kind of layer, with what noise shows. See `plots.depth`."""
        return plots.depth(self.table, metric)

    def _repr_html_(self) -> str:
        """What a notebook shows: medians by kind of layer, and how many tensors are left out."""
        columns = [name for name in text.shown(self.table) if name in self.table]
        beside = [[name, f"{name}_null"] if f"{name}_null" in self.table else [name] for name in columns]
        medians = self.summary()[["matrices", *itertools.chain(*beside)]]
        head = f"{len(self.table)} rows, {len(self.left_out)} tensors left out; medians by kind of layer:"
        return f"<p>{head}</p>{medians.to_html(float_format=lambda value: f'{value:.3g}')}"


EXACT_UP_TO = 16384  # whose eigenvalues take about 6 GB and some minutes of two cores
REPLICATES = 100  # matrices of noise per shape, for the group "nulls"


class Options(NamedTuple):
    """The arguments of `analyze`, checked."""

    groups: frozenset[str]
    dtype: Any
    seed: int
    devices: Sequence[jax.Device] | None
    partial: str | os.PathLike[str] | None
    progress: bool
    exact_up_to: int
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
    exact_up_to: int = EXACT_UP_TO,
    **layout: Any,
) -> Analysis:
    """Spectra and metrics of every weight matrix of a model.

    Args:
      params: whatever holds weights (`rmtjax.checkpoints.weights_of`): a pytree of arrays, such as
        `variables["params"]` of Flax or an NNX module; a module of torch, also of transformers or timm, or
        its `state_dict()`, also as numpy arrays; a model of Keras; a path, or the name of a model in the
        cache of Hugging Face; the result of `rmtjax.checkpoints.open`. Files are read one matrix at a time.
      metrics: "default" (scale, tail, bulk, correlation), "all", or names of groups or of metrics
        (`metrics.chosen`), in a list or with commas between. Groups that need resampling, singular vectors or
        other spectra are computed only on request.
      layers: a regular expression; only matrices whose name contains a match are analysed.
      precision: of the Gram matrices. "single" takes about half the time and is enough for norms, alpha and
        spikes; ranks and entropies of nearly singular matrices need "double" (column `num_unresolved`).
      seed: of shuffles and bootstrap.
      devices: the devices that share the matrices; None: all accelerators, or one CPU.
      partial: a folder, for these weights alone, that keeps finished parts, where a stopped call resumes.
      progress: show a progress bar.
      exact_up_to: of matrices whose shorter side is longer than this, metrics are estimated from products
        with them (`estimates`): column `estimated`, with standard errors in columns `<metric>_se`; metrics
        of the tail, the bulk and single eigenvalues are NaN.
      layout: how tensors become matrices (`rules`, `conv`, ...): see `weight_matrices`.

    Raises:
      ValueError: no matrix at all, a tensor whose layout no rule knows, an unknown group, metric or
        precision.
      rmtjax.errors.InputError: weights that cannot be read.

    >>> found = analyze({"mlp": {"kernel": np.eye(16, 12)}}, metrics="scale")
    >>> found.table[["name", "N", "M", "stable_rank"]].round(3).values.tolist()
    [['mlp/kernel', 16, 12, 12.0]]
    """
    groups = chosen(metrics) - {"alignment"}  # which compares two sides
    options = Options(groups, _dtype(precision), seed, devices, partial, progress, exact_up_to, layout)
    params = checkpoints.weights_of(params)
    found, left_out = _matrices(params, layers, layout)
    rows, values = _analyze(found, options)
    rows.attrs = _attributes(options, params)
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
    exact_up_to: int = EXACT_UP_TO,
    **layout: Any,
) -> Analysis:
    """Spectra of the weights before and after training and of the update, in one table with a column `stage`.

    The rows are sorted by stage ("before", "after", "update"); eigenvalues are under `<stage>/<name>`. The
    rows of the update also have `norm_ratio`, `spectral_ratio` and `cosine` (`updates.sizes`) and, with the
    group "alignment", how the update is aligned with the weights it changed (`update_geometry.alignment`). A
    matrix that only one side has, or whose shape changed, has no update; `left_out` says so. What a wrapper
    (`module.`, `_orig_mod.`) has added to the names of a file is removed, and logged, if more names fit then.

    Args and errors: as `analyze`; also ValueError if the two sides have no matrix in common. In addition:
      other: weights after another run from the same `before`. The rows of the update then have
        `cosine_other`, the cosine of the angle between the updates of the two runs, and `cosine_other_null`,
        1.96 / √(slices N M): for independent random updates |cosine| is below it with probability 0.95.

    >>> before = {"mlp": {"kernel": np.eye(16, 12)}}
    >>> found = compare(before, {"mlp": {"kernel": 1.5 * np.eye(16, 12)}}, metrics="scale")
    >>> found.table[["stage", "log_norm", "norm_ratio"]].round(3).values.tolist()
    [['before', 1.079, nan], ['after', 1.431, nan], ['update', 0.477, 0.5]]
    """
    options = Options(
        chosen(metrics), _dtype(precision), seed, devices, partial, progress, exact_up_to, layout
    )
    pair = _pair(before, after, layers, layout)
    rows, values = _analyze(pair.matrices, options)
    others = _other(before, other, layers, layout) if other is not None else None
    return _compared(pair, rows, values, options, others)


def compare_many(
    pairs: Mapping[str, tuple[Any, Any]],
    *,
    metrics: str | Iterable[str] = "default",
    layers: str = "",
    precision: str = "double",
    seed: int = 0,
    devices: Sequence[jax.Device] | None = None,
    progress: bool = False,
    exact_up_to: int = EXACT_UP_TO,
    **layout: Any,
) -> dict[str, Analysis]:
    """`compare` for many pairs (before, after) in one pass, which solves matrices of one shape together.

    Args and errors: as `compare`.
    """
    options = Options(chosen(metrics), _dtype(precision), seed, devices, None, progress, exact_up_to, layout)
    found = {name: _pair(before, after, layers, layout) for name, (before, after) in pairs.items()}
    rows, values = _analyze([matrix for pair in found.values() for matrix in pair.matrices], options)
    out, start = {}, 0
    for name, pair in found.items():
        part = slice(start, start + len(pair.matrices))
        out[name] = _compared(pair, rows[part].reset_index(drop=True), values[part], options)
        start = part.stop
    return out


class _Pair(NamedTuple):
    """The matrices of the two sides of a comparison, and of the update between them."""

    sources: tuple[Any, Any]
    old: list[Matrix]
    new: list[Matrix]
    changes: list[Matrix]
    left_out: dict[str, str]

    @property
    def matrices(self) -> list[Matrix]:
        return [*self.old, *self.new, *self.changes]


def _pair(before: Any, after: Any, layers: str, layout: dict[str, Any]) -> _Pair:
    before, after = wrappers.aligned(checkpoints.weights_of(before), checkpoints.weights_of(after))
    (old, left_out), (new, left_out_after) = (_found(tree, layers, layout) for tree in (before, after))
    changes, without = updates.differences(old, new)
    if not changes:
        raise ValueError(
            "before and after have no weight matrix in common: "
            f"{_first_names(old)} before, {_first_names(new)} after"
        )
    return _Pair((before, after), old, new, changes, left_out | left_out_after | without)


def _other(before: Any, other: Any, layers: str, layout: dict[str, Any]) -> list[Matrix]:
    """The matrices after another run, under the names that the weights before have."""
    _, other = wrappers.aligned(checkpoints.weights_of(before), checkpoints.weights_of(other))
    return _found(other, layers, layout)[0]


def _compared(
    pair: _Pair,
    rows: pd.DataFrame,
    values: list[np.ndarray],
    options: Options,
    other: list[Matrix] | None = None,
) -> Analysis:
    """The analysis of `pair.matrices`, with their stages and with the columns that compare the sides."""
    old, new, changes = pair.old, pair.new, pair.changes
    stages = ["before"] * len(old) + ["after"] * len(new) + ["update"] * len(changes)
    rows.insert(0, "stage", stages)
    added = [updates.sizes(rows)]
    if "alignment" in options.groups:
        earlier, later = ({matrix.name: matrix for matrix in side} for side in (old, new))
        # The small matrices of products have bases of their own before and after: their vectors say nothing.
        own = [matrix.product is None for matrix in changes]
        names = [matrix.name for matrix in itertools.compress(changes, own)]
        geometry = update_geometry.alignment(
            [earlier[name] for name in names], [later[name] for name in names], options.dtype
        )
        added.append(pd.DataFrame(geometry, index=rows.index[-len(changes) :][own]).reindex(rows.index))
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
    joined.attrs = _attributes(options, *pair.sources)
    keys = (f"{stage}/{name}" for stage, name in zip(stages, rows["name"], strict=True))
    return Analysis(joined, dict(zip(keys, values, strict=True)), pair.left_out)


def eigenvalues(
    params: Any, *, layers: str = "", precision: str = "double", **layout: Any
) -> dict[str, np.ndarray]:
    """Eigenvalues of W^T W (not divided by N) of every weight matrix: name -> ascending, float64.

    Slices of a convolution are pooled; a matrix that is not finite has NaN. Args and errors: as `analyze`.

    >>> eigenvalues({"mlp": {"kernel": np.diag([1.0, 2.0, 3.0])}})
    {'mlp/kernel': array([1., 4., 9.])}
    """
    dtype = _dtype(precision)
    found, _ = _matrices(checkpoints.weights_of(params), layers, layout)
    spectra = streaming.spectra(found, dtype)
    return dict(zip((matrix.name for matrix in found), map(_in_units, spectra), strict=True))


@compiled.bounded()
def _analyze(found: Sequence[Matrix], options: Options) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """The table and the eigenvalues of matrices, in their order; of large ones estimates."""
    large = [matrix.shape[0] == 1 and matrix.shape[2] > options.exact_up_to for matrix in found]
    if not any(large):
        return _solved(found, options)
    rows, densities = _estimated(list(itertools.compress(found, large)), options)
    if all(large):
        return rows, densities
    exact, values = _solved(list(itertools.compress(found, (not one for one in large))), options)
    places = np.argsort(np.argsort(large, kind="stable"), kind="stable")
    joined = pd.concat([exact, rows], ignore_index=True).iloc[places]
    columns = [name for name in joined if name != "warning"]  # which comes last
    joined["estimated"] = joined["estimated"].eq(True)
    texts = [name for name in ("ww_label", "ww_label_null", "phase") if name in joined]
    joined[texts] = joined[texts].fillna("")
    both = [*values, *densities]
    return joined[[*columns, "warning"]].reset_index(drop=True), [both[place] for place in places]


def _estimated(found: Sequence[Matrix], options: Options) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """The same of matrices with too many eigenvalues, from products with them (`estimates`)."""
    metrics_of, errors_of, densities = [], [], []
    with streaming.precision(options.dtype):
        for matrix in tqdm(found, desc="estimates", unit="matrix", disable=not options.progress):
            seed = zlib.crc32(f"{options.seed}/{matrix.name}".encode())
            metrics, errors, density = estimates.estimated(matrix.load()[0], np.dtype(options.dtype), seed)
            metrics_of.append(metrics)
            errors_of.append(errors)
            densities.append(density)
    of_metrics = pd.DataFrame(metrics_of).to_dict("series")
    raw = {str(name): column.to_numpy() for name, column in of_metrics.items()}
    raw["exponent"] = np.zeros(len(found))
    of_errors = pd.DataFrame(errors_of, index=range(len(found))).to_dict("series")
    further = {f"{name}_se": column.to_numpy() for name, column in of_errors.items()}
    rows = table.make(found, raw, further)
    rows.insert(len(rows.columns) - 1, "estimated", True)
    rows["warning"] = [text or table.ESTIMATED for text in rows["warning"]]
    return rows, densities


def _solved(found: Sequence[Matrix], options: Options) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """The same of matrices all of whose eigenvalues are computed."""
    wanted = list(found)
    if "shuffles" in options.groups:
        wanted += [shuffles.shuffled(matrix, options.seed) for matrix in found]
    if "farms" in options.groups:
        wanted += [farms.windowed(matrix) for matrix in found]
    shapes = [matrix.shape for matrix in found]
    compiling = programs.prepare(shapes, options.groups, options.dtype)
    solved = streaming.spectra(
        wanted,
        options.dtype,
        devices=options.devices,
        partial=options.partial,
        made=_layout_in_words(options),
        progress=options.progress,
    )
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
        exponents = [
            farms.median_hill(spectrum.eigenvalues, eigensolver.resolution(M, options.dtype))
            for spectrum, (_, _, M) in pooled
        ]
        further["alpha_farms"] = np.array(exponents)
        further["alpha_farms_null"] = nulls.closed_forms(*np.array(windows).T)["alpha_hill"]
    if "nulls" in options.groups:
        further |= _simulated(found, options)
    if "vectors" in options.groups:
        tail = raw["num_pl_spikes"] if "tail" in options.groups else np.full(len(found), np.nan)
        further |= singular_vectors.vector_metrics(
            found, np.where(raw["bad"] > 0, np.nan, tail), options.dtype
        )
    of_noise = {
        i: _metrics_of_noise(matrix.shape, matrix.product.shape, options.groups, options.dtype)
        for i, matrix in enumerate(found)
        if matrix.product is not None and matrix.product.noise
    }
    return table.make(found, raw, further, of_noise), [_in_units(spectrum) for spectrum in spectra]


def _layout_in_words(options: Options) -> str:
    """What decides the entries of the matrices beside the weights: seed and layout."""
    rules = [
        (rule.pattern, rule.kind, rule.ndim, getattr(rule.unfold, "__qualname__", repr(rule.unfold)))
        for rule in options.layout.get("rules", ())
    ]
    return f"{options.seed} {sorted((options.layout | {'rules': rules}).items())}"


def _attributes(options: Options, *params: Any) -> dict[Any, Any]:
    """How a table was made: its `attrs`."""
    sources = [source for tree in params if (source := getattr(tree, "source", None))]
    made = {"precision": "single" if options.dtype == np.float32 else "double", "seed": options.seed}
    return ({"source": sources} if sources else {}) | made | {"metrics": sorted(options.groups)}


# Shape of the matrix and, for a product, (rows, rows, inner) of its factors: what its noise depends on.
_Noise = tuple[tuple[int, int, int], tuple[int, int, int] | None]


def _noise(matrix: Matrix) -> _Noise | None:
    """What noise to compare a matrix with; None: there is none for the update of a product."""
    if matrix.product is None:
        return matrix.shape, None
    return (matrix.shape, matrix.product.shape) if matrix.product.noise else None


def _simulated(found: Sequence[Matrix], options: Options) -> dict[str, np.ndarray]:
    """Median, 5 % and 95 % quantile of each metric without scale, for REPLICATES matrices of noise.

    The null of ks_mp is not a median but the 95 % quantile of `nulls.ks_mp`, with which `phases` compare.
    """
    which = [_noise(matrix) for matrix in found]
    out: dict[str, np.ndarray] = {}
    for noise in dict.fromkeys(filter(None, which)):
        rows = [one == noise for one in which]
        for name, values in _metrics_of_noise(*noise, options.groups, options.dtype).items():
            if not table.has_scale(name):
                with warnings.catch_warnings():
                    # All are NaN if the metric is undefined for that shape.
                    warnings.simplefilter("ignore", RuntimeWarning)
                    low, median, high = np.nanquantile(values.astype(np.float64), (0.05, 0.5, 0.95))
                ends = {"null": median, "null_low": low, "null_high": high}
                if name == "ks_mp":
                    del ends["null"]
                for end, value in ends.items():
                    out.setdefault(f"{name}_{end}", np.full(len(found), np.nan))[rows] = value
    return out


@functools.cache
def _metrics_of_noise(
    shape: tuple[int, int, int],
    factors: tuple[int, int, int] | None,
    groups: frozenset[str],
    dtype: Any,
) -> dict[str, np.ndarray]:
    if factors is None:
        rows = nulls.simulated_spectra(*shape, REPLICATES)
    else:
        rows, groups = nulls.simulated_products(*factors, table.PRODUCTS_OF_NOISE), groups - OF_ENTRIES
    noise = [streaming.Spectrum(row, 0, 0) for row in rows.astype(dtype)]
    found = programs.measure(noise, [shape] * len(noise), groups - {"shuffles"}, dtype)
    found["nuclear_share"] = found["nuclear_norm"] / np.sqrt(rows.shape[1] * found["norm"])
    return found


def _in_units(spectrum: streaming.Spectrum) -> np.ndarray:
    """Eigenvalues of the weights themselves; NaN if some weight is not finite."""
    if spectrum.bad:
        return np.full(len(spectrum.eigenvalues), np.nan)
    with np.errstate(over="ignore"):  # infinite above 1e308
        values: np.ndarray = np.ldexp(spectrum.eigenvalues.astype(np.float64), 2 * spectrum.exponent)
    return values


def _matrices(params: Any, layers: str, layout: dict[str, Any]) -> tuple[list[Matrix], dict[str, str]]:
    """The matrices to analyse, at least one, and the tensors that are left out."""
    found, left_out = _found(params, layers, layout)
    if found:
        return found, left_out
    if not left_out:
        raise ValueError("no weight matrix to analyse: the pytree has no arrays")
    some = ", ".join(f"{name} ({reason})" for name, reason in list(left_out.items())[:5])
    raise ValueError(f"no weight matrix to analyse: all {len(left_out)} tensors were left out, {some}")


def _found(params: Any, layers: str, layout: dict[str, Any]) -> tuple[list[Matrix], dict[str, str]]:
    """The matrices whose name contains a match of `layers`, and the tensors that are left out."""
    try:
        pattern = re.compile(layers)
    except re.error as error:
        raise ValueError(f"layers={layers!r} is not a regular expression: {error}") from error
    found, left_out = weight_matrices(params, **layout)
    matching = [matrix for matrix in found if pattern.search(matrix.name)]
    if found and not matching:
        raise ValueError(
            f"layers={layers!r} is found in no name of a matrix: they are {_first_names(found)}, ..."
        )
    return matching, left_out


def _dtype(precision: str) -> Any:
    if precision not in ("single", "double"):
        raise ValueError(f"precision is {precision!r}: it must be 'single' or 'double'")
    return np.float32 if precision == "single" else np.float64


def _first_names(found: Sequence[Matrix]) -> str:
    return ", ".join(matrix.name for matrix in found[:5]) or "none"


@contextlib.contextmanager
def _atomic(target: pathlib.Path) -> Iterator[pathlib.Path]:
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
