"""Which runs can be trained together by one compiled step: told by their configs alone."""

import json

from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax.train.workdir import FREE

# What the compiled step takes as numbers.
NUMBERS = (
    "regularization.dropout", "regularization.weight_decay", "regularization.label_smoothing", "optim.learning_rate"
)  # fmt: skip


def key(config: ConfigDict) -> str | None:
    """Runs whose configs have the same key can be trained together; None: a run that is trained alone.

    They may differ in the seed, in `NUMBERS` (but not zero in one and above zero in another: what is off costs nothing), in
    augmentation and, where training is as long for all, in synthetic data and the number of training examples.
    """
    own_words = config_lib.is_text(config.data.source) and config.data.vocabulary is None
    if own_words or config.spectra.every_steps is not None:
        return None
    plain = json.loads(config_lib.to_json(config))
    del plain["seed"]
    for name in NUMBERS:
        section, field = name.split(".")
        plain[section][field] = plain[section][field] > 0
    plain["augment"] = bool(config.augment.mixup or config.augment.cutmix)
    if config.train.total_epochs is None and config.optim.warmup_epochs is None:
        del plain["data"]["train_examples"], plain["synthetic"]
    for name in FREE:
        section, field = name.split(".")
        plain.get(section, {}).pop(field, None)
    return json.dumps(plain, sort_keys=True)
