"""`checkpoints.open`: every format gives the same arrays, no code is executed, a bad file is named."""

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
from rmtjax.checkpoints.contents import Tensor, layout_from_names
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
    (last, array), *others = arrays.items()
    values = onnx.helper.make_tensor("sparse", onnx.TensorProto.FLOAT, [1], [2.0])
    places = onnx.helper.make_tensor("places", onnx.TensorProto.INT64, [1], [3])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], [last], value=onnx.numpy_helper.from_array(array))],
        "g", [], [], [onnx.numpy_helper.from_array(a, n) for n, a in others],
        sparse_initializer=[onnx.helper.make_sparse_tensor(values, places, [2, 4])],
    )  # fmt: skip
    onnx.save(onnx.helper.make_model(graph), tmp_path / "b.onnx")
    weights = checkpoints.open(tmp_path / "b.onnx")
    same(weights, arrays)
    assert "sparse" in weights.refused["sparse"]


# Class, name, variables in Keras's order, and the names that they have in `.h5`.
KERAS = [
    ("Embedding", "tok", {"embeddings": (30, 8)}),
    (
        "GRU",
        "gru",
        {"gru_cell/kernel": (8, 18), "gru_cell/recurrent_kernel": (6, 18), "gru_cell/bias": (2, 18)},
    ),
    (
        "SeparableConv2D",
        "sep",
        {"depthwise_kernel": (3, 3, 4, 1), "pointwise_kernel": (1, 1, 4, 8), "bias": (8,)},
    ),
    ("DepthwiseConv2D", "dw", {"kernel": (3, 3, 8, 1), "bias": (8,)}),
    ("MultiHeadAttention", "mha", {"query/kernel": (6, 2, 5), "query/bias": (2, 5)}),
    ("Conv1D", "a1", {"kernel": (3, 6, 7)}),
    ("Mine", "mine", {"w": (4, 5), "v": (5, 5), "b": (5, 6)}),
    ("EinsumDense", "mix", {"kernel": (6, 2, 5)}),
]  # fmt: skip
FOLDERS = {
    "gru": "layers/gru/cell", "mha": "layers/multi_head_attention/query_dense", "tok": "layers/embedding",
    "sep": "layers/separable_conv2d", "dw": "layers/depthwise_conv2d", "a1": "layers/conv1d",
    "mine": "layers/mine", "mix": "layers/einsum_dense_1",
}  # fmt: skip


@pytest.mark.parametrize("kind", [".h5", ".weights.h5", ".keras"])
def test_keras(tmp_path, kind):
    h5py = pytest.importorskip("h5py")
    layers = [{"class_name": cls, "config": {"name": name}} for cls, name, _ in KERAS]
    config = json.dumps({"class_name": "Functional", "config": {"name": "functional", "layers": layers}})
    path, expected = tmp_path / f"a{kind}", []
    with h5py.File(tmp_path / "model.weights.h5" if kind == ".keras" else path, "w") as file:
        for i, (_, layer, variables) in enumerate(KERAS):
            for number, (name, shape) in enumerate(variables.items()):
                array = np.full(shape, 10 * i + number, np.float32)
                if kind == ".h5":
                    file[f"model_weights/{layer}/{layer}/{name}"] = array
                    last = "depthwise_kernel" if layer == "dw" and name == "kernel" else name
                    expected.append((f"{layer}/{layer}/{last}", array))
                    continue
                file[f"{FOLDERS[layer]}/vars/{number}"] = array
                file[f"{FOLDERS[layer]}/vars"].attrs["name"] = name.split("/")[0] if "/" in name else layer
                file.require_group(f"layers/{FOLDERS[layer].split('/')[1]}/vars").attrs["name"] = layer
                last = name.split("/")[-1]
                if layer == "dw":
                    last = last.replace("kernel", "depthwise_kernel")
                elif layer == "mine":
                    last = "kernel" if number == 0 else f"vars/{number}"
                expected.append((f"{FOLDERS[layer]}/{last}", array))
        file["optimizer/vars/0"] = np.ones((3, 4))
        if kind == ".h5":
            file.attrs["model_config"] = config
    if kind == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(tmp_path / "model.weights.h5", "model.weights.h5")
            archive.writestr("config.json", config)
    weights = checkpoints.open(path)
    mix, _ = expected.pop()
    same(weights, dict(expected))
    assert weights.layout == "keras"
    assert "state of the optimiser" in weights.refused["optimizer"]
    assert "only its equation" in weights.refused[mix]
    if kind != ".weights.h5":  # the config tells the order
        folders = list(dict.fromkeys(name.split("/")[0 if kind == ".h5" else 1] for name in weights))
        assert folders == list(dict.fromkeys(n.split("/")[0 if kind == ".h5" else 1] for n, _ in expected))


