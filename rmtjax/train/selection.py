"""The splits of a config, with training examples that are selected by their diversity."""

import contextlib
import functools
import hashlib
import itertools
import json
import logging
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import data, diversity, files, models
from rmtjax.train import classification, features, weights
from rmtjax.train import sharding as sharding_lib

LOG = logging.getLogger(__name__)
STORED = 2000  # examples, from which on features of a model are stored
_CHUNK = 1024  # examples in memory at a time


def load(config: ConfigDict, image_size: int | None = None) -> data.Splits:
    """Loads the splits of a config, as `data.load` does, and selects the training examples (`data.select`).

    Which ones does not depend on the image size that they are returned in. A selection has the label of the
    random draw at each place, so that all recipes see as many examples of each class, in one order.

    Args:
      config: the whole config, checked.
      image_size: side of the images; None is `data.image_size`.

    Raises:
      InputError: see `data.load`; the weights that features come from are not there or do not fit.
    """
    section = config.data.copy_and_resolve_references()
    section.image_size = image_size or section.image_size
    if section.select == "random":
        return data.load(section, config.seed)
    quantile, number = config_lib.quantile(section.select), section.train_examples
    assert quantile is not None
    plain = json.loads(config_lib.to_json(config))
    for name in ("select", "train_examples", "distinct", "label_noise"):  # which the pool does not depend on
        del plain["data"][name]
    pool = _pool(json.dumps({name: plain[name] for name in ("seed", "data", "model", "train", "synthetic")}))
    wanted = pool.labels[:number]
    LOG.info("selecting %d of %d training examples", len(wanted), len(pool.labels))
    chosen = diversity.select(pool.features, pool.labels, wanted, quantile=quantile, seed=config.seed)
    return data.load(section, config.seed, chosen)


class _Pool(NamedTuple):
    """What is selected from: all training examples, in the order in which the random draw takes them."""

    features: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]


@functools.lru_cache(maxsize=2)  # the runs of a study
def _pool(stored: str) -> _Pool:
    config = config_lib.from_stored(json.loads(stored))
    config.data.train_examples = None
    source = data.load(config.data, config.seed).train
    if config.data.select_features == "inputs":
        return _Pool(of_inputs(source), source.labels)
    return _Pool(of_model(config, source)(source, source.num_examples >= STORED), source.labels)


def of_inputs(source: data.Source) -> Float[np.ndarray, "n d"]:
    """Pixels of images, shrunk to 32 x 32, or how often each token is in each text."""
    if source.modality.kind == "texts":
        return features.unigrams({source.name: source.inputs()})[source.name]
    rows = [features.shrunk(images).reshape(len(images), -1) for images in _chunks(source)]
    return np.concatenate(rows)


def of_model(config: ConfigDict, like: data.Source) -> Callable[[data.Source, bool], np.ndarray]:
    """Returns `featured(source, store) -> [n, d]`: pooled features before the head, under `model.init_from`.

    Args:
      like: what the model is for: its classes, vocabulary and inputs.

    With `store` they are looked for below `synthetic.cache`, and stored there, example by example.
    """
    plain = json.loads(config_lib.to_json(config))
    about = {name: plain[name] for name in ("model", "train")}  # and no seed: a model is compiled once
    about["data"] = {name: plain["data"][name] for name in ("image_size", "max_tokens")}
    sizes = len(like.classes), like.vocabulary_size
    predict, variables, digest = _model(json.dumps(about), sizes, like.input_shape, like.input_dtype)

    def featured(source: data.Source, store: bool) -> Float[np.ndarray, "n d"]:
        def computed(numbers: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m d"]:
            batches = data.evaluation_batches(
                data.take(source, numbers), batch_size=config.train.evaluation_batch_size
            )
            return np.asarray(predict(*variables, batches)[1], np.float32)

        if not store:
            return computed(np.arange(source.num_examples))
        names = np.array([hashlib.sha256(x.tobytes()).hexdigest() for x in _each(source)], "S")
        root = files.make_folder(config.synthetic.cache, "the cache", "--config.synthetic.cache")
        return _stored(root / f"features_{digest}.npz", names, computed)

    return featured


@functools.lru_cache(maxsize=1)
def _model(
    stored: str, sizes: tuple[int, int], input_shape: tuple[int, ...], input_dtype: Any
) -> tuple[Callable[..., Any], tuple[Any, Any], str]:
    """The predictions of the model of a config, its weights before training, and a digest of all of it."""
    config = config_lib.from_stored(json.loads(stored))
    model, load_weights = models.build(config, *sizes), weights.of_config(config)
    assert load_weights is not None
    init = classification.make_init(model, input_shape, input_dtype)
    variables = load_weights(*jax.device_get(jax.jit(init)(jax.random.key(0))))
    digest = hashlib.sha256(json.dumps([config_lib.to_json(config.model), config.train.dtype]).encode())
    for leaf in jax.tree.leaves(variables):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    predict = classification.make_predict(model, sharding_lib.local_mesh())
    return predict, variables, digest.hexdigest()[:16]


def _stored(
    path: pathlib.Path, names: Shaped[np.ndarray, " n"], compute: Callable[[np.ndarray], np.ndarray]
) -> Float[np.ndarray, "n d"]:
    """The rows of these names in a file; those that it lacks are computed, by one process at a time.

    Other seeds leave other examples for validation, and find nearly all of their rows.

    Args:
      compute: `(numbers of some names) -> their rows`.
    """

    def wait(who: str) -> None:
        LOG.info("%s is computing %s: waiting for it", who, path)

    with files.locked(path.with_name(f".{path.name}.lock"), wait):
        known, rows = names[:0], None
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):  # a damaged one is made anew
            arrays = files.read_arrays(path)
            known, rows = arrays["names"], arrays["rows"]
        unknown, first = np.unique(names, return_index=True)
        first = first[~np.isin(unknown, known)]
        if len(first):
            new = compute(first)
            known = np.concatenate([known, names[first]])
            rows = new if rows is None else np.concatenate([rows, new])
            with files.atomic(path) as temporary:
                np.savez(temporary, names=known, rows=rows)
    assert rows is not None
    order = np.argsort(known)
    return rows[order[np.searchsorted(known, names, sorter=order)]]


def _each(source: data.Source) -> Iterator[np.ndarray]:
    return itertools.chain.from_iterable(_chunks(source))


def _chunks(source: data.Source) -> Iterator[np.ndarray]:
    for start in range(0, source.num_examples, _CHUNK):
        yield source.inputs(np.arange(start, min(start + _CHUNK, source.num_examples)))
