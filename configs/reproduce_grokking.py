"""Does a network grok 1,000 digits, and what do its spectra show while it does?

    python -m rmtjax.study --config=configs/reproduce_grokking.py --seeds=0-2 \
        --arms=configs/reproduce_grokking.py --out=runs/reproduce_grokking

Liu et al. (Omnigrok, 2210.01117): with large initial weights a network first fits the training set without
generalising, and generalises once decay has made the weights small. An MLP of widths 64, 200, 200, 10 on
1,000 digits of 8 x 8 pixels, initial weights times 8, AdamW with learning rate 1e-3 and decay .3 (together
they shrink the weights by e^-1.5), cross-entropy, 5,000 steps of 200. `no_decay` and `small_weights` lack one
cause each. metrics.jsonl has the accuracies, spectra_steps/ a table every 250 steps, with the shuffled
weights' columns. Decay, batch and steps come from one run of seed 100, in which grokking was seen.

What decides, written before the runs of the study: the gain, which is the validation accuracy (400 digits) at
the end minus that at the first validation where the mean training accuracy of the last 50 steps is .999 or
more. Reproduced: the gain of `grok` minus that of each control, paired by seed, has a 95 % t interval above
0, and its mean is .05 or more. Not reproduced: an interval is below .05. Else it cannot be told. The same
change, of `grok` against `no_decay`, is reported of alpha, num_spikes and num_traps of the two hidden layers.
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.update(
        classes=tuple("0123456789"), image_size=8, train_examples=1000, validation_examples=400
    )
    config.model.update(name="mlp", init_from=None, init_scale=8.0)
    config.model.mlp.widths = (200, 200)
    config.regularization.weight_decay = 0.3
    config.optim.update(learning_rate=1e-3, schedule="constant", warmup_steps=0, clip_norm=None)
    config.train.update(total_steps=5000, batch_size=200, evaluation_steps=250, checkpoint_steps=5000)
    config.spectra.update(every_steps=250, metrics="default,shuffles")
    config.evaluation.update(shifts=(), ood=(), bootstrap_samples=100)
    config.diversity.enabled = False
    return config


def get_arms(config: ConfigDict) -> dict[str, list[str]]:
    return {
        "grok": [],
        "no_decay": ["regularization.weight_decay=0.0"],
        "small_weights": ["model.init_scale=1.0"],
    }
