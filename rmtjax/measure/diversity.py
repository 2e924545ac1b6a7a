"""Writes diversity.json: the diversity of the data a model was trained on."""

import functools
import itertools
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from rmtjax import checkpoints, data, diversity, files, results, train
from rmtjax.data.modalities import IMAGES, ROWS, Modality
from rmtjax.train import classification, features, selection
from rmtjax.train import sharding as sharding_lib

LOG = logging.getLogger(__name__)
_CHUNK = 256  # inputs in memory before they are shrunk
BEFORE = "the model before training, pooled features before the head"

Sets = dict[str, np.ndarray]
Featured = Callable[[data.Source, bool], np.ndarray]
"""`featured(source, store) -> features [n, d]`; with `store` they may be kept for other runs."""


class _Seen(NamedTuple):
    """A set of examples: their inputs, images shrunk, and their features; None if there is no model."""

    inputs: np.ndarray
    features: np.ndarray | None


class _Fed(NamedTuple):
    """The sets that are measured, and the roles of some of them.

    Attributes:
      sets: by name.
      compared: the sets that are compared at equal n.
      as_fed: the set that is an epoch of training examples.
      base: the set that is the real training split.
    """

    sets: dict[str, _Seen]
    compared: tuple[str, ...]
    as_fed: str
    base: str


def diversity_of_run(config: ConfigDict, workdir: str | os.PathLike[str], result: train.Result) -> None:
    """Writes diversity.json: the diversity of the training data, as inputs and in features of a fixed model.

    The sets "real", "augmented", "synthetic" and "mixed" are compared at equal n, that of the smallest. The
    set "fed" is an epoch of training, with the synthetic and augmented examples of the recipe. It is measured
    at the size of the real training split. Its weighted Vendi score is the unpaired one: rows of synthetic
    examples have no pair. Size and scores mean the same for every recipe, so runs are compared by "fed".

    At most `diversity.examples` of each set are measured, drawn with the seed of the run. Images larger than
    32 x 32 are shrunk to that size where pixels are compared. Features are those of the shipped letters model
    for images of its size, else of the model before training. Those of a pre-trained model are kept for
    other runs, but for augmented examples, which no other run has.
    """
    feature_model, featured = _feature_model(config, workdir, result)
    fed = _what_is_fed(config, result, featured)
    n = min(config.diversity.examples, result.splits.train.num_examples, result.train.num_examples)
    rows = [
        row
        for space, examples in _spaces(fed.sets, result.train.modality.kind).items()
        for row in _rows_of_space(config, fed, space, examples, n)
    ]
    content = {"feature_model": feature_model, "rows": rows}
    files.write_json(pathlib.Path(workdir) / results.DIVERSITY, content)


def _feature_model(
    config: ConfigDict, workdir: str | os.PathLike[str], result: train.Result
) -> tuple[str | None, Featured | None]:
    """The name of the model that gives the features, and the features; None for images from scratch."""
    like = result.train
    if like.input_shape == features.LETTERS_SHAPE:
        return features.LETTERS, lambda source, store: features.letters_features(source.inputs())
    if config.model.init_from is not None:
        return BEFORE, selection.of_model(config, like)
    if like.modality.kind == "images":
        return None, None
    before = checkpoints.nest(checkpoints.open(pathlib.Path(workdir) / results.CHECKPOINTS / "0"))
    predict = classification.make_predict(result.model, sharding_lib.local_mesh())

    def of_scratch(source: data.Source, store: bool) -> np.ndarray:
        batches = data.evaluation_batches(source, batch_size=config.train.evaluation_batch_size)
        return predict(before, {}, batches)[1]

    return BEFORE, of_scratch


