"""The base task with decoupled weight decay (AdamW). For coupled L2: --config.optim.name=adam_l2.

python -m rmtjax.train --config=configs/weight_decay.py
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.regularization.weight_decay = 0.1
    return config