def test_keras_without_a_config_tells_classes_by_names(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        for name in ("layers/dense_10", "layers/dense_2", "encoder/first"):
            file[f"{name}/vars/0"] = np.ones((3, 4), ml_dtypes.bfloat16)
            file[f"{name}/vars/1"] = np.ones((2, 4), np.int8)
    weights = checkpoints.open(tmp_path / "a.weights.h5")
    assert list(weights) == ["encoder/first/kernel", "layers/dense_2/kernel", "layers/dense_10/kernel"]
    assert weights["layers/dense_2/kernel"].dtype == ml_dtypes.bfloat16
    assert "int8: quantised" in weights.refused["layers/dense_2/bias"]


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


@pytest.mark.parametrize(
    ("shape", "size", "name", "axis"),
    [
        ((96, 32), 32, "d/kernel", 1),
        ((96, 32), 96, "d/kernel", 0),
        ((32, 32), 32, "d/kernel", 1),
        ((3, 3, 4, 9), 9, "d/kernel", 3),
        ((32, 32), 32, "d.weight", 0),
        ((96, 32), 32, "d.weight", 1),
        ((9, 4, 3, 3), 9, "d.weight", 0),
        ((96, 32), 48, "d/kernel", None),
        ((9, 4, 3, 3), 3, "d.weight", None),
    ],
)
def test_a_scale_of_one_axis_is_of_the_outputs_or_else_of_the_inputs(tmp_path, shape, size, name, axis):
    stored = RNG.integers(-127, 128, shape).astype(np.int8)
    factor = RNG.uniform(0.5, 2, size).astype(np.float32)
    if axis is None:
        factor_too = {"other": np.ones((2, 2), np.float32)}
        weights = quantise(tmp_path, **{name: stored, f"{name}_scale": factor} | factor_too)
        assert list(weights) == ["other"]
        assert "does not fit" in weights.refused[name]
        return
    weights = quantise(tmp_path, **{name: stored, f"{name}_scale": factor})
    wide = np.expand_dims(factor, [i for i in range(len(shape)) if i != axis])
    np.testing.assert_allclose(weights[name], stored * wide, rtol=1e-6)


def test_a_zero_point_is_refused_and_its_scale_is_no_weight(tmp_path):
    tensors = {
        "a.weight": np.ones((4, 6), np.int8), "a.weight_scale": np.ones((4, 1), np.float32),
        "a.weight_zero_point": np.ones((4, 1), np.int8), "b.weight": np.ones((4, 6), np.float32),
    }  # fmt: skip
    weights = quantise(tmp_path, **tensors)
    assert list(weights) == ["b.weight"]
    assert list(weights.refused) == ["a.weight"]
    assert "zero point" in weights.refused["a.weight"]


def test_eight_bits_of_bitsandbytes_and_what_is_refused(tmp_path):
    stored = RNG.integers(-127, 128, (4, 6)).astype(np.int8)
    scb = np.arange(1.0, 5.0, dtype=np.float32)
    weights = quantise(tmp_path, **{"a.weight": stored, "a.SCB": scb, "b.weight": stored})
    assert list(weights) == ["a.weight"]
    np.testing.assert_allclose(weights["a.weight"], stored * scb[:, None] / 127, rtol=1e-6)
    assert "int8 without a known scale" in weights.refused["b.weight"]
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
    (tmp_path / "c.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "d.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("x.txt", "x")
    (tmp_path / "f").mkdir()
    for name, said in {
        "a.txt": "is not of a kind that can be read",
        "c.bin": "Git LFS",
        "d.zip": "is empty",
        "e.zip": "zip archive of another kind",
        "f": "is not a run's folder",
        "g": "no such file or directory",
    }.items():
        with pytest.raises(InputError, match=said):
            checkpoints.open(tmp_path / name)
    np.savez(tmp_path / "h.npz")
    with pytest.raises(InputError):
        checkpoints.open(tmp_path / "h.npz")
    with pytest.raises(InputError, match="step=3 is given"):
        checkpoints.open(tmp_path / "a.txt", step=3)


def test_names_decide_the_layout():
    tensor = Tensor((2, 2), np.dtype(np.float32), lambda: np.zeros((2, 2)))
    assert layout_from_names({"a.kernel": tensor}) == "flax"
    assert layout_from_names({"a/b": tensor}) == "flax"
    assert layout_from_names({"layer.0.weight": tensor}) == "torch"


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


def msgpack_of(path, tree):
    from flax import serialization

    path.write_bytes(serialization.to_bytes(tree))
    return checkpoints.open(path)


def test_only_what_lies_beside_the_weights_is_left_out_and_it_is_named(tmp_path):
    w, v = np.ones((3, 4), np.float32), np.zeros((5, 4), np.float32)
    both = {"kernel": w}
    for tree, names, refused in (
        ({"params": {"model": {"d": both}, "head": both}}, ["model/d/kernel", "head/kernel"], []),
        ({"model": {"d": both}, "head": both}, ["model/d/kernel", "head/kernel"], []),
        (
            {"params": {"step": both, "opt": both, "rngs": both}},
            ["step/kernel", "opt/kernel", "rngs/kernel"],
            [],
        ),
        ({"params": both, "ema": {"kernel": v}, "step": np.ones(())}, ["kernel"], ["ema", "step"]),
        (
            {"params": {"params": both, "cache": both}, "opt_state": both},
            ["kernel"],
            ["opt_state", "params/cache"],
        ),
        ({"model": both, "optimizer": {"mu": both}}, ["kernel"], ["optimizer"]),
        ({"params": both, "batch_stats": {"mean": v}}, ["kernel", "batch_stats/mean"], []),
    ):  # fmt: skip
        weights = msgpack_of(tmp_path / "a.msgpack", tree)
        assert set(weights) == set(names)
        assert sorted(weights.refused) == refused
        orbax_save(tmp_path / f"o{len(list(tmp_path.iterdir()))}", tree)
        last = max(tmp_path.glob("o*"), key=lambda folder: folder.stat().st_mtime_ns)
        again = checkpoints.open(last)
        assert set(again) == set(names)
        assert again.refused == weights.refused
    np.savez(tmp_path / "b.npz", **{"params/d/kernel": w, "opt/0/mu/d/kernel": v, "opt/0/nu/d/kernel": v})
    weights = checkpoints.open(tmp_path / "b.npz")
    assert list(weights) == ["d/kernel"]
    assert weights.refused == {"opt": "state of the optimiser, not weights (2 arrays)"}
    np.savez(tmp_path / "c.npz", **{"opt/mu": w})
    with pytest.raises(InputError, match="holds no arrays that are weights; opt: state of the optimiser"):
        checkpoints.open(tmp_path / "c.npz")


def test_torch_names_what_it_does_not_read(tmp_path):
    torch = pytest.importorskip("torch")
    w = torch.ones(3, 4)
    state = {"a.weight": w, "list": [w, {"b": w}], "s.weight": torch.ones(3, 3).to_sparse()}
    torch.save(state, tmp_path / "a.pt")
    weights = checkpoints.open(tmp_path / "a.pt")
    assert set(weights) == {"a.weight", "list.0", "list.1.b"}
    assert weights.refused == {"s.weight": "stored as sparse_coo, which is not read"}
    moments = {"state": {0: {"exp_avg": w, "exp_avg_sq": w}}}
    for key, other in (("weights", "optimizer"), ("generator", "opt_g"), ("model", "optimizer_states")):
        torch.save({"epoch": 3, key: {"a.weight": w}, other: moments}, tmp_path / "b.pt")
        weights = checkpoints.open(tmp_path / "b.pt")
        assert set(weights) == {"generator.a.weight" if key == "generator" else "a.weight"}
        assert weights.refused == {other: "state of the optimiser, not weights (2 arrays)"}
    torch.save({"model": {"a.weight": w}, "ema": {"a.weight": w}}, tmp_path / "c.pt")
    weights = checkpoints.open(tmp_path / "c.pt")
    assert weights.refused == {"ema": "beside 'model', and only that is read as weights (1 array)"}


def test_the_error_for_a_bad_torch_file_is_one_sentence(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.ones(50, 50)}, tmp_path / "a.th", _use_new_zipfile_serialization=False)
    (tmp_path / "a.th").write_bytes((tmp_path / "a.th").read_bytes()[:3000])
    (tmp_path / "b.pt").write_text("epoch 1: loss 2.3\n" * 20)
    for name in ("a.th", "b.pt"):
        with pytest.raises(
            InputError, match="is not a whole torch file: it is truncated, or not of the kind"
        ):
            checkpoints.open(tmp_path / name)
    with pytest.raises(InputError, match=r"is a folder of several files of weights: name one of a.th, b.pt"):
        checkpoints.open(tmp_path)


def test_a_broken_index_and_a_dtype_that_is_not_read(tmp_path):
    header = {
        "a": {"dtype": "F8_E8M0", "shape": [2, 2], "data_offsets": [0, 4]},
        "b": {"dtype": "F32", "shape": [1, 2], "data_offsets": [4, 12]},
    }
    text = json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(12))
    weights = checkpoints.open(tmp_path / "m.safetensors")
    assert list(weights) == ["b"]
    assert weights.refused == {"a": "stored as F8_E8M0, a dtype that is not read"}
    for content in ("{bad", "[]", "{}", '{"weight_map": 3}'):
        (tmp_path / "m.safetensors.index.json").write_text(content)
        with pytest.raises(InputError, match=r"index.json' is not an index of shards"):
            checkpoints.open(tmp_path)


