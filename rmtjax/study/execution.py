"""Runs what is not finished in processes of its own: locked, restarted when it crashes, and resumable."""

import concurrent.futures
import contextlib
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tqdm import tqdm

from rmtjax import files
from rmtjax.errors import say_stopped
from rmtjax.study.planning import PlannedRun, Unit, units

_PATIENCE = 2.0  # seconds between two looks at runs that other processes work on
_STOPPED = tuple(
    sign * number + base for number in (signal.SIGINT, signal.SIGTERM) for sign, base in ((-1, 0), (1, 128))
)
_REFUSED = 2
_PROCESSES: set["subprocess.Popen[bytes]"] = set()


def execute(
    runs: Sequence[PlannedRun],
    workers: int = 1,
    members: int = 1,
    shard: tuple[int, int] | None = None,
    after_unit: Callable[[], None] = lambda: None,
) -> list[PlannedRun]:
    """Runs what is not finished yet, in processes of its own, each with its share of the cores.

    Any number of calls may share a folder: a run is locked while a call works on it, and a call waits at its
    end for the runs that others work on. A process that crashed is started once more. Runs that were trained
    together and crashed twice, or were refused, are tried one by one.

    Args:
      runs: as `plan` makes them.
      workers: processes at the same time.
      members: how many runs one process trains together at most.
      shard: (k, n): only every n-th unit from the k-th on, without waiting for others.
      after_unit: called when runs that are trained together have ended.

    Returns: The runs that failed; the others went on. A member of a population that diverged is not tried
      again, since it would diverge again. What a run printed is in log.txt of its folder; of runs trained
      together it is in `<out>/.work/<unit>.log`.
    """
    k, n = shard or (0, 1)
    todo = units(runs, members)[k::n]
    mine = [run for unit in todo for run in unit.runs]
    failed: list[PlannedRun] = []
    shares = _shares_of_cores(workers)
    with (
        tqdm(
            total=len(mine), initial=_finished_count(mine), desc="runs", unit="run", dynamic_ncols=True
        ) as bar,
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
        _ending_processes_on_signals(),
    ):
        while todo:
            waiting = {pool.submit(_work_on_locked, unit, shares, failed, bar): unit for unit in todo}
            todo = []
            for future in concurrent.futures.as_completed(waiting):
                if not future.result() and shard is None:
                    todo.append(waiting[future])
                after_unit()
                bar.update(_finished_count(mine) - bar.n)
            if todo:
                time.sleep(_PATIENCE)
    return failed


def _finished_count(runs: Sequence[PlannedRun]) -> int:
    return sum(run.is_finished() for run in runs)


def _shares_of_cores(workers: int) -> "queue.Queue[list[int]]":
    """The cores of each worker; empty lists where the system does not tell."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    shares: queue.Queue[list[int]] = queue.Queue()
    for worker in range(workers):
        shares.put(cores[worker::workers])
    return shares


def _work_on_locked(unit: Unit, shares: "queue.Queue[list[int]]", failed: list[PlannedRun], bar: Any) -> bool:
    """Works on a unit and adds what failed to `failed`. False: another process works on some of its runs."""
    with _locked(unit) as locks:
        if locks is None:
            return False
        left = [run for run in unit.runs if not run.is_finished()]
        if any(run.record.get("status") != "diverged" for run in left):
            share = shares.get()
            try:
                _work_on(unit, share, locks)
            finally:
                shares.put(share)
        for run in left:
            if not run.is_finished():
                failed.append(run)
                bar.write(f"failed: {run.arm}, seed {run.seed}: see {_log(unit, run)}")
        return True


def _work_on(unit: Unit, share: list[int], locks: list[int]) -> None:
    """Trains the runs of a unit together; one by one where that crashes, or where there is one."""
    if len(unit.runs) > 1:
        folder = _work_folder(unit.runs[0])
        listed = [run._asdict() | {"config": None, "workdir": str(run.workdir)} for run in unit.runs]
        path = folder / f"{unit.name}.json"
        files.write_json(path, {"config": unit.config_path, "runs": listed})
        command = [sys.executable, "-m", "rmtjax.commands.population", str(path)]
        if _exit_status(command, _log(unit, unit.runs[0]), share, locks) in (0, *_STOPPED):
            return  # all is done but for members that diverged, or somebody stopped it
    for run in unit.runs:
        if not run.is_finished():
            run.workdir.mkdir(parents=True, exist_ok=True)
            _exit_status(run.command, run.workdir / "log.txt", share, locks)


def _exit_status(command: list[str], log: pathlib.Path, share: list[int], locks: list[int]) -> int:
    """Runs a command on its share of the cores and gives its exit status.

    What crashed is started once more; what was refused or stopped would be so again.
    """
    # Workers on the same cores would wait for each other in every matrix product.
    prefix = ["taskset", "--cpu-list", ",".join(map(str, share))] if share and _has_taskset() else []
    status = 1
    for _ in range(2):
        with log.open("ab") as file:
            process = subprocess.Popen(
                [*prefix, *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                pass_fds=locks,
            )
        _PROCESSES.add(process)
        status = process.wait()
        _PROCESSES.discard(process)
        if status in (0, _REFUSED, *_STOPPED):
            break
    return status


def _log(unit: Unit, run: PlannedRun) -> pathlib.Path:
    """The file with what a run printed last."""
    alone = run.workdir / "log.txt"
    return alone if len(unit.runs) == 1 or alone.exists() else _work_folder(run) / f"{unit.name}.log"


def _work_folder(run: PlannedRun) -> pathlib.Path:
    folder = run.workdir.parent.parent / ".work"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class _Busy(Exception):
    """Another process works on a run."""


def _give_way(who: str) -> None:
    raise _Busy(who)


@contextlib.contextmanager
def _locked(unit: Unit) -> Iterator[list[int] | None]:
    """Locks the runs of a unit, or yields None where another process works on some of them.

    The started process inherits the locks, which are held until it too has ended: a process that outlives a
    killed study is not started again beside it. (On NFS only the study holds them: there a lock does not pass
    to another process. Where there are no locks, only shards keep runs apart.)
    """
    with contextlib.ExitStack() as stack:
        held = []
        for run in unit.runs:
            path = _work_folder(run) / f"{run.arm}.{run.seed}.lock"
            try:
                held.append(stack.enter_context(files.locked(path, _give_way, keep=True)))
            except _Busy:
                yield None
                return
        yield held


@contextlib.contextmanager
def _ending_processes_on_signals() -> Iterator[None]:
    """SIGTERM and Ctrl-C also end the started processes at once. The same command then does what is left."""

    def handler(number: int, frame: Any) -> None:
        for process in list(_PROCESSES):
            process.terminate()
        say_stopped(number, "what is finished stays, and the same command does the rest")
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
