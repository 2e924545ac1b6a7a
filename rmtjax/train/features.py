"""Features by which sets are compared: of models, and of the inputs themselves."""

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
_SIDE = 32  # pixels; larger images are shrunk to it where pixels are compared


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


def shrunk(images: np.ndarray) -> np.ndarray:
    """Images of at most 32 x 32 pixels; other inputs stay as they are."""
    return data.resize(images, _SIDE) if images.ndim == 4 and images.shape[1] > _SIDE else images


def unigrams(sets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """How often each token is in each text, `[n, tokens]`; tokens of no text or of all texts are left out."""
    together = np.concatenate(list(sets.values()))
    present, column = np.unique(together, return_inverse=True)
    counts = np.zeros((len(together), len(present)), np.float32)
    np.add.at(counts, (np.arange(len(together))[:, None], column.reshape(together.shape)), 1)
    words = (present != 0) & ~np.all(counts > 0, axis=0)  # not padding, and not what stands around every text
    ends = np.cumsum([len(tokens) for tokens in sets.values()])[:-1]
    return dict(zip(sets, np.split(counts[:, words], ends), strict=True))
