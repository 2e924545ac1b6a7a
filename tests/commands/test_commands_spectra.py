"""`python -m rmtjax.spectra` as a user types it: files, faults in words, a killed run that goes on."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import forked
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from rmtjax.commands import spectra
from rmtjax.errors import InputError

RNG = np.random.default_rng(9)
GOOD = RNG.standard_normal((96, 64)).astype(np.float32)


@pytest.fixture
def command(monkeypatch, capsys):
    """The command in this process, without its settings of JAX: what it prints."""
    monkeypatch.setattr(spectra.flags, "set_compilation_cache", lambda **options: None)

    def call(*arguments: object) -> str:
        assert spectra.main(list(map(str, arguments))) == 0
        return capsys.readouterr().out

    return call


def test_faulty_layers_are_told_and_the_others_analysed(tmp_path, command):
    spoiled = GOOD.copy()
    spoiled[3, 4] = np.nan
    tensors = {
        "good.weight": GOOD, "spoiled.weight": spoiled, "zero.weight": np.zeros((96, 64), np.float32),
        "tiny.weight": GOOD * np.float32(1e-6), "huge.weight": GOOD * np.float32(1e30),
        "one.weight": np.outer(GOOD[:, 0], GOOD[0]), "row.weight": GOOD[:1], "norm.bias": GOOD[0],
    }  # fmt: skip
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    printed = command(tmp_path / "a.safetensors", "--out", tmp_path / "out", "--precision=single")
    for said in ("1 of 6144 weights are not finite: spoiled.weight", "all weights are zero: zero.weight",
                 "left out, fewer than two dimensions: no spectrum: norm.bias", "results go to"):  # fmt: skip
        assert said in printed
    table = pd.read_parquet(tmp_path / "out" / "spectra.parquet").set_index("name")
    assert len(table) == 7
    for name in ("tiny.weight", "huge.weight"):
        assert table.loc[name, "alpha"] == pytest.approx(table.loc["good.weight", "alpha"], rel=1e-4)
    assert table.loc["one.weight", "warning"].startswith("rank 1 of 64")
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_file()) == [
        "report.html", "spectra.npz", "spectra.parquet", "spectra_curves.npz",
    ]  # fmt: skip
    assert not list((tmp_path / "out").glob(".partial*"))


def test_names_of_a_file_do_not_control_the_terminal(tmp_path, command):
    tensors = {"\x1b]0;title\x07a.weight": GOOD, "\x1b[2Jb.bias": GOOD[0], "x" * 70000: GOOD[1], "file": GOOD}
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    printed = command(tmp_path / "a.safetensors", "--out", tmp_path / "out", "--metrics=scale")
    assert printed.replace("\n", "").isprintable()
    assert r"\x1b[2Jb.bias" in printed
    assert len(max(printed.splitlines(), key=len)) < 1000
    with pytest.raises(InputError) as caught:
        command(tmp_path / "a.safetensors", "--layers=nothing")
    assert str(caught.value).isprintable()


def test_bad_input_is_one_sentence(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("no weights in here, whatever the name says")
    np.savez(tmp_path / "b.npz", bias=GOOD[0])
    np.savez(tmp_path / "c.npz", **{"w/kernel": GOOD})
    for arguments, said in {
        ("nowhere",): "there are no weights at",
        ("a.txt",): "is not of a kind that can be read",
        ("b.npz",): "no weight matrix to analyse",
        ("c.npz", "--metrics=size"): "metrics has 'size'",
        ("c.npz", "--layers=q"): "is found in no name of a matrix",
    }.items():
        with pytest.raises(InputError) as error:
            command(*arguments)
        assert said in str(error.value)
        assert "\n" not in str(error.value)


def test_a_process_ends_with_2_and_that_sentence(tmp_path):
    words = [sys.executable, "-m", "rmtjax.spectra", "nowhere"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 2
    assert "there are no weights at" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_comparison(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a.npz", **{"w/kernel": GOOD})
    np.savez(tmp_path / "b.npz", **{"w/kernel": GOOD + 0.1 * GOOD[:, :1] * GOOD[:1]})
    assert "update" in command("b.npz", "--baseline=a.npz", "--precision=single")


def test_products_of_heads_and_the_spread_of_alpha_are_printed(tmp_path, command):
    tensors = {f"attention/{name}/kernel": GOOD[:64] for name in ("query", "key")}
    np.savez(tmp_path / "a.npz", **tensors)
    options = ("--num_heads=2", "--products", "--precision=single", "--out", tmp_path / "out")
    printed = command(tmp_path / "a.npz", *options)
    assert "attention/qk[head 1]" in printed
    assert "standard deviation of alpha over the matrices" in printed
    page = (tmp_path / "out" / "report.html").read_text()
    assert "WeightWatcher label" in page
    assert "attention qk" in page


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path, command):
    tensors = {f"layer{i}.weight": RNG.standard_normal((320, 320)).astype(np.float32) for i in range(40)}
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    words = [
        sys.executable,
        "-c",
        _SMALL_STACKS,
        str(tmp_path / "a.safetensors"),
        f"--out={tmp_path / 'out'}",
    ]
    process = forked.start(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "out").glob(".partial*/*.npz"))) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob(".partial*/[0-9a-f]*.npz")}
    assert 5 <= len(kept) < 40
    done = forked.run([*words, "--keep"], timeout=300)
    assert done.returncode == 0, done.stderr
    read = [line for line in done.stdout.splitlines() if line.startswith("read ")]
    assert len(read) == 40 - len(kept)
    command(tmp_path / "a.safetensors", "--out", tmp_path / "fresh")
    one, other = (pd.read_parquet(tmp_path / n / "spectra.parquet") for n in ("out", "fresh"))
    pd.testing.assert_frame_equal(one, other)


_SMALL_STACKS = """
import sys
from rmtjax.checkpoints import Weights
from rmtjax.spectra import streaming
from rmtjax.commands import spectra as command
streaming.STACK_BYTES = 1
keep = "--keep" in sys.argv
sys.argv = [word for word in sys.argv if word != "--keep"]
if keep:
    read = Weights.__getitem__
    Weights.__getitem__ = lambda self, name: (print("read", name), read(self, name))[1]