def test_dots_of_flax_names_become_slashes(tmp_path):
    tensors = {"enc.conv.kernel": np.ones((3, 3, 8, 16)), "enc.embedding": np.ones((20, 8))}
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    weights = checkpoints.open(tmp_path / "a.safetensors")
    assert weights.layout == "flax"
    assert set(weights) == {"enc/conv/kernel", "enc/embedding"}


def shard(path, **tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, path)


def test_the_index_decides_which_files_are_read(tmp_path):
    w, v = (RNG.standard_normal((6, 4)).astype(np.float32) for _ in range(2))
    shard(tmp_path / "model-00001-of-00002.safetensors", **{"a.weight": w})
    shard(tmp_path / "model-00002-of-00002.safetensors", **{"b.weight": v, "a.weight": v})
    shard(tmp_path / "consolidated.safetensors", wa=w, wb=v)
    where = {"a.weight": "model-00001-of-00002.safetensors", "b.weight": "model-00002-of-00002.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    weights = checkpoints.open(tmp_path)
    same(weights, {"a.weight": w, "b.weight": v})
    assert "does not name" in weights.refused["consolidated.safetensors"]
    for outside in ("../model-00002-of-00002.safetensors", "/etc/hostname", ".."):
        index.write_text(json.dumps({"weight_map": where | {"b.weight": outside}}))
        with pytest.raises(InputError, match="which is outside of its folder"):
            checkpoints.open(tmp_path)
    index.write_text(json.dumps({"weight_map": where | {"c.weight": where["a.weight"]}}))
    with pytest.raises(InputError, match=r"00001-of-00002.safetensors' lacks the tensor 'c.weight'"):
        checkpoints.open(tmp_path)


def test_without_an_index_numbered_shards_go_before_single_files_and_variants_are_said(tmp_path):
    w, v = (RNG.standard_normal((6, 4)).astype(np.float32) for _ in range(2))
    shard(tmp_path / "a/model.safetensors", w=w)
    shard(tmp_path / "a/model.fp16.safetensors", w=w.astype(np.float16))
    shard(tmp_path / "a/consolidated.safetensors", other=w)
    weights = checkpoints.open(tmp_path / "a")
    same(weights, {"w": w})
    assert set(weights.refused) == {"model.fp16.safetensors", "consolidated.safetensors"}
    shard(tmp_path / "b/model-00001-of-00002.safetensors", w=w)
    shard(tmp_path / "b/consolidated.00.safetensors", other=w)
    with pytest.raises(InputError, match=r"lacks the shard 'model-00002-of-00002.safetensors'"):
        checkpoints.open(tmp_path / "b")
    shard(tmp_path / "b/model-00002-of-00002.safetensors", v=v)
    same(checkpoints.open(tmp_path / "b"), {"w": w, "v": v})


def test_the_sub_models_of_a_diffusers_folder_are_read_by_name(tmp_path):
    w, v = (RNG.standard_normal((6, 4)).astype(np.float32) for _ in range(2))
    shard(tmp_path / "p/unet/diffusion_pytorch_model.safetensors", **{"conv.weight": w})
    shard(tmp_path / "p/vae/diffusion_pytorch_model.safetensors", **{"conv.weight": v})
    with pytest.raises(InputError, match=r"name one of its folders unet, vae"):
        checkpoints.open(tmp_path / "p")
    (tmp_path / "p/model_index.json").write_text("{}")
    same(checkpoints.open(tmp_path / "p"), {"unet.conv.weight": w, "vae.conv.weight": v})


def test_checkpoints_of_a_trainer_are_steps(tmp_path):
    for step in (500, 1000):
        shard(tmp_path / f"checkpoint-{step}/model.safetensors", w=np.full((3, 2), float(step)))
    assert checkpoints.open(tmp_path)["w"][0, 0] == 1000
    assert checkpoints.open(tmp_path, step=500)["w"][0, 0] == 500


def test_byte_orders_and_wide_floats_become_what_jax_computes_with(tmp_path):
    w = RNG.standard_normal((6, 4))
    wide = w.astype(np.longdouble) * (1 + np.finfo(np.longdouble).eps)
    np.savez(tmp_path / "a.npz", big=w.astype(">f4"), double=w.astype(">f8"), long=wide, native=w, text=["a"])
    weights = checkpoints.open(tmp_path / "a.npz")
    expected = {"big": w.astype(np.float32), "double": w, "long": wide.astype(np.float64), "native": w}
    same(weights, expected)
    assert all(spec.dtype.isnative for spec in weights.specs.values())
    assert weights.refused == {"text": "stored as <U1, which names no kind of numbers"}


def test_a_bare_npy_file(tmp_path):
    w = RNG.standard_normal((6, 4))
    for order in "CF":
        np.save(tmp_path / "a.npy", np.asarray(w, order=order))
        same(checkpoints.open(tmp_path / "a.npy"), {"matrix": w})
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object))
    with pytest.raises(InputError, match="holds Python objects"):
        checkpoints.open(tmp_path / "b.npy")
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-8])
    with pytest.raises(InputError, match=r"is not a whole npy file: 'matrix' of shape \(6, 4\) claims 192"):
        checkpoints.open(tmp_path / "a.npy")


