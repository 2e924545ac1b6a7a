"""How commands end: two at once, Ctrl-C, a closed pipe, paths that cannot be used, files that lack steps."""

import errno
import io
import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from rmtjax import files, report
from rmtjax.commands import diversity, evaluate, generate, population, spectra, study, train
from rmtjax.errors import run_command
from rmtjax.train import loop


@pytest.fixture(autouse=True)
def handlers():
    """Leaves the handlers of signals as they were."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, w=np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32))
    return str(path)


@pytest.fixture
def features(tmp_path):
    path = tmp_path / "features.npy"
    np.save(path, np.random.default_rng(0).normal(size=(12, 3)))
    return str(path)


def ends(main, capfd):
    """Exit status and the lines of stderr."""
    with pytest.raises(SystemExit) as stop:
        run_command(main)
    return stop.value.code, capfd.readouterr().err.strip().splitlines()


def python(*words, **options):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process inherits that a signal is ignored
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, **options)


CONFIG = "--config=configs/digits.py"
WRITERS = {
    "train": (train.main, lambda out, w, f: [CONFIG, f"--workdir={out}"]),
    "spectra": (spectra.main, lambda out, w, f: [w, f"--out={out}"]),
    "diversity": (diversity.main, lambda out, w, f: [f, f"--out={out}"]),
    "evaluate": (evaluate.main, lambda out, w, f: [w, CONFIG, f"--out={out}"]),
    "generate": (generate.main, lambda out, w, f: [CONFIG, "--curve=guidance:0,1", f"--out={out}"]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_second_writer_is_refused_by_host_and_process(name, tmp_path, weights, features, capfd):
    main, words = WRITERS[name]
    out = tmp_path / "out"
    with files.writing_to(out, "the folder", "--out"):
        (out / "result").write_text("of the first")
        code, said = ends(lambda: main(words(out, weights, features)), capfd)
        assert sorted(path.name for path in out.iterdir()) == [".lock", "result"]
    assert code == 2
    assert f"is in use by process {os.getpid()} on {socket.gethostname()}: wait for it, or choose" in said[-1]
    assert sorted(path.name for path in out.iterdir()) == ["result"]


def test_a_population_whose_folder_is_in_use_names_the_file_that_names_it(tmp_path, capfd):
    unit, out = tmp_path / "unit.json", tmp_path / "out"
    run = {"overrides": [], "workdir": str(out)}
    unit.write_text(json.dumps({"config": "configs/digits.py", "runs": [run]}))
    with files.writing_to(out, "the folder", "--out"):
        code, said = ends(lambda: population.main([str(unit)]), capfd)
    assert code == 2
    assert said[-1].endswith(f"wait for it, or choose another workdir in {str(unit)!r}")


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_cannot_be_written_to_is_one_sentence(
    name, tmp_path, weights, features, capfd, monkeypatch
):
    main, words = WRITERS[name]
    (tmp_path / "file").write_text("")
    code, said = ends(lambda: main(words(tmp_path / "file" / "out", weights, features)), capfd)
    assert code == 2
    assert "cannot be made, since a part of its path is a file: choose another --" in said[-1]
    touch = files.pathlib.Path.touch

    def read_only(path, *args, **options):
        if path.parent == tmp_path / "out":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        touch(path, *args, **options)

    monkeypatch.setattr(files.pathlib.Path, "touch", read_only)
    code, said = ends(lambda: main(words(tmp_path / "out", weights, features)), capfd)
    assert code == 2
    assert "cannot be written to (Read-only file system): choose another --" in said[-1]


@pytest.mark.parametrize("name", ["train", "spectra", "diversity", "evaluate"])
def test_an_empty_path_is_one_sentence(name, weights, features, capfd):
    main, words = WRITERS[name]
    code, said = ends(lambda: main(words("", weights, features)), capfd)
    assert code == 2
    assert said[-1].endswith("is empty: give it a value, or leave it out")
    if name != "train":
        code, said = ends(lambda: main(["", "--out=out"]), capfd)
        assert (code, said[-1].endswith("is empty: give it a value, or leave it out")) == (2, True)


def test_a_lock_that_a_killed_process_left_does_not_hold(tmp_path):
    (tmp_path / ".lock").write_text("process 1 on another")
    with files.writing_to(tmp_path, "the folder", "--out") as folder:
        assert (folder / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}"


def test_what_a_killed_command_had_not_finished_is_removed(tmp_path):
    (tmp_path / ".lock").write_text("process 123 on host")
    for name in (".spectra.123.npz", ".probe.123"):
        (tmp_path / name).touch()
    others = [".spectra.1234.npz", ".hidden", ".123", "spectra.123.npz"]
    for name in others:
        (tmp_path / name).touch()
    with files.writing_to(tmp_path, "the folder", "--out"):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", *others}
    with files.writing_to(tmp_path, "the folder", "--out"):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", *others}


ENDED = """
import gc, os, signal
from rmtjax.errors import run_command

def main():
    {stopped}

