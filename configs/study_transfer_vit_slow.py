"""study_transfer_vit.py at the learning rate of the paper, 1e-5: one dose of augmentation, dropout and decay.

    RMTJAX_DATA=FOLDER python -m rmtjax.study --config=configs/study_transfer_vit_slow.py \
        --out=runs/transfer_vit_slow --workers=2 --rows=runs/transfer_vit_slow.parquet

A study of its own, since it has a baseline of its own. Decay is coupled, as in the paper, at its greatest
rate. Five seeds of the baseline, three of the others.
"""

import importlib.util
import pathlib
from typing import Any

from ml_collections import ConfigDict

spec = importlib.util.spec_from_file_location(
    "study_transfer_vit", pathlib.Path(__file__).with_name("study_transfer_vit.py")
)
fast = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fast)


def get_config() -> ConfigDict:
    config = fast.get_config()
    config.optim.learning_rate = 1e-5
    return config


def get_design(config: ConfigDict) -> dict[str, Any]:
    arms = {
        "none": fast.arm("none", 0, seeds=fast.SOME),
        "rand_augment_1": fast.arm("augmentation", 1, "augment.rand_augment=1.0"),
        "dropout_0.3": fast.arm("dropout", 0.3, "regularization.dropout=0.3"),
        "adam_l2_0.005": fast.arm("decay", 5e-3, "optim.name=adam_l2", "regularization.weight_decay=5e-3"),
    }
    roles = {"diversity": "augmentation", "dropout": "dropout", "decay": "decay"}
    return {"arms": arms, "roles": roles | {"same_dose": ("rand_augment_1", "dropout_0.3")}}
