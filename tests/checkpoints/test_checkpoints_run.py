import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import time

import forked
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from rmtjax import checkpoints
from rmtjax.errors import InputError

CONFIG = {"seed": 3, "optim": {"learning_rate": 1e-3, "betas": (0.9, 0.999)}, "name": None}


def stored(workdir):
    return sorted(int(name) for name in os.listdir(workdir / "checkpoints"))


def unfinished(workdir):
    return [name for name in os.listdir(workdir / "checkpoints") if not name.isdecimal()]


def save_all(workdir, states, accuracies, first=0):
    with checkpoints.open_run(workdir) as run:
        for i, accuracy in enumerate(accuracies):
            step = first + 10 * i
            metrics = None if accuracy is None else {"validation/accuracy": accuracy, "validation/loss": 1.0}
            run.save(step, states.make(step), CONFIG, metrics)


def test_round_trip(tmp_path, states):
    with checkpoints.open_run(tmp_path) as run:
        assert run.restore(states.abstract()) is None
        assert run.latest_step() is None
        run.save(0, states.make(0), CONFIG)
        run.save(7, states.make(7), CONFIG, {"validation/accuracy": 0.5})
        run.wait()
        state, step = run.restore(states.abstract())
    assert step == 7
    states.assert_equal(state, states.make(7))
    assert json.loads((tmp_path / "checkpoints/7/config/metadata").read_text()) == json.loads(
        json.dumps(CONFIG)
    )
    assert sorted(os.listdir(tmp_path)) == ["checkpoints"]


@pytest.mark.parametrize("saved", [(1, 1), (1, 8), (2, 4), (8, 1)])
def test_any_layout_restores_onto_any_other(tmp_path, states, saved):
    with checkpoints.open_run(tmp_path) as run:
        run.save(5, states.make(5, *saved), CONFIG)
    expected = states.make(5)
    for layout in [(1, 1), (1, 8), (4, 2)]:
        abstract = states.abstract(*layout)
        with checkpoints.open_run(tmp_path) as run:
            state, _ = run.restore(abstract)
        states.assert_equal(state, expected)
        assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(lambda x: x.sharding, abstract)
    kernel = state.params["encoder"]["kernel"]
    assert kernel.addressable_shards[0].data.nbytes == kernel.nbytes // 2


def test_the_state_may_be_donated_at_once(tmp_path, states):
    double = jax.jit(lambda state: jax.tree.map(lambda x: x * 2, state), donate_argnums=0)
    with checkpoints.open_run(tmp_path) as run:
        state = states.make(1, 1, 8)
        run.save(1, state, CONFIG)
        for _ in range(5):
            state = double(state)
        jax.block_until_ready(state)
    with checkpoints.open_run(tmp_path, say=pytest.fail) as run:
        states.assert_equal(run.restore(states.abstract()).state, states.make(1))


def test_a_restored_state_may_be_donated(tmp_path, states):
    with checkpoints.open_run(tmp_path) as run:
        run.save(1, states.make(1), CONFIG)
        run.wait()
        state = run.restore(states.abstract(2, 4)).state
    out = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)(state)
    states.assert_equal(out, jax.tree.map(lambda x: x + 1, states.make(1)))


def test_kept_are_the_first_the_last_two_and_the_best(tmp_path, states):
    save_all(tmp_path, states, [None, 0.5, 0.9, float("nan"), 0.7, None, 0.8])
    assert stored(tmp_path) == [0, 20, 50, 60]


def test_the_best_is_remembered_when_a_run_goes_on(tmp_path, states):
    save_all(tmp_path, states, [None, 0.9, 0.5, 0.6])
    assert stored(tmp_path) == [0, 10, 20, 30]
    save_all(tmp_path, states, [0.7, 0.8], first=40)
    assert stored(tmp_path) == [0, 10, 40, 50]
    save_all(tmp_path, states, [0.95, 0.1, 0.1, 0.1], first=60)
    assert stored(tmp_path) == [0, 60, 80, 90]


def test_without_metrics_the_first_and_the_last_two_are_kept(tmp_path, states):
    save_all(tmp_path, states, [None] * 5)
    assert stored(tmp_path) == [0, 30, 40]


def test_metrics_without_the_one_that_ranks_are_refused(tmp_path, states):
    with (
        checkpoints.open_run(tmp_path) as run,
        pytest.raises(ValueError, match=r"metrics of checkpoint 1 lack 'validation/accuracy': \['loss'\]"),
    ):
        run.save(1, states.make(1), CONFIG, {"loss": 1.0})


def test_a_refused_save_is_not_silent(tmp_path, states):
    with checkpoints.open_run(tmp_path) as run:
        run.save(10, states.make(10), CONFIG)
        run.save(10, states.make(10), CONFIG)  # saved already: nothing to do
        with pytest.raises(RuntimeError, match=r"did not save checkpoint 5 in .* \(newest there: 10\)"):
            run.save(5, states.make(5), CONFIG)


def test_another_model_or_optimiser_is_refused_and_nothing_is_moved(tmp_path, states):
    save_all(tmp_path, states, [None])
    other = states.abstract()._asdict()
    other["params"] = {
        "encoder": {
            "kernel": jax.ShapeDtypeStruct((64, 127), jnp.float32),
            "offset": jax.ShapeDtypeStruct((24,), jnp.bfloat16),
        },
        "head": states.abstract().params["head"],
    }
    with checkpoints.open_run(tmp_path) as run, pytest.raises(InputError) as caught:
        run.restore(type(states.abstract())(**other))
    assert str(caught.value) == (
        f"the checkpoint {str(tmp_path / 'checkpoints/0')!r} is of another model or optimiser: "
        "missing in the file: params/encoder/offset; extra in the file: params/encoder/bias; "
        "different: params/encoder/kernel: ('float32', (64, 127)) in the run, "
        "('float32', (64, 128)) in the file"
    )
    assert stored(tmp_path) == [0]


