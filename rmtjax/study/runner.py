"""Arms x seeds of training runs to one table: resumable, each run in its own folder."""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
from ml_collections import ConfigDict
from tqdm import tqdm

from rmtjax import config as config_lib
from rmtjax import files, results
from rmtjax.errors import InputError
from rmtjax.train.members import key
from rmtjax.train.workdir import FREE

SPECTRA = (
    "alpha",
    "stable_rank",
    "log_norm",
    "log_spectral_norm",
    "entropy",
    "mp_softrank",
    "relative_update",
)
UPDATE = ("alpha", "stable_rank", "relative_update")  # of the update, shown with every arm


_PATIENCE = 2.0  # seconds between looks at what others are working at
_STOPPED = tuple(
    sign * number + base for number in (signal.SIGINT, signal.SIGTERM) for sign, base in ((-1, 0), (1, 128))
)
_PROCESSES: set["subprocess.Popen[bytes]"] = set()


class Run(NamedTuple):
    """One training run of a table."""

    arm: str
    seed: int
    config_path: str
    overrides: list[str]
    config: ConfigDict
    command: list[str]
    workdir: pathlib.Path


def load_arms(path: str, config: ConfigDict) -> dict[str, list[str]]:
    """The arms of a Python file: its `get_arms(config)` gives a dict of name to `field=value` overrides of that config.

    Raises:
      InputError: no such file or function, or a name that cannot be a folder's.
    """
    get_arms = function_of_file(path, "get_arms", "give --arms a Python file with get_arms(config)")
    arms = {name: list(overrides) for name, overrides in get_arms(config).items()}
    check_names(arms, f"get_arms(config) of {path!r}")
    return arms