def test_float8_of_every_kind_is_read_or_said(tmp_path):
    from flax import serialization

    kinds = [
        np.dtype(getattr(ml_dtypes, name))
        for name in dir(ml_dtypes)
        if name.startswith("float8_e") and "8m0" not in name
    ]
    assert len(kinds) >= 7
    arrays = {kind.name: RNG.standard_normal((6, 4)).astype(kind) for kind in kinds}
    (tmp_path / "a.msgpack").write_bytes(serialization.to_bytes(arrays))
    same(checkpoints.open(tmp_path / "a.msgpack"), arrays)
    np.savez(tmp_path / "a.npz", **arrays, w=np.ones((2, 2)))
    weights = checkpoints.open(tmp_path / "a.npz")  # numpy forgets which kind it was
    assert list(weights) == ["w"]
    assert set(weights.refused) == set(arrays)


def test_torch_files_with_numbers_of_numpy(tmp_path):
    torch = pytest.importorskip("torch")
    w = RNG.standard_normal((3, 4)).astype(np.float32)
    beside = {"loss": np.float64(0.5), "best": np.float32(2), "n": np.int64(3), "done": np.bool_(True)}
    torch.save({"state_dict": {"a.weight": torch.from_numpy(w)}, "metrics": beside}, tmp_path / "a.pt")
    same(checkpoints.open(tmp_path / "a.pt"), {"a.weight": w})
    torch.save({"a.weight": w, "b.weight": torch.from_numpy(w)}, tmp_path / "b.pt")
    same(checkpoints.open(tmp_path / "b.pt"), {"a.weight": w, "b.weight": w})


