"""Named sources, and their division into training, validation and test parts.

These are the sets of Ba et al. (2024), and how a config names them. Sets of TFDS must have been prepared on a
machine with a network; if they were not, an error says so.

- CIFAR-10, CIFAR-100, Stanford Cars: `data.source="tfds:cifar10"`, `"tfds:cifar100"`, `"tfds:cars196"`, with
  the test parts of TFDS.
- Shifts of CIFAR-10: `evaluation.shifts=("corrupted", "tfds:cifar10_1/v6", "tfds:cifar10_corrupted/fog_3")`,
  which are corrupted here, CIFAR-10.1, and CIFAR-10-C as it was published. `"cifar10_1:PATH"` is CIFAR-10.1
  from the files of its authors.
- Out of distribution: `evaluation.ood=("npz:data:cifar100_ood/images.npz",)`, any arrays `image` and `label`.
- DomainNet: train on one domain, `"tfds:domainnet/real"`; the others are shifts, `"tfds:domainnet/sketch"`
  and so on (their test parts). All domains have the same 345 classes, of which `data.classes` may name some.
  A shift with other classes is refused.
- Office-Home, a folder of images by class for each domain: `"folder:PATH/Real World"`; the others are shifts
  (all of their images). A folder without parts has a fixed, stratified fifth as its test part. With a tenth
  of the images as `data.validation_examples` (436 of the 4,357 of Real World) and
  `data.train_examples=None` this gives the paper's 70/10/20.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import files
from rmtjax.data import cifar10_1, digits, doubts, folders, glyphs, npz, texts, tfds_sets, tokens
from rmtjax.data.mixing import proportional
from rmtjax.data.modalities import IMAGES, Modality
from rmtjax.data.sources import Source, of_classes, take
from rmtjax.errors import InputError

_BROUGHT = ("folder", "npz", "texts")  # kinds of sources that people make themselves
_TEST_SPLIT_SEED = 1797  # the test part belongs to the data set, not to the run


class Splits(NamedTuple):
    train: Source
    validation: Source
    test: Source


def stratified_order(labels: Int[np.ndarray, " n"], seed: int | list[int]) -> Int[np.ndarray, " n"]:
    """A seeded order in which every prefix keeps the shares of the classes, to within about one example.

    Each class is shuffled and spread evenly over the whole; prefixes of one order are nested subsets.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    ranks = np.arange(len(labels)) - starts  # of each example within its class
    place = (ranks + 0.5) / np.repeat(counts, counts)
    tie = np.repeat(rng.permutation(len(counts)), counts)  # which class comes first where places are equal
    return by_class[np.lexsort((tie, place))]


def load_source(name: str, image_size: int, like: Modality = IMAGES, classes: Sequence[str] = ()) -> Source:
    """Loads a whole set; if it has a test part, only that part.

    Args:
      name: digits, letters, letters_unlike_digits, printed_digits, tfds:NAME, folder:PATH, npz:PATH or
        cifar10_1:PATH; of texts, one of `config.TEXT_SETS` or texts:PATH. A PATH may be `data:...`
        (`files.located`).
      image_size: side of the returned images in pixels.
      like: the modality of the set that the model is trained on; texts become tokens in the same way.
      classes: see `of_classes`.

    Raises:
      InputError: the name or a class is unknown, the set cannot be read, or it has texts and `like` is for
        images.
    """
    if config_lib.is_text(name):
        if not isinstance(like, tokens.Tokens):
            raise InputError(f"{name!r} holds texts, not images: leave it out")
        return of_classes(_whole(texts.parts(name, like.tokenizer, like.length)), classes)
    return of_classes(_whole(_parts(name, image_size)), classes).held()


def _whole(parts: dict[str, Source]) -> Source:
    return next(parts[part] for part in ("test", "all", "validation", "train") if part in parts)


