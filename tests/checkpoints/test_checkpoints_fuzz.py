"""Damage of every kind to one small file per format: a result or one sentence; no other file is opened."""

import io
import itertools
import json
import os
import pathlib
import re
import sys
import zipfile
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rmtjax import checkpoints
from rmtjax.errors import InputError

W = np.random.default_rng(3).standard_normal((6, 4)).astype(np.float32)
EVENTS: list[tuple[str, object]] | None = None  # what happens while a damaged file is read


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if EVENTS is not None and event.startswith(("open", "socket.", "os.system", "subprocess.")):
        EVENTS.append((event, arguments[0]))


sys.addaudithook(_hook)


def said_of(path: pathlib.Path) -> str:
    """The sentence for a damaged file; empty if it can be read."""
    try:
        dict(checkpoints.open(path, say=lambda sentence: None))
    except InputError as error:
        return str(error)
    return ""


def check(folder: pathlib.Path, path: pathlib.Path) -> None:
    """One sentence with the name, or a result; nothing outside of the folder but what Python itself reads."""
    global EVENTS
    EVENTS = []
    try:
        said = said_of(path)
    finally:
        events, EVENTS = EVENTS, None
    assert said.isprintable()
    assert str(folder) in said or not said
    own = (str(folder), sys.prefix, sys.base_prefix, str(pathlib.Path(checkpoints.__file__).parents[1]))
    for event, name in events:
        assert event == "open", f"{event} {name}"
        touched = isinstance(name, str) and os.path.exists(name) and not name.startswith(("/proc/", "/sys/"))
        assert not touched or name.startswith(own), f"{event} {name}"


def of_torch(**options: Any) -> bytes:
    torch = pytest.importorskip("torch")
    torch.save(
        {"state_dict": {"a.weight": torch.from_numpy(W)}, "epoch": np.float64(3)},
        out := io.BytesIO(),
        **options,
    )
    return out.getvalue()


def of_keras() -> bytes:
    h5py = pytest.importorskip("h5py")
    with h5py.File(out := io.BytesIO(), "w") as file:
        file["layers/dense/vars/0"] = W
        file.create_dataset("layers/dense/vars/1", data=W[0], chunks=(2,), compression="gzip")
    return out.getvalue()


def of_keras_archive() -> bytes:
    with zipfile.ZipFile(out := io.BytesIO(), "w") as archive:
        archive.writestr("model.weights.h5", of_keras())
        archive.writestr("config.json", "{}")
    return out.getvalue()


def of_onnx() -> bytes:
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "g", [], [], [onnx.numpy_helper.from_array(W, "w")])
    return onnx.helper.make_model(graph).SerializeToString()


def of_numpy(save: Any, *arrays: Any, **named: Any) -> bytes:
    save(out := io.BytesIO(), *arrays, **named)
    return out.getvalue()


def of_flax() -> bytes:
    from flax import serialization

    return serialization.to_bytes({"params": {"a": {"kernel": W, "bias": W[0]}}})


def of_gguf() -> bytes:
    gguf = pytest.importorskip("gguf")
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        writer = gguf.GGUFWriter(pathlib.Path(folder, "a"), "llama")
        writer.add_array("tokens", ["a", "b"])
        writer.add_tensor("a.weight", W)
        writer.add_tensor("b.weight", np.zeros((2, 34), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return pathlib.Path(folder, "a").read_bytes()


FORMATS = {
    "a.safetensors": lambda: safetensors.numpy.save({"a/kernel": W, "b/bias": W[0]}),
    "a.npy": lambda: of_numpy(np.save, W),
    "a.npz": lambda: of_numpy(np.savez, a=W, b=W[0]),
    "b.npz": lambda: of_numpy(np.savez_compressed, a=W, b=W[0]),
    "a.msgpack": of_flax,
    "a.pt": of_torch,
    "old.pt": lambda: of_torch(_use_new_zipfile_serialization=False),
    "a.weights.h5": of_keras,
    "a.keras": of_keras_archive,
    "a.onnx": of_onnx,
    "a.gguf": of_gguf,
    "orbax": None,
}
PLACE, SIZE = st.integers(0, 1 << 30), st.integers(1, 40)
DAMAGE = st.one_of(
    st.tuples(st.just("cut"), PLACE, SIZE),
    st.tuples(st.just("flip"), PLACE, SIZE),
    st.tuples(st.just("zero"), PLACE, SIZE),
    st.tuples(st.just("full"), PLACE, st.sampled_from([1, 2, 4, 8])),
    st.tuples(st.just("repeat"), PLACE, SIZE),
    st.tuples(st.just("number"), PLACE, st.sampled_from([-1, 0, 7, 2**31, 2**40, 2**63, 10**30])),
    st.tuples(st.just("rename"), PLACE, st.sampled_from([".pt", ".npz", ".h5", ".onnx", ".safetensors", ""])),
)  # fmt: skip


def damaged(content: bytes, how: str, place: int, size: int) -> bytes:
    data = bytearray(content)
    at = place % len(data)
    if how == "cut":
        del data[at:]
    elif how == "flip":
        data[at] ^= 1 << size % 8
    elif how == "zero":
        data[at : at + size] = bytes(len(data[at : at + size]))
    elif how == "full":
        data[at : at + size] = b"\xff" * len(data[at : at + size])
    elif how == "repeat":
        data[at:at] = data[at : at + size]
    elif how == "number" and (numbers := list(re.finditer(rb"\d+", content))):
        found = numbers[place % len(numbers)]
        data[found.start() : found.end()] = str(size).encode()
    return bytes(data)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The files of each format: of Orbax a folder, of the others one."""
    import orbax.checkpoint as ocp

    folder = tmp_path_factory.mktemp("good")
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save(folder / "orbax", args=ocp.args.PyTreeSave({"params": {"a": {"kernel": W}}}))
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    made: dict[str, dict[pathlib.Path, bytes]] = {}

    def of(name: str) -> dict[pathlib.Path, bytes]:
        if name not in made:
            make = FORMATS[name]
            made[name] = files if make is None else {pathlib.Path(name): make()}
        return made[name]

    return of


@pytest.mark.parametrize("name", FORMATS)
def test_damage_gives_a_result_or_one_sentence(name, good, tmp_path):
    files = good(name)
    count = itertools.count()
    first = written(tmp_path / "first", name, files)
    assert said_of(first) == ""

    @settings(
        max_examples=40,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damage=st.lists(DAMAGE, min_size=1, max_size=3), which=PLACE)
    def examples(damage, which):
        changed, ending = dict(files), None
        target = sorted(changed)[which % len(changed)]
        for how, place, size in damage:
            if how == "rename":
                ending = size
            elif changed[target]:
                changed[target] = damaged(changed[target], how, place, size)
        path = written(tmp_path / str(next(count)), name, changed)
        if ending is not None and path.is_file():
            path = path.rename(path.with_suffix(ending))
        check(tmp_path, path)

    examples()


def written(folder: pathlib.Path, name: str, files: dict[pathlib.Path, bytes]) -> pathlib.Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder / name


def test_damage_to_an_index_gives_a_result_or_one_sentence(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    for name in ("model-1.safetensors", "model-2.safetensors"):
        safetensors.numpy.save_file({name: W}, tmp_path / name)
    content = json.dumps({"weight_map": {name: name for name in sorted(os.listdir(tmp_path))}}).encode()

    @settings(max_examples=60, derandomize=True, database=None, deadline=None)
    @given(damage=DAMAGE.filter(lambda damage: damage[0] != "rename"))
    def examples(damage):
        index.write_bytes(damaged(content, *damage))
        check(tmp_path, tmp_path)

    examples()
