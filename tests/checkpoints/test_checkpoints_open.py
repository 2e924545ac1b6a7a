"""`checkpoints.open`: every format gives the same arrays, one by one; nothing is executed; bad files are told."""

import json
import os
import pickle
import subprocess
import sys
import zipfile

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from rmtjax import checkpoints
from rmtjax.checkpoints import opening
from rmtjax.errors import InputError

RNG = np.random.default_rng(5)
ARRAYS = {
    "block/dense/kernel": RNG.standard_normal((6, 4)).astype(np.float32),
    "block/dense/bias": RNG.standard_normal(4).astype(np.float16),
    "head/kernel": RNG.standard_normal((4, 3)).astype(ml_dtypes.bfloat16),
}


def nested(flat, separator="/"):
    tree = {}
    for name, value in flat.items():
        node = tree
        *folders, last = name.split(separator)
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = value
    return tree


def same(weights, expected=ARRAYS):
    assert set(weights) == set(expected) == set(weights.specs)
    for name, array in expected.items():
        got = weights[name]
        assert got.dtype == array.dtype == weights.specs[name].dtype
        assert got.shape == weights.specs[name].shape
        np.testing.assert_array_equal(got.astype(np.float32), array.astype(np.float32))


def test_safetensors_file_and_folders(tmp_path):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "a.safetensors")
    same(checkpoints.open(tmp_path / "a.safetensors"))
    folder = tmp_path / "sharded"
    folder.mkdir()
    for i, name in enumerate(ARRAYS):
        safetensors.numpy.save_file({name: ARRAYS[name]}, folder / f"model-{i}.safetensors")
    same(checkpoints.open(folder))
    index = {"weight_map": dict.fromkeys(ARRAYS, "model-9.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"lacks the shard 'model-9.safetensors'"):
        checkpoints.open(folder)


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    same(checkpoints.open(tmp_path / "a.npz"))


def test_msgpack_of_flax_with_chunks(tmp_path, monkeypatch):
    from flax import serialization

    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 32)
    tree = {"params": nested(ARRAYS), "opt_state": {"0": {"mu": ARRAYS["head/kernel"]}}, "step": 3}
    (tmp_path / "a.msgpack").write_bytes(serialization.to_bytes(tree))
    same(checkpoints.open(tmp_path / "a.msgpack"))


def orbax_save(path, tree):
    import orbax.checkpoint as ocp

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(path, args=ocp.args.PyTreeSave(tree))


@pytest.mark.parametrize("nesting", ["bare", "params", "params/params", "nnx", "training"])
def test_orbax_of_others(tmp_path, nesting):
    arrays = {name: jnp.asarray(array) for name, array in ARRAYS.items()}
    tree = nested(arrays)
    if nesting == "nnx":
        tree = nested({f"{name}/value": array for name, array in arrays.items()})
    elif nesting == "training":
        tree = {"params": tree, "opt_state": nested(arrays), "step": jnp.zeros((), jnp.int32)}
    elif nesting != "bare":
        for key in nesting.split("/"):
            tree = {key: tree}
    orbax_save(tmp_path / "c", tree)
    weights = checkpoints.open(tmp_path / "c")
    same(weights)
    assert weights.layout == "flax"


def test_one_step_of_many(tmp_path):
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(
        tmp_path / "m", options=ocp.CheckpointManagerOptions(max_to_keep=9)
    ) as manager:
        for step in (1, 20):
            manager.save(step, args=ocp.args.StandardSave({"params": {"w": jnp.full((2, 2), float(step))}}))
    assert checkpoints.open(tmp_path / "m")["w"][0, 0] == 20
    assert checkpoints.open(tmp_path / "m", step=1)["w"][0, 0] == 1
    with pytest.raises(InputError, match="has no step 7: it has 1, 20"):
        checkpoints.open(tmp_path / "m", step=7)


TORCH = {name.replace("/", "."): array for name, array in ARRAYS.items()}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("wrapped", ["", "state_dict", "module."])
def test_torch(tmp_path, old, wrapped):
    torch = pytest.importorskip("torch")
    state = {}
    for name, array in TORCH.items():
        bits = array.dtype == ml_dtypes.bfloat16
        tensor = torch.from_numpy(array.view(np.int16) if bits else array)
        state[name] = tensor.view(torch.bfloat16) if bits else tensor
    if wrapped == "module.":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    elif wrapped:
        state = {wrapped: state, "optimizer": {"m": torch.zeros(2)}, "epoch": 3}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
    weights = checkpoints.open(tmp_path / "a.pt")
    same(weights, TORCH)
    assert weights.layout == "torch"


def test_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    arrays = {"a": RNG.standard_normal((3, 4)).astype(np.float32)}
    graph = onnx.helper.make_graph(
        [], "g", [], [], [onnx.numpy_helper.from_array(a, n) for n, a in arrays.items()]
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / "a.onnx")
    same(checkpoints.open(tmp_path / "a.onnx"), arrays)


@pytest.mark.parametrize("kind", ["old", "new", "keras"])
def test_keras(tmp_path, kind):
    h5py = pytest.importorskip("h5py")
    kernel = RNG.standard_normal((3, 4)).astype(np.float32)
    name = "model_weights/dense/dense/kernel:0" if kind == "old" else "layers/dense/vars/0"
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file[name] = kernel
        file["optimizer/vars/0"] = kernel
    path = tmp_path / "model.weights.h5"
    if kind == "keras":
        path = tmp_path / "a.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(tmp_path / "model.weights.h5", "model.weights.h5")
    same(checkpoints.open(path), {"dense/dense/kernel" if kind == "old" else "layers/dense/kernel": kernel})


def quantise(tmp_path, **tensors):
    safetensors.numpy.save_file(tensors, tmp_path / "q.safetensors")
    return checkpoints.open(tmp_path / "q.safetensors")


@pytest.mark.parametrize("dtype", [np.int8, ml_dtypes.float8_e4m3fn])
@pytest.mark.parametrize("scale", [(), (1,), (300,), (300, 1), (3, 2)])
def test_eight_bits_with_their_scale(tmp_path, dtype, scale):
    stored = (RNG.standard_normal((300, 200)) * 30).astype(dtype)
    factor = RNG.uniform(0.5, 2, scale).astype(np.float32)
    weights = quantise(tmp_path, **{"a.weight": stored, "a.weight_scale_inv": factor})
    wide = factor
    if scale == (3, 2):  # blocks of 128 x 128
        wide = np.repeat(np.repeat(factor, 128, 0), 128, 1)[:300, :200]
    elif scale == (300,):
        wide = factor[:, None]
    assert list(weights) == ["a.weight"]
    np.testing.assert_allclose(weights["a.weight"], stored.astype(np.float32) * wide, rtol=1e-6)


def test_eight_bits_of_bitsandbytes_and_what_is_refused(tmp_path):
    stored = RNG.integers(-127, 128, (4, 6)).astype(np.int8)
    scb = np.arange(1.0, 5.0, dtype=np.float32)
    weights = quantise(tmp_path, **{"a.weight": stored, "a.SCB": scb, "b.weight": stored})
    assert list(weights) == ["a.weight"]
    np.testing.assert_allclose(weights["a.weight"], stored * scb[:, None] / 127, rtol=1e-6)
    assert "int8 without a scale that is known" in weights.refused["b.weight"]
    packed = np.zeros((4, 6), np.int32)
    weights = quantise(tmp_path, **{"q.qweight": packed, "q.scales": scb, "norm.weight": scb})
    assert list(weights) == ["norm.weight"]
    assert "GPTQ or AWQ: weights packed" in weights.refused["q.qweight"]
    weights = quantise(tmp_path, **{"a.weight": stored, "a.weight_scale": np.ones(5, np.float32)})
    assert "does not fit (4, 6)" in weights.refused["a.weight"]
    plain = RNG.standard_normal((4, 6)).astype(ml_dtypes.float8_e5m2)
    same(quantise(tmp_path, **{"a.weight": plain}), {"a.weight": plain})


class Payload:
    def __reduce__(self):
        return (open, (os.environ["PAYLOAD"], "w"))


@pytest.mark.parametrize(
    "suffix",
    ["pt", "pth", "th", "bin", "ckpt", "pkl", "safetensors", "npz", "msgpack", "h5", "onnx", "pickle"],
)
def test_nothing_is_unpickled(tmp_path, monkeypatch, suffix):
    if suffix in ("pt", "pth", "th", "bin", "ckpt"):
        pytest.importorskip("torch")
    if suffix == "onnx":
        pytest.importorskip("onnx")
    sign = tmp_path / "executed"
    monkeypatch.setenv("PAYLOAD", str(sign))
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(pickle.dumps({"w": Payload()}))
    with pytest.raises(InputError, match=f"a.{suffix}"):
        dict(checkpoints.open(path))
    assert not sign.exists()


def test_objects_in_npz_are_refused(tmp_path, monkeypatch):
    sign = tmp_path / "executed"
    monkeypatch.setenv("PAYLOAD", str(sign))
    np.savez(tmp_path / "a.npz", w=np.array([Payload()], dtype=object))
    with pytest.raises(InputError, match="as Python objects"):
        checkpoints.open(tmp_path / "a.npz")
    assert not sign.exists()


def written(tmp_path):
    from flax import serialization

    safetensors.numpy.save_file(ARRAYS, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **ARRAYS)
    (tmp_path / "a.msgpack").write_bytes(serialization.to_bytes(nested(ARRAYS)))
    for library in ("torch", "h5py"):
        try:
            module = __import__(library)
        except ImportError:
            continue
        if library == "torch":
            module.save({"w": module.ones(50, 50)}, tmp_path / "a.pt")
        else:
            with module.File(tmp_path / "a.h5", "w") as file:
                file["w"] = np.ones((50, 50))
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.97])
def test_cut_files_are_told(tmp_path, share):
    for path in written(tmp_path):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(InputError, match=path.name) as caught:
            dict(checkpoints.open(path))
        assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint_is_told(tmp_path):
    (tmp_path / "a.txt").write_text("hello, I am no checkpoint")
    (tmp_path / "b.gguf").write_bytes(b"GGUF" + bytes(100))
    (tmp_path / "c.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "d.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("x.txt", "x")
    (tmp_path / "f").mkdir()
    for name, said in {
        "a.txt": "is not of a kind that can be read", "b.gguf": "GGUF", "c.bin": "Git LFS", "d.zip": "is empty",
        "e.zip": "zip archive of another kind", "f": "is not a run's folder", "g": "no such file or directory",
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=said):
            checkpoints.open(tmp_path / name)
    np.savez(tmp_path / "h.npz")
    with pytest.raises(InputError):
        checkpoints.open(tmp_path / "h.npz")
    with pytest.raises(InputError, match="step=3 is given"):
        checkpoints.open(tmp_path / "a.txt", step=3)


def test_the_layout_is_told_by_names():
    tensor = opening.Tensor((2, 2), np.dtype(np.float32), lambda: np.zeros((2, 2)))
    assert opening.told_by_names({"a.kernel": tensor}) == "flax"
    assert opening.told_by_names({"a/b": tensor}) == "flax"
    assert opening.told_by_names({"layer.0.weight": tensor}) == "torch"


def test_opening_a_safetensors_file_imports_neither_orbax_nor_torch(tmp_path):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "a.safetensors")
    code = f"""
import sys
from rmtjax import checkpoints
dict(checkpoints.open({str(tmp_path / "a.safetensors")!r}))
loaded = {{name.split(".")[0] for name in sys.modules}} & {{"orbax", "tensorstore", "torch", "h5py", "flax"}}
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
