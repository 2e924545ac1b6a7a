"""Weights of models that are in memory, in the form in which `open` gives those of files."""

import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rmtjax.checkpoints.contents import Contents, Tensor
from rmtjax.checkpoints.opening import Weights, open


def weights_of(model: Any) -> Any:
    """The weights of whatever holds some. No array is copied before it is read.

    Args:
      model: a path, or the name of a model in the cache of Hugging Face (`open`); a module of torch (also of
        transformers or timm); its `state_dict()`, also inside a checkpoint as `torch.load` returns it, or as
        numpy arrays; a model of Keras. Everything else is taken for a pytree of arrays, such as Flax's
        `variables["params"]` or an NNX module, and returned as it is.

    Raises:
      InputError: what `open` raises.
    """
    if isinstance(model, str | os.PathLike):
        return open(model)
    if hasattr(model, "specs"):
        return model
    if _is_of(model, "torch") and hasattr(model, "state_dict"):
        return _of_torch(model.state_dict(), type(model).__name__, _adapter(model))
    if _is_of(model, "keras", "tf_keras") and hasattr(model, "weights"):
        from rmtjax.checkpoints.formats import keras_files

        return _opened(keras_files.of_model(model), type(model).__name__)
    if _holds_tensors(model):
        return _of_torch(model, "state_dict", {})
    if _is_named_by_torch(model):
        read = {name: functools.partial(np.asarray, array) for name, array in model.items()}
        arrays = {
            name: Tensor(tuple(x.shape), np.dtype(x.dtype), read[name], id(x)) for name, x in model.items()
        }
        return _opened(Contents(arrays, "torch"), "state_dict")
    return model


def _of_torch(state: Mapping[str, Any], source: str, adapter: Mapping[str, Any]) -> Weights:
    from rmtjax.checkpoints.formats import torch_files

    return _opened(torch_files.of_loaded(dict(state)), source, adapter)


def _opened(contents: Contents, source: str, adapter: Mapping[str, Any] | None = None) -> Weights:
    layout = contents.layout or "torch"
    return Weights(contents.tensors, layout, contents.refused, source, adapter=adapter or {})


def _is_of(value: Any, *libraries: str) -> bool:
    """Whether a value is of a class of a library, or of one derived from such. Nothing is imported."""
    return any(cls.__module__.partition(".")[0] in libraries for cls in type(value).__mro__)


def _holds_tensors(model: Any) -> bool:
    """Whether this is a dict, perhaps of dicts, with tensors of torch."""
    if not isinstance(model, Mapping):
        return False
    return any(_is_of(value, "torch") or _holds_tensors(value) for value in model.values())


def _adapter(model: Any) -> dict[str, Any]:
    """What PEFT tells of the adapter of a model, as it writes it into adapter_config.json."""
    configs = getattr(model, "peft_config", None)
    first = next(iter(configs.values()), None) if isinstance(configs, Mapping) else None
    settings: dict[str, Any] = first.to_dict() if hasattr(first, "to_dict") else {}
    return settings


def _is_named_by_torch(model: Any) -> bool:
    """Whether this is a flat dict of arrays with names such as `layer.0.weight`."""
    if not isinstance(model, Mapping) or not all(isinstance(name, str) for name in model):
        return False
    arrays = all(hasattr(x, "shape") and hasattr(x, "dtype") for x in model.values())
    return arrays and any(name.split(".")[-1] == "weight" for name in model)
