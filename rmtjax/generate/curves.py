"""What the knobs of a generator do: sets at several values of each, over several seeds, as one table."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import pandas as pd
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax.errors import InputError
from rmtjax.generate import methods, synthetic_sets

COLUMNS = ("knob", "setting", "seed", "set", "metric", "value")
DATA = ("total_steps",)  # of the fit: a knob too, between too weak and memorising


def parse(texts: Sequence[str]) -> dict[str, list[float]]:
    """`guidance:0,1,2` to a knob and its settings.

    Raises:
      InputError: not of this form, or no knob.
    """
    known = (*methods.TURNED, *DATA)
    curves: dict[str, list[float]] = {}
    for text in texts:
        name, _, values = text.partition(":")
        try:
            curves[name] = [float(value) for value in values.split(",")]
        except ValueError as error:
            raise InputError(f"--curve={text!r} has no numbers: write {known[0]}:0,1,2") from error
        if name not in known:
            raise InputError(f"--curve={text!r} names no knob: they are {', '.join(known)}")
    return curves


def measure(config: ConfigDict, curves: Mapping[str, Sequence[float]], seeds: Sequence[int]) -> pd.DataFrame:
    """A row for each knob, setting, seed and number of the manifest; each set is made once and found again.

    A seed stands for another split, another generator and other samples. `set` is `synthetic`, or `real`: as
    many training images measured alike.

    Raises:
      InputError: a setting out of range, or a knob that the method does not have.
    """
    runs = []
    for name, settings in curves.items():
        for setting in settings:
            for seed in seeds:
                changed = config.copy_and_resolve_references()
                changed.synthetic[name] = config.synthetic.get_type(name)(setting)
                changed.seed = seed
                config_lib.validate(changed)
                methods.check(changed)
                runs.append((name, setting, seed, changed))
    rows: list[tuple[Any, ...]] = []
    for i, (name, setting, seed, changed) in enumerate(runs):
        if jax.process_index() == 0:
            print(f"setting {i + 1} of {len(runs)}: {name} {setting:g}, seed {seed}")
        for key, metric, value in numbers(synthetic_sets.ensure(changed).manifest):
            rows.append((name, setting, seed, key, metric, value))
    return pd.DataFrame(rows, columns=COLUMNS)


def numbers(manifest: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """`(set, metric, value)` of what a manifest says of quality and diversity."""
    out = [("synthetic", "recognised", manifest["recognised"]["value"])]
    if "identical" in manifest:  # of texts
        out += [(key, "identical", manifest["identical"][key]["value"]) for key in ("synthetic", "test")]
    else:
        out.append(("synthetic", "distance_ratio", manifest["distance_ratio"]))
    score = manifest["classification_accuracy_score"]
    out += [(key, "classification_accuracy_score", score[key]["value"]) for key in ("synthetic", "real")]
    for metric in ("frechet_distance", "kernel_distance"):
        out += [(key, metric, manifest[metric][key]) for key in ("synthetic", "real") if metric in manifest]
    out += [(row["set"], f"{row['metric']}_{row['space']}", row["value"]) for row in manifest["diversity"]]
    return [(key, metric, float(value)) for key, metric, value in out if value is not None]
