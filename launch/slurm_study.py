#!/usr/bin/env python3
"""A study as a SLURM array: N jobs that share its runs, and a last one for its tables and page.

python launch/slurm_study.py --config=configs/study_digits.py --out=runs/study --jobs=32 \
    --account=A --partition=P --time=4:00:00 --gpus=1
python launch/slurm_study.py --config=configs/study_digits.py --out=runs/study --jobs=2 \
    --executor=local   # here, and waits

Needs `pip install rmtjax[cluster]`, and --out and the Python environment on storage that all nodes share. The
same command goes on where a study stopped. A job that is preempted, or at the end of its time, is queued
again and does what is left.
"""

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import submitit

REQUEUES = 10  # how often a job that runs out of its time goes on in a new one
PATIENCE = 600.0  # seconds that SLURM has to end a job whose processes it has asked to stop


class Command(submitit.helpers.Checkpointable):
    """A command as a job that submitit may queue again, since the command finds by itself what is done."""

    def __init__(self, words: list[str]):
        self.words = words

    def __call__(self) -> None:
        # The launchers of this folder give the same numbers on every start, also on GPUs.
        flags = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()}
        # SLURM sends the signal by which submitit queues a job again to every process of the job: those of
        # the command must not end by it, and it must not come while they are being started.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        child = subprocess.Popen(self.words, env=os.environ | flags, start_new_session=True)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
            code = child.wait()
        except BaseException:  # submitit has queued the job again: what runs here must not go on beside it
            _end(child)
            raise
        if code in (-signal.SIGTERM, 128 + signal.SIGTERM):
            # SLURM is taking the nodes back. Whether the job is queued again is for SLURM to say, unless it
            # has failed before.
            time.sleep(PATIENCE)
        if code:
            raise RuntimeError(f"{' '.join(self.words)} ended with {code}")


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Ends all that a command has started: asks it to, so that runs save, and makes it after 20 seconds."""
    for sent in (signal.SIGTERM, *[0] * 20, signal.SIGKILL):
        try:
            os.killpg(child.pid, sent)
        except ProcessLookupError:
            return
        time.sleep(1)
        child.poll()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    for name in ("config", "out"):
        parser.add_argument(f"--{name}", required=True, help="of python -m rmtjax.study")
    for name in ("arms", "seeds", "population", "pairs"):
        parser.add_argument(f"--{name}", help="of python -m rmtjax.study")
    parser.add_argument("--jobs", type=int, required=True, help="how many share the runs")
    parser.add_argument("--executor", choices=("slurm", "local"), default="slurm")
    parser.add_argument("--account")
    parser.add_argument("--partition")
    parser.add_argument(
        "--time", type=minutes, default=240, help="of a job: minutes, H:MM:SS or D-HH:MM:SS; default 4:00:00"
    )
    parser.add_argument("--gpus", type=int, default=0, help="of a job")
    parser.add_argument("--cpus", type=int, default=4, help="of a job")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"--jobs={arguments.jobs} is out of range: it must be 1 or more")
    words = [sys.executable, "-m", "rmtjax.study"]
    words += [
        f"--{name}={value}"
        for name in ("config", "out", "arms", "seeds", "population", "pairs")
        if (value := getattr(arguments, name)) is not None
    ]
    # A mistake is told now, not by every job when its turn comes.
    checked = subprocess.run([*words, "--dry-run"], stdout=subprocess.DEVNULL)
    if checked.returncode:
        return checked.returncode

    executor = submitit.AutoExecutor(
        pathlib.Path(arguments.out) / "jobs", cluster=arguments.executor, slurm_max_num_timeout=REQUEUES
    )
    executor.update_parameters(  # None: not asked for
        name="rmtjax-study",
        timeout_min=arguments.time,
        cpus_per_task=arguments.cpus,
        gpus_per_node=arguments.gpus or None,
        stderr_to_stdout=True,
        slurm_account=arguments.account,
        slurm_partition=arguments.partition,
        slurm_array_parallelism=arguments.jobs,
    )
    with executor.batch():
        shards = [
            executor.submit(Command([*words, f"--shard={k}/{arguments.jobs}"])) for k in range(arguments.jobs)
        ]
    if arguments.executor == "local":
        for shard in shards:
            shard.wait()
    # However the shards ended: what they left undone is done by the last job, and what failed is tried once
    # more.
    array = shards[0].job_id.split("_")[0]
    executor.update_parameters(name="rmtjax-tables", slurm_dependency=f"afterany:{array}")
    tables = executor.submit(Command(words))
    print(f"{arguments.jobs} jobs: {array}; tables: {tables.job_id}; logs: {executor.folder}")
    if arguments.executor == "slurm":
        return 0
    tables.wait()
    print(tables.stdout())
    return 1 if tables.exception() else 0


def minutes(text: str) -> int:
    """Minutes of `90`, `1:30:00` or `0-01:30:00`, rounded up."""
    found = re.fullmatch(r"(\d+)|(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write minutes, H:MM:SS or D-HH:MM:SS")
    whole, days, hours, mins, seconds = (int(part or 0) for part in found.groups())
    return whole + 1440 * days + 60 * hours + mins + -(-seconds // 60)


if __name__ == "__main__":
    sys.exit(main())
