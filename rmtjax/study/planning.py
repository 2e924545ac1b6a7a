"""The runs of a study, arms by seeds: their configs, what is finished, and which of them are trained
together.
"""

import hashlib
import json
import os
import pathlib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import results
from rmtjax.errors import InputError
from rmtjax.train.members import key
from rmtjax.train.workdir import FREE


class PlannedRun(NamedTuple):
    """One training run of a study.

    Attributes:
      arm, seed: what it is in the study.
      config_path, overrides: the file and the `field=value` changes that give `config`, the seed among them.
      config: checked.
      command: trains and measures it alone.
      workdir: its folder.
      kept: its numbers are in a file (`rows.KeptRows`), so that it needs no folder.
    """

    arm: str
    seed: int
    config_path: str
    overrides: list[str]
    config: ConfigDict
    command: list[str]
    workdir: pathlib.Path
    kept: bool = False

    @property
    def record(self) -> dict[str, Any]:
        """Its run.json; {} if it was never begun."""
        return results.read_record(self.workdir)

    @property
    def made(self) -> results.Made:
        """What makes its numbers; the commit that is recorded in its folder."""
        default = config_lib.flat(json.loads(config_lib.to_json(config_lib.base())))
        fields = config_lib.flat(json.loads(config_lib.to_json(self.config)))
        changed = {
            name: value
            for name, value in sorted(fields.items())
            if not name.startswith(FREE) and (name not in default or default[name] != value)
        }
        text = json.dumps(changed)
        commit = self.record.get("git_commit") or ""
        return results.Made(hashlib.sha256(text.encode()).hexdigest()[:16], text, commit)

    def is_finished(self) -> bool:
        """Whether its folder, or a file of rows, holds all of it. Raises InputError where the folder holds a
        run with another config.
        """
        stored = results.read_json(self.workdir / results.CONFIG)
        if stored is not None:
            changed = config_lib.differing_fields(self.config, stored)
            changed = [line for line in changed if not line.startswith(FREE)]
            if changed:
                raise InputError(
                    f"{str(self.workdir)!r} holds a run with another config ({'; '.join(changed)}): "
                    "choose another --out"
                )
        return self.kept or results.is_finished(self.workdir)


def plan(
    config_path: str,
    arms: Mapping[str, list[str]],
    seeds: Sequence[int] | Mapping[str, Sequence[int]],
    out: str | os.PathLike[str],
    kept: Mapping[tuple[str, int], results.Made] = types.MappingProxyType({}),
) -> list[PlannedRun]:
    """The runs, every config checked. Order: all arms of the first seed, then of the next.

    Args:
      config_path: the config file that every arm starts from.
      arms: overrides by the arm's name.
      seeds: of all arms, or of each.
      out: folder of the runs, each in `<out>/<arm>/<seed>/`.
      kept: what made the runs whose numbers are in files.

    Raises:
      InputError: a bad config, or a folder or file that holds a run with another config.
    """
    runs = []
    of_arm = seeds if isinstance(seeds, Mapping) else dict.fromkeys(arms, seeds)
    for seed in sorted({seed for some in of_arm.values() for seed in some}):
        for arm, overrides in arms.items():
            if seed in of_arm[arm]:
                workdir = pathlib.Path(out) / arm / str(seed)
                run = _planned_run(arm, seed, config_path, [*overrides, f"seed={seed}"], workdir)
                run.is_finished()  # refuses a folder of another config
                of_file = kept.get((arm, seed))
                if of_file is not None and of_file.config_hash != run.made.config_hash:
                    raise InputError(_other_config(run, of_file))
                runs.append(run._replace(kept=of_file is not None))
    return runs


def _other_config(run: PlannedRun, of_file: results.Made) -> str:
    then, now = json.loads(of_file.config), json.loads(run.made.config)
    changed = [
        f"{name}: {then.get(name, 'default')!r} -> {now.get(name, 'default')!r}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name, "default") != now.get(name, "default")
    ]
    return (
        f"the file of rows holds {run.arm}/{run.seed} with another config ({'; '.join(changed)}): "
        "choose another file for --rows"
    )


def _planned_run(
    arm: str, seed: int, config_path: str, overrides: list[str], workdir: pathlib.Path
) -> PlannedRun:
    command = [sys.executable, "-m", "rmtjax.train", f"--config={config_path}", f"--workdir={workdir}"]
    command += [f"--config.{change}" for change in overrides]
    config = config_lib.load(config_path, overrides)
    return PlannedRun(arm, seed, config_path, overrides, config, command, workdir)


class Unit(NamedTuple):
    """Runs that are trained together by one process. A run alone is trained by `rmtjax.train`."""

    config_path: str
    runs: list[PlannedRun]

    @property
    def name(self) -> str:
        """A hash of its runs and of all that made them."""
        made = [[run.arm, run.seed, config_lib.to_json(run.config)] for run in self.runs]
        return hashlib.sha256(json.dumps(made).encode()).hexdigest()[:16]


def units(runs: Sequence[PlannedRun], members: int = 1) -> list[Unit]:
    """The runs in groups of up to `members` that can be trained together, in order.

    A run that was begun alone goes on alone.
    """
    groups: dict[Any, list[PlannedRun]] = {}
    for number, run in enumerate(runs):
        alone = members == 1 or "members" not in (run.record or {"members": 0})
        groups.setdefault(number if alone else key(run.config) or number, []).append(run)
    cut = [group[i : i + members] for group in groups.values() for i in range(0, len(group), members)]
    return [Unit(group[0].config_path, group) for group in cut]


def listing(runs: Sequence[PlannedRun], members: int = 1) -> pd.DataFrame:
    """A row per run: unit (what is trained together), arm, seed, finished, and overrides."""
    rows = [
        {
            "unit": unit.name,
            "arm": run.arm,
            "seed": run.seed,
            "finished": run.is_finished(),
            "overrides": " ".join(run.overrides),
        }
        for unit in units(runs, members)
        for run in unit.runs
    ]
    return pd.DataFrame(rows)


def expected_seconds(runs: Sequence[PlannedRun], workers: int) -> float | None:
    """How long the unfinished runs will take, by the median time of the finished ones; None while there are
    none.
    """
    records = [run.record for run in runs if run.is_finished()]
    spent = [record["wall_seconds"] for record in records if "wall_seconds" in record]
    return float(np.median(spent)) * (len(runs) - len(records)) / workers if spent else None
