"""A model's weights from wherever a config says they are."""

import json
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import jax

from rmtjax import checkpoints, files, results
from rmtjax.errors import InputError
from rmtjax.models import SHIPPED, pretrained
from rmtjax.models.lora import FACTORS, Lora


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
    """`params, model_state` with the weights of `source` in their place; narrow floats become float32.

    Args:
      source: as `model.init_from`: shipped weights' name, a run or one of its checkpoints, an Orbax
        checkpoint, or weights of another program, whose names are turned into ours.
      params, model_state: the model's own, or their shapes.
      reinit: regex of parameters that may be missing there or of another shape, and then stay as they are.
      names: the table of `models.pretrained.TABLES` they are under; None: told by the names.
      alpha: of the model's low-rank factors, if it has any. Factors of `source` are kept if so, and else
        multiplied out into their kernels.
      new_factors: weights without factors leave the model's as they are.

    Raises:
      InputError: nothing there, damaged, names that no table knows, factors of another alpha or of none that
        is known, or a mismatch; the message lists both sides.
    """
    path, variables = SHIPPED.get(source) or files.located(source), {"params": params} | model_state
    if checkpoints.is_own(path):
        own = checkpoints.nest(checkpoints.open(path))
        state = checkpoints.nest(checkpoints.open(path, item="model_state"))
        weights, names = pretrained.export(own, state, "rmtjax"), "rmtjax"
    else:
        weights = checkpoints.open(path)
        names = names or pretrained.recognise(list(weights), variables)
    given, given_state = pretrained.convert(weights, variables, names)
    wanted_factors, factors = (_factors(tree) for tree in (pretrained.flat(params), given))
    if factors:
        given = _fitting(source, path, given, alpha if wanted_factors else None)
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


def is_own(source: str) -> bool:
    """Is it a run of this project or one of its checkpoints?"""
    return source not in SHIPPED and checkpoints.is_own(files.located(source))


def _factors(names: Iterable[str]) -> list[str]:
    return [name for name in names if re.fullmatch(FACTORS, name)]


def _fitting(source: str, path: pathlib.Path, given: dict[str, Any], alpha: float | None) -> Any:
    """Parameters with low-rank factors as a model with factors of this alpha wants them, or, for None,
    without any."""
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
            f"{source!r} has low-rank factors but no config that says their alpha: name the folder of the "
            f"run itself"
        )
    if alpha is None:
        return Lora(None, theirs["rank"], theirs["alpha"]).merged(jax.tree.map(checkpoints.widened, given))
    if alpha != theirs["alpha"]:
        raise InputError(
            f"{source!r} has low-rank factors of model.lora.alpha={theirs['alpha']} and the model has "
            f"{alpha}: set it so"
        )
    return given
