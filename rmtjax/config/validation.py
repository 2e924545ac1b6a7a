"""Checks of a whole config: each field by its own check, then what must fit together."""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference

from rmtjax.config.checks import channels
from rmtjax.config.fields import (
    DROPOUT_SITES,
    IMAGE_METHODS,
    TEXT_METHODS,
    TEXT_SETS,
    TEXT_STRENGTHS,
    each_field,
)
from rmtjax.errors import InputError

_UNITS = ("steps", "epochs", "examples")


def get(config: ConfigDict, name: str) -> Any:
    """The value of a dotted field name."""
    node: Any = config
    for part in name.split("."):
        node = node[part]
    return node.get() if isinstance(node, FieldReference) else node


def validate(config: ConfigDict) -> None:
    """Checks ranges and choices before any work. Raises InputError that names the field, value and mend."""
    for name, field in each_field():
        value = get(config, name)
        if value is None and not field.may_be_none:
            raise InputError(f"{name}=None is not a value: leave the field as it is, or give it one")
        if value is not None and field.check and (complaint := field.check(value)):
            raise InputError(f"{name}={value!r} {complaint}")
    _check_training(config)
    _check_selection(config)
    _check_kind(config)
    _check_regularization(config)
    _check_generator(config)
    _check_model(config)


def _check_training(config: ConfigDict) -> None:
    """Durations, batches and mixing."""
    duration(config, "train.total", 1)
    duration(config, "optim.warmup", 1)
    if config.train.batch_size % config.train.accumulate:
        raise InputError(
            f"train.batch_size={config.train.batch_size} is not a multiple of "
            f"train.accumulate={config.train.accumulate}"
        )
    if config.augment.mixup and config.augment.cutmix:
        raise InputError(
            f"augment.mixup={config.augment.mixup} and augment.cutmix={config.augment.cutmix} cannot go "
            "together: set one to 0"
        )


def _check_selection(config: ConfigDict) -> None:
    """There must be something to choose from, and something to choose by."""
    section = config.data
    if section.select != "random":
        what = f"data.select={section.select!r}"
        if section.train_examples is None:
            raise InputError(f"{what} needs data.train_examples: without, all examples are taken")
        if section.select_features == "model" and config.model.init_from is None:
            raise InputError(
                f"{what} compares features of model.init_from, which is None: name weights, or set "
                "data.select_features='inputs'"
            )
        if section.select_features == "model" and is_text(section.source) and section.vocabulary is None:
            raise InputError(
                f"{what} compares features of model.init_from, which needs data.vocabulary: name that of the "
                "model, or set data.select_features='inputs'"
            )
    if section.distinct is not None and section.distinct > (section.train_examples or section.distinct):
        raise InputError(
            f"data.distinct={section.distinct} is more than data.train_examples={section.train_examples}: "
            "lower it"
        )


def _check_model(config: ConfigDict) -> None:
    """Sizes of a model must fit each other and the inputs."""
    model = config.model
    if len(channels(model.mean)) != len(channels(model.std)):
        raise InputError(
            f"model.mean={model.mean} and model.std={model.std} are not alike: give both one number, or three"
        )
    if model.name in ("vit", "bert") and model[model.name].width % model[model.name].heads:
        width, heads = model[model.name].width, model[model.name].heads
        raise InputError(
            f"model.{model.name}.width={width} is not a multiple of model.{model.name}.heads={heads}"
        )
    if model.name == "bert" and config.data.max_tokens > model.bert.positions:
        raise InputError(
            f"data.max_tokens={config.data.max_tokens} is more than "
            f"model.bert.positions={model.bert.positions}: lower it"
        )
    if model.name == "vit" and config.data.image_size % model.vit.patch:
        raise InputError(
            f"data.image_size={config.data.image_size} is not a multiple of model.vit.patch={model.vit.patch}"
        )
    if model.name == "vit":
        pool = f"model.vit.pool={model.vit.pool!r}"
        for token, needed in (
            ("distillation_token", model.vit.pool == "class_and_distillation" and pool),
            ("class_token", model.vit.distillation_token and "model.vit.distillation_token=True"),
            ("class_token", model.vit.pool.startswith("class") and pool),
        ):
            if needed and not model.vit[token]:
                raise InputError(f"{needed} needs model.vit.{token}=True")


