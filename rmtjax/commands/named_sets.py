"""Finds sets of examples by name, for commands: sources of data, synthetic sets, files of features."""

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rmtjax import config as config_lib
from rmtjax import data, files, results, train
from rmtjax.data import texts
from rmtjax.data.modalities import ROWS
from rmtjax.data.tokens import Tokens
from rmtjax.errors import InputError
from rmtjax.generate import store, synthetic_sets
from rmtjax.generate.kinds import WORDS
from rmtjax.train import classification, sharding
from rmtjax.train.features import LETTERS, letters_features, unigrams

GREY = ("digits", "letters", "letters_unlike_digits", "printed_digits")


class Set(NamedTuple):
    """A set of examples that is measured."""

    name: str
    values: np.ndarray  # images [n, h, w, c], tokens [n, T] or features [n, d]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    kind: str  # "images", "tokens" or "features"
    words: tuple[str, ...] = ()  # vocabulary of the tokens; empty if they are those of a model


class Model(NamedTuple):
    """A model that gives features."""

    name: str
    features: Callable[[np.ndarray], np.ndarray]
    image_size: int
    tokens: Tokens | None = None  # how the model reads texts; None if it does not


def read_together(names: list[str], model: Model, *, image_size: int | None, most: int) -> list[Set]:
    """Reads sets that are to be compared; gives them distinct names and one vocabulary."""
    sets = [read(name, model, image_size=image_size, most=most) for name in names]
    paths = [pathlib.Path(name).resolve() for name in names]
    if len({s.name for s in sets}) < len(sets) == len(set(paths)):
        ends = ([pathlib.Path(*path.parts[-depth:]) for path in paths] for depth in itertools.count(1))
        distinct = next(some for some in ends if len(set(some)) == len(sets))
        sets = [s._replace(name=str(end)) for s, end in zip(sets, distinct, strict=True)]
    return _with_one_vocabulary(sets) if all(s.kind == "tokens" for s in sets) else sets


def _with_one_vocabulary(sets: list[Set]) -> list[Set]:
    """Gives each word the same number in all sets, and pads all texts to one length."""
    number = {"": 0}
    width = max(s.values.shape[1] for s in sets)
    made = []
    for s in sets:
        values = np.pad(s.values, ((0, 0), (0, width - s.values.shape[1])))
        if s.words:
            values = np.array([number.setdefault(word, len(number)) for word in s.words])[values]
        made.append(s._replace(values=values, words=tuple(number) if s.words else ()))
    return made


def read(name: str, model: Model, *, image_size: int | None, most: int) -> Set:
    """Reads a set by its name. Texts become tokens of the model, or words if the model does not read texts.

    Args:
      name: a file of `features` (npy or npz), the folder of a synthetic set, or a source of `data`, which
        @train or @test may follow.
      model: decides the image size and the tokens.
      image_size: side of images. If it is None, it is that of the run; without a run it is 16 for digits,
        letters and synthetic sets, and 32 for others.
      most: the largest number of examples read from a source; classes keep their shares.

    Raises:
      InputError: there is no set of that name, or it cannot be read.
    """
    path = pathlib.Path(name)
    if path.suffix == ".npy" or (path.suffix == ".npz" and path.is_file()):
        if (features := _features(name, path)) is not None:
            return features
        name = f"npz:{name}"
    whole, _, part = name.partition("@")
    made_here = (path / store.MANIFEST).is_file()
    size = image_size or (16 if made_here or whole in GREY else 32)
    if not image_size and model.name != LETTERS:
        size = model.image_size
    if made_here:
        return _synthetic(path, size, model)
    if ":" not in whole and path.is_dir():
        whole = f"folder:{whole}"
    if part not in ("", "train", "test"):
        raise InputError(f"{name!r} names the part {part!r}: it must be @train or @test")
    source = _source(name, whole, part, size, model)
    # Read only as many examples as are measured.
    numbers = data.stratified(source, min(most, source.num_examples))
    labels, classes = source.labels[numbers], source.classes
    if source.modality.kind == "images":
        return Set(name, source.inputs(numbers), labels, classes, "images")
    if model.tokens is not None:
        return Set(name, source.inputs(numbers), labels, classes, "tokens")
    return Set(name, source.examples[numbers], labels, classes, "tokens", source.tokens.words)


def _source(name: str, whole: str, part: str, size: int, model: Model) -> data.Source:
    """The source `whole`, or a part of it; texts have the tokens of the model if it reads texts."""
    if config_lib.is_text(whole) and model.tokens is not None:
        parts = texts.parts(whole, model.tokens.tokenizer, model.tokens.length)
        if part and part not in parts:
            raise InputError(f"{name!r} has no part {part!r} of its own: leave @{part} out")
        return parts[part] if part else next(iter(parts.values()))
    if part or config_lib.is_text(whole):
        section = config_lib.base().data
        section.source, section.image_size = whole, size
        section.train_examples, section.validation_examples = None, 0
        splits = data.load(section, 0)
        return splits.test if part == "test" else splits.train
    return data.load_source(whole, size)


