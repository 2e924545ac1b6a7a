"""Networks, behind one seam: `apply(variables, inputs, train=...) -> (logits, features)`."""

import pathlib
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from rmtjax.config import DROPOUT_SITES
from rmtjax.models import pretrained as pretrained
from rmtjax.models import resnet
from rmtjax.models.mlp import MLP
from rmtjax.models.resnet import ResNet
from rmtjax.models.vit import ViT

MODELS: dict[str, Any] = {"vit": ViT, "resnet": ResNet, "mlp": MLP}
SHIPPED = {"letters": pathlib.Path(__file__).parent / "assets" / "letters.safetensors"}


def build(config: ConfigDict, num_classes: int) -> nn.Module:
    """The module a config describes. `init` and `apply` take inputs `[B, H, W, C]` in [0, 1] and `train`.

    Raises:
      InputError: there is no ResNet of that kind and depth.
    """
    rate = config.regularization.dropout
    name = config.model.name
    if name == "resnet":
        resnet.stages(config.model.resnet.kind, config.model.resnet.depth)
    return MODELS[name](
        num_classes=num_classes,
        rates={site: rate if site in config.regularization.dropout_sites else 0.0 for site in DROPOUT_SITES},
        mean=config.model.mean,
        std=config.model.std,
        dtype=jnp.dtype(config.train.dtype),
        **(dict(config.model.batch_norm) if name == "resnet" else {}),
        **config.model[name],
    )
