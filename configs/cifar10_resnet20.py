"""CIFAR-10 from a trained ResNet-20 (He et al. 2016), 2,000 training images, 2,000 for testing.

    RMTJAX_DATA=DIR python -m rmtjax.train --config=configs/cifar10_resnet20.py

The weights as they are, on all 10,000 test images (91.73 %) and on 1,000 of them under CIFAR-10-C's 15
corruptions:

    python -m rmtjax.evaluate data:resnet_cifar10/resnet20-12fca82f.th --config=configs/cifar10_resnet20.py \
        --config.data.test_examples=None --out=runs/resnet20

which gives accuracy .9173, ECE .053, AUROC .862 (max softmax, against 3,000 CIFAR-100 images) and, over the
corruptions, accuracy .691 (.741 without noise).

Below DIR: `tfds/cifar10` (prepared by tensorflow_datasets), `resnet_cifar10/*.th` (from
github.com/akamaster/pytorch_resnet_cifar10), `cifar100_ood/images.npz` (CIFAR-100 test images, `image` and
`label`). The weights were trained on all 50,000 training images, the validation images among them: nearly
every one of these is right, so that the temperature fitted on them (.44) is too low, and "scaled" rows are
worse than plain ones (ECE .070). ResNet-56: --config.model.resnet.depth=56
--config.model.init_from=data:resnet_cifar10/resnet56-4bfd9763.th
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.source = "tfds:cifar10"
    config.data.image_size = 32
    config.data.train_examples = 2000
    config.data.validation_examples = 1000
    config.data.test_examples = 2000
    config.model.name = "resnet"
    config.model.resnet.shortcut = "pad"
    config.model.mean = (0.485, 0.456, 0.406)  # what the weights were trained with
    config.model.std = (0.229, 0.224, 0.225)
    config.model.init_from = "data:resnet_cifar10/resnet20-12fca82f.th"
    config.optim.name = "sgd"
    config.optim.learning_rate = 1e-3
    config.train.total_steps = 160
    config.evaluation.shifts = ("corrupted",)
    config.evaluation.corruptions = config_lib.CIFAR10_C
    config.evaluation.corrupted_examples = 1000  # each corrupted in 75 ways
    config.evaluation.ood = ("npz:data:cifar100_ood/images.npz",)
    return config