def load(config: ConfigDict, seed: int, chosen: Int[np.ndarray, " n"] | None = None) -> Splits:
    """Loads the training, validation and test parts of a source, stratified by class.

    The test part is that of the set, or 797 fixed digits, or a fixed fifth of a set without a test part. It
    does not depend on the seed, and no part depends on the image size. Validation examples come from the
    validation part of the set, or else from its training part; the seed draws them and the training examples.
    For one seed, a smaller training set is a subset of a larger one. Wrong labels (`label_noise`) are in the
    training part alone, and copies of an example (`distinct`) have the same.

    Args:
      config: the `data` section of the config.
      seed: seed of the run.
      chosen: what `select` chose: numbers of the training examples in the training part that is loaded with
        `select="random"` and `train_examples=None` (`train.selection.load` does all of it).

    Raises:
      InputError: the source or a class is unknown, the source cannot be read, or it has too few examples or
        one class.
    """
    parts = (
        _text_parts(config) if config_lib.is_text(config.source) else _parts(config.source, config.image_size)
    )
    classes = next(iter(parts.values())).classes
    if len(classes) < 2:
        raise InputError(
            f"data.source={config.source!r} has one class, {classes[0][:60]!r}: name the folder or table "
            "that holds all classes"
        )
    brought = config.source.partition(":")[0] in _BROUGHT
    if brought:
        doubts.say(parts)
    parts = {name: of_classes(part, config.classes) for name, part in parts.items()}
    if (config.select != "random") != (chosen is not None):
        raise ValueError(f"select={config.select!r}, and chosen is {chosen}: use train.selection.load")
    splits = _divide(_with_test_part(parts, config), config, seed, chosen)
    kept, copies = np.unique(_repeated(splits.train, config.distinct), return_inverse=True)
    splits = splits._replace(train=with_label_noise(take(splits.train, kept), config.label_noise, seed))
    splits = Splits(*(part.held() for part in splits))
    if brought:
        doubts.say_shared(splits._asdict())
    if config_lib.is_text(config.source) and not config.vocabulary:
        words = splits.train.tokens
        words = words.using(tokens.trained_words(words, splits.train.examples))
        splits = Splits(*(dataclasses.replace(part, modality=words) for part in splits))
    return splits if config.distinct is None else splits._replace(train=take(splits.train, copies))


def _text_parts(config: ConfigDict) -> dict[str, Source]:
    vocabulary = config.vocabulary and tokens.read_tokenizer(files.located(config.vocabulary))
    return texts.parts(config.source, vocabulary or tokens.unknown_words(), config.max_tokens)


def _with_test_part(parts: dict[str, Source], config: ConfigDict) -> dict[str, Source]:
    """Parts with "train" and "test"; a missing test part is replaced by the validation part or a share."""
    if "all" in parts:
        whole = parts["all"]
        order = stratified_order(whole.labels, _TEST_SPLIT_SEED)
        share = 797 if config.source == "digits" and not config.classes else round(whole.num_examples / 5)
        return {"test": take(whole, np.sort(order[:share])), "train": take(whole, np.sort(order[share:]))}
    if "train" not in parts:
        raise InputError(
            f"data.source={config.source!r} has only the parts {', '.join(parts)}: none to train on"
        )
    if "test" in parts:
        return parts
    if "validation" in parts:
        return {"train": parts["train"], "test": parts["validation"]}
    order = stratified_order(parts["train"].labels, _TEST_SPLIT_SEED)
    fifth = round(len(order) / 5)
    return {
        "train": take(parts["train"], np.sort(order[fifth:])),
        "test": take(parts["train"], np.sort(order[:fifth])),
    }


def _parts(name: str, image_size: int) -> dict[str, Source]:
    """The parts of a set: "all", or some of "train", "validation" and "test"."""
    kind, _, rest = name.partition(":")
    if rest and kind == "tfds":
        return tfds_sets.splits(rest, image_size)
    of_path = {"folder": folders.parts, "npz": npz.parts, "cifar10_1": cifar10_1.parts}
    if rest and kind in of_path:
        return of_path[kind](str(files.located(rest)), image_size)
    if name == "letters":
        return dict(zip(("train", "test"), glyphs.letters(image_size), strict=True))
    whole = {
        "digits": digits.handwritten,
        "printed_digits": glyphs.printed_digits,
        "letters_unlike_digits": glyphs.letters_unlike_digits,
    }
    if name not in whole:
        raise InputError(
            f"data source {name!r} is unknown: it must be letters, {', '.join(whole)}, tfds:NAME, "
            "folder:PATH, npz:PATH or "
            f"cifar10_1:PATH; "
            f"of texts, {', '.join(config_lib.TEXT_SETS)} or texts:PATH"
        )
    return {"all": whole[name](image_size)}


