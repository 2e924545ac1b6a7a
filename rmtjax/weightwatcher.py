"""WeightWatcher's interface to the spectra of weights: `import rmtjax.weightwatcher as ww`.

    watcher = ww.WeightWatcher(model=model)
    details = watcher.analyze()
    summary = watcher.get_summary(details)

Names, order and conventions of the columns are those of release 0.7.7, and so are the numbers, but for the
differences that `rmtjax/spectra/README.md` lists: a fit that failed is NaN and not -1, N >= M always, ranks
count what single precision can tell. A model is whatever `rmtjax.checkpoints.weights_of` takes: a module of
torch, a state dict, a path, a model of Keras, parameters of Flax. Arguments that do nothing here are accepted
if they only choose how it is computed or drawn, and refused with a sentence if they change what is computed.
"""

import functools
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from rmtjax import checkpoints, spectra
from rmtjax.errors import InputError
from rmtjax.spectra import layouts
from rmtjax.spectra.matrices import Matrix

__version__ = "0.7.7"  # the release whose interface this is

SUMMARY = (
    "log_norm", "alpha", "alpha_weighted", "log_alpha_norm", "log_spectral_norm", "stable_rank",
    "mp_softrank",
)  # fmt: skip
_TYPES = ("dense", "conv1d", "conv2d", "embedding")
_SAME = (
    "D", "alpha", "alpha_weighted", "entropy", "log_alpha_norm", "log_norm", "log_spectral_norm",
    "matrix_rank", "norm", "num_pl_spikes", "rank_loss", "sigma", "spectral_norm", "stable_rank", "sv_max",
    "sv_min", "xmin",
)  # fmt: skip
_MP_FIT = ("bulk_max", "bulk_min", "mp_softrank", "num_spikes")
_RANDOM = ("max_rand_eval", "ww_softrank", "ww_maxdist", "rand_distance", "num_traps")
_RANDOM_FIT = ("bulk_max", "bulk_min", "mp_softrank", "num_spikes", "sigma_mp")
_VECTORS = tuple(
    f"{part}_{moment}_{what}"
    for part in ("bulk", "tail")
    for moment in ("mean", "var")
    for what in ("vec_entropy", "loc_ratio", "part_ratio")
)
# Arguments that change what is computed, what they would have to be, and what to do instead.
_REFUSED = {
    "glorot_fix": (False, "it has no effect in WeightWatcher either"),
    "conv2d_fft": (False, "spectra.analyze(model, conv='unfold') takes a kernel as one matrix"),
    "fft": (False, "spectra.analyze(model, conv='unfold') takes a kernel as one matrix"),
    "intra": (False, "spectra.analyze({'one X two': W1 @ W2}) takes a product; products=True, heads"),
    "stacked": (False, "spectra.analyze({'stacked': np.vstack(...)}) takes a matrix of one's own"),
    "peft": (False, "spectra.analyze(model) has the product B A of each adapter"),
    "inverse": (False, "it is wrong for convolutions in WeightWatcher"),
    "channels": (None, "the layout follows from the names of the weights"),
    "fit": ("PL", "p_truncated of spectra.analyze(model) compares with a truncated power law"),
    "xmax": (None, "fix_fingers='clip_xmax' leaves out large eigenvalues"),
    "pl_package": ("ww", "the fit is the one of 'ww'"),
}  # fmt: skip
# Arguments that choose how it is computed, or of which WeightWatcher itself makes nothing.
_WITHOUT_EFFECT = {
    "deltas", "sparsify", "svd_method", "xmin_max", "max_fingers", "min_size", "max_size", "framework",
    "log_level",
}  # fmt: skip


