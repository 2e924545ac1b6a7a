"""Does diversity move the weights like dropout or like weight decay? Seven families on 400 digits.

    python -m rmtjax.study --config=configs/study_digits.py --out=runs/study_digits --workers=2

A small vision transformer (width 64, depth 3) from scratch, 300 steps of 32 digits with the same learning
rate in all arms but the placebos. The baseline and one dose each of augmentation, synthetic data, dropout
and decay have 20 seeds, so that equivalence can be told; the other cells have 5. `null` are controls in which
nothing is changed: the baseline on seeds of its own, augmentation at strength 0. Placebos change how the
model is trained and nothing that the question is about; T1 says "like dropout" only of what is more like
dropout than like any of them. Each is a family of its own, since a learning rate that is halved and one that
is doubled may move the weights in opposite directions. The same command goes on where it stopped;
--seeds=0-4 is 155 runs of 245, with "cannot tell" where 20 are needed.
"""

import functools
from typing import Any

from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax.study import families

FEW, MANY, OTHERS = "0-4", "0-19", "100-119"
# What families share: one generator, one kind of regularisation, one knob.
SOURCES = {"replace": "generated digits", "add": "generated digits"}
SOURCES |= {"decay": "decay", "coupled decay": "decay"}


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.model.init_from = None
    config.model.vit.update(width=64, depth=3, heads=4, mlp_width=256)
    config.optim.learning_rate = 2e-3
    config.train.update(total_steps=300, batch_size=32, evaluation_steps=300, checkpoint_steps=300)
    config.evaluation.update(corrupted_examples=100, bootstrap_samples=50)
    return config


def get_design(config: ConfigDict) -> dict[str, Any]:
    arm = functools.partial(families.arm, seeds=FEW)
    arms = {
        "none": arm("none", 0, seeds=MANY),
        "again": arm("null", 0, seeds=OTHERS),
        "augmentation_0": arm("null", 0, "augment.rotation=0.0", seeds="200-204"),
    }
    for rate in (0.1, 0.3, 0.5):
        arms[f"dropout_{rate:g}"] = arm(
            "dropout", rate, f"regularization.dropout={rate}", seeds=MANY if rate == 0.3 else FEW
        )
    for rate in (0.03, 0.1, 0.3):
        decay = f"regularization.weight_decay={rate}"
        arms[f"adamw_{rate:g}"] = arm("decay", rate, decay, seeds=MANY if rate == 0.1 else FEW)
    for rate in (1e-4, 1e-3, 5e-3):
        arms[f"adam_l2_{rate:g}"] = arm(
            "coupled decay", rate, "optim.name=adam_l2", f"regularization.weight_decay={rate}"
        )
    for strength in (0.25, 0.5, 1.0):
        of = [f"augment.{name}={strength}" for name in ("shift_crop", "rotation", "contrast_brightness")]
        arms[f"augmentation_{strength:g}"] = arm(
            "augmentation", strength, *of, seeds=MANY if strength == 0.5 else FEW
        )
    for strength in (0.3, 0.6, 1.0):
        arms[f"noise_{strength:g}"] = arm("noise", strength, f"augment.gaussian_noise={strength}")
    for share in (0.25, 0.5, 0.75):
        arms[f"replace_{share:g}"] = arm(
            "replace",
            share,
            f"synthetic.share={share}",
            "synthetic.mode=replace",
            seeds=MANY if share == 0.5 else FEW,
        )
    for share in (0.25, 0.5, 1.0):
        arms[f"add_{share:g}"] = arm("add", share, f"synthetic.share={share}", "synthetic.mode=add")
    placebos = families.placebos(config, seeds=FEW)
    names = families.families_of(placebos)
    roles = {
        "diversity": "augmentation", "dropout": "dropout", "decay": "decay", "synthetic": ("replace",),
        "same_dose": ("augmentation_0.5", "dropout_0.3"), "placebos": names, "progress": "steps x2",
        "sources": SOURCES | families.knobs(names),
    }  # fmt: skip
    return {"arms": arms | placebos, "roles": roles, "population": 16}
