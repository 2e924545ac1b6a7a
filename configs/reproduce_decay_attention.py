"""Does weight decay lower the rank of W_Q W_K^T, by dose? (Kobayashi, Akram and von Oswald, 2410.23819.)

    python -m rmtjax.study --config=configs/reproduce_decay_attention.py --seeds=0-2 --population=9 \
        --arms=configs/reproduce_decay_attention.py --out=runs/reproduce_decay_attention

L2 on both factors of a product acts on the product like its nuclear norm, which favours a low rank. A vision
transformer (width 64, depth 2, two heads of width 32) from scratch on 1,000 digits of 8 x 8 pixels, 1,200
steps of 32 at learning rate 2e-3: AdamW with decoupled decay, and Adam with coupled L2, the paper's kind.

What decides, written before the runs: effective_rank_sv (Roy and Vetterli's, at most 32) of the products of
queries and keys after training, mean over heads and blocks; of each kind of decay the slope over the doses in
their order, 0 first, one a seed, with its 95 % t interval over seeds. Reproduced: the interval is below 0.
Not reproduced: it is above. Else it cannot be told. Beside it: the stable rank, and W_V W_O.
"""

from ml_collections import ConfigDict

from rmtjax import config as config_lib

DECOUPLED, COUPLED = (0.1, 0.3, 1.0), (1e-4, 1e-3)


def get_config() -> ConfigDict:
    config = config_lib.base()
    config.data.update(
        classes=tuple("0123456789"), image_size=8, train_examples=1000, validation_examples=200
    )
    config.model.init_from = None
    config.model.vit.update(patch=2, width=64, depth=2, heads=2, mlp_width=128)
    config.optim.update(learning_rate=2e-3, schedule="constant")
    config.train.update(total_steps=1200, batch_size=32, evaluation_steps=1200, checkpoint_steps=1200)
    config.spectra.products = True
    config.evaluation.update(shifts=(), ood=(), bootstrap_samples=100)
    config.diversity.enabled = False
    return config


def get_arms(config: ConfigDict) -> dict[str, list[str]]:
    arms: dict[str, list[str]] = {"none": []}
    for name, doses in (("adamw", DECOUPLED), ("adam_l2", COUPLED)):
        for dose in doses:
            arms[f"{name}_{dose:g}"] = [f"optim.name={name}", f"regularization.weight_decay={dose}"]
    return arms
