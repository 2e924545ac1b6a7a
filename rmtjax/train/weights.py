"""Loads the weights that a config names into a model."""

import functools
import json
import logging
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
from ml_collections import ConfigDict

from rmtjax import checkpoints, files, results
from rmtjax.errors import InputError
from rmtjax.models import SHIPPED, pretrained
from rmtjax.models.lora import FACTORS, Lora
from rmtjax.spectra import wrappers

LOG = logging.getLogger(__name__)


def load(
    source: str,
    params: Any,
    model_state: Any,
    *,
    reinit: str = "",
    names: str | None = None,
    alpha: float | None = None,
    new_factors: bool = False,
) -> tuple[Any, Any]:
    """Returns `params, model_state` with the weights of `source`; float16 and bfloat16 become float32.

    Args:
      source: as `model.init_from`: the name of shipped weights, a run or one of its checkpoints, an Orbax
        checkpoint, or weights of another program, whose names are translated. What a wrapper has added to
        them (`module.`, `_orig_mod.`) is removed, and logged.
      params, model_state: those of the model, or their shapes.
      reinit: a regular expression of parameters that keep their values if `source` lacks them or stores
        another shape.
      names: the table of `models.pretrained.TABLES` that translates the names; None finds it by the names.
      alpha: alpha of the low-rank factors of the model, if it has any. Then factors of `source` are kept;
        if the model has none, they are multiplied out into their kernels.
      new_factors: if `source` has no low-rank factors, those of the model keep their values.

    Raises:
      InputError: nothing is there, it is damaged, no table has the names, low-rank factors have another
        alpha or an unknown one, or the weights do not fit the model; the message lists the differences.
    """
    path, variables = SHIPPED.get(source) or files.located(source), {"params": params} | model_state
    if checkpoints.is_own(path):
        own = checkpoints.nest(checkpoints.open(path, in_parts=True))
        state = checkpoints.nest(checkpoints.open(path, item="model_state"))
        weights, names = pretrained.export(own, state, "rmtjax"), "rmtjax"
    else:
        tables = [names] if names else pretrained.TABLES
        weights = wrappers.fitting(
            checkpoints.open(path, in_parts=True),
            lambda given: max(pretrained.known(given, variables, table) for table in tables),
        )
        names = names or pretrained.recognise(list(weights), variables)
    given, given_state = pretrained.convert(weights, variables, names)
    wanted_factors, factors = (_factors(tree) for tree in (pretrained.flat(params), given))
    if factors:
        given = _with_factors_for(source, path, given, alpha if wanted_factors else None)
    elif wanted_factors and new_factors:
        reinit = f"{reinit}|{FACTORS}"
    try:
        loaded, state = (
            checkpoints.merge(wanted, jax.tree.map(checkpoints.widened, given), reinit)
            for wanted, given in ((params, given), (model_state, given_state))
        )
    except InputError as error:
        raise InputError(f"{source!r} with the names of {names}: {error}") from error
    return loaded, state


def of_config(config: ConfigDict) -> Callable[[Any, Any], tuple[Any, Any]] | None:
    """A function that loads the weights of `model.init_from`; None if the model starts from scratch.

    It takes `params, model_state` and returns them with the weights in their place.
    """
    source = config.model.init_from
    if source is None:
        return None
    names = config.model.init_names
    if names and is_own(source):
        raise InputError(
            f"model.init_names={names!r} is for weights of other programs, and model.init_from={source!r} "
            f"is a run: set it to None"
        )
    LOG.info("weights from %s, fresh ones for parameters that match %r", source, config.model.reinit)
    return functools.partial(
        load,
        source,
        reinit=config.model.reinit,
        names=names,
        alpha=config.model.lora.alpha,
        new_factors=True,
    )


def is_own(source: str) -> bool:
    """Whether `source` is a run of this project or one of its checkpoints."""
    return source not in SHIPPED and checkpoints.is_own(files.located(source))


def _factors(names: Iterable[str]) -> list[str]:
    return [name for name in names if re.fullmatch(FACTORS, name)]


def _with_factors_for(source: str, path: pathlib.Path, given: dict[str, Any], alpha: float | None) -> Any:
    """Checks low-rank factors against the alpha of the model; multiplies them out if that is None."""
    texts = [
        file.read_text(encoding="utf-8")
        for file in (path / results.CONFIG, path.parent.parent / results.CONFIG, path / "config" / "metadata")
        if file.is_file()
    ]
    if path.suffix == ".safetensors":
        texts += [checkpoints.read_metadata(path).get("config", "{}")]
    theirs = json.loads(texts[0]).get("model", {}).get("lora", {}) if texts else {}
    if not theirs.get("rank"):
        raise InputError(
            f"{source!r} has low-rank factors but no config with their alpha: name the folder of the run "
            "itself"
        )
    if alpha is None:
        return Lora(None, theirs["rank"], theirs["alpha"]).merged(jax.tree.map(checkpoints.widened, given))
    if alpha != theirs["alpha"]:
        raise InputError(
            f"{source!r} has low-rank factors of model.lora.alpha={theirs['alpha']}, but the model has "
            f"{alpha}: set model.lora.alpha={theirs['alpha']}"
        )
    return given
