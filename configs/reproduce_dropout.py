"""Does dropout, in training from scratch, raise the spectral norm and lower the stable rank by dose?

    RMTJAX_DATA=DIR python -m rmtjax.study --config=configs/reproduce_dropout.py --seeds=0-2 \
        --arms=configs/reproduce_dropout.py --out=runs/reproduce_dropout

That is the clearest pattern in what Ba et al. (2410.14602) released of a ResNet-18 on CIFAR-10, of one run an
arm. Here a ResNet-20 sees 2,000 images of CIFAR-10 at 16 x 16 pixels for 120 steps of 32 (DIR as in
`cifar10_resnet20.py`), with dropout within and after each residual branch and before the head. Steps are
equal in all arms, and so the fits are not.

What decides, written before the runs: log_spectral_norm and stable_rank of the weights after training, mean
over the layers but the head; of each the least-squares slope over the four rates, one a seed, with its 95 % t
interval over seeds. Reproduced: the first interval is above 0 and the second below. Not reproduced: one lies
on the other side. Else it cannot be told. Beside it: whether the means are in the order of the rates.
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib

RATES = (0.0, 0.1, 0.3, 0.5)


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.update(
        source="tfds:cifar10",
        image_size=16,
        train_examples=2000,
        validation_examples=500,
        test_examples=1000,
    )
    config.model.update(name="resnet", init_from=None)
    config.optim.update(name="sgd", learning_rate=0.1, warmup_steps=20, clip_norm=None)
    config.train.update(total_steps=120, batch_size=32, evaluation_steps=120, checkpoint_steps=120)
    config.evaluation.update(shifts=(), ood=(), bootstrap_samples=100)
    config.diversity.enabled = False
    return config


def get_arms(config: ConfigDict) -> dict[str, list[str]]:
    return {f"dropout_{rate:g}": [f"regularization.dropout={rate}"] for rate in RATES}
