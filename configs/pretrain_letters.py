"""The letters model that other configs start from: a 0.8 M-parameter ViT on rendered letters, from scratch.

    python -m rmtjax.train --config=configs/pretrain_letters.py

It ships as rmtjax/models/assets/letters.safetensors; `python -m rmtjax.checkpoints RUN FILE --dtype=float16`
writes such a file.
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.source = "letters"
    config.data.train_examples = None
    config.model.init_from = None
    config.augment.shift_crop = 0.5
    config.augment.rotation = 0.5
    config.augment.contrast_brightness = 0.5
    config.augment.gaussian_noise = 0.3
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 100
    config.regularization.weight_decay = 0.05
    config.train.total_steps = 1500
    config.train.batch_size = 64
    config.train.checkpoint_steps = 250
    config.train.evaluation_steps = 250
    config.evaluation.shifts = ("corrupted",)
    config.evaluation.ood = ("digits",)
    return config
