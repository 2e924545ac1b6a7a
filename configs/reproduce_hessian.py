"""Which arms flatten the loss? Trace and largest eigenvalue of its Hessian in training, on 400 digits.

    python -m rmtjax.study --config=configs/reproduce_hessian.py --out=runs/reproduce_hessian --workers=2

The arms of the paper's Hessian figure (baseline, dropout .1, decay 5e-3, augmentation, noise .3), which is of
a ResNet-18 on Office-Home, and two placebos, here of a small vision transformer (width 32, depth 2) from
scratch. The loss is the same in all arms: 128 real training digits, in evaluation mode. curvature.csv has the
trace by arm and step.
"""

from typing import Any

from ml_collections import ConfigDict

from rmtjax import config as config_lib

SEEDS = "0-3"


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.model.init_from = None
    config.model.vit.update(width=32, depth=2, heads=2, mlp_width=64)
    config.optim.learning_rate = 2e-3
    config.train.update(total_steps=480, batch_size=32, evaluation_steps=480, checkpoint_steps=480)
    config.spectra.curvature_every_steps = 80
    config.evaluation.update(shifts=("printed_digits",), ood=(), bootstrap_samples=50)
    config.diversity.enabled = False
    return config


def get_design(config: ConfigDict) -> dict[str, Any]:
    def arm(family: str, dose: float, *overrides: str) -> dict[str, Any]:
        return {"family": family, "dose": dose, "overrides": list(overrides), "seeds": SEEDS}

    moved = [f"augment.{name}=0.5" for name in ("shift_crop", "rotation", "contrast_brightness")]
    decay = ("optim.name=adam_l2", "regularization.weight_decay=0.005")
    arms = {
        "none": arm("none", 0),
        "dropout_0.1": arm("dropout", 0.1, "regularization.dropout=0.1"),
        "adam_l2_5e-3": arm("decay", 5e-3, *decay),
        "augmentation_0.5": arm("augmentation", 0.5, *moved),
        "noise_0.3": arm("noise", 0.3, "augment.gaussian_noise=0.3"),
        "learning_rate_x2": arm("learning rate x2", 2, "optim.learning_rate=4e-3"),
        "batch_size_x0.5": arm("batch size x0.5", 0.5, "train.batch_size=16"),
    }
    roles = {
        "diversity": "augmentation", "dropout": "dropout", "decay": "decay",
        "placebos": ("learning rate x2", "batch size x0.5"),
    }  # fmt: skip
    return {"arms": arms, "roles": roles}