class Layer(NamedTuple):
    """A layer that is analysed.

    Attributes:
      layer_id, name, longname: as WeightWatcher counts and names it.
      layer_type: "dense", "conv1d", "conv2d" or "embedding".
      matrix: its weights, as [slices, N, M].
    """

    layer_id: int
    name: str
    longname: str
    layer_type: str
    matrix: Matrix

    @property
    def columns(self) -> dict[str, Any]:
        rf, N, M = self.matrix.shape
        known = {"layer_id": self.layer_id, "name": self.name, "longname": self.longname}
        return known | {"layer_type": self.layer_type, "N": N, "M": M, "rf": rf, "Q": N / M}


class WeightWatcher:
    """The watcher of a model. Attributes: model, base_model; details, the last table of `analyze`."""

    def __init__(
        self, model: Any = None, framework: Any = None, base_model: Any = None, log_level: Any = None
    ) -> None:
        self.model, self.base_model = model, base_model
        self.details: pd.DataFrame | None = None

    def analyze(
        self,
        model: Any = None,
        layers: Sequence[int | str] = (),
        *,
        min_evals: int = 8,
        max_evals: int = 15000,
        max_N: int = 50000,
        mp_fit: bool = False,
        randomize: bool = False,
        detX: bool = False,
        ERG: bool = False,
        vectors: bool = False,
        pool: bool = True,
        ww2x: bool = False,
        conv2d_norm: bool = True,
        fix_fingers: bool | str = False,
        finger_thresh: float = 1.0,
        tolerance: float = 1e-6,
        start_ids: int = 0,
        base_model: Any = None,
        plot: bool = False,
        savefig: bool | str | os.PathLike[str] = "ww-img",
        seed: int = 0,
        **others: Any,
    ) -> pd.DataFrame:
        """A row a layer, with WeightWatcher's columns in its order.

        Args:
          model: instead of that of the constructor.
          layers: ids to keep, or negative ones to leave out; types, such as "conv2d"; or names, with "-"
            before them to leave out.
          mp_fit, randomize, detX (or ERG), vectors: further columns.
          pool: False: a row for each slice of a convolution, with `slice_id`.
          conv2d_norm: slices of 2-D convolutions are multiplied by √(c/2); c is 1, or without `pool` their
            number.
          fix_fingers: "clip_xmax": alpha is that without a few largest eigenvalues, if it falls by more than
            `finger_thresh`, which is 1 here always.
          tolerance: of `weak_rank_loss`.
          base_model: the difference of the weights from these is analysed.
          plot: draw the spectrum of each layer, into the folder `savefig`.
          seed: of the shuffles.
          others: what WeightWatcher takes beside these.

        Raises:
          InputError: an argument that is not offered, or no layer is left.
        """
        _check(others, fix_fingers, finger_thresh)
        pool = pool and not ww2x
        model = self._model(model)
        base = self.base_model if base_model is None else base_model
        kept = self._kept(model, layers, min_evals, max_evals, max_N, pool, start_ids, base)
        if not kept:
            raise InputError(
                "no layer is left to analyse: see describe(), min_evals, max_evals, max_N and layers"
            )
        rows = [row for layer in kept for row in _pieces(layer, pool, conv2d_norm)]
        groups = ["scale", "tail"] + ["correlation"] * (detX or ERG) + ["bulk"] * (mp_fit or randomize)
        groups += ["shuffles"] * randomize + ["vectors"] * vectors + ["fingers"] * bool(fix_fingers)
        found = spectra.analyze(_Stacks(rows), metrics=groups, rules=_WHOLE, seed=seed)
        table, values = found.table, list(found.eigenvalues.values())
        columns = _columns(table, values, tolerance)
        columns |= _on_request(table, mp_fit, randomize, detX or ERG, vectors)
        details = pd.DataFrame([row.columns for row in rows]).assign(**columns)
        if fix_fingers:
            details = _clipped(details, table, values)
        details = details[["layer_id", "name", *sorted(set(details) - {"layer_id", "name"})]]
        if plot:
            _plots(found, rows, savefig)
        self.details = details
        return details

    def describe(
        self,
        model: Any = None,
        layers: Sequence[int | str] = (),
        *,
        min_evals: int = 8,
        max_evals: int = 15000,
        max_N: int = 50000,
        pool: bool = True,
        ww2x: bool = False,
        start_ids: int = 0,
        base_model: Any = None,
        **others: Any,
    ) -> pd.DataFrame:
        """The layers that `analyze` would analyse, without reading their weights. Args: as `analyze`."""
        _check(others, False, 1.0)
        pool = pool and not ww2x
        base = self.base_model if base_model is None else base_model
        kept = self._kept(self._model(model), layers, min_evals, max_evals, max_N, pool, start_ids, base)
        rows = [
            layer.columns | {"num_evals": layer.matrix.shape[2] * (layer.matrix.shape[0] if pool else 1)}
            for layer in kept
        ]
        made = pd.DataFrame(rows)
        return made[["layer_id", "name", *(name for name in made if name not in ("layer_id", "name"))]]

    def get_details(self) -> pd.DataFrame | None:
        """The last table of `analyze`."""
        return self.details

    def get_summary(self, details: pd.DataFrame | None = None) -> dict[str, float]:
        """Means over the layers; those of which a fit failed are left out."""
        table = self.details if details is None else details
        if table is None:
            return {}
        return {name: float(table[name].mean()) for name in SUMMARY if name in table}

    def get_ESD(self, model: Any = None, layer: int | str = 0, random: bool = False) -> np.ndarray:
        """The eigenvalues of a layer, by id or name, ascending, as `analyze` counts them.

        Args:
          random: those of the same entries, shuffled.
        """
        model = self._model(model)
        (one,) = self._kept(model, [layer], 1, 0, 0, True, 0, None)
        (row,) = _pieces(one, True, True)
        stack = row.load()
        if random:
            stack = np.random.default_rng(0).permutation(stack.ravel()).reshape(stack.shape)
        return spectra.eigenvalues({"layer": stack}, rules=_WHOLE)["layer"]

    def SVDSharpness(
        self, model: Any = None, layers: Sequence[int | str] = (), start_ids: int = 0, seed: int = 0
    ) -> Any:
        """The model without the largest singular directions, as many as its shuffled weights have spikes.

        A module of torch is changed in place and returned; of everything else a dict of new arrays is
        returned, by the names of the weights. Spikes are counted by the density fit of `mp_fit`; of a
        convolution each slice loses its share, rounded up.
        """
        model = self._model(model)
        spikes = self.analyze(model, layers, randomize=True, start_ids=start_ids, seed=seed)
        count = dict(zip(spikes["longname"], spikes["rand_num_spikes"], strict=True))
        weights = checkpoints.weights_of(model)
        names = {layer.longname: layer.matrix.name for layer in _layers(weights, model, start_ids)}
        out = {name: np.array(weights[name]) for name in _specs(weights)}
        for longname, name in names.items():
            few = count.get(longname, 0)
            if few > 0:
                out[name] = _without_largest(out[name], int(few), getattr(weights, "layout", "flax"))
        if not hasattr(model, "named_modules"):
            return out
        for name, tensor in model.state_dict().items():
            if name in names.values():
                tensor.copy_(tensor.new_tensor(out[name]))
        return model

    def _model(self, model: Any) -> Any:
        model = self.model if model is None else model
        if model is None:
            raise InputError("no model is given: WeightWatcher(model=...) or analyze(model=...)")
        return model

    def _kept(
        self,
        model: Any,
        layers: Sequence[int | str],
        min_evals: int,
        max_evals: int,
        max_N: int,
        pool: bool,
        start_ids: int,
        base: Any,
    ) -> list[Layer]:
        """The layers that pass the filters, of the weights or of their difference from those of a base."""
        weights = checkpoints.weights_of(model)
        found = list(_layers(weights, model, start_ids))
        if base is not None:
            of_base = checkpoints.weights_of(base)
            before = {layer.longname: layer.matrix for layer in _layers(of_base, base, start_ids)}
            found = [
                layer._replace(matrix=_difference(layer.matrix, before[layer.longname]))
                for layer in found
                if layer.longname in before and before[layer.longname].shape == layer.matrix.shape
            ]
        keep = _filter(layers)
        out = []
        for layer in filter(keep, found):
            rf, N, M = layer.matrix.shape
            count = M * rf if pool else M
            if count >= min_evals and (not max_evals or count <= max_evals) and (not max_N or max_N >= N):
                out.append(layer)
        return out


