"""Does diversity move the weights like dropout or like weight decay, in transfer? A ViT-S/14 to CIFAR-10.

    RMTJAX_DATA=FOLDER python -m rmtjax.study --config=configs/study_transfer_vit.py --out=runs/transfer_vit \
        --workers=2 --rows=runs/transfer_vit.parquet

A ViT-S/14 (21.5 M parameters, LayerScale, weights with DINOv2's names) is fine-tuned on 2,000 images of
CIFAR-10 at 56 pixels (16 patches and a class token), 100 steps of 32. FOLDER holds `vit_s14`, `tfds/cifar10`
and `cifar100_ood/images.npz`. Selection, from all 49,500 images, and the number of distinct images vary
diversity alone; their doses are below 0 where the images are less diverse than in the baseline.

The learning rate was fixed by the validation loss of the baseline, on seeds that are in no arm: 1.15 and 1.23
at 1e-5, .96 and 1.05 at 3e-5, 1.53 at 1e-4, one seed, where the features are lost (accuracy .62 and .54, .66
and .66, .43). Rates of decoupled decay are those that shrink the weights by 3 and 9 % over the run.

The baseline has 10 seeds; its control and one dose each of RandAugment, dropout, decay and selection have 5.
All other cells have 3, so that the study, 122 runs, fits into four hours and a half of two cores. Two runs at
once took 4:03 (training 1:55, evaluation 1:08, spectra :08, diversity :35 with features that later runs
find); generators are fitted once a seed. study_transfer_vit_slow.py has the learning rate of the paper, 1e-5.
"""

import functools
from typing import Any

from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax.study import families

FEW, SOME, MANY, OTHERS = "0-2", "0-4", "0-9", "100-104"
IMAGES = 2000
# What families share: one generator, one kind of regularisation, one knob.
SOURCES = {"replace": "edited images", "add": "edited images", "decay": "decay", "coupled decay": "decay"}
SOURCES |= {"augmentation": "edits of RandAugment", "TrivialAugment": "edits of RandAugment"}

arm = functools.partial(families.arm, seeds=FEW)


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.update(source="tfds:cifar10", image_size=56)
    config.data.update(train_examples=IMAGES, validation_examples=500, test_examples=1000)
    config.model.update(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # ImageNet's
    config.model.vit.update(patch=14, width=384, depth=12, heads=6, mlp_width=1536, activation="gelu")
    config.model.vit.update(class_token=True, pool="class_token", layer_scale=1.0)
    config.model.init_from = "data:vit_s14"
    config.optim.update(learning_rate=3e-5, warmup_steps=10)
    config.train.update(total_steps=100, batch_size=32, evaluation_steps=200, checkpoint_steps=200)
    # Edits of training images: from noise, what two cores can fit to 2,000 images is hardly recognised.
    config.synthetic.update(
        image_size=16, network="unet", width=32, depth=1, total_steps=600, batch_size=64, learning_rate=1e-3,
        ema=0.995, sampling_steps=15, edit_start=0.5,
    )  # fmt: skip
    # No more than what training takes.
    config.evaluation.update(
        shifts=("corrupted",), corruptions=config_lib.CIFAR10_C, severities=(1, 3, 5), corrupted_examples=100,
        ood=("npz:data:cifar100_ood/images.npz",), ood_examples=500, bootstrap_samples=50,
    )  # fmt: skip
    config.diversity.examples = 1000
    return config


def augmented() -> dict[str, dict[str, Any]]:
    arms = {
        f"rand_augment_{share:g}": arm(
            "augmentation", share, f"augment.rand_augment={share}", seeds=SOME if share == 1.0 else FEW
        )
        for share in (0.5, 1.0)
    }
    arms["trivial_augment"] = arm("TrivialAugment", 1, "augment.trivial_augment=1.0")
    arms["flips_and_crops"] = arm(
        "flips and crops", 0.5, "augment.horizontal_flip=0.5", "augment.random_resized_crop=0.5"
    )
    arms["mixup"] = arm("mixup", 0.2, "augment.mixup=0.2")
    for strength in (0.3, 0.6, 1.0):
        arms[f"noise_{strength:g}"] = arm("noise", strength, f"augment.gaussian_noise={strength}")
    return arms


def synthetic() -> dict[str, dict[str, Any]]:
    """Half or all images replaced, or half as many added; and two controls in place of the generator.

    The control "repeat" has the images themselves at the generator's size, and so shows what that does.
    """
    replace = ("synthetic.mode=replace", "synthetic.share=0.5")
    plain = ("synthetic.edit_start=0.0",)  # which is a knob of networks
    return {
        "replace_0.5": arm("replace", 0.5, *replace),
        "replace_1": arm("replace", 1.0, "synthetic.mode=replace", "synthetic.share=1.0"),
        "add_0.5": arm("add", 0.5, "synthetic.mode=add", "synthetic.share=0.5"),
        "gaussian_0.5": arm("gaussian", 0.5, *replace, *plain, "synthetic.method=gaussian"),
        "repeat_0.5": arm("repeat", 0.5, *replace, *plain, "synthetic.method=repeat"),
    }


def get_design(config: ConfigDict) -> dict[str, Any]:
    arms = {"none": arm("none", 0, seeds=MANY), "again": arm("null", 0, seeds=OTHERS)}
    for rate in (0.1, 0.3, 0.5):
        arms[f"dropout_{rate:g}"] = arm(
            "dropout", rate, f"regularization.dropout={rate}", seeds=SOME if rate == 0.3 else FEW
        )
    for rate in (20.0, 60.0):
        arms[f"adamw_{rate:g}"] = arm(
            "decay", rate, f"regularization.weight_decay={rate}", seeds=SOME if rate == 20.0 else FEW
        )
    for rate in (1e-4, 1e-3):
        arms[f"adam_l2_{rate:g}"] = arm(
            "coupled decay", rate, "optim.name=adam_l2", f"regularization.weight_decay={rate}"
        )
    arms |= augmented() | synthetic()
    arms |= families.diversity_alone(
        IMAGES, (250, 500, 1000), seeds=FEW, most_seeds=SOME, selected={"least": -0.5, "most": 0.5}
    )
    placebos = families.placebos(config, seeds=FEW)
    names = families.families_of(placebos)
    roles = {
        "diversity": "augmentation", "dropout": "dropout", "decay": "decay", "synthetic": ("replace",),
        "same_dose": ("rand_augment_1", "dropout_0.3"), "placebos": names, "progress": "steps x2",
        "alone": ("selection", "distinct"), "sources": SOURCES | families.knobs(names),
    }  # fmt: skip
    return {"arms": arms | placebos, "roles": roles}
