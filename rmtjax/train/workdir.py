"""The folder of a run: which config it belongs to, its record run.json, and its metrics."""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from rmtjax import config as config_lib
from rmtjax import files, results
from rmtjax.errors import InputError

# Fields that may change between two starts, since they do not change what a run computes.
FREE = ("train.mesh", "train.sharding", "train.profile_steps", "synthetic.cache")
VERSIONS = (
    "rmtjax",
    "jax",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "tensorflow-cpu",
    "tensorflow",
)


def prepare(config: ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Makes the folder of a run, or checks that it belongs to the same config. `claim` writes the config.

    Returns:
      What an earlier start wrote to run.json; {} if there was none.

    Raises:
      InputError: the folder cannot be made or written to, or it holds a run with another config.
    """
    folder = files.make_folder(workdir, "the workdir", "--workdir")
    path = folder / results.CONFIG
    if path.exists():
        changed = config_lib.differing_fields(config, _read(path))
        changed = [line for line in changed if not line.startswith(FREE)]
        if changed:
            raise InputError(
                f"the workdir {str(folder)!r} holds a run with another config ({'; '.join(changed)}): "
                "choose another --workdir, or set these fields back"
            )
    return _read(folder / results.RECORD) if (folder / results.RECORD).exists() else {}


def claim(config: ConfigDict, workdir: str | os.PathLike[str]) -> None:
    """Writes config.json; call it after all checks of the input."""
    path = pathlib.Path(workdir) / results.CONFIG
    if jax.process_index() == 0 and not path.exists():
        files.write_text(path, config_lib.to_json(config) + "\n")


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{str(path)!r} is not JSON ({error}): delete it, or choose another --workdir"
        ) from error
    return dict(content)


def describe(config: ConfigDict) -> dict[str, Any]:
    """What run.json records about a start: command, commit, versions, devices."""
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": " ".join([pathlib.Path(sys.executable).name, *sys.orig_argv[1:]]),
        **_git(),
        "versions": {"python": sys.version.split()[0], **versions},
        "devices": sorted({device.device_kind for device in jax.devices()}),
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "seed": config.seed,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _git() -> dict[str, Any]:
    def ask(*words: str) -> str | None:
        command = ["git", "-C", str(pathlib.Path(__file__).parent), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = ask("rev-parse", "HEAD")
    dirty = ask("status", "--porcelain", "--untracked-files=no", "--", ".") if commit else None
    return {"git_commit": commit, "git_dirty": None if dirty is None else bool(dirty)}


class RunFile:
    """The file run.json. It is written at every change, whole or not at all; wall time adds up over starts.

    Args:
      together: the number of runs that share the time, since they train together.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        earlier: dict[str, Any],
        facts: dict[str, Any],
        together: int = 1,
    ):
        self.together = together
        self.path = pathlib.Path(workdir) / results.RECORD
        self.before = float(earlier.get("wall_seconds") or 0.0)
        self.clock = time.perf_counter()
        self.content = earlier | facts

    def update(self, **facts: Any) -> None:
        self.content |= facts
        self.content["wall_seconds"] = round(
            self.before + (time.perf_counter() - self.clock) / self.together, 2
        )
        if jax.process_index() == 0:
            files.write_json(self.path, self.content)


class Metrics:
    """Writes metrics.jsonl, one line for each step, and TensorBoard events.

    First it removes lines after `start_step`, which an interrupted run left.
    """

    def __init__(self, workdir: str | os.PathLike[str], start_step: int):
        path = pathlib.Path(workdir) / results.METRICS
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= start_step:
                        kept.append(line)
                except ValueError:  # the last line of a killed run may be half a line
                    continue
        files.write_text(path, "".join(line + "\n" for line in kept))
        self.file = path.open("a", encoding="utf-8", buffering=1)
        from tensorboardX import SummaryWriter  # which imports torch, where that is installed: 2 s

        self.events = SummaryWriter(str(pathlib.Path(workdir) / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        scalars = {name: float(value) for name, value in scalars.items()}  # observers may return numpy's
        self.file.write(json.dumps({"step": step} | scalars) + "\n")
        for name, value in scalars.items():
            self.events.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        self.events.close()
