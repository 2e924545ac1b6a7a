"""How samples are made: one function a method of `synthetic.method`, all behind one seam."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, Shaped
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import data
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
    for name in (*TURNED, "images"):
        used = name in KNOBS[synthetic.method] or (name == "images" and synthetic.method == "import")
        if not used and synthetic[name] != plain[name]:
            raise InputError(
                f"synthetic.{name}={synthetic[name]!r} does nothing with "
                f"synthetic.method={synthetic.method!r}: leave it out"
            )


def made_from(config: ConfigDict, train: data.Source) -> dict[str, Any]:
    """What a generator depends on, as plain data.

    Raises:
      InputError: a class without training examples, images to import that cannot be.
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
    if config.synthetic.method == "import":
        made["images_hash"] = kind_of(train).data_hash(_foreign(config, train))
    return made


def make(
    config: ConfigDict, splits: data.Splits, mesh: jax.sharding.Mesh, say: Callable[[str], None]
) -> tuple[Sample, dict[str, Any]]:
    """The sampler of a config, fitted now or before, and facts of its generator for the manifest."""
    synthetic, train = config.synthetic, splits.train
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
    if synthetic.method == "repeat":
        choose = _by_rank(train)
        stored = kind_of(train).stored
        return lambda labels, numbers, ranks: stored(train, choose(labels, ranks)), {}
    foreign = _foreign(config, train)
    choose = _by_rank(foreign)
    return lambda labels, numbers, ranks: foreign.inputs(choose(labels, ranks)), {
        "imported_from": synthetic.images
    }


def at_hand(
    config: ConfigDict, train: data.Source, labels: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " k"] | None:
    """How many samples there are of each class; None: any number.

    Raises:
      InputError: fewer to import than there are of a class in `labels`.
    """
    if config.synthetic.method != "import":
        return None
    have, wanted = (
        np.bincount(of, minlength=len(train.classes)) for of in (_foreign(config, train).labels, labels)
    )
    if (have < wanted).any():
        k = int(np.argmax(wanted - have))
        raise InputError(
            f"synthetic.images={config.synthetic.images!r} has {have[k]} images of class "
            f"{train.classes[k]!r} and {wanted[k]} "
            "are needed: lower synthetic.examples"
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


def _foreign(config: ConfigDict, train: data.Source) -> data.Source:
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