def function_of_file(path: str, name: str, mend: str) -> Callable[[ConfigDict], Any]:
    """A function of a user's Python file. Raises InputError, with the mend: no such file or function."""
    file = pathlib.Path(path)
    spec = importlib.util.spec_from_file_location(f"rmtjax_{name}", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise InputError(f"no Python file {path!r}: {mend}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise InputError(f"{path!r} defines no {name}(config): {mend}")
    function: Callable[[ConfigDict], Any] = getattr(module, name)
    return function


def check_names(arms: Iterable[str], where: str) -> None:
    """Raises InputError: there are no arms, or a name cannot be a folder's."""
    names = list(arms)
    if not names:
        raise InputError(f"{where} gives no arms")
    for name in names:
        if not re.fullmatch(r"[\w.+-]+", name):
            raise InputError(
                f"arm name {name!r} is to be a folder's name: use letters, digits, '_', '-', '+' and '.'"
            )


def plan(
    config_path: str,
    arms: Mapping[str, list[str]],
    seeds: Sequence[int] | Mapping[str, Sequence[int]],
    out: str | os.PathLike[str],
) -> list[Run]:
    """The runs, every config checked. Order: all arms of the first seed, then of the next.

    Args:
      seeds: of all arms, or of each.

    Raises:
      InputError: a bad config, or a folder that holds a run with another config.
    """
    runs = []
    of_arm = seeds if isinstance(seeds, Mapping) else dict.fromkeys(arms, seeds)
    for seed in sorted({seed for some in of_arm.values() for seed in some}):
        for arm, overrides in arms.items():
            if seed not in of_arm[arm]:
                continue
            changes = [*overrides, f"seed={seed}"]
            config = config_lib.load(config_path, changes)
            workdir = pathlib.Path(out) / arm / str(seed)
            command = [
                sys.executable,
                "-m",
                "rmtjax.train",
                f"--config={config_path}",
                f"--workdir={workdir}",
            ]
            run = Run(
                arm,
                seed,
                config_path,
                changes,
                config,
                command + [f"--config.{change}" for change in changes],
                workdir,
            )
            _finished(run)
            runs.append(run)
    return runs


def _finished(run: Run) -> bool:
    stored = run.workdir / results.CONFIG
    if stored.exists():
        changed = config_lib.differing_fields(run.config, json.loads(stored.read_text(encoding="utf-8")))
        changed = [line for line in changed if not line.startswith(FREE)]
        if changed:
            raise InputError(
                f"{str(run.workdir)!r} holds a run with another config ({'; '.join(changed)}): choose another --out"
            )
    return _record(run).get("status") == "finished"


def _record(run: Run) -> dict[str, Any]:
    """What its run.json says; {} if it was never begun."""
    path = run.workdir / results.RECORD
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


class Unit(NamedTuple):
    """Runs that are trained together, by one process; one run alone is trained by `rmtjax.train`."""

    config_path: str
    runs: list[Run]

    @property
    def name(self) -> str:
        """A hash of its runs and all that made them."""
        made = [[run.arm, run.seed, config_lib.to_json(run.config)] for run in self.runs]
        return hashlib.sha256(json.dumps(made).encode()).hexdigest()[:16]


def units(runs: Sequence[Run], members: int = 1) -> list[Unit]:
    """The runs in groups of up to `members` that can be trained together, in order. What was begun alone goes on alone."""
    groups: dict[Any, list[Run]] = {}
    for number, run in enumerate(runs):
        alone = members == 1 or "members" not in (_record(run) or {"members": 0})
        groups.setdefault(number if alone else key(run.config) or number, []).append(run)
    cut = [group[i : i + members] for group in groups.values() for i in range(0, len(group), members)]
    return [Unit(group[0].config_path, group) for group in cut]


def execute(
    runs: Sequence[Run], workers: int = 1, members: int = 1, shard: tuple[int, int] | None = None
) -> list[Run]:
    """Runs what is not finished yet, in processes of their own, each with its share of the cores.

    Any number of calls may share a folder: a run is locked while it is worked at, and a call waits at its end for what others
    are working at. A process that crashed is started once more; what trained together and crashed twice, or is refused, is
    tried run by run.

    Args:
      workers: processes at the same time.
      members: most runs that one process trains together.
      shard: (k, n): every n-th unit from the k-th on alone, and no waiting for others.

    Returns:
      The runs that failed; the others went on. A member of a population that diverged is not tried again: it would diverge
      again. What a run printed is in its folder's log.txt, of runs trained together in `<out>/.work/<unit>.log`.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    shares: queue.Queue[list[int]] = queue.Queue()
    for worker in range(workers):
        shares.put(cores[worker::workers])
    k, n = shard or (0, 1)
    todo = units(runs, members)[k::n]
    mine = [run for unit in todo for run in unit.runs]
    failed: list[Run] = []

    def work(unit: Unit) -> bool:
        """False: some of it is worked at elsewhere."""
        with _locked(unit) as locks:
            if locks is None:
                return False
            left = [run for run in unit.runs if not _finished(run)]
            if any(_record(run).get("status") != "diverged" for run in left):
                share = shares.get()
                try:
                    _work(unit, share, locks)
                finally:
                    shares.put(share)
            for run in left:
                if not _finished(run):
                    failed.append(run)
                    bar.write(f"failed: {run.arm}, seed {run.seed}: see {_log(unit, run)}")
            return True

    done = sum(map(_finished, mine))
    with (
        tqdm(total=len(mine), initial=done, desc="runs", unit="run", dynamic_ncols=True) as bar,
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
        _stopping(),
    ):
        while todo:
            waiting = {pool.submit(work, unit): unit for unit in todo}
            todo = []
            for future in concurrent.futures.as_completed(waiting):
                if not future.result() and shard is None:
                    todo.append(waiting[future])
                bar.update(sum(map(_finished, mine)) - bar.n)
            if todo:
                time.sleep(_PATIENCE)
    return failed


def listing(runs: Sequence[Run], members: int = 1) -> pd.DataFrame:
    """A row a run: unit (what is trained together), arm, seed, finished, and how its config differs from the others'."""
    rows = [
        {"unit": unit.name, "arm": run.arm, "seed": run.seed, "finished": _finished(run), "overrides": " ".join(run.overrides)}
        for unit in units(runs, members)
        for run in unit.runs
    ]  # fmt: skip
    return pd.DataFrame(rows)


def expected_seconds(runs: Sequence[Run], workers: int) -> float | None:
    """How long the runs that are not finished will take, by the median of those that are; None while there are none."""
    records = [
        json.loads((run.workdir / results.RECORD).read_text(encoding="utf-8"))
        for run in runs
        if _finished(run)
    ]
    spent = [record["wall_seconds"] for record in records if "wall_seconds" in record]
    return float(np.median(spent)) * (len(runs) - len(records)) / workers if spent else None


def _work(unit: Unit, share: list[int], locks: list[int]) -> None:
    if len(unit.runs) > 1:
        folder = _work_folder(unit.runs[0])
        listed = [run._asdict() | {"config": None, "workdir": str(run.workdir)} for run in unit.runs]
        path = folder / f"{unit.name}.json"
        files.write_json(path, {"config": unit.config_path, "runs": listed})
        command = [sys.executable, "-m", "rmtjax.commands.population", str(path)]
        if _started(command, _log(unit, unit.runs[0]), share, locks) in (0, *_STOPPED):
            return  # done, but for what diverged, or somebody stopped it
    for run in unit.runs:
        if not _finished(run):
            run.workdir.mkdir(parents=True, exist_ok=True)
            _started(run.command, run.workdir / "log.txt", share, locks)


def _started(command: list[str], log: pathlib.Path, share: list[int], locks: list[int]) -> int:
    """The exit status. What crashed is started once more; what was refused (status 2) or stopped would be so again."""
    # Workers on the same cores would wait for each other in every matrix product.
    prefix = ["taskset", "--cpu-list", ",".join(map(str, share))] if share and _has_taskset() else []
    status = 1
    for _ in range(2):
        with log.open("ab") as file:
            process = subprocess.Popen(
                [*prefix, *command], stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, pass_fds=locks
            )  # fmt: skip
        _PROCESSES.add(process)
        status = process.wait()
        _PROCESSES.discard(process)
        if status in (0, 2, *_STOPPED):
            break
    return status


def _log(unit: Unit, run: Run) -> pathlib.Path:
    """Where the last thing said of a run is."""
    alone = run.workdir / "log.txt"
    return alone if len(unit.runs) == 1 or alone.exists() else _work_folder(run) / f"{unit.name}.log"


def _work_folder(run: Run) -> pathlib.Path:
    folder = run.workdir.parent.parent / ".work"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _locked(unit: Unit) -> Iterator[list[int] | None]:
    """Locks its runs, or yields None: some are worked at by another process.

    The lock goes to the process that is started, and is held until that too has ended: one that outlives a killed study is
    not started again beside it. (On NFS it is the study's alone: there a lock does not pass to another process.)
    """
    with contextlib.ExitStack() as stack:
        held = []
        for run in unit.runs:
            file = stack.enter_context((_work_folder(run) / f"{run.arm}.{run.seed}.lock").open("w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            except OSError:  # a file system without locks: shards are then what keeps runs apart
                pass
            held.append(file.fileno())
        yield held


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """SIGTERM and Ctrl-C end the processes that were started too, at once: what is not done is for the same command."""

    def handler(number: int, frame: Any) -> None:
        for process in list(_PROCESSES):
            process.terminate()
        os._exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _has_taskset() -> bool:
    try:
        return subprocess.run(["taskset", "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per finished run and number: config (the arm's name), seed, set, metric, value.

    Evaluation and diversity rows come as they are stored; of the spectra the median over the layers, head apart, as
    set `weights/<stage>`, and the head alone as `head/<stage>`.
    """
    rows: list[dict[str, Any]] = []
    for run in runs:
        if not _finished(run):
            continue
        name = {"config": run.arm, "seed": run.seed}
        for row in _rows(run.workdir / results.EVALUATION):
            rows.append(name | {"set": row["set"], "metric": row["metric"], "value": row["value"]})
        for row in _rows(run.workdir / results.DIVERSITY):
            rows.append(
                name | {"set": f"{row['set']}/{row['space']}", "metric": row["metric"], "value": row["value"]}
            )
        path = run.workdir / results.SPECTRA
        if path.exists():
            for (stage, head), layers in _by_stage(_with_relative_update(pd.read_parquet(path))):
                group = f"{'head' if head else 'weights'}/{stage}"
                values = layers[[c for c in SPECTRA if c in layers]].median()
                rows += [
                    name | {"set": group, "metric": metric, "value": float(value)}
                    for metric, value in values.items()
                ]
    return pd.DataFrame(rows, columns=["config", "seed", "set", "metric", "value"])


def _with_relative_update(layers: pd.DataFrame) -> pd.DataFrame:
    """With a column `relative_update`: ||update|| / ||before|| on the rows of the stage update, from their log_norm."""
    if "log_norm" not in layers:
        return layers
    before = layers[layers["stage"] == "before"].set_index("name")["log_norm"]
    ratio = 10 ** ((layers["log_norm"] - layers["name"].map(before)) / 2)
    return layers.assign(relative_update=ratio.where(layers["stage"] == "update"))


def _by_stage(layers: pd.DataFrame) -> Any:
    return layers.groupby(["stage", layers["name"].str.fullmatch(r"head/.*")])


def _rows(path: pathlib.Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.exists() else []


def overview(results: pd.DataFrame) -> pd.DataFrame:
    """What says most of `table`, a row an arm, as text: accuracy and ECE of whole sets, spectra of the update.

    Means over seeds, with their 95 % intervals where there are several seeds. Spectra are medians over the layers, head
    apart; `relative_update` is ||update|| / ||before||, Frobenius.
    """
    whole = ~results["set"].str.startswith("corrupted/") & results["metric"].isin(["accuracy", "ece"])
    update = (results["set"] == "weights/update") & results["metric"].isin(UPDATE)
    lines = summary(results[whole | update])
    cells = [
        f"{row.mean:.3g}" + (f" [{row.low:.3g}, {row.high:.3g}]" if np.isfinite(row.low) else "")
        for row in lines.itertuples(index=False)
    ]
    columns = lines["set"].str.replace("weights/", "") + " " + lines["metric"].str.replace("_", " ")
    long = pd.DataFrame({"config": lines["config"], "column": columns, "cell": cells})
    wide = long.pivot(index="config", columns="column", values="cell").fillna("")
    wide = wide.loc[list(dict.fromkeys(long["config"])), list(dict.fromkeys(columns))]
    return wide.rename_axis(columns=None).reset_index()


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with its 95 % t interval; the seed is the unit. NaN limits with one seed."""

    def line(values: pd.Series) -> pd.Series:
        n, mean = len(values), values.mean()
        half = scipy.stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
        return pd.Series({"mean": mean, "low": mean - half, "high": mean + half, "seeds": n})

    keys = ["config", "set", "metric"]
    out = results.groupby(keys, sort=False)["value"].apply(line).unstack().reset_index()
    return out.astype({"seeds": int})


def differences(results: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """`summary` of arm minus other, paired by seed; config reads `arm - other`."""
    parts = []
    for arm, other in pairs:
        keys = ["seed", "set", "metric"]
        both = results[results["config"] == arm].merge(
            results[results["config"] == other], on=keys, suffixes=("", "_other")
        )
        parts.append(both.assign(config=f"{arm} - {other}", value=both["value"] - both["value_other"]))
    return summary(pd.concat(parts)[["config", "seed", "set", "metric", "value"]])


def write_tables(
    runs: Sequence[Run], out: str | os.PathLike[str], pairs: Sequence[tuple[str, str]] = ()
) -> pd.DataFrame:
    """results.csv, summary.csv and, for pairs of arms, differences.csv. Returns the results."""
    folder = pathlib.Path(out)
    results = table(runs)
    tables = {"results": results}
    if len(results):
        tables["summary"] = summary(results)
        if pairs:
            tables["differences"] = differences(results, pairs)
    for name, content in tables.items():
        with files.atomic(folder / f"{name}.csv") as temporary:
            content.to_csv(temporary, index=False)
    return results
