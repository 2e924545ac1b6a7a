"""Networks, behind one seam: `apply(variables, inputs, train=...) -> (logits, features)`."""

import logging
import pathlib
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from rmtjax.config import DROPOUT_SITES, dropout_sites
from rmtjax.models import pretrained as pretrained
from rmtjax.models import resnet
from rmtjax.models.bert import BERT
from rmtjax.models.lora import Lora
from rmtjax.models.mlp import MLP
from rmtjax.models.resnet import ResNet
from rmtjax.models.vit import ViT

LOG = logging.getLogger(__name__)
MODELS: dict[str, Any] = {"vit": ViT, "resnet": ResNet, "mlp": MLP, "bert": BERT}
SHIPPED = {"letters": pathlib.Path(__file__).parent / "assets" / "letters.safetensors"}


def lora_scale(config: ConfigDict) -> float:
    """What products of low-rank factors are multiplied by in the model of a config."""
    return config.model.lora.alpha / max(config.model.lora.rank, 1)


Model = nn.Module | Lora


def build(config: ConfigDict, num_classes: int, vocabulary: int = 0) -> Model:
    """The module that a config describes, with low-rank factors if it asks for them.

    Its dropout rate may be a traced number.

    `init` and `apply` take `train` and inputs `[B, H, W, C]` in [0, 1] or, of a text model, tokens `[B, T]
    int32` below `vocabulary`.

    Raises:
      InputError: there is no ResNet of that kind and depth.
    """
    rate = config.regularization.dropout
    name = config.model.name
    if name == "resnet":
        resnet.stages(config.model.resnet.kind, config.model.resnet.depth)
    of_inputs = (
        {"vocabulary": vocabulary} if name == "bert" else {"mean": config.model.mean, "std": config.model.std}
    )
    absent = set(config.regularization.dropout_sites) - set(dropout_sites(config))
    if absent and isinstance(rate, float) and rate:
        LOG.info("dropout: %s has no site %s", name, ", ".join(sorted(absent)))
    model = MODELS[name](
        num_classes=num_classes,
        rates={site: rate if site in config.regularization.dropout_sites else 0.0 for site in DROPOUT_SITES},
        dtype=jnp.dtype(config.train.dtype),
        **(dict(config.model.batch_norm) if name == "resnet" else {}),
        **of_inputs,
        **config.model[name],
    )
    low_rank = config.model.lora
    return Lora(model, low_rank.rank, low_rank.alpha, low_rank.targets) if low_rank.rank else model
