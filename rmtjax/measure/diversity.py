"""Writes diversity.json: the diversity of the data a model was trained on."""

import itertools
import logging
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from rmtjax import checkpoints, data, diversity, files, results, train
from rmtjax.data.modalities import ROWS
from rmtjax.train import classification, features
from rmtjax.train import sharding as sharding_lib

LOG = logging.getLogger(__name__)
MOST = 2000  # examples of each set whose diversity is measured

Sets = dict[str, np.ndarray]


class _Fed(NamedTuple):
    """The names of the sets that are measured, and the roles of some of them.

    Attributes:
      compared: the sets that are compared at equal n.
      as_fed: the set that is an epoch of training examples.
      base: the set that is the real training split.
    """

    sets: Sets
    compared: tuple[str, ...]
    as_fed: str
    base: str


def diversity_of_run(config: ConfigDict, workdir: str | os.PathLike[str], result: train.Result) -> None:
    """Writes diversity.json: the diversity of the training data, in pixels and in features of a fixed model.

    The sets "real", "augmented", "synthetic" and "mixed" are compared at equal n, that of the smallest. The
    set "fed" is an epoch of training, with the synthetic and augmented examples of the recipe. It is measured
    at the size of the real training split. Its weighted Vendi score is the unpaired one: rows of synthetic
    examples have no pair. Size and scores mean the same for every recipe, so runs are compared by "fed".

    At most 2,000 examples of each set are measured, drawn with the seed of the run. Images larger than
    32 x 32 are shrunk to that size.
    """
    fed = _what_is_fed(config, result)
    measure_in = {"images": _image_spaces, "texts": _text_spaces}[result.train.modality.kind]
    feature_model, spaces = measure_in(fed.sets, config, workdir, result.model)
    n = min(MOST, result.splits.train.num_examples, result.train.num_examples)
    rows = [
        row for space, examples in spaces.items() for row in _rows_of_space(config, fed, space, examples, n)
    ]
    content = {"feature_model": feature_model, "rows": rows}
    files.write_json(pathlib.Path(workdir) / results.DIVERSITY, content)


def _what_is_fed(config: ConfigDict, result: train.Result) -> _Fed:
    train_set, split, test, seed = result.train, result.splits.train, result.splits.test, config.seed
    real, made = (np.flatnonzero(train_set.origin == kind) for kind in (0, 1))
    real, everything = _draw_numbers(real, seed), _draw_numbers(np.arange(train_set.num_examples), seed)
    augment = data.augmentation(config.augment, train_set)
    sets: Sets = {}
    if len(real):  # none is left at share 1 of mode replace
        sets["real"] = _inputs(train_set, real)
    if augment is not None and len(real):
        sets["augmented"] = _augment_once(data.take(train_set, real), seed, augment)
    if len(made):
        sets["synthetic"] = _inputs(train_set, _draw_numbers(made, seed))
    if len(made) and len(real):
        sets["mixed"] = _inputs(train_set, everything)
    compared = tuple(sets)
    as_fed, base = ("augmented" if augment is not None else "real"), "real"
    if len(made):
        as_fed, base = ("fed" if augment is not None else "mixed" if len(real) else "synthetic"), "split"
        sets["split"] = _inputs(split, _draw_numbers(np.arange(split.num_examples), seed))
        if augment is not None:
            sets["fed"] = _augment_once(data.take(train_set, everything), seed, augment)
    sets["test"] = _inputs(test, _draw_numbers(np.arange(test.num_examples), seed))
    return _Fed(sets, compared, as_fed, base)


def _image_spaces(
    sets: Sets, config: ConfigDict, workdir: str | os.PathLike[str], model: Any
) -> tuple[str, dict[str, Sets]]:
    """The name of the model that gives the features, and the sets in each space."""
    LOG.info("diversity: pixels, and features of the shipped letters model")
    spaces = {"pixel": sets}
    if sets["test"].shape[1:] == features.LETTERS_SHAPE:
        spaces["feature"] = {name: features.letters_features(images) for name, images in sets.items()}
    return features.LETTERS, spaces


def _text_spaces(
    sets: Sets, config: ConfigDict, workdir: str | os.PathLike[str], model: Any
) -> tuple[str, dict[str, Sets]]:
    """As `_image_spaces`, with features of the run's own model before training."""
    LOG.info("diversity: counts of tokens, and features of the model before training")
    before = checkpoints.nest(checkpoints.open(pathlib.Path(workdir) / results.CHECKPOINTS / "0"))
    featured = {name: _text_features(config, model, before, tokens) for name, tokens in sets.items()}
    spaces = {"unigram": features.unigrams(sets), "feature": featured}
    return "the model before training, pooled features before the head", spaces


def _rows_of_space(config: ConfigDict, fed: _Fed, space: str, examples: Sets, n: int) -> list[dict[str, Any]]:
    """The rows of the sets that are compared at equal n, and those of "fed" at `n` examples."""
    options = {"space": space, "k": config.diversity.neighbours, "seed": config.seed}
    compared = {name: examples[name] for name in fed.compared}
    rows = diversity.diversity_rows(compared, examples["test"], paired={"augmented": "real"}, **options)
    of_fed = diversity.diversity_rows(
        {"fed": examples[fed.as_fed], "split": examples[fed.base]},
        examples["test"],
        n=n,
        metrics=("vendi_score", "coverage", "weighted_vendi_unpaired"),  # those that every recipe has
        base="split",
        **options,
    )
    return rows + [row for row in of_fed if row["set"] == "fed"]


def _draw_numbers(numbers: np.ndarray, seed: int) -> np.ndarray:
    """The examples of a set, at most as many as are needed; sets of one length give the same rows."""
    return numbers[np.sort(np.random.default_rng(seed).permutation(len(numbers))[:MOST])]


def _inputs(source: data.Source, numbers: np.ndarray) -> np.ndarray:
    return features.shrunk(source.inputs(numbers))


def _augment_once(source: data.Source, seed: int, augment: data.Augmentation) -> np.ndarray:
    """Every example once, augmented as in an epoch of training, in the order of the source."""
    n = source.num_examples
    batches = data.train_batches(source, batch_size=min(n, 64), seed=seed, augment=augment)
    index, inputs = zip(
        *((b["index"], features.shrunk(b["inputs"])) for b in itertools.islice(batches, -(-n // 64))),
        strict=True,
    )
    epoch = slice(n)  # the last batch begins the next one
    return np.concatenate(inputs)[epoch][np.argsort(np.concatenate(index)[epoch])]


def _text_features(config: ConfigDict, model: Any, params: Any, tokens: np.ndarray) -> np.ndarray:
    """Pooled features of texts, given as tokens of the model."""
    zeros = np.zeros(len(tokens), np.int32)
    origin = zeros.astype(np.int8)
    source = data.Source("texts", zeros, ("any",), tokens.shape[1:], origin, examples=tokens, modality=ROWS)
    batches = data.evaluation_batches(source, batch_size=config.train.evaluation_batch_size)
    return classification.make_predict(model, sharding_lib.local_mesh())(params, {}, batches)[1]
