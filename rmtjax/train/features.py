"""Features of images under a model that everybody has: the letters ViT that comes with this package."""

import numpy as np
from jaxtyping import Float

from rmtjax import checkpoints, data, models
from rmtjax import config as config_lib
from rmtjax.train import classification
from rmtjax.train import sharding as sharding_lib

LETTERS = "the shipped letters ViT, pooled features before the head"
LETTERS_SHAPE = (16, 16, 1)


def letters_features(images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n d"]:
    """Pooled features `[n, 128]` of images `[n, 16, 16, 1]` in [0, 1] under the shipped letters model."""
    config = config_lib.base()
    model = models.build(config, 52)
    params = checkpoints.load_params(models.SHIPPED["letters"])
    source = data.from_arrays("images", images, np.zeros(len(images), np.int32), ("any",))
    batches = data.evaluation_batches(source, batch_size=config.train.evaluation_batch_size)
    return classification.make_predict(model, sharding_lib.local_mesh())(params, {}, batches)[1]