def test_a_file_of_flax_without_an_ending_and_a_folder_of_them(tmp_path):
    from flax import serialization

    (tmp_path / "notes_7").write_text("7 epochs")
    for step in (1, 20, 100):
        tree = {"params": {"d": {"kernel": np.full((3, 2), float(step))}}, "step": step}
        (tmp_path / f"checkpoint_{step}").write_bytes(serialization.to_bytes(tree))
    assert checkpoints.open(tmp_path / "checkpoint_20")["d/kernel"][0, 0] == 20
    assert checkpoints.open(tmp_path)["d/kernel"][0, 0] == 100
    assert checkpoints.open(tmp_path, step=1)["d/kernel"][0, 0] == 1
    with pytest.raises(InputError, match="has no step 7: it has 1, 20, 100"):
        checkpoints.open(tmp_path, step=7)


def test_boxes_around_some_parameters_are_opened(tmp_path):
    w = np.ones((3, 4), np.float32)
    tree = {
        "boxed": {"kernel": {"value": w}, "bias": w[0]},
        "attention": {"query": w, "value": w},  # no box: a parameter of this name
        "value": {"kernel": {"value": w}},
    }
    weights = msgpack_of(tmp_path / "a.msgpack", {"params": tree})
    names = ["boxed/kernel", "boxed/bias", "attention/query", "attention/value", "value/kernel"]
    assert sorted(weights) == sorted(names)