def analyze(model: Any, **arguments: Any) -> pd.DataFrame:
    """`WeightWatcher(model).analyze(**arguments)`."""
    return WeightWatcher(model).analyze(**arguments)


def _check(others: Mapping[str, Any], fix_fingers: bool | str, finger_thresh: float) -> None:
    """Raises InputError for arguments that would change what is computed."""
    for name, value in others.items():
        if name in _REFUSED:
            usual, mend = _REFUSED[name]
            if value != usual and not (name == "fit" and value == "power_law"):
                raise InputError(f"{name}={value!r} is not offered: {mend}")
        elif name not in _WITHOUT_EFFECT:
            raise InputError(f"{name}={value!r} is no argument of WeightWatcher's")
    if fix_fingers not in (False, "clip_xmax"):
        raise InputError(f"fix_fingers={fix_fingers!r} is not offered: 'clip_xmax' is")
    if fix_fingers and finger_thresh != 1.0:
        raise InputError(f"finger_thresh={finger_thresh!r} is not offered: it is 1.0")


def _specs(weights: Any) -> list[str]:
    return list(weights.specs) if hasattr(weights, "specs") else list(weights)


def _layers(weights: Any, model: Any, start_ids: int) -> Iterator[Layer]:
    """The layers with a matrix of weights, counted as WeightWatcher does.

    Of a module of torch all modules count, from 0, the module itself among them; of a state dict all keys
    that end in `.weight`, from 1. Elsewhere all matrices count, from 1.
    """
    torch = getattr(weights, "layout", "flax") == "torch"
    rules = ()
    if torch:  # whole tensors, also where they hold query, key and value
        conv = layouts.from_torch(layouts.conv_slices)
        rules = (
            spectra.Rule(r"(?i)embed", "embedding", layouts.dense, ndim=2),
            spectra.Rule(r"", "dense", layouts.dense, ndim=2),
            *(spectra.Rule(r"", "conv", conv, ndim=n) for n in (3, 4)),
        )
    found, _ = spectra.weight_matrices(weights, rules=rules)
    matrices = {matrix.name: matrix for matrix in found}
    if hasattr(model, "named_modules"):
        for layer_id, (longname, module) in enumerate(model.named_modules(), start_ids):
            matrix = matrices.get(f"{longname}.weight" if longname else "weight")
            kind = _type_of_class(type(module))
            if matrix is not None and kind:
                yield Layer(layer_id, longname.split(".")[-1], longname, kind, matrix)
        return
    names = [name for name in _specs(weights) if re.search(r"(^|\.)weight$", name)] if torch else matrices
    for layer_id, name in enumerate(names, start_ids or 1):
        if name not in matrices:
            continue
        matrix, longname = matrices[name], re.sub(r"([./])?(weight|kernel)$", "", name) or name
        dims = len(weights.specs[name].shape) if torch else 4 if matrix.kind == "conv" else 2
        if torch and dims not in (2, 4):
            continue
        kind = "conv2d" if dims == 4 else "embedding" if matrix.kind == "embedding" and not torch else "dense"
        yield Layer(layer_id, longname, longname, kind, matrix)