sys.exit(command.main())
"""

EIGHT = """
import sys
import jax
import numpy as np
from rmtjax import spectra
assert jax.device_count() == 8
rng = np.random.default_rng(0)
tree = {f"layer_{i}": rng.standard_normal((96, 64)) for i in range(6)}
tree["conv/kernel"] = rng.standard_normal((3, 3, 8, 16))
one = spectra.analyze(tree, devices=jax.devices()[:1])
for _ in range(20):
    eight = spectra.analyze(tree, devices=jax.devices())
    for name, values in one.eigenvalues.items():
        np.testing.assert_allclose(values, eight.eigenvalues[name], rtol=1e-12)
    np.testing.assert_allclose(one.table["alpha"], eight.table["alpha"], rtol=1e-10)
print("the same, 20 times")
"""


def test_eight_devices_give_the_numbers_of_one_twenty_times_under_a_time_limit():
    """A batched product beside a batched eigen-decomposition can hang on emulated devices; this must not."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = forked.run([sys.executable, "-c", EIGHT], env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "the same, 20 times" in done.stdout


def test_every_format_of_the_real_weights_at_hand(command):
    data = pathlib.Path(os.environ.get("RMTJAX_DATA", "/nonexistent"))
    files = [data / "mlperf_tiny_resnet8" / "resnet8.npz", data / "weightwatcher" / "layers8.safetensors"]
    if not all(path.is_file() for path in files):
        pytest.skip("RMTJAX_DATA names no folder with these files")
    try:
        import torch  # noqa: F401

        files += sorted((data / "resnet_cifar10").glob("*.th"))
    except ImportError:
        pass
    for path in files:
        assert "median by kind" in command(path, "--precision=single")