run_command(main)
"""
STOPPED = {
    "anywhere": "os.kill(os.getpid(), signal.SIGINT)",
    "in a callback": "gc.callbacks.append(lambda *_: os.kill(os.getpid(), signal.SIGINT)); gc.collect()",
    "twice while training": "raise KeyboardInterrupt",
}


@pytest.mark.parametrize("where", STOPPED)
def test_ctrl_c_says_how_to_go_on(where):
    done = python("-c", ENDED.format(stopped=STOPPED[where]))
    assert done.returncode == 130
    assert done.stderr.strip() == (
        "stopped by Ctrl-C: files are whole or absent, and the same command goes on from those that are there"
    )


@pytest.mark.parametrize("name", ["train", "spectra", "study"])
def test_ctrl_c_during_the_imports_is_one_sentence(name, tmp_path):
    """In place of JAX, the command imports a module that sends the signal."""
    (tmp_path / "jax.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = python("-m", f"rmtjax.{name}", "weights.npz", CONFIG, "--out=out", cwd=tmp_path)
    assert done.returncode == 130
    assert done.stderr.strip().startswith("stopped by Ctrl-C: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_ctrl_c_in_a_program_that_imports_the_package_is_its_own(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("import rmtjax\n")
    (tmp_path / "mine" / "__main__.py").write_text(
        "import signal\nprint(signal.getsignal(signal.SIGINT) == signal.default_int_handler)\n"
    )
    done = python("-m", "mine", "rmtjax.train", cwd=tmp_path)
    assert done.stdout == "True\n"


def test_ctrl_c_does_not_stop_a_loop_that_a_shell_started_in_the_background():
    for handler, stopped in ((signal.SIG_IGN, 0), (signal.default_int_handler, signal.SIGINT)):
        signal.signal(signal.SIGINT, handler)
        with loop._stop_signals() as stopped_by:
            os.kill(os.getpid(), signal.SIGINT)
            assert stopped_by(1) == stopped
        assert signal.getsignal(signal.SIGINT) == handler


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_training_says_how_to_go_on(number, capfd, monkeypatch):
    monkeypatch.setattr(os, "_exit", lambda code: sys.exit(code))
    with pytest.raises(SystemExit) as stop:
        train._stopped_between_steps(number, None)
    assert stop.value.code == 128 + number
    name = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}[number]
    said = f"stopped by {name} outside of a training step: the same command continues from there"
    assert capfd.readouterr().err.strip() == said


class Closed(io.StringIO):
    """stdout after a reader that wanted one line."""

    def write(self, text):
        if "\n" in self.getvalue():
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return super().write(text)


def test_a_closed_pipe_ends_quietly_after_the_results_are_written(tmp_path, weights, capfd, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Closed())
    number = os.dup(1)
    try:
        code, said = ends(lambda: spectra.main([weights, f"--out={tmp_path / 'out'}"]), capfd)
    finally:
        os.dup2(number, 1)
        os.close(number)
    assert code == 128 + signal.SIGPIPE
    assert not [line for line in said if "Error" in line or "rmtjax:" in line]
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"spectra.parquet", "spectra.npz", "report.html"} <= there
    assert not {name for name in there if name.startswith(".")}


@pytest.mark.parametrize("kind", [errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR])
def test_a_path_that_cannot_be_used_is_one_sentence(kind, capfd):
    def main():
        raise OSError(kind, os.strerror(kind), "some/path")

    code, said = ends(main, capfd)
    assert (code, said) == (2, [f"rmtjax: 'some/path' cannot be used: {os.strerror(kind)}"])


def test_a_path_that_is_not_utf_8_is_one_sentence(tmp_path, weights, capfd):
    named = os.fsdecode(os.fsencode(tmp_path) + b"/\xfc")
    code, said = ends(lambda: spectra.main([weights, f"--out={named}"]), capfd)
    assert code == 2
    assert r"/\udcfc" in said[-1]
    assert "with bytes that are not UTF-8" in said[-1]


def test_a_letter_that_the_locale_lacks_is_escaped():
    code = "from rmtjax.errors import run_command; run_command(lambda: print('0.1 \\xb1 0.2'))"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = python("-c", code, env=os.environ | locale)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0.1 \\xb1 0.2\n", "")


def test_other_errors_of_the_system_keep_their_traceback():
    def main():
        raise OSError(errno.EIO, os.strerror(errno.EIO), "some/path")

    with pytest.raises(OSError, match="some/path"):
        run_command(main)


def test_a_finished_run_that_lacks_steps_says_so(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished", "step": 6}))
    steps = [json.dumps({"step": step, "loss": 1.0}) for step in (1, 2, 4, 6)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(steps))
    sentence = "metrics.jsonl of this finished run lacks 2 of 6 steps, the first of them 3"
    assert sentence in report.final_table(tmp_path)
    assert sentence in report.run_page(tmp_path).read_text()
    (tmp_path / "metrics.jsonl").write_text(
        "\n".join(json.dumps({"step": s, "loss": 1.0}) for s in range(1, 7))
    )
    assert "of this finished run" not in report.final_table(tmp_path)


@pytest.mark.parametrize("main", [train.main, generate.main, evaluate.main, study.main])
def test_help_says_that_a_config_is_executed(main, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "it is Python and is executed, so read a config from somebody else before you run it" in said