def _type_of_class(cls: type) -> str:
    """The type of a layer of torch by its class, as WeightWatcher has it; "": it is not analysed."""
    text = str(cls).lower()
    parts = (("linear", "dense"), ("conv1d", "conv1d"), ("conv2d", "conv2d"), ("embedding", "embedding"))
    return next((kind for part, kind in parts if part in text), "")


def _filter(layers: Sequence[int | str]) -> Callable[[Layer], bool]:
    """Whether a layer is kept, by ids, types or names.

    Raises:
      InputError: ids with and without a sign, or ids, types and names together.
    """
    ids = [one for one in layers if isinstance(one, int)]
    names = [one for one in layers if isinstance(one, str)]
    if ids and (names or (min(ids) < 0 <= max(ids))):
        raise InputError(
            f"layers={list(layers)!r} mixes what is kept with what is left out, or ids with names"
        )
    if ids:
        return lambda layer: (layer.layer_id in ids) if min(ids) >= 0 else (-layer.layer_id not in ids)
    if not names:
        return lambda layer: True
    if set(names) <= set(_TYPES):
        return lambda layer: layer.layer_type in names
    out = [one.removeprefix("-") for one in names if one.startswith("-")]
    if out and len(out) < len(names):
        raise InputError(f"layers={list(layers)!r} mixes what is kept with what is left out")
    if out:
        return lambda layer: layer.name not in out and layer.longname not in out
    return lambda layer: layer.name in names or layer.longname in names


