"""How diverse what a model was fed is: diversity.json."""

import functools
import itertools
import logging
import os
import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from rmtjax import checkpoints, data, diversity, files, results, train
from rmtjax.train import classification, features
from rmtjax.train import sharding as sharding_lib

LOG = logging.getLogger(__name__)
_MOST = 2000  # examples of each set whose diversity is measured
_SIDE = 32  # pixels; larger images are shrunk to it for that


def diversity_of_run(config: ConfigDict, workdir: str | os.PathLike[str], result: train.Result) -> None:
    """diversity.json: what the model was fed, as it is and in the features of one fixed model.

    The sets "real", "augmented", "synthetic" and "mixed" at equal n, that of the smallest. And "fed": an epoch as it is trained on, synthetic
    and augmented as the recipe has it, at the size of the real training split and weighted by its likeness to that split. That
    size is the same whatever the recipe, so that "fed" is what runs are compared by.

    At most 2,000 examples of each set are measured, drawn by the run's seed, and images larger than 32 x 32 at that size.
    """
    train_set, split = result.train, result.splits.train
    real, made = (np.flatnonzero(train_set.origin == kind) for kind in (0, 1))
    real = _some(real, config.seed)
    everything = _some(np.arange(train_set.num_examples), config.seed)
    sets = (
        {"real": _examples(train_set, real)} if len(real) else {}
    )  # none is left at share 1 of mode replace
    augment = data.augmentation(config.augment, train_set)
    if augment is not None and len(real):
        sets["augmented"] = _augmented(data.take(train_set, real), config.seed, augment)
    if len(made):
        sets["synthetic"] = _examples(train_set, _some(made, config.seed))
    if len(made) and len(real):
        sets["mixed"] = _examples(train_set, everything)
    at_equal_n = tuple(sets)
    as_fed, base = ("augmented" if augment is not None else "real"), "real"
    if len(made):
        as_fed, base = ("fed" if augment is not None else "mixed" if len(real) else "synthetic"), "split"
        sets["split"] = _examples(split, _some(np.arange(split.num_examples), config.seed))
        if augment is not None:
            sets["fed"] = _augmented(data.take(train_set, everything), config.seed, augment)
    test = result.splits.test
    sets["test"] = _examples(test, _some(np.arange(test.num_examples), config.seed))
    if train_set.text is None:
        LOG.info("diversity: pixels, and features of the shipped letters model")
        feature_model = features.LETTERS
        spaces = {"pixel": sets}
        if sets["test"].shape[1:] == features.LETTERS_SHAPE:
            spaces["feature"] = {name: features.letters_features(images) for name, images in sets.items()}
    else:
        LOG.info("diversity: counts of tokens, and features of the model before training")
        feature_model = "the model before training, pooled features before the head"
        before = checkpoints.nest(checkpoints.open(pathlib.Path(workdir) / results.CHECKPOINTS / "0"))
        spaces = {
            "unigram": unigrams(sets),
            "feature": {name: _text_features(config, result.model, before, t) for name, t in sets.items()},
        }
    rows = []
    for space, examples in spaces.items():
        measured = functools.partial(
            diversity.diversity_rows,
            reference=examples["test"],
            space=space,
            k=config.diversity.neighbours,
            seed=config.seed,
        )
        rows += measured({name: examples[name] for name in at_equal_n}, paired={"augmented": "real"})
        fed = measured(
            {"fed": examples[as_fed], "split": examples[base]},
            n=min(_MOST, split.num_examples, train_set.num_examples),
            metrics=(*diversity.DEFAULT, "weighted_vendi_unpaired"),
            paired={} if len(made) else {"fed": "split"},
            base="split",
        )
        rows += [row for row in fed if row["set"] == "fed"]
    content = {"feature_model": feature_model, "rows": rows}
    files.write_json(pathlib.Path(workdir) / results.DIVERSITY, content)


def _some(numbers: np.ndarray, seed: int) -> np.ndarray:
    """All of a set's examples, or as many as are enough; of sets of one length the same places."""
    return numbers[np.sort(np.random.default_rng(seed).permutation(len(numbers))[:_MOST])]


def _examples(source: data.Source, numbers: np.ndarray) -> np.ndarray:
    return _shrunk(source.images(numbers))


def _augmented(source: data.Source, seed: int, augment: data.Augmentation) -> np.ndarray:
    """Every example once, augmented as in an epoch of training, in the source's order."""
    n = source.num_examples
    batches = data.train_batches(source, batch_size=min(n, 64), seed=seed, augment=augment)
    index, inputs = zip(
        *((b["index"], _shrunk(b["inputs"])) for b in itertools.islice(batches, -(-n // 64))), strict=True
    )
    epoch = slice(n)  # the last batch begins the next one
    return np.concatenate(inputs)[epoch][np.argsort(np.concatenate(index)[epoch])]


def _shrunk(inputs: np.ndarray) -> np.ndarray:
    return data.resize(inputs, _SIDE) if inputs.ndim == 4 and inputs.shape[1] > _SIDE else inputs


def unigrams(sets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """How often each token is in each text, `[n, tokens]`; of the tokens that some but not all texts have."""
    together = np.concatenate(list(sets.values()))
    present, column = np.unique(together, return_inverse=True)
    counts = np.zeros((len(together), len(present)), np.float32)
    np.add.at(counts, (np.arange(len(together))[:, None], column.reshape(together.shape)), 1)
    words = (present != 0) & ~np.all(counts > 0, axis=0)  # not padding, and not what stands around every text
    ends = np.cumsum([len(tokens) for tokens in sets.values()])[:-1]
    return dict(zip(sets, np.split(counts[:, words], ends), strict=True))


def _text_features(config: ConfigDict, model: Any, params: Any, tokens: np.ndarray) -> np.ndarray:
    """Pooled features of texts, given as the tokens that the model gets."""
    zeros = np.zeros(len(tokens), np.int32)
    source = data.Source("texts", zeros, ("any",), tokens.shape[1:], zeros.astype(np.int8), pixels=tokens)
    batches = data.evaluation_batches(source, batch_size=config.train.evaluation_batch_size)
    return classification.make_predict(model, sharding_lib.local_mesh())(params, {}, batches)[1]
