"""Compares the ViT-S/14 of RMTJAX_DATA with transformers' DINOv2, and writes references/vit_s14.npz.

    RMTJAX_DATA=DIR python tests/models/make_vit_s14_reference.py

Needs the `peers` extra. The first 100 test images of CIFAR-10 are enlarged to 56, 112 and 224 pixels, and the
largest difference of a number that any of these images' tokens has after the last norm is printed. The file
holds the class tokens of two images of CIFAR-100 at 56 pixels, for test_relatives.py.
"""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from rmtjax import config as config_lib
from rmtjax import models
from rmtjax.train import weights

FILE = pathlib.Path(__file__).parent / "references" / "vit_s14.npz"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
BATCH = 25


def images(count, size):
    from rmtjax.data import tfds_sets

    return tfds_sets.splits("cifar10", size)["test"].inputs(np.arange(count))


def two_images():
    with np.load(pathlib.Path(os.environ["RMTJAX_DATA"]) / "cifar100_ood" / "images.npz") as stored:
        x = stored["image"][:2]
    return x.repeat(2, 1).repeat(2, 2)[:, :56, :56].astype(np.float32) / 255


def our_tokens(x):
    """Tokens after the last norm, `[B, 1 + T, 384]`, of images `[B, H, W, 3]` in [0, 1]."""
    config = config_lib.base()
    config.model.update(mean=MEAN, std=STD)
    config.model.vit.update(patch=14, width=384, depth=12, heads=6, mlp_width=1536, activation="gelu")
    config.model.vit.update(class_token=True, pool="class_token", layer_scale=1.0)
    model, first = models.build(config, 10), jnp.asarray(x[:BATCH])
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), first)
    params, _ = weights.load("data:vit_s14", variables["params"], {}, reinit="head/.*")
    params["head"] = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params["head"])

    @jax.jit
    def run(params, x):
        (_, features), seen = model.apply(
            {"params": params}, x, train=False, mutable=["intermediates"],
            capture_intermediates=lambda module, _: module.name == "norm",
        )  # fmt: skip
        return features, seen["intermediates"]["encoder"]["norm"]["__call__"][0]

    out = []
    for start in range(0, len(x), BATCH):
        features, tokens = run(params, jnp.asarray(x[start : start + BATCH]))
        np.testing.assert_array_equal(features, tokens[:, 0])
        out.append(np.asarray(tokens))
    return np.concatenate(out)


def main():
    import torch
    from transformers import Dinov2Model  # before TensorFlow, beside which it may not load

    folder = pathlib.Path(os.environ["RMTJAX_DATA"]) / "vit_s14"
    theirs = Dinov2Model.from_pretrained(folder, dtype=torch.float32).eval()

    def their_tokens(x):
        scaled = ((x - np.float32(MEAN)) / np.float32(STD)).transpose(0, 3, 1, 2)
        with torch.no_grad():
            parts = torch.from_numpy(scaled.copy()).split(BATCH)
            return np.concatenate([theirs(part).last_hidden_state.numpy() for part in parts])

    np.savez_compressed(FILE, features=their_tokens(two_images())[:, 0])
    for size in (56, 112, 224):
        x = images(100, size)
        wanted = their_tokens(x)
        found = our_tokens(x)
        worst, of_class = (np.abs(part).max() for part in (found - wanted, (found - wanted)[:, 0]))
        values = f"deviation {wanted.std():.2f}, largest {np.abs(wanted).max():.0f}"
        print(f"{size} pixels: differ by {of_class:.1e} in class tokens, {worst:.1e} in all ({values})")


if __name__ == "__main__":
    main()
