"""Synthetic CIFAR-10 images by flow matching: a U-Net of 7 M parameters at 32 x 32, for a GPU.

    RMTJAX_DATA=DIR python -m rmtjax.generate --config=configs/cifar10_generator.py
    RMTJAX_DATA=DIR python -m rmtjax.train --config=configs/cifar10_generator.py  # as many made as real

Below DIR: `tfds/cifar10`. Not run as it stands: no GPU was at hand. Three classes at 16 x 16 on two CPU cores
are `configs/cifar10_generator_small.py`.
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.update(source="tfds:cifar10", image_size=32, train_examples=18000, validation_examples=1000)
    config.model.name = "resnet"
    config.model.init_from = None
    config.optim.update(name="sgd", learning_rate=0.1, warmup_steps=200)
    config.regularization.weight_decay = 5e-4
    config.train.update(total_steps=4000, batch_size=128)
    config.evaluation.update(
        shifts=("corrupted",),
        ood=("npz:data:cifar100_ood/images.npz",),
        corruptions=config_lib.CIFAR10_C,
        corrupted_examples=1000,
    )
    config.synthetic.update(
        share=1.0, image_size=32, network="unet", width=64, depth=2, dtype="bfloat16", time="logit_normal",
        total_steps=20000, batch_size=128, learning_rate=3e-4, ema=0.9995, guidance=1.5, sampler="heun",
        sampling_steps=25,
    )  # fmt: skip
    return config
