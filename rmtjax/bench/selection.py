"""The diversity of selected and of repeated training sets, by setting, and what a selection costs.

The Vendi score of the training examples, over all and within classes, at equal n. Seeds draw other validation
examples, and with them other examples to select from. In the picture all is beside the random draw.
"""

import pathlib
import time
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import data, diversity, files, report
from rmtjax.errors import InputError
from rmtjax.train import selection

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
REPEATED = (8, 4, 2, 1)  # how often each example
COST = (50_000, 384, 10, 2_000)  # examples, features, classes, examples selected
_NAMES = {"model": "select, by features", "inputs": "select, by pixels"}
_NOTE = "mean and 95 % interval over seeds; grey: as many examples drawn at random"


def measure(config: ConfigDict, seeds: int) -> pd.DataFrame:
    """Columns knob, setting, seed, set ("synthetic": as set; "real": the random draw), metric and value."""
    n = config.data.train_examples
    by = [name for name in _NAMES if name == "inputs" or config.model.init_from is not None]
    changes = [
        (_NAMES[name], q, {"select": f"{q:g}", "select_features": name}) for name in by for q in QUANTILES
    ]
    changes += [("share that is distinct", 1 / k, {"distinct": n // k}) for k in REPEATED]
    rows = []
    for seed in range(seeds):
        random = _scores(config, seed, {})
        for knob, setting, fields in changes:
            for kind, scores in (("synthetic", _scores(config, seed, fields)), ("real", random)):
                rows += [(knob, setting, seed, kind, metric, value) for metric, value in scores.items()]
    return pd.DataFrame(rows, columns=("knob", "setting", "seed", "set", "metric", "value"))


def _scores(config: ConfigDict, seed: int, fields: dict[str, Any]) -> dict[str, float]:
    changed = config.copy_and_resolve_references()
    changed.seed = seed
    changed.data.update(fields)
    config_lib.validate(changed)
    train = selection.load(changed).train
    scores = {}
    for space, vectors in _spaces(changed, train).items():
        parts = [vectors[train.labels == k] for k in np.unique(train.labels)]
        scores[f"vendi_score_{space}"] = diversity.vendi_score(vectors)
        scores[f"within_classes_{space}"] = float(np.mean([diversity.vendi_score(part) for part in parts]))
    return scores


def _spaces(config: ConfigDict, train: data.Source) -> dict[str, np.ndarray]:
    """The inputs as vectors, and their features under the model, if weights are named."""
    found = {"pixel": selection.of_inputs(train)}
    if config.model.init_from is not None:
        found["feature"] = selection.of_model(config, train)(train, False)
    return found


def cost() -> tuple[float, float]:
    """Seconds that one selection takes, by the clock and of processor time."""
    n, width, classes, wanted = COST
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n, width), np.float32) * np.arange(1, width + 1, dtype=np.float32) ** -0.5
    labels = rng.integers(0, classes, n)
    wall, processor = time.perf_counter(), time.process_time()
    diversity.select(vectors, labels, labels[:wanted])
    return time.perf_counter() - wall, time.process_time() - processor


def main(arguments: Any, overrides: list[str]) -> None:
    if arguments.seeds < 1:
        raise InputError(f"--seeds={arguments.seeds} is out of range: it must be 1 or more")
    config = config_lib.load(arguments.config, overrides)
    if config.data.train_examples is None:
        raise InputError("the bench selects some of all examples: set --config.data.train_examples")
    table = measure(config, arguments.seeds)
    groups = {"random": table[table["set"] == "real"].assign(setting="")}
    groups |= dict(list(table[table["set"] == "synthetic"].groupby("knob", sort=False)))
    means = {name: part.pivot_table("value", "setting", "metric") for name, part in groups.items()}
    print(f"Vendi scores of {config.data.train_examples} of {config.data.source}, {arguments.seeds} seeds")
    print(pd.concat(means, names=["knob"]).round(2).to_string())
    n, width, classes, wanted = COST
    wall, processor = cost()
    print(
        f"{wanted:,} of {n:,} examples of {width} features and {classes} classes: {wall:.1f} seconds, "
        f"{processor:.1f} of processor time"
    )
    if arguments.out:
        folder = files.make_folder(arguments.out, "the folder of the picture", "--out")
        print(report.knobs_figure(table, pathlib.Path(folder) / "selection.png", _NOTE))
