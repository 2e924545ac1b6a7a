"""`python -m rmtjax.train` as a user types it: a whole job, killed, stopped, resumed, and given bad input."""

import json
import logging
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import forked
import jax
import numpy as np
import pandas as pd
import pytest

from rmtjax import checkpoints
from rmtjax.commands import evaluate
from rmtjax.errors import run_command

ROOT = pathlib.Path(__file__).parents[2]
ONE_DEVICE = {**os.environ, "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=8", "count=1")}

TINY = """
from rmtjax import config

def get_config():
    c = config.smoke(config.base())
    c.model.init_from = None
    c.model.vit.update(width=16, depth=2, heads=2, mlp_width=32)
    c.train.update(total_steps=40, checkpoint_steps=5, evaluation_steps=10)
    c.regularization.dropout = 0.1
    c.augment.shift_crop = 0.5
    c.synthetic.cache = {cache!r}
    return c
"""
TRAINING_ALONE = [f"--config.{part}.enabled=False" for part in ("evaluation", "spectra", "diversity")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    path = folder / "tiny.py"
    path.write_text(TINY.format(cache=str(folder / "synthetic")))
    return str(path)


def command(config, workdir, *more):
    return [sys.executable, "-m", "rmtjax.train", f"--config={config}", f"--workdir={workdir}", *more]


def run(*words, **options):
    options = {"env": ONE_DEVICE, "cwd": ROOT, "timeout": 300} | options
    return forked.run(words, **options)


def flat(tree, prefix=""):
    out = {}
    for key, value in tree.items():
        out |= flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {prefix + key: value}
    return out


def assert_same_weights(a, b):
    a, b = flat(checkpoints.nest(checkpoints.open(a))), flat(checkpoints.nest(checkpoints.open(b)))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def unbroken(tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "unbroken"
    done = run(*command(tiny, workdir, *TRAINING_ALONE))
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.slow
def test_the_whole_job_leaves_every_file_and_a_finished_run_prints_its_table_again(
    tiny, tmp_path, capsys, monkeypatch
):
    more = ("--config.synthetic.share=0.5", "--config.augment.mixup=0.2", "--config.spectra.every_steps=20",
            "--config.spectra.metrics=default,shuffles")  # fmt: skip
    words = command(tiny, tmp_path / "run", *more)
    done = subprocess.run(words, env=ONE_DEVICE, cwd=ROOT, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    there = {path.name for path in (tmp_path / "run").iterdir()}
    assert there >= {
        "config.json", "run.json", "metrics.jsonl", "tensorboard", "checkpoints", "samples.npz",
        "samples.png", "spectra_steps", "spectra.parquet", "spectra.npz", "evaluation.json",
        "diversity.json", "synthetic.json", "report.html", "figures",
    }  # fmt: skip
    assert [path for path in (tmp_path / "run").rglob(".*") if path.is_file()] == []
    for name in ("spectra.parquet", "spectra_steps/00000020.parquet"):
        assert pd.read_parquet(tmp_path / "run" / name)["num_traps"].notna().any()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["examples"] == {"train": 40, "synthetic": 20, "validation": 20, "test": 40}
    assert record["versions"]["jax"]
    assert record["seed"] == 0
    table = [line for line in done.stdout.splitlines() if "accuracy" in line]
    assert table
    assert str(tmp_path / "run" / "report.html") in done.stdout
    content = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    with monkeypatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 1)  # as in the process that trained
        assert evaluate.main([str(tmp_path / "run"), "--out", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again" / "evaluation.json").read_text()) == content
    code, printed, _ = in_process(words, capsys)
    assert code == 0
    assert all(line in printed for line in table)
    assert len(lines(tmp_path / "run")) == 40


@pytest.mark.slow
def test_stopped_and_killed_three_times_the_run_ends_as_the_unbroken_one(tiny, unbroken, tmp_path):
    """SIGTERM saves and says how to go on; SIGKILL leaves what the last checkpoint has."""
    random.seed(0)
    workdir, ends = tmp_path / "run", []
    words = command(tiny, workdir, *TRAINING_ALONE)
    for part, kind in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGKILL)):
        process = forked.start(words, env=ONE_DEVICE, cwd=ROOT, stderr=subprocess.PIPE)
        wanted, deadline = random.randint(1 + 9 * part, 9 + 9 * part), time.monotonic() + 200
        while process.poll() is None and len(lines_so_far(workdir)) < wanted and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(kind)
        _, errors = process.communicate(timeout=120)
        ends.append(len(lines_so_far(workdir)))
        if kind == signal.SIGTERM:
            assert process.returncode == 128 + signal.SIGTERM
            assert "the same command continues from there" in errors
            stopped = json.loads((workdir / "run.json").read_text())
            assert stopped["status"] == "stopped"
            assert wanted <= stopped["step"] < 40
        elif part == 1:
            assert f"from step {stopped['step']}" in errors
    assert max(ends) < 40, f"all must come before the end: {ends}"
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert_same_weights(workdir, unbroken)
    assert [line["step"] for line in lines(workdir)] == list(range(1, 41))
    assert [line["loss"] for line in lines(workdir)] == [line["loss"] for line in lines(unbroken)]


def lines_so_far(workdir):
    try:
        return (workdir / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []


@pytest.mark.slow
def test_sigterm_between_training_steps_ends_the_run_and_the_next_start_finishes_it(tiny, tmp_path, capsys):
    workdir = tmp_path / "run"
    parts = ("diversity.enabled=False", "spectra.enabled=False", "evaluation.ood=()")
    words = command(tiny, workdir, *(f"--config.{part}" for part in parts))
    process = forked.start(words, env=ONE_DEVICE, cwd=ROOT, stderr=subprocess.PIPE)
    while process.poll() is None and "trained" not in status(workdir):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM outside of a training step: the same command continues from there" in errors
    code, _, errors = in_process(words, capsys)
    assert code == 0, errors
    assert "finished" in status(workdir)


def status(workdir):
    try:
        return json.loads((workdir / "run.json").read_text())["status"]
    except FileNotFoundError:
        return ""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["truncated", "flipped"])
def test_a_damaged_newest_checkpoint_falls_back_says_so_and_saves_again(
    tiny, unbroken, tmp_path, capsys, fault
):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken, workdir)
    newest = workdir / "checkpoints" / "40"
    files = [path for path in newest.rglob("*") if path.is_file() and path.parent.name == "d"]
    victim = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    if fault == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    code, _, errors = in_process(command(tiny, workdir, *TRAINING_ALONE), capsys)
    assert code == 0, errors
    # A finished run is not trained again; its weights are looked at by whoever opens them.
    record = json.loads((workdir / "run.json").read_text())
    (workdir / "run.json").write_text(json.dumps(record | {"status": "stopped"}))
    done = run(*command(tiny, workdir, *TRAINING_ALONE))
    assert done.returncode == 0, done.stderr
    assert "checkpoint 40 is damaged" in done.stderr
    assert "from step 35" in done.stderr
    assert (workdir / "damaged" / "40").is_dir()
    assert_same_weights(workdir / "checkpoints" / "40", unbroken)
    assert [line["step"] for line in lines(workdir)] == list(range(1, 41))


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(tiny, unbroken, tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    both = []
    for i in range(2):
        words = command(
            tiny,
            tmp_path / "run",
            *TRAINING_ALONE,
            f"--coordinator=localhost:{port}",
            "--num_processes=2",
            f"--process_id={i}",
        )
        both.append(
            forked.start(words, env=ONE_DEVICE, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        )
    for process in both:
        _, errors = process.communicate(timeout=280)
        assert process.returncode == 0, errors
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["process_count"] == 2
    assert record["device_count"] == 2
    np.testing.assert_allclose(
        [line["loss"] for line in lines(tmp_path / "run")],
        [line["loss"] for line in lines(unbroken)],
        atol=1e-4,
    )


def in_process(words, capsys):
    """Exit status and what a command prints (stdout, stderr), without the cost of a new interpreter."""
    from rmtjax.commands import train as train_main

    logging.getLogger("rmtjax").handlers.clear()  # it would write to the stderr of the test before
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = sys.argv, [signal.getsignal(number) for number in numbers]
    sys.argv = words[2:]
    try:
        with pytest.raises(SystemExit) as stop:
            run_command(train_main.main)
    finally:
        sys.argv = before[0]
        for number, handler in zip(numbers, before[1], strict=True):
            signal.signal(number, handler)
    return stop.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "--config.data.trian_examples=3",
            "unknown field 'data.trian_examples': did you mean 'data.train_examples'?",
        ),
        ("--config.regularization.dropout=-0.5", "regularization.dropout=-0.5 is out of range"),
        ("--config.synthetic.share=1.5", "synthetic.share=1.5 is out of range: it must be between 0 and 1"),
        ("--config.data.source=npz:nowhere.npz", "nowhere.npz"),
        ("--config.data.source=ditgits", "ditgits"),
        ("--config.model.init_from=nowhere.safetensors", "nowhere.safetensors"),
        ("--config.model.init_from=letters", "with the names of rmtjax: the weights do not fit the model: "),
        ("--config.data.train_examples=5000", "5000"),
        (
            "--config.evaluation.shifts=letters",
            "evaluation.shifts names 'letters', which has not the same classes",
        ),
        ("--config.optim.freeze=nothing/.*", "optim.freeze='nothing/.*' matches no parameter"),
        ("--wrokdir=x", "unknown argument '--wrokdir=x'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing_half_written(tiny, tmp_path, capsys, change, sentence):
    code, _, errors = in_process(command(tiny, tmp_path / "run", change), capsys)
    assert code == 2
    last = errors.strip().splitlines()[-1]
    assert last.startswith("rmtjax: ")
    assert sentence in last
    assert "Traceback" not in errors
    left = {path.name for path in (tmp_path / "run").rglob("*")} if (tmp_path / "run").exists() else set()
    assert left == set()


def test_a_workdir_below_a_file_is_one_sentence(tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, _, errors = in_process(command(tiny, tmp_path / "file" / "run"), capsys)
    assert code == 2
    assert "cannot be made, since a part of its path is a file: choose another --workdir" in errors


def test_a_workdir_of_another_config_is_refused_by_field(tiny, unbroken, capsys):
    before = sorted(path.name for path in unbroken.iterdir())
    code, _, errors = in_process(command(tiny, unbroken, "--config.optim.learning_rate=0.5"), capsys)
    assert code == 2
    assert "optim.learning_rate: 0.0005 -> 0.5" in errors
    assert sorted(path.name for path in unbroken.iterdir()) == before


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_once_there_is_room(tiny, unbroken, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        done = run(*command(tiny, small / "run", *TRAINING_ALONE))
        assert done.returncode == 2
        assert done.stderr.strip().splitlines()[-1].startswith("rmtjax: the disk is full")
        assert "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=100m", str(small)], check=True)
        done = run(*command(tiny, small / "run", *TRAINING_ALONE))
        assert done.returncode == 0, done.stderr
        assert_same_weights(small / "run", unbroken)
    finally:
        subprocess.run(["umount", str(small)], check=True)
