"""Features of images under the letters ViT, a model that comes with this package."""

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from rmtjax import checkpoints, data, models
from rmtjax import config as config_lib
from rmtjax.train import classification
from rmtjax.train import sharding as sharding_lib

LETTERS = "the shipped letters ViT, pooled features before the head"
LETTERS_SHAPE = (16, 16, 1)


def letters_features(images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n d"]:
    """Pooled features `[n, 128]` of images `[n, 16, 16, 1]` in [0, 1] under the shipped letters model.

    The last few sets are cached, since the runs of a study share most of their images.
    """
    key = hashlib.sha256(np.ascontiguousarray(images).tobytes()).digest()
    if key not in _CACHE:
        if len(_CACHE) >= _CACHE_SIZE:
            del _CACHE[next(iter(_CACHE))]
        source = data.from_arrays("images", images, np.zeros(len(images), np.int32), ("any",))
        predict, params = _letters()
        _CACHE[key] = predict(params, {}, data.evaluation_batches(source, batch_size=64))[1]
    return _CACHE[key].copy()


_CACHE_SIZE = 64
_CACHE: dict[bytes, np.ndarray] = {}


@functools.cache
def _letters() -> tuple[Callable[..., Any], Any]:
    model = models.build(config_lib.base(), 52)
    params = checkpoints.nest(checkpoints.open(models.SHIPPED["letters"]))
    return classification.make_predict(model, sharding_lib.local_mesh()), params
