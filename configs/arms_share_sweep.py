"""Shares of synthetic digits, in both modes, beside classical augmentation, all at 200 steps of 32.

    python -m rmtjax.study --config=configs/digits.py --arms=configs/arms_share_sweep.py --seeds=0-4 \
        --out=runs/share_sweep --workers=2 --population=16

A set holds as many synthetic digits as there are real ones. The share `r` is of the training set in
`replace`, whose size stays what it was, and is added to the real digits in `add`. Every arm takes the same
number of steps. To be cheap, for 160 runs are many: a third of the default's training, 100 corrupted digits,
no spectra.
"""

from ml_collections import ConfigDict

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
CLASSICAL = {
    "shift_rotation": ["augment.shift_crop=0.5", "augment.rotation=0.5"],
    "elastic": ["augment.elastic=0.5"],
    "noise": ["augment.gaussian_noise=0.5"],
}
LIGHT = [
    "train.total_steps=200",
    "train.batch_size=32",
    "train.evaluation_steps=200",
    "train.checkpoint_steps=200",
    "evaluation.corrupted_examples=100",
    "evaluation.bootstrap_samples=100",
    "spectra.enabled=False",
]


def get_arms(config: ConfigDict) -> dict[str, list[str]]:
    arms = {}
    for n in (100, 400):
        common = [f"data.train_examples={n}", *LIGHT]
        arms[f"none_{n}"] = common
        for mode in ("replace", "add"):
            for share in SHARES:
                arms[f"{mode}_{share}_{n}"] = [
                    *common,
                    f"synthetic.mode={mode}",
                    f"synthetic.share={share}",
                ]
        for name, overrides in CLASSICAL.items():
            arms[f"{name}_{n}"] = [*common, *overrides]
    return arms
