"""Two processes joined by jax.distributed, each with one device, share a run's checkpoints."""

import os
import socket
import subprocess
import sys

import numpy as np
from forked import start

from rmtjax import checkpoints

SCRIPT = """
import os, pathlib, sys

import jax
import numpy as np

coordinator, index, workdir = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(coordinator, 2, index)

from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from rmtjax import checkpoints

mesh = jax.make_mesh((2,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
split, whole = NamedSharding(mesh, PartitionSpec("fsdp")), NamedSharding(mesh, PartitionSpec())


def make(step):
    weights = np.random.default_rng(step).normal(size=(64, 32)).astype(np.float32)
    place = lambda x, sharding: jax.make_array_from_callback(x.shape, sharding, lambda part: x[part])
    params = {"w": place(weights, split), "b": place(weights[0], whole)}
    return {"step": place(np.int32(step), whole), "params": params}


def same(state, step):
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(make(step)), strict=True)
    return all(np.array_equal(a.addressable_data(0), b.addressable_data(0)) for a, b in pairs)


abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), make(0))
said = []
with checkpoints.open_run(workdir, say=said.append) as run:
    assert run.restore(abstract) is None
    for step in (0, 10, 20, 30):
        run.save(step, make(step), {"seed": 1}, {"validation/accuracy": 1 - step / 100})
    run.wait()
    state, step = run.restore(abstract)
    assert step == 30 and same(state, 30)
assert not said
multihost_utils.sync_global_devices("closed")
if index == 1:  # found by process 0, in its files
    path = max((workdir / "checkpoints/30/state").rglob("d/*"), key=lambda path: path.stat().st_size)
    os.truncate(path, path.stat().st_size // 2)
multihost_utils.sync_global_devices("damaged")
with checkpoints.open_run(workdir, say=said.append) as run:
    state, step = run.restore(abstract)
    assert step == 20 and same(state, 20), step
    run.save(30, make(30), {"seed": 1})
assert len(said) == (2 if index == 0 else 0), said
multihost_utils.sync_global_devices("closed again")
loaded = checkpoints.nest(checkpoints.open(workdir))
assert np.array_equal(loaded["w"], np.random.default_rng(30).normal(size=(64, 32)).astype(np.float32))
print("process", index, "done")
"""


def test_two_processes(tmp_path):
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        coordinator = f"localhost:{listener.getsockname()[1]}"
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    processes = [
        start(
            [sys.executable, "-c", SCRIPT, coordinator, str(index), str(tmp_path / "run")],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for index in range(2)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=180)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for index, (process, output) in enumerate(zip(processes, outputs, strict=True)):
        assert process.returncode == 0, output
        assert output.strip().endswith(f"process {index} done")
    assert sorted(os.listdir(tmp_path / "run/checkpoints")) == ["0", "20", "30"]
    assert os.listdir(tmp_path / "run/damaged") == ["30"]
    loaded = checkpoints.nest(
        checkpoints.open(tmp_path / "run/checkpoints/20")
    )  # by one process with eight devices
    np.testing.assert_array_equal(
        loaded["w"], np.random.default_rng(20).normal(size=(64, 32)).astype(np.float32)
    )
