"""study_transfer_digits.py with 100 digits and its main families: where data are few, diversity counts.

    python -m rmtjax.study --config=configs/study_transfer_digits_100.py --out=runs/transfer_digits_100 \
        --workers=2 --rows=runs/transfer_digits_100.parquet

A study of its own, since accuracies and diversity are not those of 400 digits, so that arms of both cannot be
ranked together. The baseline has 20 seeds, its control and one dose each of augmentation, dropout, decay and
selection 10, the other cells 5. Selection takes 100 of 800 digits.
"""

import importlib.util
import pathlib
from typing import Any

from ml_collections import ConfigDict

from rmtjax.study import families

DIGITS = 100
SOME = "0-9"

spec = importlib.util.spec_from_file_location(
    "study_transfer_digits", pathlib.Path(__file__).with_name("study_transfer_digits.py")
)
of_400 = importlib.util.module_from_spec(spec)
spec.loader.exec_module(of_400)


def get_config() -> ConfigDict:
    config = of_400.get_config()
    config.data.train_examples = DIGITS
    return config


def get_design(config: ConfigDict) -> dict[str, Any]:
    wider = of_400.get_design(config)
    some = {"dropout_0.3", "adamw_1", "augmentation_0.5"}
    arms = {
        name: cell | {"seeds": SOME if name in some else of_400.FEW}
        for name, cell in wider["arms"].items()
        if cell["family"] in ("dropout", "decay", "augmentation")
    }
    arms["none"] = of_400.arm("none", 0, seeds=of_400.MANY)
    arms["again"] = of_400.arm("null", 0, seeds="100-109")
    arms |= families.diversity_alone(DIGITS, (12, 25, 50), seeds=of_400.FEW, most_seeds=SOME)
    arms |= families.placebos(config, seeds=of_400.FEW)
    names = families.families_of(arms)
    sources = {name: source for name, source in wider["roles"]["sources"].items() if name in names}
    return wider | {"arms": arms, "roles": wider["roles"] | {"synthetic": (), "sources": sources}}