def _check_generator(config: ConfigDict) -> None:
    """The parts of a generator must fit each other."""
    synthetic = config.synthetic
    size, text = synthetic.image_size, is_text(config.data.source)
    if synthetic.method == "import" and not synthetic["texts" if text else "images"]:
        needed = (
            "texts: a .csv, .tsv or .jsonl file with text and label"
            if text
            else "images: folder:PATH or npz:PATH of images and their classes"
        )
        raise InputError(f"synthetic.method='import' needs synthetic.{needed}")
    if synthetic.method in ("lm", "infill") and synthetic.width % synthetic.heads:
        raise InputError(
            f"synthetic.width={synthetic.width} is not a multiple of synthetic.heads={synthetic.heads}"
        )
    if synthetic.method != "flow":
        return
    levels = synthetic.multipliers
    if synthetic.network == "unet" and not (
        levels and all(isinstance(m, int) and m >= 1 for m in levels) and size % 2 ** (len(levels) - 1) == 0
    ):
        raise InputError(
            f"synthetic.multipliers={levels!r} must be whole numbers, and so many that "
            f"synthetic.image_size={size} can be halved between them"
        )
    if synthetic.network == "dit":
        if size % synthetic.patch:
            raise InputError(
                f"synthetic.image_size={size} is not a multiple of synthetic.patch={synthetic.patch}"
            )
        if synthetic.width % synthetic.heads or synthetic.width % 4:
            raise InputError(
                f"synthetic.width={synthetic.width} is not a multiple of 4 and of "
                f"synthetic.heads={synthetic.heads}"
            )


def is_text(source: str) -> bool:
    """Whether a source of this name holds texts, not images."""
    return source in TEXT_SETS or source.startswith("texts:")


def _check_kind(config: ConfigDict) -> None:
    """Model and augmentation must be for what the source holds."""
    text, source = is_text(config.data.source), config.data.source
    if text != (config.model.name == "bert"):
        holds, wanted = ("texts", "bert") if text else ("images", "vit, resnet or mlp")
        raise InputError(
            f"model.name={config.model.name!r} does not fit data.source={source!r}, "
            f"which holds {holds}: use {wanted}"
        )
    of_images = [name for name in config.augment if name != "text" and config.augment[name]]
    of_texts = [f"text.{name}" for name in TEXT_STRENGTHS if config.augment.text[name]]
    wrong = of_images if text else of_texts
    if wrong:
        other, holds = ("images", "texts") if text else ("texts", "images")
        raise InputError(
            f"augment.{wrong[0]} is for {other}, and data.source={source!r} holds {holds}: set it back to 0"
        )
    if config.synthetic.share:
        check_generator_kind(config)
    if text and config.evaluation.enabled and "corrupted" in config.evaluation.shifts:
        raise InputError(
            f"evaluation.shifts=corrupted is for images, and data.source={source!r} holds texts: leave it out"
        )


def check_generator_kind(config: ConfigDict) -> None:
    """The generator must make what the source holds. Raises InputError."""
    synthetic, source = config.synthetic, config.data.source
    holds, methods = ("texts", TEXT_METHODS) if is_text(source) else ("images", IMAGE_METHODS)
    if synthetic.method not in methods:
        raise InputError(
            f"synthetic.method={synthetic.method!r} does not make {holds}, which "
            f"data.source={source!r} holds: "
            f"use {', '.join(methods[:-1])} or {methods[-1]}"
        )
    if is_text(source) and synthetic.least_distance:
        raise InputError(
            f"synthetic.least_distance={synthetic.least_distance} is for images, and "
            f"data.source={source!r} holds texts: "
            "set it back to 0"
        )


def dropout_sites(config: ConfigDict) -> tuple[str, ...]:
    """Those of `DROPOUT_SITES` that the model of a config has."""
    hidden_layers = len(config.model.mlp.widths) or config.model.mlp.depth
    absent = {
        "mlp": ("attention", "residual") if hidden_layers > 1 else ("attention", "residual", "mlp"),
        "resnet": () if config.model.resnet.kind == "clip" else ("attention",),
    }.get(config.model.name, ())
    return tuple(site for site in DROPOUT_SITES if site not in absent)


def _check_regularization(config: ConfigDict) -> None:
    """What is asked for must be able to act in the model."""
    sites, there = config.regularization.dropout_sites, dropout_sites(config)
    if config.regularization.dropout and not set(sites) & set(there):
        raise InputError(
            f"regularization.dropout={config.regularization.dropout} acts nowhere: "
            f"model.name={config.model.name!r} has no dropout at dropout_sites={', '.join(sites) or '()'}, "
            f"its sites are {', '.join(there)}"
        )
    for name, wanted in config.model.batch_norm.items():
        if wanted and config.model.name != "resnet":
            raise InputError(
                f"model.batch_norm.{name}=True is for resnet: "
                f"model.name={config.model.name!r} has no batch norm, set it to False"
            )


def duration(config: ConfigDict, name: str, num_examples: int) -> int:
    """A duration in steps from whichever of `<name>_steps`, `_epochs`, `_examples` is set (exactly one).

    Args:
      name: e.g. `train.total`.
      num_examples: examples in an epoch of the set trained on.
    """
    given = {unit: get(config, f"{name}_{unit}") for unit in _UNITS}
    given = {unit: value for unit, value in given.items() if value is not None}
    if len(given) != 1:
        fields = ", ".join(f"{name}_{unit}={value}" for unit, value in given.items()) or "none of them is set"
        raise InputError(
            f"give exactly one of {name}_steps, {name}_epochs, {name}_examples ({fields}): "
            "set the others to None"
        )
    ((unit, value),) = given.items()
    examples = {"steps": 0, "epochs": value * num_examples, "examples": value}[unit]
    return int(value) if unit == "steps" else -(-int(examples) // config.train.batch_size)
