"""Shared by test_parity.py and make_references.py: tiny models with the same weights on any machine."""

import zlib
from typing import Any, NamedTuple

import numpy as np

CLASSES = 5
VIT = {
    "patch": 8,
    "width": 16,
    "depth": 2,
    "heads": 2,
    "mlp_width": 32,
    "class_token": True,
    "pool": "class_token",
}
CLIP_VIT = {
    "patch_bias": False,
    "pre_norm": True,
    "activation": "quick_gelu",
    "epsilon": 1e-5,
    "projection": 12,
}


class Case(NamedTuple):
    """A model of ours and what it is compared with.

    Attributes:
      table: of names.
      settings: of our model.
      stages: our module's name -> the original's.
      sizes: sides of the inputs, or (height, width); positions are of the first where the original resizes
        them.
      head: has the original a head? Without one, features are compared.
    """

    table: str
    model: str
    settings: dict[str, Any]
    stages: dict[str, str]
    sizes: tuple[Any, Any] = (32, 48)
    head: bool = True


def _blocks(pattern: str, **norms: str) -> dict[str, str]:
    return {f"encoder/block_{i}": pattern.format(i) for i in range(2)} | {
        f"encoder/{name}": theirs for name, theirs in norms.items()
    }


def _resnet(kind: str, depth: int, stages: int, root: str = "", **more: Any) -> dict[str, Any]:
    settings = {"kind": kind, "depth": depth, "width": 4, "projection": 8} | more
    return {
        "model": "resnet",
        "settings": settings,
        "stages": {f"stage_{s}_block_0": f"{root}layer{s + 1}.0" for s in range(stages)},
    }


CASES = {
    "resnet_cifar": Case("resnet_cifar", **_resnet("cifar", 8, 3, shortcut="pad")),
    "resnet18": Case("torchvision", **_resnet("imagenet", 18, 4), sizes=(64, 96)),
    "resnet50": Case("torchvision", **_resnet("imagenet", 50, 4), sizes=(64, 96)),
    "clip_rn": Case("clip_resnet", **_resnet("clip", 14, 4, "visual."), sizes=(64, 96), head=False),
    "clip_vit": Case(
        "clip_vit", "vit", VIT | CLIP_VIT,
        _blocks("visual.transformer.resblocks.{}", norm_pre="visual.ln_pre"), head=False,
    ),
    "clip_transformers": Case(
        "clip_transformers", "vit", VIT | CLIP_VIT,
        _blocks("vision_model.encoder.layers.{}", norm_pre="vision_model.pre_layrnorm"), head=False,
    ),
    "vit_transformers": Case(
        "transformers", "vit", VIT | {"activation": "gelu", "epsilon": 1e-12},
        _blocks("vit.layers.{}", norm="vit.layernorm"),
    ),
    "vit_timm": Case("timm", "vit", VIT | {"activation": "gelu"}, _blocks("blocks.{}", norm="norm")),
    "vit_jax": Case(
        "vit_jax", "vit", VIT, _blocks("Transformer/encoderblock_{}", norm="Transformer/encoder_norm")
    ),
    "big_vision": Case(
        "big_vision", "vit", VIT | {"class_token": False, "pool": "mean"},
        _blocks("Transformer/encoderblock_{}", norm="Transformer/encoder_norm"),
    ),
    "dinov2": Case(
        "dinov2", "vit", VIT | {"activation": "gelu", "layer_scale": 1.0, "pool": "class_and_mean"},
        _blocks("dinov2.encoder.layer.{}", norm="dinov2.layernorm"), (32, (24, 48)),
    ),
    "dinov2_registers": Case(
        "dinov2_registers", "vit",
        VIT | {"activation": "swiglu", "layer_scale": 1.0, "pool": "class_and_mean", "registers": 3,
               "mlp_width": 24},
        _blocks("dinov2_with_registers.encoder.layer.{}", norm="dinov2_with_registers.layernorm"),
        (32, (24, 48)),
    ),
    # The names of DINOv2's own release, as timm reads them.
    "dinov2_timm": Case(
        "timm", "vit", VIT | {"activation": "gelu", "layer_scale": 1.0, "registers": 3},
        _blocks("blocks.{}", norm="norm"), (32, (24, 48)),
    ),
    "deit": Case(
        "deit", "vit",
        VIT | {"activation": "gelu", "epsilon": 1e-12, "distillation_token": True,
               "pool": "class_and_distillation"},
        _blocks("deit.layers.{}", norm="deit.layernorm"),
    ),
    "siglip": Case(
        "siglip", "vit", VIT | {"class_token": False, "pool": "probe"},
        _blocks("vision_model.encoder.layers.{}", norm="vision_model.post_layernorm"), (32, (24, 48)),
        head=False,
    ),
}  # fmt: skip


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights by name and seed; norms and batch statistics are far from 0 and 1, so that each matters."""
    out = {}
    for name, shape in shapes.items():
        noise = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32).standard_normal(shape)
        if name.endswith("running_var"):
            noise = 0.5 + abs(noise)
        elif name.endswith("num_batches_tracked"):
            out[name] = np.zeros(shape, np.int64)
            continue
        elif len(shape) == 1:
            noise = 0.3 * noise + name.endswith(("weight", "scale"))
        elif len(shape) > 1:
            noise = noise / np.sqrt(noise[0].size) if len(shape) != 3 else 0.3 * noise
        out[name] = np.asarray(noise, np.float32)
    return out


def random_input(size: Any) -> np.ndarray:
    sides = size if isinstance(size, tuple) else (size, size)
    return np.random.RandomState(sides[-1]).standard_normal((2, *sides, 3)).astype(np.float32)


def thinned(x: np.ndarray) -> np.ndarray:
    """About 300 numbers of the first example, evenly spread: what is stored of a stage."""
    flat = np.asarray(x)[0].reshape(-1)
    return flat[:: max(flat.size // 300, 1)]
