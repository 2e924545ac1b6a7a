"""Does diversity move the weights like dropout or like weight decay, in transfer? Letters to 400 digits.

    python -m rmtjax.study --config=configs/study_transfer_digits.py --out=runs/transfer_digits --workers=2 \
        --rows=runs/transfer_digits.parquet

The shipped vision transformer of rendered letters (.8 M parameters) is fine-tuned on handwritten digits, 150
steps of 32. The families are those of study_digits.py, which starts from scratch, and two that vary diversity
alone: which 400 of the 800 training digits are selected, and how many of the 400 are distinct. Their doses
are below 0 where the digits are less diverse than in the baseline. The baseline, its control on other seeds,
and one dose each of augmentation, dropout, decay and selection have 20 seeds, the other cells 5: 285 runs,
about an hour of two cores. The same command goes on where it stopped. study_transfer_digits_100.py is the
same with 100 digits.

The learning rate was fixed by the validation loss of the baseline, on two seeds that are in no arm: .126 at
2.5e-4, .098 at 5e-4, .104 at 1e-3, .161 at 2e-3. Rates of decoupled decay are those that shrink the weights
by 1, 4 and 11 % over the run, as in study_digits.py. Placebos are as there, and another draw of the head's
initial values.
"""

import functools
from typing import Any

from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax.study import families

FEW, MANY, OTHERS = "0-4", "0-19", "100-119"
DIGITS = 400

# What families share: one generator, one kind of regularisation, one knob.
SOURCES = {"replace": "generated digits", "add": "generated digits"}
SOURCES |= {"decay": "decay", "coupled decay": "decay"}

arm = functools.partial(families.arm, seeds=FEW)


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.train_examples = DIGITS
    config.optim.update(learning_rate=5e-4, warmup_steps=15)
    config.train.update(total_steps=150, batch_size=32, evaluation_steps=150, checkpoint_steps=150)
    config.evaluation.update(corrupted_examples=100, bootstrap_samples=50)
    return config


def augmentation(strength: float) -> list[str]:
    return [f"augment.{name}={strength}" for name in ("shift_crop", "rotation", "contrast_brightness")]


def get_design(config: ConfigDict) -> dict[str, Any]:
    arms = {
        "none": arm("none", 0, seeds=MANY),
        "again": arm("null", 0, seeds=OTHERS),
        "augmentation_0": arm("null", 0, "augment.rotation=0.0", seeds="200-204"),
    }
    for rate in (0.1, 0.3, 0.5):
        arms[f"dropout_{rate:g}"] = arm(
            "dropout", rate, f"regularization.dropout={rate}", seeds=MANY if rate == 0.3 else FEW
        )
    for rate in (0.3, 1.0, 3.0):
        arms[f"adamw_{rate:g}"] = arm(
            "decay", rate, f"regularization.weight_decay={rate}", seeds=MANY if rate == 1.0 else FEW
        )
    for rate in (1e-4, 1e-3, 5e-3):
        arms[f"adam_l2_{rate:g}"] = arm(
            "coupled decay", rate, "optim.name=adam_l2", f"regularization.weight_decay={rate}"
        )
    for strength in (0.25, 0.5, 1.0):
        arms[f"augmentation_{strength:g}"] = arm(
            "augmentation", strength, *augmentation(strength), seeds=MANY if strength == 0.5 else FEW
        )
    for strength in (0.3, 0.6, 1.0):
        arms[f"noise_{strength:g}"] = arm("noise", strength, f"augment.gaussian_noise={strength}")
    for family, shares in (("replace", (0.25, 0.5, 0.75)), ("add", (0.25, 0.5, 1.0))):
        for share in shares:
            arms[f"{family}_{share:g}"] = arm(
                family, share, f"synthetic.share={share}", f"synthetic.mode={family}"
            )
    placebos = families.placebos(config, seeds=FEW)
    names = families.families_of(placebos)
    roles = {
        "diversity": "augmentation", "dropout": "dropout", "decay": "decay", "synthetic": ("replace",),
        "same_dose": ("augmentation_0.5", "dropout_0.3"), "placebos": names, "progress": "steps x2",
        "alone": ("selection", "distinct"), "sources": SOURCES | families.knobs(names),
    }  # fmt: skip
    arms |= families.diversity_alone(DIGITS, (50, 100, 200), seeds=FEW, most_seeds=MANY)
    return {"arms": arms | placebos, "roles": roles, "population": 16}