def _features(name: str, path: pathlib.Path) -> Set | None:
    """The features [n, d] in a file; None if an npz file holds something else."""
    arrays = _arrays(path)
    features = arrays.get("features", next(iter(arrays.values())) if len(arrays) == 1 else None)
    if features is None or features.ndim != 2:
        if path.suffix == ".npz":
            return None
        shape = list(next(iter(arrays.values())).shape)
        raise InputError(f"{name!r} has shape {shape}: it must be features [n, d]")
    labels = arrays.get("labels", arrays.get("label"))
    if not np.issubdtype(features.dtype, np.number) or (labels is not None and len(labels) != len(features)):
        raise InputError(f"{name!r} needs numbers `features` [n, d], and `labels` [n] if any: it has others")
    if labels is None:
        return Set(path.stem, features, None, (), "features")
    classes, numbers = np.unique(labels, return_inverse=True)
    return Set(path.stem, features, numbers, tuple(map(str, classes)), "features")


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        arrays = files.read_arrays(path)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {str(path)!r}") from error
    except ValueError as error:
        raise InputError(
            f"{str(path)!r} cannot be read as plain arrays: save it with numpy.save or savez ({error})"
        ) from error
    return {"features": arrays[""]} if "" in arrays else arrays


def _synthetic(folder: pathlib.Path, size: int, model: Model) -> Set:
    manifest = store.read(folder)
    kind = "texts" if (folder / WORDS).is_file() else "images"
    shards = [_arrays(path) for path in synthetic_sets.shards(folder, manifest, kind)]
    if not shards:
        raise InputError(f"{str(folder)!r} has a manifest but no {kind}_*.npz: it is no set of {kind}")
    examples, labels = (np.concatenate([shard[key] for shard in shards]) for key in (kind, "labels"))
    classes = tuple(map(str, manifest.get("classes", range(int(labels.max()) + 1))))
    name = f"{folder.parent.name}/{folder.name}"
    if kind == "images":
        return Set(name, data.resize(examples, size), labels, classes, kind)
    words = tuple(json.loads((folder / WORDS).read_text(encoding="utf-8")))
    if model.tokens is None:
        return Set(name, examples, labels, classes, "tokens", words)
    tokens = dataclasses.replace(model.tokens, words=words).using(model.tokens.tokenizer)
    return Set(name, tokens.arrays(examples), labels, classes, "tokens")


def model(name: str) -> Model:
    """The model that gives features, by its name: "letters", or the folder of a run.

    Raises:
      InputError: `name` is neither.
    """
    if name == "letters":
        return Model(LETTERS, letters_features, 16)
    stored = pathlib.Path(name) / results.CONFIG
    if not stored.is_file():
        raise InputError(
            f"--model={name!r} is not a run: give the folder of a run (with its config.json), or letters"
        )
    config = config_lib.from_stored(json.loads(stored.read_text(encoding="utf-8")))
    result = train.restore(config, name)
    predict = classification.make_predict(result.model, sharding.local_mesh())
    expected, modality = result.splits.test.input_shape, result.splits.test.modality
    tokens = modality if isinstance(modality, Tokens) else None

    def features(inputs: np.ndarray) -> np.ndarray:
        if inputs.shape[1:] != tuple(expected):
            raise InputError(
                f"--model={name!r} takes inputs of shape {list(expected)}, but those of the set have "
                f"shape {list(inputs.shape[1:])}: choose another model, or set --image_size"
            )
        zeros = np.zeros(len(inputs), np.int32)
        origin = zeros.astype(np.int8)
        source = data.Source(
            "inputs", zeros, ("any",), inputs.shape[1:], origin, examples=inputs, modality=ROWS
        )
        batches = data.evaluation_batches(source, batch_size=config.train.evaluation_batch_size)
        return predict(result.state.params, result.state.model_state, batches)[1]

    return Model(
        f"the model of {os.fspath(name)}, pooled features before the head",
        features,
        config.data.image_size,
        tokens,
    )


def spaces(sets: list[Set], only: str | None, model: Model) -> dict[str, list[np.ndarray]]:
    """The vectors of each set in each space: pixels, counts of tokens, or features of the model."""
    kind, shape = sets[0].kind, sets[0].values.shape[1:]
    fits = kind == "images" and (shape == (16, 16, 1) or model.name != LETTERS)
    possible = {"images": ["pixel"], "tokens": ["unigram"], "features": ["feature"]}[kind]
    if fits or (kind == "tokens" and model.tokens is not None):
        possible.append("feature")
    if only and only not in possible:
        raise InputError(
            f"--space={only} does not exist for {sets[0].name}, which has {kind} of shape {list(shape)}: "
            f"use {' or '.join(possible)}, or give --model a run that takes them"
        )
    made: dict[str, list[np.ndarray]] = {}
    for space in [only] if only else possible:
        if space == "unigram":
            counts = unigrams({s.name: s.values for s in sets})
            made[space] = [counts[s.name] for s in sets]
        elif space == "pixel" or kind == "features":
            made[space] = [s.values for s in sets]
        else:
            made[space] = [model.features(s.values) for s in sets]
    return made