def gguf_of(path, **tensors):
    """A file with tensors as `(bytes, kind)`, or as arrays."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    for name, tensor in tensors.items():
        stored, kind = tensor if isinstance(tensor, tuple) else (tensor, None)
        writer.add_tensor(name, stored, raw_dtype=kind and gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def q6_k(rows):
    """Random blocks of 256 numbers of 6 bits (ql, qh, 16 scales, one float16), and their values."""
    ql, qh = (RNG.integers(0, 256, (rows, n), np.uint8) for n in (128, 64))
    scales, d = (
        RNG.integers(-128, 128, (rows, 16), np.int8),
        RNG.uniform(0.01, 1, (rows, 1)).astype(np.float16),
    )
    values = np.zeros((rows, 256))
    for half in range(2):
        for part in range(4):  # of 32 numbers each
            low = ql[:, 64 * half + 32 * (part % 2) :][:, :32] >> 4 * (part // 2) & 15
            high = qh[:, 32 * half :][:, :32] >> 2 * part & 3
            sc = np.repeat(scales[:, 8 * half + 2 * part :][:, :2], 16, axis=1)
            start = 128 * half + 32 * part
            number = (low | high << 4).astype(int) - 32
            values[:, start : start + 32] = d.astype(float) * sc * number
    stored = np.concatenate([ql, qh, scales.view(np.uint8), d.view(np.uint8)], axis=1)
    return stored, values


def test_gguf_dequantises_what_its_package_knows(tmp_path):
    w = RNG.standard_normal((6, 64)).astype(np.float32)
    d = RNG.uniform(0.01, 1, (6, 2, 1)).astype(np.float16)
    q = RNG.integers(-127, 128, (6, 2, 32), np.int8)
    q8 = np.concatenate([d.view(np.uint8), q.view(np.uint8)], axis=2).reshape(6, -1)
    q6, values = q6_k(5)
    narrow = w.astype(ml_dtypes.bfloat16)
    path = gguf_of(
        tmp_path / "a.gguf", f32=w, f16=w.astype(np.float16), q8=(q8, "Q8_0"), q6=(q6, "Q6_K"),
        bf16=(narrow.view(np.uint8), "BF16"), q8_k=(np.zeros((2, 292), np.uint8), "Q8_K"),
    )  # fmt: skip
    weights = checkpoints.open(path)
    same(weights, {"f32": w, "f16": w.astype(np.float16), "bf16": narrow.astype(np.float32)} | {
        name: weights[name] for name in ("q8", "q6")
    })  # fmt: skip
    expected = (d.astype(np.float32) * q).reshape(6, 64)
    np.testing.assert_allclose(weights["q8"], expected, rtol=1e-6)
    np.testing.assert_allclose(weights["q6"], values, rtol=1e-6)
    assert weights.layout == "torch"
    assert "Q8_K" in weights.refused["q8_k"]


def test_a_cut_gguf_file_and_one_that_announces_too_much_are_said(tmp_path):
    content = gguf_of(tmp_path / "a.gguf", f32=np.ones((6, 64), np.float32)).read_bytes()
    for end in (3, 20, 60, len(content) - 9):
        (tmp_path / "b.gguf").write_bytes(content[:end])
        with pytest.raises(InputError, match=r"b.gguf' is not (a whole GGUF file|of a kind)"):
            checkpoints.open(tmp_path / "b.gguf")
    tokens = content.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens") + 8
    for place in (8, 16, tokens):  # tensors, keys, length of the list
        lie = content[:place] + (2**60).to_bytes(8, "little") + content[place + 8 :]
        (tmp_path / "b.gguf").write_bytes(lie)
        with pytest.raises(InputError, match=r"b.gguf' is not a whole GGUF file"):
            checkpoints.open(tmp_path / "b.gguf")


def test_without_the_package_gguf_what_to_install_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(InputError, match=r"gguf is not installed: pip install 'rmtjax\[gguf\]'"):
        checkpoints.open(tmp_path / "a.gguf")
