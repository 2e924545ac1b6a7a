"""`checkpoints.open`: every format gives the same arrays, no code is executed, a bad file is named."""

import importlib.util
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
with_tensorflow = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="no TensorFlow")
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


@with_tensorflow
def test_tensorflow(tmp_path):
    program = f"""
import keras
import numpy as np
import tensorflow as tf

keras.utils.set_random_seed(0)
layers = [keras.layers.Conv2D(4, 3, name="stem"), keras.layers.Flatten(), keras.layers.Dense(6)]
layers += [keras.layers.Reshape((6, 1)), keras.layers.DepthwiseConv1D(2, name="depthwise_conv1d")]
model = keras.Sequential([keras.Input((5, 5, 3)), *layers])
model.compile("adam", "mse")
model.fit(np.ones((2, 5, 5, 3)), np.ones((2, 5, 1)), verbose=0)  # gives the optimiser a state
folder = {str(tmp_path)!r}
model.export(folder + "/exported", verbose=False)
tf.saved_model.save(model, folder + "/saved")
tf.train.Checkpoint(model=model).write(folder + "/checkpoint/model-7")
np.savez(folder + "/weights.npz", **{{v.path.replace("/", "|"): v.numpy() for v in model.weights}})
"""
    quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | quiet, capture_output=True)
    stored = np.load(tmp_path / "weights.npz")
    expected = {name.replace("|", "/"): stored[name] for name in stored}
    depthwise = expected.pop("sequential/depthwise_conv1d/kernel")
    expected["sequential/depthwise_conv1d/depthwise_kernel"] = depthwise
    for kind in ("exported", "saved", "checkpoint", "checkpoint/model-7.index"):
        weights = checkpoints.open(tmp_path / kind)
        assert weights.layout == "keras"
        same(weights, expected)
        assert ("optimizer" in weights.refused) == (kind != "exported")


@with_tensorflow
def test_a_checkpoint_of_tensorflow_without_its_numbers_is_one_sentence(tmp_path):
    (tmp_path / "model.index").write_bytes(bytes(200))
    with pytest.raises(InputError, match=r"model\.index' is not a whole TensorFlow file: "):
        checkpoints.open(tmp_path)


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


FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def pairs(codes):
    """Numbers of four bits, two in a byte, the first in its low half."""
    return (codes[..., ::2] | codes[..., 1::2] << 4).astype(np.uint8)


def words(codes, bits):
    """Numbers of so many bits, packed into uint32 from the lowest bit on."""
    stream = (codes[..., None] >> np.arange(bits) & 1).astype(np.uint8).reshape(len(codes), -1)
    return np.packbits(stream, axis=-1, bitorder="little").view("<u4")


