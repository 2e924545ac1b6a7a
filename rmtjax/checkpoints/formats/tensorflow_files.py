"""Checkpoints of TensorFlow, such as the variables of a SavedModel: `NAME.index` and its `NAME.data-*`.

TensorFlow 2 stores variables by the path of the object that has them (`layer_with_weights-0/kernel`), and
beside them a graph of objects, which tells the names that Keras gave to them (`sequential/stem/kernel`).
TensorFlow 1 stores them by name.
"""

import functools
import os
import pathlib
from typing import Any

import numpy as np

from rmtjax.checkpoints import guard
from rmtjax.checkpoints.contents import Contents, Tensor
from rmtjax.checkpoints.formats import keras_files

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}  # TensorFlow reads them on import


def read(path: pathlib.Path) -> Contents:
    """Reads the variables that the file at `path`, which ends in `.index`, lists; skips the optimiser's."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    with guard.optional(path, "a checkpoint of TensorFlow", "tensorflow", "train"):
        import tensorflow as tf
        from tensorflow.core.protobuf import trackable_object_graph_pb2
    reader = tf.train.load_checkpoint(str(path.with_suffix("")))
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    names: dict[str, str] = {}
    if _GRAPH in shapes:
        graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(_GRAPH))
        found = [one for node in graph.nodes for one in node.attributes if one.full_name]
        names = {one.checkpoint_key: one.full_name for one in found}
    tensors: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    for key in sorted((key for key in shapes if key != _GRAPH), key=_place):
        if _is_of_optimiser(key):
            refused["optimizer"] = "state of the optimiser, not weights"
            continue
        stored = key.removesuffix(_VALUE)
        if dtypes[key] in (tf.string, tf.variant, tf.resource) or dtypes[key].is_quantized:
            refused[stored] = f"{dtypes[key].name}, not numbers"
            continue
        shape, dtype = tuple(shapes[key]), np.dtype(dtypes[key].as_numpy_dtype)
        name, reason = keras_files.name_and_reason(names.get(key, stored), len(shape), dtype)
        if name in tensors and _is_copy(key):
            continue
        if name in tensors:  # two objects whose variables have one name, as "Variable"
            name = stored
        if reason:
            refused[name] = reason
        else:
            tensors[name] = Tensor(shape, dtype, functools.partial(_variable, reader, key))
    beside = sum(one.stat().st_size for one in path.parent.glob(f"{path.stem}.data-*") if one.is_file())
    return Contents(tensors, "keras", refused, beside)


def _place(key: str) -> tuple[bool, list[tuple[bool, int, str]]]:
    """Numbers in keys count as numbers; copies come last."""
    parts = key.replace("-", "/").split("/")
    return _is_copy(key), [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _is_copy(key: str) -> bool:
    """Whether an exported model of Keras lists a variable once more under this key."""
    return key.startswith(("_all_variables/", "trainable_variables/", "_trainable_variables/"))


def _is_of_optimiser(key: str) -> bool:
    # A model of Keras 3 that tf.saved_model.save wrote has its weights only among what the optimiser trains.
    own = "/optimizer/" in f"/{key}" and "/optimizer/_trainable_variables/" not in f"/{key}"
    return own or "/.OPTIMIZER_SLOT/" in key or key.split("/")[0] == "save_counter"


def _variable(reader: Any, key: str) -> np.ndarray:
    return np.asarray(reader.get_tensor(key))
