"""Synthetic images of three of CIFAR-10's classes at 16 x 16: a U-Net of 1 M parameters, on two CPU cores.

    RMTJAX_DATA=DIR python -m rmtjax.generate --config=configs/cifar10_generator_small.py

Below DIR: `tfds/cifar10`. The manifest has what the set teaches a classifier (CAS) beside real images, and
distances in the features of a classifier fitted to the training images.
"""

import importlib.util
import pathlib

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    path = pathlib.Path(__file__).with_name("cifar10_generator.py")
    spec = importlib.util.spec_from_file_location("cifar10_generator", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.data.update(classes=("airplane", "automobile", "horse"), image_size=16, train_examples=6000)
    config.evaluation.ood = ()
    config.synthetic.update(
        image_size=16, width=32, depth=1, dtype="float32", total_steps=1000, batch_size=64,
        learning_rate=1e-3, ema=0.998, examples=900, share=0.15, sampling_steps=15,
    )  # fmt: skip
    return config