def _what_is_fed(config: ConfigDict, result: train.Result, featured: Featured | None) -> _Fed:
    train_set, split, test = result.train, result.splits.train, result.splits.test
    some = functools.partial(_some, seed=config.seed, most=config.diversity.examples)
    real, made = (np.flatnonzero(train_set.origin == kind) for kind in (0, 1))
    everything = np.arange(train_set.num_examples)
    augment = data.augmentation(config.augment, train_set)
    see = functools.partial(_see, featured=featured)
    augmented = functools.partial(
        _see_augmented,
        seed=config.seed,
        augment=augment,
        batch_size=config.train.evaluation_batch_size,
        featured=featured,
    )
    sets: dict[str, _Seen] = {}
    if len(real):  # none is left at share 1 of mode replace
        sets["real"] = see(some(train_set, real))
    if augment is not None and len(real):
        sets["augmented"] = augmented(some(train_set, real))
    if len(made):
        sets["synthetic"] = see(some(train_set, made))
    if len(made) and len(real):
        sets["mixed"] = see(some(train_set, everything))
    compared = tuple(sets)
    as_fed, base = ("augmented" if augment is not None else "real"), "real"
    if len(made):
        as_fed, base = ("fed" if augment is not None else "mixed" if len(real) else "synthetic"), "split"
        sets["split"] = see(some(split, np.arange(split.num_examples)))
        if augment is not None:
            sets["fed"] = augmented(some(train_set, everything))
    sets["test"] = see(some(test, np.arange(test.num_examples)))
    return _Fed(sets, compared, as_fed, base)


def _spaces(sets: dict[str, _Seen], kind: str) -> dict[str, Sets]:
    """The sets in each space: pixels or counts of tokens, and features if there are any."""
    inputs = {name: seen.inputs for name, seen in sets.items()}
    spaces = {"pixel": inputs} if kind == "images" else {"unigram": features.unigrams(inputs)}
    featured = {name: seen.features for name, seen in sets.items() if seen.features is not None}
    return spaces | ({"feature": featured} if featured else {})


def _rows_of_space(config: ConfigDict, fed: _Fed, space: str, examples: Sets, n: int) -> list[dict[str, Any]]:
    """The rows of the sets that are compared at equal n, and those of "fed" at `n` examples."""
    options = {"space": space, "k": config.diversity.neighbours, "seed": config.seed}
    compared = {name: examples[name] for name in fed.compared}
    LOG.info("diversity: %s, in %ss", ", ".join(compared), space)
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


def _some(source: data.Source, numbers: np.ndarray, *, seed: int, most: int) -> data.Source:
    """Some of these examples, at most `most`; of sets of one length those at the same places."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(numbers))[:most])
    return data.take(source, numbers[drawn])


def _see(source: data.Source, *, featured: Featured | None) -> _Seen:
    chunks = np.array_split(np.arange(source.num_examples), -(-source.num_examples // _CHUNK))
    inputs = [features.shrunk(source.inputs(numbers)) for numbers in chunks]
    return _Seen(np.concatenate(inputs), None if featured is None else featured(source, True))


def _see_augmented(
    source: data.Source,
    *,
    seed: int,
    augment: data.Augmentation,
    batch_size: int,
    featured: Featured | None,
) -> _Seen:
    """Every example once, augmented as in an epoch of training, in the order of the source."""
    n = source.num_examples
    size = min(n, batch_size)
    batches = data.train_batches(source, batch_size=size, seed=seed, augment=augment)
    seen, index = [], []
    for batch in itertools.islice(batches, -(-n // size)):
        of_batch = None if featured is None else featured(_as_source(batch["inputs"], source), False)
        seen.append(_Seen(features.shrunk(batch["inputs"]), of_batch))
        index.append(batch["index"])
    order = np.argsort(np.concatenate(index)[:n])  # the last batch begins the next epoch
    inputs, rows = (
        None if parts[0] is None else np.concatenate(parts)[:n][order] for parts in zip(*seen, strict=True)
    )
    return _Seen(inputs, rows)


def _as_source(inputs: np.ndarray, like: data.Source) -> data.Source:
    """Inputs of a model as a source."""
    modality: Modality = IMAGES if like.modality.kind == "images" else ROWS
    labels, origin = np.zeros(len(inputs), np.int32), np.zeros(len(inputs), np.int8)
    return data.Source("", labels, ("any",), inputs.shape[1:], origin, examples=inputs, modality=modality)
