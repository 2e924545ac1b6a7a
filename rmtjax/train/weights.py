"""A model's weights from wherever a config says they are."""

from typing import Any

import ml_dtypes
import numpy as np

from rmtjax import checkpoints, files
from rmtjax.errors import InputError
from rmtjax.models import SHIPPED, pretrained


def load(
    source: str, params: Any, model_state: Any, *, reinit: str = "", names: str | None = None
) -> tuple[Any, Any]:
    """`params, model_state` with the weights of `source` in their place; narrow floats become float32.

    Args:
      source: as `model.init_from`: shipped weights' name, a run or one of its checkpoints, an Orbax checkpoint, or
        weights of another program, whose names are turned into ours.
      params, model_state: the model's own, or their shapes.
      reinit: regex of parameters that may be missing there or of another shape, and then stay as they are.
      names: the table of `models.pretrained.TABLES` they are under; None: told by the names.

    Raises:
      InputError: nothing there, damaged, names that no table knows, or a mismatch; the message lists both sides.
    """
    path, variables = SHIPPED.get(source) or files.located(source), {"params": params} | model_state
    if checkpoints.is_own(path):
        own = {"params": checkpoints.load_params(path)} | checkpoints.load_model_state(path)
        weights, names = pretrained.export(own.pop("params"), own, "rmtjax"), "rmtjax"
    else:
        weights = checkpoints.open(path)
        names = names or pretrained.recognise(list(weights), variables)
    found = pretrained.convert(weights, variables, names)
    try:
        loaded, state = (
            checkpoints.merge(wanted, _widened(given), reinit)
            for wanted, given in zip((params, model_state), found, strict=True)
        )
    except InputError as error:
        raise InputError(f"{source!r} with the names of {names}: {error}") from error
    return loaded, state


def _widened(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _widened(child) for name, child in tree.items()}
    return tree.astype(np.float32) if tree.dtype in (np.float16, ml_dtypes.bfloat16) else tree