def test_a_workdir_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match=r"cannot make the directory '.*/file/run/checkpoints': Not a directory"
    ):
        checkpoints.open_run(tmp_path / "file" / "run")


def test_plain_orbax_reads_ours(tmp_path, states):
    with checkpoints.open_run(tmp_path) as run:
        run.save(3, states.make(3, 1, 8), CONFIG, {"validation/accuracy": 0.5})
    expected = states.make(3)
    with ocp.CheckpointManager(tmp_path / "checkpoints") as manager:
        targets = ocp.args.Composite(
            state=ocp.args.StandardRestore(states.abstract(2, 4)), config=ocp.args.JsonRestore()
        )
        restored = manager.restore(3, args=targets)
        states.assert_equal(restored.state, expected)
        assert restored.config["optim"]["learning_rate"] == 1e-3
        assert manager.metrics(3) == {"validation/accuracy": 0.5}


def test_orbax_v1_reads_ours(tmp_path, states):
    from orbax.checkpoint import v1

    with checkpoints.open_run(tmp_path) as run:
        run.save(3, states.make(3), CONFIG)
    loaded = v1.load(tmp_path / "checkpoints/3", states.abstract())
    states.assert_equal(loaded, states.make(3))


def test_nothing_is_unpickled(tmp_path, states, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    save_all(tmp_path, states, [None, 0.5])
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    with checkpoints.open_run(tmp_path) as run:
        assert run.restore(states.abstract()).step == 10
    assert checkpoints.nest(checkpoints.open(tmp_path))["head"]["kernel"].shape == (128, 10)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pickle", ".npy")]


def test_orbax_says_nothing(tmp_path, states, capfd):
    save_all(tmp_path, states, [None, 0.5, None])
    checkpoints.nest(checkpoints.open(tmp_path))
    assert capfd.readouterr() == ("", "")


SHAPE = (64, 128, 128)
KILLED = """
import sys
import jax, jax.numpy as jnp
from rmtjax import checkpoints

with checkpoints.open_run(sys.argv[1]) as run:
    for step in range(int(sys.argv[2]), 1000):
        weights = jax.random.normal(jax.random.key(step), (64, 128, 128))
        run.save(step, {"step": jnp.int32(step), "params": {"w": weights}}, {})
        print(step, flush=True)
"""


def test_kill_9_in_the_middle_of_a_save(tmp_path):
    abstract = {
        "step": jax.ShapeDtypeStruct((), jnp.int32),
        "params": {"w": jax.ShapeDtypeStruct(SHAPE, jnp.float32)},
    }
    rng = np.random.default_rng(0)
    half_written = 0
    step = -1
    for _ in range(2):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(step + 1)]
        with forked.start(command, stdout=subprocess.PIPE) as process:
            begun = [int(process.stdout.readline()) for _ in range(3)][-1]
            while not unfinished(tmp_path):  # ended by the test's time limit
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
            process.kill()
            begun = max([begun, *map(int, process.stdout.read().split())])
        half_written += len(unfinished(tmp_path))
        with checkpoints.open_run(tmp_path, say=pytest.fail) as run:
            state, step = run.restore(abstract)
            assert begun - 1 <= step <= begun + 1  # at most the one being written is lost
            assert state["step"] == step
            np.testing.assert_array_equal(
                state["params"]["w"], jax.random.normal(jax.random.key(step), SHAPE)
            )
            run.save(step + 1, state, {})
        step += 1
        assert stored(tmp_path) == [0, step - 1, step]
        assert not unfinished(tmp_path)
    assert half_written, "no process was killed in the middle of a save: make the arrays larger"


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a small tmpfs: needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_stops_the_run_and_harms_nothing(small_disk, states):
    workdir = small_disk / "run"
    save_all(workdir, states, [None, None])
    filler = small_disk / "filler"
    with checkpoints.open_run(workdir) as run:
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 2**16))
        with pytest.raises(OSError, match="No space left on device") as caught:
            run.save(20, states.make(20), CONFIG)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(workdir / "checkpoints")
    assert stored(workdir) == [0, 10]
    filler.unlink()
    with checkpoints.open_run(workdir, say=pytest.fail) as run:
        assert run.restore(states.abstract()).step == 10
        run.save(20, states.make(20), CONFIG)
    assert stored(workdir) == [0, 10, 20]


FILLED_WHILE_SAVING = """
import sys
import jax.numpy as jnp
from rmtjax import checkpoints
from rmtjax.checkpoints import run as module
from rmtjax.errors import run_command
import jax

module.Run._check_free_space = lambda self, state: None  # as if others filled the disk just after it

def main():
    with checkpoints.open_run(sys.argv[1]) as run:
        for step in range(20):
            run.save(step, {"w": jax.random.normal(jax.random.key(step), (512, 512))}, {})

run_command(main)
"""


def test_a_disk_filled_in_the_middle_of_a_save(small_disk):
    workdir = small_disk / "run"
    (small_disk / "filler").write_bytes(bytes(2**20))
    done = forked.run([sys.executable, "-c", FILLED_WHILE_SAVING, str(workdir)], timeout=120)
    assert done.returncode == 2
    sentence = (
        f"rmtjax: the disk is full at {str(workdir / 'checkpoints')!r}: free some space or choose another"
    )
    assert sentence in done.stderr
    assert not unfinished(workdir)
    with checkpoints.open_run(workdir, say=pytest.fail) as run:
        abstract = {"w": jax.ShapeDtypeStruct((512, 512), jnp.float32)}
        assert run.restore(abstract).step == stored(workdir)[-1]
