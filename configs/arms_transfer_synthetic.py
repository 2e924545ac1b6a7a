"""Arms of the README's first table: transfer against scratch, and synthetic digits added or not.

    python -m rmtjax.study --config=configs/digits.py --arms=configs/arms_transfer_synthetic.py --seeds=0-4 \
        --out=runs/transfer_synthetic \
        --pairs=transfer_100-scratch_100,transfer_400-scratch_400,synthetic_100-transfer_100,synthetic_400-transfer_400
"""

from ml_collections import ConfigDict


def get_arms(config: ConfigDict) -> dict[str, list[str]]:
    arms = {}
    for n in (100, 400):
        arms[f"scratch_{n}"] = [f"data.train_examples={n}", "model.init_from=None"]
        arms[f"transfer_{n}"] = [f"data.train_examples={n}"]
        arms[f"synthetic_{n}"] = [f"data.train_examples={n}", "synthetic.share=0.5", "synthetic.mode=add"]
    return arms