class _Row(NamedTuple):
    """A row of the table: a layer, or one slice of it.

    Attributes:
      columns: what is known without its weights.
      shape: (slices, N, M); load: reads the weights, with WeightWatcher's factor.
    """

    columns: dict[str, Any]
    shape: tuple[int, int, int]
    load: Callable[[], np.ndarray]


class _Stacks(Mapping[str, np.ndarray]):
    """The weights of rows, by their number, since names of layers may repeat; each is read when needed."""

    layout = "flax"

    def __init__(self, rows: Sequence[_Row]) -> None:
        self._rows = {f"{i:06d}": row for i, row in enumerate(rows)}
        self.specs = {name: jax.ShapeDtypeStruct(row.shape, np.float64) for name, row in self._rows.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._rows[name].load()

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


_WHOLE = (spectra.Rule("", "dense", lambda stack: {"": stack}),)  # a stack is what it is


def _pieces(layer: Layer, pool: bool, conv2d_norm: bool) -> list[_Row]:
    """The rows of a layer, with weights that have WeightWatcher's factor."""
    (rf, N, M), load = layer.matrix.shape, layer.matrix.load
    normed = layer.layer_type == "conv2d" and conv2d_norm
    factor = ((1 if pool else rf) / 2) ** 0.5 if normed else 1.0

    def part(place: int | None) -> np.ndarray:
        stack = load().astype(np.float64) * factor
        return stack if place is None else stack[place : place + 1]

    if pool:
        return [_Row(layer.columns, (rf, N, M), lambda: part(None))]
    return [_Row(layer.columns | {"slice_id": i}, (1, N, M), functools.partial(part, i)) for i in range(rf)]


def _difference(after: Matrix, before: Matrix) -> Matrix:
    return after._replace(load=lambda: after.load() - before.load())


def _columns(table: pd.DataFrame, values: Sequence[np.ndarray], tolerance: float) -> dict[str, Any]:
    """The columns that are always there."""
    failed = table["alpha"].isna()
    return {
        **{name: table[name] for name in _SAME},
        "has_esd": True,
        "lambda_max": table["spectral_norm"],
        "num_evals": table["num_evals"],
        "status": np.where(failed, "failed", "success"),
        "warning": table["ww_label"].fillna(""),
        "weak_rank_loss": [int((of_layer < tolerance).sum()) for of_layer in values],
        "xmax": table["spectral_norm"].where(~failed),
    }


def _on_request(
    table: pd.DataFrame, mp_fit: bool, randomize: bool, detX: bool, vectors: bool
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if mp_fit:
        out |= {name: table[f"{name}_mp_fit"] for name in _MP_FIT}
        out |= {"sigma_mp": table["sigma_mp"], "W_scale": table["W_scale"]}
    if randomize:
        out |= {name: table[name] for name in _RANDOM}
        out |= {f"rand_{name}": table[f"rand_{name}"] for name in _RANDOM_FIT}
        out["rand_W_scale"] = table["W_scale"]  # of the same entries
    if detX:
        out |= {name: table[name] for name in ("num_ERG_spikes", "ERG_gap", "detX_val")}
        out["detX_num"] = table["num_ERG_spikes"]
        scale = table["num_evals"] / table["norm"]
        out["detX_val_unrescaled"] = table["detX_val"] * scale  # which is the rescaled one there
    if vectors:
        out |= {name: table[name] for name in _VECTORS}
    return out


def _clipped(details: pd.DataFrame, table: pd.DataFrame, values: Sequence[np.ndarray]) -> pd.DataFrame:
    """With the fit without the largest eigenvalues, where there are fingers."""
    details = details.assign(raw_alpha=details["alpha"], num_fingers=table["num_fingers"])
    places = np.flatnonzero(table["num_fingers"] > 0)
    if not len(places):
        return details
    # Of a matrix with these eigenvalues; as many are left out as num_fingers says, and one.
    left = {f"{i:06d}": values[i][: -int(table["num_fingers"][i]) - 1] for i in places}
    found = spectra.analyze(
        {name: np.diag(np.sqrt(np.maximum(kept, 0.0))) for name, kept in left.items()}, metrics="scale,tail"
    ).table.set_index("name")
    for name, i in zip(left, places, strict=True):
        fit, every = found.loc[name], values[i]
        alpha = fit["alpha"]
        details.loc[i, ["alpha", "D", "sigma", "xmin"]] = fit[["alpha", "D", "sigma", "xmin"]].to_numpy()
        details.loc[i, "xmax"] = left[name][-1]
        details.loc[i, "num_pl_spikes"] = float((every >= fit["xmin"] * (1 - 1e-9)).sum())
        details.loc[i, "alpha_weighted"] = alpha * details.loc[i, "log_spectral_norm"]
        details.loc[i, "log_alpha_norm"] = np.log10(np.sum(np.maximum(every, 0.0) ** alpha))
        details.loc[i, "warning"] = "over-trained" if alpha < 2 else "under-trained" if alpha > 6 else ""
    return details


def _without_largest(tensor: np.ndarray, count: int, layout: str) -> np.ndarray:
    """Weights whose largest singular values are set to 0, in each slice its share."""
    if tensor.ndim == 2:
        return _truncated(tensor, count)
    axes = (2, 3, 0, 1) if layout == "torch" else (0, 1, 2, 3)  # slices first
    slices = tensor.transpose(axes)
    few = -(-count // (slices.shape[0] * slices.shape[1]))
    out = np.stack([[_truncated(one, few) for one in row] for row in slices])
    back: np.ndarray = out.transpose(np.argsort(axes))
    return back


def _truncated(matrix: np.ndarray, count: int) -> np.ndarray:
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    values[:count] = 0.0
    out: np.ndarray = (left * values) @ right
    return out.astype(matrix.dtype)


def _plots(found: spectra.Analysis, rows: Sequence[_Row], savefig: bool | str | os.PathLike[str]) -> None:
    """The spectrum of each layer, drawn, and written into a folder unless `savefig` is False."""
    folder = None
    if savefig:
        folder = pathlib.Path("ww-img" if savefig is True else os.fspath(savefig))
        folder.mkdir(parents=True, exist_ok=True)
    for name, row in zip(found.table["name"], rows, strict=True):
        figure = found.plot(name)
        figure.suptitle(f"{row.columns['layer_id']} {row.columns['longname']}")
        if folder is not None:
            place = f"{row.columns['layer_id']}" + (
                f".{row.columns['slice_id']}" if "slice_id" in row.columns else ""
            )
            figure.savefig(folder / f"ww.layer{place}.esd.png")
