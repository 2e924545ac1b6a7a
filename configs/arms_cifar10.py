"""The arms of Ba et al. (2024) over a vision config: nothing, dropout, weight decay, augmentation.

    python -m rmtjax.study --config=configs/cifar10_resnet20.py --arms=configs/arms_cifar10.py --seeds=0-4 \
        --out=runs/cifar10 --workers=2

`none`, dropout and augmentation have the config's own optimiser. The paper's decay is Adam's coupled L2:
`adam_l2` are those arms and `adamw` the same doses decoupled. Over a config with SGD, `adam` is what to
compare both with, at a tenth of SGD's learning rate, and `decay` is SGD's own coupled L2. Over one with Adam,
as CLIP's, its own learning rate stays and `none` is what to compare with.
"""

from ml_collections import ConfigDict

DROPOUT = (0.1, 0.3, 0.5, 0.7)
DECAY = (1e-5, 1e-4, 1e-3, 5e-3)
AUGMENTATIONS = {
    "auto_augment": {"auto_augment": 1.0},
    "auto_augment_cifar10": {"auto_augment_cifar10": 1.0},
    "rand_augment": {"rand_augment": 1.0},
    "aug_mix": {"aug_mix": 1.0},
    "trivial_augment": {"trivial_augment": 1.0},
    "noise_10": {"gaussian_noise": 0.1},
    "noise_30": {"gaussian_noise": 0.3},
    "noise_50": {"gaussian_noise": 0.5},
    "auto_1": {"auto_augment": 1.0, "gaussian_noise": 0.5},
    "auto_2": {"auto_augment": 1.0, "horizontal_flip": 0.5, "vertical_flip": 0.3, "gaussian_noise": 0.5},
    "auto_3": {"auto_augment": 1.0, "horizontal_flip": 0.5, "elastic": 1.0, "gaussian_noise": 0.5},
    # Beyond the paper's.
    "flip_crop": {"horizontal_flip": 0.5, "shift_crop": 1.0},
    "random_resized_crop": {"random_resized_crop": 1.0},
    "rotation": {"rotation": 1.0},
    "elastic": {"elastic": 1.0},
    "colour_jitter": {"colour_jitter": 0.5},
    "random_erasing": {"random_erasing": 0.5},
    "mixup": {"mixup": 1.0},
    "cutmix": {"cutmix": 1.0},
}


def get_arms(config: ConfigDict) -> dict[str, list[str]]:
    sgd = config.optim.name == "sgd"
    adam = [f"optim.learning_rate={config.optim.learning_rate / 10:g}"] if sgd else []
    arms: dict[str, list[str]] = {"none": []}
    for rate in DROPOUT:
        arms[f"dropout_{rate:g}"] = [f"regularization.dropout={rate}"]
    if sgd:
        arms["adam"] = ["optim.name=adamw", *adam]
    for dose in DECAY:
        decay = f"regularization.weight_decay={dose}"
        if sgd:
            arms[f"decay_{dose:g}"] = [decay]
        arms[f"adam_l2_{dose:g}"] = ["optim.name=adam_l2", *adam, decay]
        arms[f"adamw_{dose:g}"] = ["optim.name=adamw", *adam, decay]
    for name, strengths in AUGMENTATIONS.items():
        arms[name] = [f"augment.{field}={strength}" for field, strength in strengths.items()]
    return arms
