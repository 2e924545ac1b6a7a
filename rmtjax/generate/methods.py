"""How samples are made: one function a method of `synthetic.method`, all behind one seam."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int, Shaped
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import data
from rmtjax.data import texts
from rmtjax.errors import InputError
from rmtjax.generate import controls, fitting, flow, language, ngram
from rmtjax.generate.kinds import kind_of

Sample = Callable[
    [Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]], Shaped[np.ndarray, "n ..."]
]
"""`sample(labels, numbers, ranks) -> examples`: images in [0, 1], or rows of words' numbers.

Sample number i, which is number r of its class, does not depend on what else is asked for with it.
"""

_OF_IMAGES = ("guidance", "temperature", "edit_start", "distinct")
TURNED = (*_OF_IMAGES, "top_p", "mask_share")
_PATH = (*_OF_IMAGES, "sampling_steps", "sampler")
_FOREIGN = ("images", "texts")  # fields that name examples of another generator
KNOBS: dict[str, tuple[str, ...]] = {
    "flow": _PATH,
    "memoriser": _PATH,
    "gaussian": ("temperature", "distinct"),
    "repeat": (),
    "import": (),
    "lm": ("temperature", "top_p"),
    "infill": ("temperature", "top_p", "mask_share"),
    "ngram": (),
}


def check(config: ConfigDict) -> None:
    """Raises InputError for a method that does not fit the source, or a knob that the method lacks."""
    config_lib.check_generator_kind(config)
    synthetic = config.synthetic
    plain = config_lib.base().synthetic
    foreign = _FOREIGN[config_lib.is_text(config.data.source)]
    for name in (*TURNED, *_FOREIGN):
        used = name in KNOBS[synthetic.method] or (name == foreign and synthetic.method == "import")
        if not used and synthetic[name] != plain[name]:
            raise InputError(
                f"synthetic.{name}={synthetic[name]!r} does nothing with "
                f"synthetic.method={synthetic.method!r}: leave it out"
            )


class Imported(NamedTuple):
    """Examples of another generator.

    Attributes:
      source: those that are in no split, at the generator's size.
      train: the training split, of texts with the words of both.
      left_out: how many are left out, since they are the same as an example of a split, by its name.
    """

    source: data.Source
    train: data.Source
    left_out: dict[str, int]


def imported(config: ConfigDict, splits: data.Splits, say: Callable[[str], None]) -> Imported | None:
    """What `synthetic.method="import"` takes; None with another method.

    Args:
      splits: the training split as generators see it (`Kind.prepare`).

    Raises:
      InputError: the examples cannot be read, or are of other classes or another shape.
    """
    if config.synthetic.method != "import":
        return None
    train, kind = splits.train, kind_of(splits.train)
    field = f"synthetic.{kind.name}"
    path = config.synthetic[kind.name]
    where = f"{field}={path!r}"
    if kind.name == "texts":
        foreign, rows = texts.imported(field, path, train.classes, train.tokens)
    else:
        foreign = _foreign_images(config, train)
        rows = list(range(1, foreign.num_examples + 1))
    found, own = kind.identities(foreign), np.ones(foreign.num_examples, bool)
    left_out, first = {}, []
    for part, split in splits._asdict().items():
        known = set(kind.identities(split))
        same = own & np.array([identity in known for identity in found])
        left_out[part] = int(same.sum())
        first += [rows[i] for i in np.flatnonzero(same)[:1]]
        own &= ~same
    if first:
        numbers = ", ".join(f"{number} of the {part} split" for part, number in left_out.items() if number)
        say(
            f"{where}: {(~own).sum()} of {len(own)} {kind.name} are left out, since they are examples of the "
            f"data themselves ({numbers}; the first is in row {min(first)})"
        )
    foreign = data.take(foreign, np.flatnonzero(own))
    modality, examples = train.modality.joined(foreign.modality, foreign.examples)
    return Imported(
        dataclasses.replace(foreign, examples=examples, modality=modality),
        dataclasses.replace(train, modality=modality),
        left_out,
    )


def made_from(config: ConfigDict, train: data.Source, foreign: Imported | None) -> dict[str, Any]:
    """What a generator depends on, as plain data.

    Raises:
      InputError: a class without training examples.
    """
    empty = np.setdiff1d(np.arange(len(train.classes)), train.labels)
    if len(empty):
        raise InputError(
            f"class {train.classes[empty[0]]!r} has no training examples, so none can be generated: "
            f"raise data.train_examples={config.data.train_examples} or set synthetic.share to 0"
        )
    if config.synthetic.method in ("flow", "lm", "infill"):
        return fitting.made_from(config, train)
    made = fitting.of_data(config, train)
    if foreign is not None:
        kind = kind_of(train)
        made[f"{kind.name}_hash"] = kind.data_hash(foreign.source)
    return made


def make(
    config: ConfigDict,
    splits: data.Splits,
    foreign: Imported | None,
    mesh: jax.sharding.Mesh,
    say: Callable[[str], None],
) -> tuple[Sample, dict[str, Any]]:
    """The sampler of a config, fitted now or before, and facts of its generator for the manifest."""
    synthetic, train, stored = config.synthetic, splits.train, kind_of(splits.train).stored
    if foreign is not None:
        chosen = _by_rank(foreign.source)
        return lambda labels, numbers, ranks: stored(foreign.source, chosen(labels, ranks)), {
            "imported_from": synthetic[kind_of(train).name],
            "left_out": foreign.left_out,
        }
    if synthetic.method in ("flow", "memoriser"):
        return _by_flow(config, splits, mesh, say)
    if synthetic.method in ("lm", "infill"):
        return _by_language(config, splits, mesh, say)
    if synthetic.method == "ngram":
        write = ngram.make(train, config.seed)
        return lambda labels, numbers, ranks: write(labels, numbers), {}
    if synthetic.method == "gaussian":
        draw = controls.gaussian(
            train, seed=config.seed, temperature=synthetic.temperature, distinct=synthetic.distinct
        )
        return lambda labels, numbers, ranks: draw(labels, numbers), {}
    choose = _by_rank(train)
    return lambda labels, numbers, ranks: stored(train, choose(labels, ranks)), {}


def at_hand(
    config: ConfigDict, foreign: Imported | None, labels: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " k"] | None:
    """How many samples there are of each class; None: any number.

    Raises:
      InputError: fewer to import than there are of a class in `labels`.
    """
    if foreign is None:
        return None
    classes, kind = foreign.train.classes, kind_of(foreign.train).name
    have, wanted = (np.bincount(of, minlength=len(classes)) for of in (foreign.source.labels, labels))
    if (have < wanted).any():
        k = int(np.argmax(wanted - have))
        raise InputError(
            f"synthetic.{kind}={config.synthetic[kind]!r} has {have[k]} {kind} of class {classes[k]!r} and "
            f"{wanted[k]} are needed: lower synthetic.examples"
        )
    return have


def _by_flow(
    config: ConfigDict, splits: data.Splits, mesh: jax.sharding.Mesh, say: Callable[[str], None]
) -> tuple[Sample, dict[str, Any]]:
    synthetic, train = config.synthetic, splits.train
    classes = len(train.classes)
    facts: dict[str, Any] = {}
    if synthetic.method == "flow":
        generator = fitting.ensure(config, train, mesh, say)
        params, field = generator.params, flow.field(generator.model)
        facts = _facts(generator, splits)
    else:
        params, field = controls.memoriser(train.inputs(), train.labels, classes)
    knobs = flow.Knobs(
        synthetic.sampling_steps,
        synthetic.sampler,
        synthetic.temperature,
        synthetic.edit_start,
        synthetic.distinct,
    )
    velocity = flow.guided(field, classes, synthetic.guidance)
    draw = flow.make_sampler(velocity, train.shape, knobs, seed=config.seed, mesh=mesh)
    choose = _by_rank(train)

    def sample(labels: np.ndarray, numbers: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        edited = train.inputs(choose(labels, ranks)) if synthetic.edit_start else None
        return draw(params, labels, numbers, edited)

    return sample, facts


def _by_language(
    config: ConfigDict, splits: data.Splits, mesh: jax.sharding.Mesh, say: Callable[[str], None]
) -> tuple[Sample, dict[str, Any]]:
    synthetic, train = config.synthetic, splits.train
    generator = fitting.ensure(config, train, mesh, say)
    params, drawn_by = generator.params, {name: synthetic[name] for name in KNOBS[synthetic.method]}
    if synthetic.method == "lm":
        write = language.make_writer(generator.model, *train.shape, **drawn_by, seed=config.seed, mesh=mesh)
        return lambda labels, numbers, ranks: write(params, labels, numbers), _facts(generator, splits)
    fill, choose = (
        language.make_filler(generator.model, **drawn_by, seed=config.seed, mesh=mesh),
        _by_rank(train),
    )
    return lambda labels, numbers, ranks: fill(
        params, labels, numbers, train.examples[choose(labels, ranks)]
    ), _facts(generator, splits)


def _facts(generator: fitting.Generator, splits: data.Splits) -> dict[str, Any]:
    return {
        "generator": {
            "parameters": generator.stored.manifest["parameters"],
            **fitting.losses(generator, splits.train, splits.test),
        },
        "generator_path": f"generators/{generator.stored.path.name}",  # in the cache
    }


def _by_rank(source: data.Source) -> Callable[[np.ndarray, np.ndarray], Int[np.ndarray, " n"]]:
    """`(labels, ranks) -> numbers` of examples: number r of a class, which begins again after its last."""
    order = np.argsort(source.labels, kind="stable")
    counts = np.bincount(source.labels, minlength=len(source.classes))
    first = np.cumsum(counts) - counts
    return lambda labels, ranks: order[first[labels] + ranks % counts[labels]]


def _foreign_images(config: ConfigDict, train: data.Source) -> data.Source:
    """The images of another generator, at the generator's size."""
    where = f"synthetic.images={config.synthetic.images!r}"
    try:
        foreign = data.load_source(config.synthetic.images, train.shape[0])
    except InputError as error:
        raise InputError(f"{where} cannot be imported: {error}") from error
    for known, others, lack, more in (
        (train.classes, foreign.classes, "lacks", ""),
        (foreign.classes, train.classes, "has", ", which the training split does not have"),
    ):
        if apart := [name for name in known if name not in others]:
            raise InputError(
                f"{where} {lack} the class {apart[0]!r}{more}: "
                f"it must have the classes {', '.join(train.classes[:3])}, ... of "
                f"data.source={config.data.source!r}"
            )
    if foreign.classes != train.classes:
        raise InputError(
            f"{where} has the classes in another order than data.source={config.data.source!r}: "
            f"{', '.join(foreign.classes[:3])}, ... "
            f"where {', '.join(train.classes[:3])}, ... are wanted"
        )
    if foreign.shape != train.shape:
        raise InputError(
            f"{where} has images of shape {list(foreign.shape)} where {list(train.shape)} is wanted"
        )
    return foreign
