"""Named sources, and their division into training, validation and test parts.

The sets of Ba et al. (2024), and how a config names them; those of TFDS must have been prepared on a machine
with a network, and a message says so where they are not:

- CIFAR-10, CIFAR-100, Stanford Cars: `data.source="tfds:cifar10"`, `"tfds:cifar100"`, `"tfds:cars196"`, with
TFDS's own
  test parts.
- CIFAR-10's shifts: `evaluation.shifts=("corrupted", "tfds:cifar10_1/v6", "tfds:cifar10_corrupted/fog_3")`:
corrupted
  here, CIFAR-10.1, and CIFAR-10-C as it was published; `"cifar10_1:PATH"` has CIFAR-10.1 from its authors'
  files.
  Out of distribution: `evaluation.ood=("npz:data:cifar100_ood/images.npz",)`, any arrays `image` and `label`.
- DomainNet: one domain to train on, `"tfds:domainnet/real"`, the others as shifts, `"tfds:domainnet/sketch"`
and so on
  (their test parts). All domains have the same 345 classes, of which `data.classes` may name some; a shift of
  other classes is refused.
- Office-Home, a folder of images by class for each domain: `"folder:PATH/Real World"`, the others as shifts
(all of
  their images). Without parts of its own, a fifth of a folder is the fixed test part, stratified; a tenth of
  the images as `data.validation_examples` (436 of Real World's 4,357) and `data.train_examples=None` make the
  paper's 70/10/20.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import files
from rmtjax.data import cifar10_1, digits, folders, glyphs, npz, texts, tfds_sets, tokens
from rmtjax.data.modalities import IMAGES, Modality
from rmtjax.data.sources import Source, of_classes, take
from rmtjax.errors import InputError

_TEST_SPLIT_SEED = 1797  # the test part belongs to the data set, not to the run


class Splits(NamedTuple):
    train: Source
    validation: Source
    test: Source


def stratified_order(labels: Int[np.ndarray, " n"], seed: int | list[int]) -> Int[np.ndarray, " n"]:
    """A seeded order of which every prefix has the classes' shares, to within about one example.

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
    """The whole of a set; of one that has a test part of its own, that part.

    Args:
      name: digits, letters, letters_unlike_digits, printed_digits, tfds:NAME, folder:PATH, npz:PATH or
        cifar10_1:PATH; of texts, one of `config.TEXT_SETS` or texts:PATH. A PATH may be `data:...`
        (`files.located`).
      image_size: side in pixels of the images returned.
      like: the modality of the set that the model is trained on: texts become tokens in the same way.
      classes: see `of_classes`.

    Raises:
      InputError: unknown name, an unknown class, the set cannot be read, or it has texts and `like` is of
        images.
    """
    if config_lib.is_text(name):
        if not isinstance(like, tokens.Tokens):
            raise InputError(f"{name!r} holds texts, not images: leave it out")
        return of_classes(_whole(texts.parts(name, like.tokenizer, like.length)), classes)
    return of_classes(_whole(_parts(name, image_size)), classes).held()


def _whole(parts: dict[str, Source]) -> Source:
    return next(parts[part] for part in ("test", "all", "validation", "train") if part in parts)


def load(config: ConfigDict, seed: int) -> Splits:
    """Training, validation and test parts of a source, stratified by class.

    The test part is the set's own, or a fixed 797 of the digits, or a fixed fifth of a set that has none: it
    does not depend on the seed, and no part depends on the image size. Validation examples come from the
    set's own validation part or else from the training part; they and the training examples are drawn by
    seed. At one seed a smaller training set is part of a larger one.

    Args:
      config: the `data` section of the config.
      seed: of the run.

    Raises:
      InputError: unknown source or class, it cannot be read, or it has fewer examples than are asked for.
    """
    parts = (
        _text_parts(config) if config_lib.is_text(config.source) else _parts(config.source, config.image_size)
    )
    parts = {name: of_classes(part, config.classes) for name, part in parts.items()}
    splits = _divide(_with_test_part(parts, config), config, seed)
    splits = Splits(*(part.held() for part in splits))
    if not config_lib.is_text(config.source) or config.vocabulary:
        return splits
    words = splits.train.tokens
    words = words.using(tokens.trained_words(words, splits.train.examples))
    return Splits(*(dataclasses.replace(part, modality=words) for part in splits))


def _text_parts(config: ConfigDict) -> dict[str, Source]:
    vocabulary = config.vocabulary and tokens.read_tokenizer(files.located(config.vocabulary))
    return texts.parts(config.source, vocabulary or tokens.unknown_words(), config.max_tokens)


def _with_test_part(parts: dict[str, Source], config: ConfigDict) -> dict[str, Source]:
    """Parts with "train" and "test"; without a test part, the validation part or a share takes its place."""
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
    """The parts a set comes in: "all", or some of "train", "validation" and "test"."""
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


def _divide(parts: dict[str, Source], config: ConfigDict, seed: int) -> Splits:
    """The numbers asked for of each part."""
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
    return Splits(take(rest, order[: config.train_examples]), validation, test)


def stratified(source: Source, number: int | None) -> Int[np.ndarray, " n"]:
    """Numbers of some test examples (None: of all), in order, with the classes' shares; alike in every run.

    Raises:
      InputError: there are fewer.
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