def _divide(
    parts: dict[str, Source], config: ConfigDict, seed: int, chosen: Int[np.ndarray, " n"] | None
) -> Splits:
    """The numbers of examples that the config wants in each part."""
    rest = parts["train"]
    order = stratified_order(rest.labels, [seed, 0])
    if "validation" in parts:
        validation = _draw_part(
            parts["validation"], config.validation_examples, [seed, 1], "data.validation_examples"
        )
    else:
        cut = config.validation_examples
        if cut >= len(order):
            raise InputError(
                f"data.validation_examples={cut} leaves nothing to train on: {rest.name} has {len(order)} "
                "training examples"
            )
        validation, order = take(rest, order[:cut]), order[cut:]
    if config.train_examples and config.train_examples > len(order):
        raise InputError(
            f"data.train_examples={config.train_examples} is more than there are: {rest.name} has "
            f"{len(order)} training "
            f"examples after validation"
        )
    test = _draw_part(parts["test"], config.test_examples, _TEST_SPLIT_SEED, "data.test_examples")
    order = order[: config.train_examples] if chosen is None else order[chosen]
    return Splits(take(rest, order), validation, test)


def _repeated(train: Source, distinct: int | None) -> Int[np.ndarray, " n"]:
    """The number of the example that stands at each place, such that only `distinct` are different.

    Every place keeps its class. The first examples of each class, in its share, are repeated in turn.

    Raises:
      InputError: there are not so many, or a class has no example.
    """
    n, labels = train.num_examples, train.labels
    if distinct is None or distinct == n:
        return np.arange(n)
    if distinct > n:
        raise InputError(f"data.distinct={distinct} is more than the {n} training examples: lower it")
    counts = np.bincount(labels)
    different = proportional(counts, distinct)
    if none := [train.classes[k] for k in np.flatnonzero((counts > 0) & (different == 0))]:
        raise InputError(f"data.distinct={distinct} leaves class {none[0]!r} without an example: raise it")
    numbers = np.empty(n, np.int64)
    for k in np.flatnonzero(counts):
        places = np.flatnonzero(labels == k)
        numbers[places] = places[np.arange(len(places)) % different[k]]
    return numbers


def with_label_noise(source: Source, share: float, seed: int) -> Source:
    """The source with the labels of a share of its examples replaced by other classes, drawn evenly.

    Exactly `round(share * n)` labels are wrong. For one seed, the wrong labels of a smaller share are among
    those of a larger one.

    Raises:
      InputError: there is only one class.
    """
    if not share:
        return source
    classes = len(source.classes)
    if classes < 2:
        raise InputError(
            f"data.label_noise={share} needs a second class, and {source.name} has one: set it to 0"
        )
    rng = np.random.default_rng([seed, 2])
    order = rng.permutation(source.num_examples)
    shift = rng.integers(1, classes, source.num_examples)
    wrong = order[: round(share * source.num_examples)]
    labels = source.labels.copy()
    labels[wrong] = (labels[wrong] + shift[wrong]) % classes
    return dataclasses.replace(source, labels=labels)


def stratified(source: Source, number: int | None) -> Int[np.ndarray, " n"]:
    """Indices of some test examples (None: all), in order, with the shares of the classes; always the same.

    Raises:
      InputError: there are too few.
    """
    if number is not None and number > source.num_examples:
        raise InputError(
            f"evaluation.corrupted_examples={number} is more than there are: {source.name} has "
            f"{source.num_examples}"
        )
    return np.sort(stratified_order(source.labels, _TEST_SPLIT_SEED)[:number])


def _draw_part(source: Source, number: int | None, seed: int | list[int], field: str) -> Source:
    if number is None:
        return source
    if number > source.num_examples:
        raise InputError(f"{field}={number} is more than there are: {source.name} has {source.num_examples}")
    return take(source, stratified_order(source.labels, seed)[:number])