def wide(factor, shape):
    """Each factor repeated over its block."""
    return np.kron(
        np.asarray(factor, np.float32), np.ones([n // f for n, f in zip(shape, factor.shape, strict=True)])
    )


def read_alone(weights, name, expected):
    assert list(weights) == [name]
    np.testing.assert_allclose(weights[name], expected, rtol=1e-6)
    assert weights.specs[name].shape == expected.shape
    assert weights.specs[name].dtype == weights[name].dtype == np.float32


@pytest.mark.parametrize(
    ("data", "scale"),
    [
        ("fc.weight", "fc.scale"),
        ("fc.weight", "fc.scale_weight"),
        ("fc.weight", "fc.weight_scales"),
        ("fc.weight", "fc.weights_scaling_factor"),
        ("fc.weight", "fc.weight.scale"),
        ("fc.weight._data", "fc.weight._scale"),
        ("fc/kernel", "fc/kernel_scale"),
        ("fc/kernel/qvalue", "fc/kernel/scale"),
    ],
)
def test_scales_under_all_their_names(tmp_path, data, scale):
    stored = RNG.integers(-127, 128, (64, 48)).astype(np.int8)
    factor = RNG.uniform(0.5, 2, (4, 3)).astype(np.float32)
    activations = {f"{data.rsplit('.')[0]}.input_scale": np.ones(1)}
    weights = quantise(tmp_path, **{data: stored, scale: factor} | activations)
    name = data.removesuffix("._data").removesuffix("/qvalue")
    assert scale not in weights
    np.testing.assert_allclose(weights[name], stored * wide(factor, stored.shape), rtol=1e-6)


@pytest.mark.parametrize("as_bytes", [False, True])
def test_scales_that_are_powers_of_two(tmp_path, as_bytes):
    """E8M0 stores the exponent, plus 127; safetensors' own reader of numpy knows no such dtype."""
    stored = (RNG.standard_normal((64, 80)) * 30).astype(ml_dtypes.float8_e4m3fn)
    exponents = RNG.integers(120, 135, (4, 3)).astype(np.uint8)  # blocks of 16 x 32, the last one narrower
    header = {
        "a.weight": {"dtype": "F8_E4M3", "shape": [64, 80], "data_offsets": [0, 5120]},
        "a.weight_scale_inv": {
            "dtype": "U8" if as_bytes else "F8_E8M0", "shape": [4, 3], "data_offsets": [5120, 5132]
        },
    }  # fmt: skip
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + stored.tobytes() + exponents.tobytes()
    (tmp_path / "a.safetensors").write_bytes(content)
    powers = np.kron(2.0 ** (exponents.astype(float) - 127), np.ones((16, 32)))[:, :80]
    read_alone(checkpoints.open(tmp_path / "a.safetensors"), "a.weight", stored.astype(float) * powers)


def test_eight_bits_whose_scale_was_not_read_are_refused(tmp_path):
    eight, float8 = np.ones((64, 48), np.int8), np.ones((64, 48), ml_dtypes.float8_e4m3fn)
    other, scale = np.ones((3, 4), np.float32), np.ones((64, 1), np.float32)
    for beside in (
        {"a.my_scale": scale}, {"a.weight_scale": np.ones((7, 5), np.float32)}, {"scaled_fp8": np.ones(1)},
        {"a.weight_scale": scale, "a.weight_scale_2": scale}, {"b.weight": float8, "b.weight_scale": scale},
        {"a.weight_scale": scale, "a.zero": scale}, {"a._extra_state": np.ones(3, np.uint8)},
        {"scales.a.weight": np.ones(1)}, {"my_scales.a": np.ones(1)},
    ):  # fmt: skip
        for weight in (eight, float8):
            weights = quantise(tmp_path, **{"a.weight": weight, "c.weight": other} | beside)
            vectors = {name for name, array in beside.items() if array.ndim < 2}
            assert set(weights) - {"b.weight"} <= {"c.weight"} | vectors
            assert "a.weight" in weights.refused
    weights = quantise(tmp_path, **{"a.weight": eight, "a.weight_scales": scale[:, 0], "c.weight": other})
    assert list(weights) == ["c.weight"]
    assert "EETQ" in weights.refused["a.weight"]
    weights = quantise(tmp_path, **{"c.weight": other, "a.weight_scale": scale})  # a scale without weights
    assert list(weights) == ["c.weight"]
    assert "scale or zero point" in weights.refused["a.weight_scale"]


@pytest.mark.parametrize("program", ["modelopt", "compressed-tensors", "mlx", "gpt-oss", "mx"])
def test_four_bit_floats(tmp_path, program):
    """NVFP4 has float8 scales of 16 numbers and one for all; MXFP4 has powers of two for 32."""
    codes = RNG.integers(0, 16, (6, 64)).astype(np.uint8)
    name = "mlp.experts.up" if program == "gpt-oss" else "up.weight"
    if program in ("modelopt", "compressed-tensors"):
        factor = RNG.uniform(1, 200, (6, 4)).astype(ml_dtypes.float8_e4m3fn)
        one = np.array([0.25 if program == "modelopt" else 4], np.float32)
        expected = FP4[codes] * wide(factor.astype(np.float32), codes.shape) / 4
        end, common = (
            ("weight", "weight_scale_2")
            if program == "modelopt"
            else ("weight_packed", "weight_global_scale")
        )
        tensors = {f"up.{end}": pairs(codes), "up.weight_scale": factor, f"up.{common}": one}
    else:
        exponents = RNG.integers(120, 130, (6, 2)).astype(np.uint8)
        expected = FP4[codes] * wide(2.0 ** (exponents.astype(float) - 127), codes.shape)
        ends = {
            "mlx": ("weight", "scales"),
            "mx": ("weight_packed", "weight_scale"),
            "gpt-oss": ("_blocks", "_scales"),
        }
        before = name.removesuffix("weight")
        packed = pairs(codes)
        if program == "mlx":
            packed = packed.view("<u4")
        elif program == "gpt-oss":
            packed, exponents = packed.reshape(2, 3, 2, 16), exponents.reshape(2, 3, 2)
            expected = expected.reshape(2, 3, 64)
        tensors = dict(zip((before + end for end in ends[program]), (packed, exponents), strict=True))
    read_alone(quantise(tmp_path, **tensors), name, expected)


def test_four_bit_floats_of_a_stack_of_experts(tmp_path):
    codes = RNG.integers(0, 16, (3, 4, 32)).astype(np.uint8)
    factor = RNG.uniform(1, 200, (3, 4, 2)).astype(ml_dtypes.float8_e4m3fn)
    one = RNG.uniform(0.5, 2, 3).astype(np.float32)
    tensors = {"up.weight": pairs(codes), "up.weight_scale": factor, "up.weight_scale_2": one}
    expected = FP4[codes] * np.repeat(factor.astype(np.float32), 16, -1) * one[:, None, None]
    read_alone(quantise(tmp_path, **tensors), "up.weight", expected)
    weights = quantise(tmp_path, **tensors | {"up.weight_scale_2": one[:2], "o": one[None]})
    assert list(weights) == ["o"]


def test_four_bit_floats_without_a_part_are_refused(tmp_path):
    tensors = {
        "up.weight": np.ones((6, 32), np.uint8), "up.weight_scale": np.ones((6, 4), ml_dtypes.float8_e4m3fn),
        "c.weight": np.ones((3, 4), np.float32),
    }  # fmt: skip
    weights = quantise(tmp_path, **tensors)
    assert list(weights) == ["c.weight"]
    assert "neither NVFP4 nor MXFP4" in weights.refused["up.weight"]


@pytest.mark.parametrize("bits", [4, 8])
def test_compressed_tensors(tmp_path, bits):
    codes = RNG.integers(0, 2**bits, (6, 64))
    factor = RNG.uniform(0.5, 2, (6, 2)).astype(np.float32)
    tensors = {
        "q.weight_packed": words(codes, bits).view(np.int32), "q.weight_scale": factor,
        "q.weight_shape": np.array([6, 64]),
    }  # fmt: skip
    read_alone(quantise(tmp_path, **tensors), "q.weight", (codes - 2 ** (bits - 1)) * wide(factor, (6, 64)))
    for end in ("zero_point", "g_idx"):
        weights = quantise(tmp_path, **tensors | {f"q.weight_{end}": np.zeros((1, 2), np.int32), "o": factor})
        assert list(weights) == ["o"]
        assert "compressed-tensors" in weights.refused["q.weight_packed"]


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_mlx(tmp_path, bits):
    codes = RNG.integers(0, 2**bits, (6, 64))
    scales, biases = RNG.standard_normal((2, 6, 2)).astype(np.float16)
    tensors = {"q.weight": words(codes, bits), "q.scales": scales, "q.biases": biases}
    weights = quantise(tmp_path, **tensors | {"o.weight": np.ones((3, 4), np.float32)})
    assert list(weights) == ["o.weight"]
    assert "told by a config.json" in weights.refused["q.weight"]
    config = {"quantization": {"bits": 5, "group_size": 32, "q": {"bits": bits, "group_size": 32}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    expected = codes * wide(scales, (6, 64)) + wide(biases, (6, 64))
    read_alone(quantise(tmp_path, **tensors), "q.weight", expected)


def in_groups(bits, symmetric, groups, order=None):
    """Weights [48 inputs, 32 outputs], and their codes, zero points and scales by groups of inputs."""
    weights = (RNG.standard_normal((48, 32)) + (0 if symmetric else 0.7)).astype(np.float32)
    group = np.arange(48) * groups // 48 if order is None else order
    zeros, scales = np.zeros((groups, 32), int), np.zeros((groups, 32), np.float16)
    codes = np.zeros((48, 32), int)
    for i, j in np.ndindex(groups, 32):
        own = weights[group == i, j]
        high = abs(own).max() if symmetric else own.max()
        low = -high if symmetric else min(own.min(), -high / 8)
        scales[i, j] = (high - low) / (2**bits - 1)
        zeros[i, j] = 2 ** (bits - 1) if symmetric else round(-low / scales[i, j])
        found = np.round(own / scales[i, j]) + zeros[i, j]
        codes[group == i, j] = np.clip(found, 0, 2**bits - 1)
    dequantised = scales.astype(np.float32)[group] * (codes - zeros[group])
    return weights, codes, zeros, scales, dequantised.astype(np.float32)


def int32(codes, bits, order=None):
    """Numbers along the last axis, so many bits each, in int32: the i-th bits hold number `order[i]`."""
    order = range(32 // bits) if order is None else order
    parts = codes.reshape(len(codes), -1, 32 // bits).astype(np.uint64)
    packed = np.zeros(parts.shape[:2], np.uint64)
    for i, place in enumerate(order):
        packed |= parts[..., place] << np.uint64(bits * i)
    return packed.astype(np.uint32).view(np.int32)


def close_to(weights, name, dequantised, true, bits):
    """Whether the weights are those of the reference, and near the true ones."""
    read_alone(weights, name, dequantised.T)
    norms = np.linalg.norm(weights[name]), np.linalg.norm(true)
    assert norms[0] == pytest.approx(norms[1], rel=0.02 if bits == 4 else 2e-3)
    assert np.linalg.norm(weights[name] - true.T) < 2 * 2.0**-bits * norms[1]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("version", ["", "gptq", "gptq_v2"])
@pytest.mark.parametrize("ordered", [True, False])
def test_gptq(tmp_path, bits, symmetric, version, ordered):
    order = None if ordered else RNG.permutation(np.arange(48) // 16)
    true, codes, zeros, scales, dequantised = in_groups(bits, symmetric, 3, order)
    stored = zeros if version == "gptq_v2" else zeros - 1
    tensors = {
        "q.qweight": int32(codes.T, bits).T.copy(), "q.qzeros": int32(stored, bits), "q.scales": scales,
        "q.g_idx": (np.arange(48) // 16 if ordered else order).astype(np.int32),
    }  # fmt: skip
    told = {"quant_method": "gptq", "bits": bits, "sym": symmetric} | (
        {"checkpoint_format": version} if version else {}
    )
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": told}))
    close_to(quantise(tmp_path, **tensors), "q.weight", dequantised, true, bits)
    if ordered:  # files of the first programs have no g_idx
        del tensors["q.g_idx"]
        close_to(quantise(tmp_path, **tensors), "q.weight", dequantised, true, bits)


def test_awq(tmp_path):
    true, codes, zeros, scales, dequantised = in_groups(4, False, 3)
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    tensors = {
        "q.qweight": int32(codes, 4, order), "q.qzeros": int32(zeros, 4, order), "q.scales": scales,
    }  # fmt: skip
    told = {"quant_method": "awq", "bits": 4, "version": "gemm", "zero_point": True, "group_size": 16}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": told}))
    close_to(quantise(tmp_path, **tensors), "q.weight", dequantised, true, 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (None, "told by a config.json with quantization_config, which is not beside it"),
        ({"quant_method": "auto-round"}, "told by a config.json"),
        ({"checkpoint_format": "marlin"}, "the format 'marlin' of GPTQ is not known"),
        ({"checkpoint_format": "gptq", "format": "gptq_v2"}, "the format 'several' of GPTQ is not known"),
        ({"pack_dtype": "int16"}, "is not known"),
        ({"checkpoint_format": "gptq_v2", "sym": True}, "not those of symmetric groups"),
        ({"quant_method": "awq", "version": "gemv", "zero_point": True}, "AWQ is read in its version 'gemm'"),
        ({"quant_method": "awq", "version": "gemm", "zero_point": True}, "are no groups of 4 bits"),
        ({"zeros": 15}, "its zero points, stored less 1, have 15, which stands for 0 or for 16"),
        ({"bits": 2}, "are no groups of 4 or 8 bits"),
        ({"order": np.zeros(47, np.int32)}, "are no groups of 4 or 8 bits"),
        ({"order": None, "desc_act": True}, "the order of its groups, g_idx, is missing"),
    ],
)
def test_gptq_and_awq_are_refused_where_something_is_not_known(tmp_path, change, reason):
    told = {"quant_method": "gptq", "bits": 4, "sym": False} | (change or {})
    order = told.pop("order", np.arange(48, dtype=np.int32) // 16)
    zeros, bits = np.full((3, 32), told.pop("zeros", 7)), told["bits"]
    tensors = {
        "q.qweight": np.ones((48 * bits // 32, 32), np.int32), "q.qzeros": int32(zeros % 2**bits, bits),
        "q.scales": np.ones((3, 32), np.float16), "q.g_idx": order,
        "o.weight": np.ones((3, 4), np.float32),
    }  # fmt: skip
    if change is not None:
        (tmp_path / "config.json").write_text(json.dumps({"quantization_config": told}))
    weights = quantise(tmp_path, **{name: x for name, x in tensors.items() if x is not None})
    assert set(weights) == {"o.weight"}
    assert reason in weights.refused["q.qweight"]


@pytest.mark.parametrize("nested", [False, True])
def test_four_bits_of_bitsandbytes(tmp_path, nested):
    codes = RNG.integers(0, 16, 5 * 26).astype(np.uint8)
    book, scales = RNG.standard_normal(16).astype(np.float32), RNG.uniform(1, 2, 3).astype(np.float32)
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [5, 26]}
    tensors = {"q.weight": (codes[::2] << 4 | codes[1::2])[:, None], "q.weight.quant_map": book}
    if nested:
        outer, inner = RNG.standard_normal(2).astype(np.float32), RNG.standard_normal(256).astype(np.float32)
        places = np.array([3, 250, 77], np.uint8)
        scales = inner[places] * outer[[0, 0, 1]] + np.float32(0.5)
        tensors |= {"q.weight.nested_absmax": outer, "q.weight.nested_quant_map": inner}
        state |= {"nested_blocksize": 2, "nested_offset": 0.5}
    tensors["q.weight.absmax"] = places if nested else scales
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)
    expected = (book[codes] * np.repeat(scales, 64)[:130]).reshape(5, 26)
    read_alone(
        quantise(tmp_path, **tensors, **{"q.weight.quant_state.bitsandbytes__nf4": text}),
        "q.weight",
        expected,
    )
    weights = quantise(tmp_path, **tensors, other=np.ones((2, 2)))  # without its state
    assert list(weights) == ["other"]
    assert "bitsandbytes 4-bit" in weights.refused["q.weight"]


def test_parts_of_layouts_that_are_not_read_are_no_weights(tmp_path):
    half, table = np.ones((16, 8), np.float16), np.ones((49, 4), np.float32)
    tensors = {
        "aqlm.codes": np.ones((4, 8, 1), np.int8), "aqlm.codebooks": np.ones((1, 64, 1, 8), np.float16),
        "aqlm.scales": np.ones((4, 1, 1, 1), np.float16),
        "hqq.W_q": half, "hqq.scale": half, "hqq.zero": half,
        "gptq.qweight": np.ones((2, 8), np.int32), "gptq.scales": half, "new.w": np.ones((4, 4), np.int16),
        "new.book": half, "quanto.weight._data": np.ones((8, 8), np.uint8), "quanto.weight._scale": half,
        "quanto.weight._shift": half, "swin.attn.relative_position_index": np.ones((49, 49), np.int64),
        "swin.attn.table": table, "gpt.attn.mask": np.ones((9, 9), np.uint8), "gpt.attn.c.weight": table,
    }  # fmt: skip
    weights = quantise(tmp_path, **tensors)
    floating = {name for name in weights if weights[name].dtype.kind == "f"}
    assert floating == {"swin.attn.table", "gpt.attn.c.weight"}
    for name in ("aqlm.codebooks", "hqq.zero", "gptq.scales", "new.book", "quanto.weight._scale"):
        assert name in weights.refused or "quanto" in name
    assert "beside 'w'" in weights.refused["new.book"]


def unit(array, axes):
    return array / np.sqrt(np.square(array).sum(axes, keepdims=True))


@pytest.mark.parametrize("names", [("weight_g", "weight_v"), ("original0", "original1")])
def test_weight_norm_is_multiplied_out(tmp_path, names):
    expected, tensors = {}, {"bias": np.ones(3, np.float32)}
    for module, v, axis in (
        ("fc", (6, 5), 0),
        ("conv", (6, 4, 3), 0),
        ("pos", (6, 4, 3), 2),
        ("all", (6, 5), None),
    ):
        direction = RNG.standard_normal(v).astype(np.float32)
        others = tuple(i for i in range(len(v)) if i != axis)
        size = RNG.uniform(1, 2, [n if i == axis else 1 for i, n in enumerate(v)]).astype(np.float32)
        end = "parametrizations.weight." if names[0] == "original0" else ""
        tensors |= {f"{module}.{end}{names[0]}": size, f"{module}.{end}{names[1]}": direction}
        expected[f"{module}.weight"] = size * unit(direction, others)
    weights = quantise(tmp_path, **tensors)
    assert set(weights) == {"bias", *expected}
    for name, array in expected.items():
        np.testing.assert_allclose(weights[name], array, rtol=1e-5)


@pytest.mark.parametrize("parametrised", [False, True])
def test_spectral_norm_and_pruning_are_multiplied_out(tmp_path, parametrised):
    def names(*parts):
        if not parametrised:
            return [f"a.weight_{part}" for part in parts]
        new = {"orig": "original", "u": "0._u", "v": "0._v", "mask": "0.mask"}
        return [f"a.parametrizations.weight.{new[part]}" for part in parts]

    for shape, axis in (((6, 5), 0), ((6, 4, 3, 3), 0), ((4, 6, 3, 3), 1), ((6, 6, 3), 1)):
        array = RNG.standard_normal(shape).astype(np.float32)
        matrix = np.moveaxis(array, axis, 0).reshape(shape[axis], -1)
        left, values, right = np.linalg.svd(matrix)
        tensors = dict(zip(names("orig", "u", "v"), (array, left[:, 0].copy(), right[0]), strict=True))
        read_alone(quantise(tmp_path, **tensors), "a.weight", array / values[0])
    mask = RNG.integers(0, 2, array.shape).astype(np.float32)
    read_alone(
        quantise(tmp_path, **dict(zip(names("orig", "mask"), (array, mask), strict=True))),
        "a.weight",
        array * mask,
    )
    if parametrised:
        tensors = {"a.parametrizations.weight.original": array, "a.parametrizations.weight.0.base": array}
        weights = quantise(tmp_path, **tensors, other=mask)
        assert list(weights) == ["other"]
        assert weights.refused.keys() == tensors.keys()


def test_names_that_end_like_parts_of_weight_norm_are_left_alone(tmp_path):
    arrays = {"att.x_g": np.ones((4, 5), np.float32), "att.x_v": np.ones((4, 5), np.float32)}
    same(quantise(tmp_path, **arrays), arrays)


def test_moments_of_an_optimiser_among_the_weights_are_left_out(tmp_path):
    w = np.ones((4, 6), np.float32)
    kept = {"bert/a/kernel": w, "bert/a/kernel_b": w, "v/other": w, "bert/a/bias": w[0]}
    kept |= {"other": w, "rel_pos": w, "rel_pos_v": w}  # one by itself may be the values of an attention
    moments = (
        "bert/a/kernel/adam_m", "bert/a/kernel/adam_v", "bert/a/kernel/Adam_1", "bert/a/kernel/anything",
        "bert/a/kernel_momentum", "exp_avg/bert/a/kernel", "v/bert/a/kernel", "m/bert/a/kernel",
        "bert/a/kernel_m", "bert/a/kernel_v", "optimizer/state/0", "0/exp_avg_sq",
    )  # fmt: skip
    np.savez(tmp_path / "a.npz", **kept, **dict.fromkeys(moments, w))
    weights = checkpoints.open(tmp_path / "a.npz")
    assert set(weights) == set(kept)
    assert all("state of the optimiser" in reason for reason in weights.refused.values())
    for name in moments:
        assert name in weights.refused or name.split("/")[0] in weights.refused


def test_torch_tells_which_names_share_a_storage(tmp_path):
    torch = pytest.importorskip("torch")
    table, both = torch.ones(6, 4), torch.ones(8, 4)
    state = {
        "wte": table,
        "x": both[:4],
        "y": both[4:],
        "lm_head": table,
        "turned": table.T,
        "own": torch.ones(6, 4),
    }
    torch.save(state, tmp_path / "a.pt")
    weights = checkpoints.open(tmp_path / "a.pt")
    assert set(weights) == set(state)  # all can be read, as a model needs them
    assert weights.tied == {"lm_head": "wte", "turned": "wte"}


def test_the_config_of_an_adapter_beside_its_weights_is_read(tmp_path):
    arrays = {"q.lora_A.weight": np.ones((2, 8), np.float32), "q.lora_B.weight": np.ones((6, 2), np.float32)}
    safetensors.numpy.save_file(arrays, tmp_path / "adapter_model.safetensors")
    paths = (tmp_path, tmp_path / "adapter_model.safetensors")
    assert [checkpoints.open(path).adapter for path in paths] == [{}, {}]
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 64}))
    assert [checkpoints.open(path).adapter for path in paths] == [{"lora_alpha": 64}] * 2


def test_a_folder_with_an_adapter_of_torch_is_one_of_weights(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 64}))
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    (tmp_path / "training_args.bin").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"adapter_model.bin' is (a torch file|not a whole torch file)"):
        checkpoints.open(tmp_path)
    torch = pytest.importorskip("torch")
    factors = {"q.lora_A.weight": torch.ones(2, 8), "q.lora_B.weight": torch.ones(6, 2)}
    torch.save(factors, tmp_path / "adapter_model.bin")
    opened = checkpoints.open(tmp_path)
    assert (set(opened), opened.adapter) == (set(factors), {"lora_alpha": 64})


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
        "a": {"dtype": "F6_E2M3", "shape": [4, 4], "data_offsets": [0, 12]},
        "b": {"dtype": "F32", "shape": [1, 2], "data_offsets": [12, 20]},
    }
    text = json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(20))
    weights = checkpoints.open(tmp_path / "m.safetensors")
    assert list(weights) == ["b"]
    assert weights.refused == {"a": "stored as F6_E2M3, a dtype that is not read"}
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


@pytest.mark.parametrize(
    ("name", "start", "library", "extra"),
    [
        ("a GGUF file", b"GGUF", "gguf", "gguf"),
        ("a torch file", b"a", "torch", "formats"),
        ("a Keras file", b"\x89HDF", "h5py", "formats"),
        ("an ONNX file", b"a", "onnx", "formats"),
    ],
)
def test_without_an_optional_library_its_extra_is_named(tmp_path, monkeypatch, name, start, library, extra):
    monkeypatch.setitem(sys.modules, library, None)
    path = tmp_path / ("a.onnx" if library == "onnx" else "a.bin")
    path.write_bytes(start + bytes(100))
    with pytest.raises(InputError) as caught:
        checkpoints.open(path)
    assert str(caught.value) == (
        f"{str(path)!r} is {name}, and {library} is not installed: pip install 'rmtjax[{extra}]', "
        "or save its weights as safetensors"
    )
