"""Do wrong labels make alpha smaller while accuracy falls, so that a small alpha is no good sign?

    python -m rmtjax.study --config=configs/reproduce_label_noise.py --arms=configs/reproduce_label_noise.py \
        --seeds=3-5 --population=15 --out=runs/reproduce_label_noise

That is what Loftus (2603.27885) reports. The network, the digits and the optimiser are those of
`reproduce_batch_size.py`, with batches of 32 and 100 epochs, in which the network learns wrong labels by
heart. Validation and test labels are right.

Seeds 0 to 2 were a pilot, after which the second hidden layer (512 x 256) was chosen. What decides, written
before the runs of seeds 3 to 5: the slopes of that layer's alpha after training and of test accuracy over the
share of wrong labels, one a seed, with their 95 % t intervals over seeds. Reproduced: both intervals are
below 0. Not reproduced: that of alpha is above. Else it cannot be told.
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.update(
        classes=tuple("0123456789"), image_size=8, train_examples=1200, validation_examples=200
    )
    config.model.update(name="mlp", init_from=None)
    config.model.mlp.widths = (512, 256)
    config.optim.update(
        name="sgd", learning_rate=0.01, momentum=0.9, schedule="constant", warmup_steps=0, clip_norm=None
    )
    config.train.update(
        total_steps=None, total_epochs=100.0, batch_size=32, evaluation_steps=5000, checkpoint_steps=100000
    )
    config.evaluation.update(shifts=(), ood=(), bootstrap_samples=100)
    config.diversity.enabled = False
    return config


def get_arms(config: ConfigDict) -> dict[str, list[str]]:
    return {f"noise_{share:g}": [f"data.label_noise={share}"] for share in SHARES}
