import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy

from rmtjax import checkpoints
from rmtjax.errors import InputError


def weights():
    rng = np.random.default_rng(0)
    return {
        "encoder": {"kernel": rng.normal(size=(6, 4)).astype(np.float32), "count": np.int32(3)},
        "head": {
            "kernel": rng.normal(size=(4, 3)).astype(np.float16),
            "bias": np.zeros(3, ml_dtypes.bfloat16),
        },
    }


def assert_same(loaded, expected):
    assert jax.tree.structure(loaded) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(expected), strict=True):
        assert type(a) is np.ndarray
        assert a.dtype == (np.float32 if b.dtype != np.int32 else np.int32)
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b.astype(a.dtype))


def orbax_save(path, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)


def test_a_run_one_of_its_steps_and_its_folder(tmp_path, states):
    with checkpoints.open_run(tmp_path / "run") as run:
        for step in (0, 10):
            run.save(step, states.make(step, 1, 8), {})
    for path, step in [("run", 10), ("run/checkpoints/10", 10), ("run/checkpoints/0", 0)]:
        assert_same(
            checkpoints.nest(checkpoints.open(tmp_path / path)), jax.device_get(states.make(step).params)
        )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda params: params,
        lambda params: {"params": params, "step": jnp.int32(1), "opt_state": [params, None]},
        lambda params: {"params": {"params": params}, "model_state": {}},
    ],
)
def test_orbax_checkpoints_of_others(tmp_path, wrap):
    orbax_save(tmp_path / "theirs", wrap(jax.tree.map(jnp.asarray, weights())))
    assert_same(checkpoints.nest(checkpoints.open(tmp_path / "theirs")), weights())


@pytest.mark.parametrize("item", ["state", "params", "default"])
def test_orbax_items(tmp_path, item):
    with ocp.CheckpointManager(tmp_path / "theirs") as manager:
        args = ocp.args.StandardSave(weights())
        manager.save(4, args=args if item == "default" else ocp.args.Composite(**{item: args}))
    assert_same(checkpoints.nest(checkpoints.open(tmp_path / "theirs/4")), weights())


def test_orbax_without_ocdbt_and_with_zarr3(tmp_path):
    for ocdbt, zarr3 in [(False, False), (True, True)]:
        handler = ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, use_zarr3=zarr3)
        with ocp.Checkpointer(handler) as checkpointer:
            checkpointer.save(tmp_path / f"{ocdbt}", args=ocp.args.PyTreeSave(weights()))
        assert_same(checkpoints.nest(checkpoints.open(tmp_path / f"{ocdbt}")), weights())


@pytest.mark.parametrize("name", ["_METADATA", "manifest.ocdbt"])
def test_a_damaged_orbax_checkpoint_is_one_sentence(tmp_path, name, capfd):
    orbax_save(tmp_path / "theirs", weights())
    os.truncate(tmp_path / "theirs" / name, 50)
    with pytest.raises(InputError, match=r"the Orbax checkpoint '.*/theirs' is damaged: .* cannot be read"):
        checkpoints.nest(checkpoints.open(tmp_path / "theirs"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_safetensors_round_trip(tmp_path, dtype):
    path = tmp_path / "weights.safetensors"
    params = weights()
    params["encoder"]["kernel"] = params["encoder"]["kernel"].T.copy().T  # not in row-major order
    checkpoints.save_safetensors(path, params, {"config": "1f3a", "task": "letters"}, dtype)
    assert checkpoints.read_metadata(path) == {"config": "1f3a", "task": "letters"}
    narrow = getattr(ml_dtypes, dtype, dtype)
    expected = jax.tree.map(lambda x: x if x.dtype == np.int32 else x.astype(narrow), params)
    assert_same(checkpoints.nest(checkpoints.open(path)), expected)
    stored = safetensors.numpy.load_file(path)
    assert sorted(stored) == ["encoder/count", "encoder/kernel", "head/bias", "head/kernel"]
    assert stored["encoder/kernel"].dtype == np.dtype(narrow)
    assert os.listdir(tmp_path) == ["weights.safetensors"]


def test_sharded_parameters_are_written_whole(tmp_path, states):
    params = states.make(1, 1, 8).params
    checkpoints.save_safetensors(tmp_path / "w.safetensors", params, {})
    assert_same(checkpoints.nest(checkpoints.open(tmp_path / "w.safetensors")), jax.device_get(params))
    assert checkpoints.read_metadata(tmp_path / "w.safetensors") == {}


def test_dotted_names(tmp_path):
    safetensors.numpy.save_file(
        {"encoder.layer.0.weight": np.ones((2, 3), np.float16), "head.bias": np.zeros(3, np.float32)},
        tmp_path / "theirs.safetensors",
    )
    loaded = checkpoints.nest(checkpoints.open(tmp_path / "theirs.safetensors"))
    assert_same(
        loaded, {"encoder": {"layer": {"0": {"weight": np.ones((2, 3))}}}, "head": {"bias": np.zeros(3)}}
    )


def test_names_that_cannot_be_nested(tmp_path):
    for names in (["a", "a/b"], ["a/b/c", "a/b"]):
        safetensors.numpy.save_file({name: np.zeros(1) for name in names}, tmp_path / "x.safetensors")
        with pytest.raises(InputError, match="cannot be nested"):
            checkpoints.nest(checkpoints.open(tmp_path / "x.safetensors"))


def test_a_value_too_large_for_float16_is_refused_and_nothing_is_written(tmp_path):
    params = {"head": {"kernel": np.array([1.0, -7e4], np.float32)}}
    with pytest.raises(
        InputError, match=r"head/kernel has a value of 7e\+04, too large for float16: use float32"
    ):
        checkpoints.save_safetensors(tmp_path / "w.safetensors", params, {}, "float16")
    assert os.listdir(tmp_path) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    checkpoints.save_safetensors(path, {"a": np.ones(3, np.float32)}, {})

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save_safetensors(path, {"a": np.zeros(3, np.float32)}, {})
    assert os.listdir(tmp_path) == ["w.safetensors"]
    np.testing.assert_array_equal(checkpoints.nest(checkpoints.open(path))["a"], np.ones(3))


def test_bad_paths_are_one_sentence(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(
        InputError, match=r"there are no weights at '.*/w\.safetensors': no such file or directory"
    ):
        checkpoints.nest(checkpoints.open(path))
    with pytest.raises(InputError, match=r"there is no file '.*/w\.safetensors'"):
        checkpoints.read_metadata(path)
    checkpoints.save_safetensors(path, {"a": np.ones(300, np.float32)}, {})
    whole = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"'.*/w\.safetensors' is empty"):
        checkpoints.open(path)
    for content in (whole[:-1], whole[:100], whole[:5], b"x" * 1000):
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=r"'.*/w\.safetensors' is not a whole safetensors file: .+"
        ) as caught:
            checkpoints.nest(checkpoints.open(path))
        assert "\n" not in str(caught.value)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    for name, sentence in [
        (
            "notes.txt",
            "is not of a kind that can be read: an Orbax checkpoint or a run's folder, safetensors",
        ),
        ("empty", "is not a run's folder, an Orbax checkpoint, or a folder with safetensors"),
        ("run", "holds no good checkpoint"),
    ]:
        with pytest.raises(InputError, match=sentence):
            checkpoints.nest(checkpoints.open(tmp_path / name))


def orbax_step(folder, **items):
    for item, tree in items.items():
        orbax_save(folder / item, tree)


def test_steps_with_zeros_and_prefixes(tmp_path):
    for root, names in {"a": ("00000100", "00000200"), "b": ("ckpt_00000100", "ckpt_00000200")}.items():
        for name in names:
            orbax_step(tmp_path / root / name, default={"w": np.full((2, 2), float(name[-3:]))})
        assert checkpoints.open(tmp_path / root)["w"][0, 0] == 200
        assert checkpoints.open(tmp_path / root, step=100)["w"][0, 0] == 100
    orbax_step(tmp_path / "b/best_200", default={"w": np.zeros((2, 2))})
    with pytest.raises(InputError, match="two checkpoints of step 200: name 'best_200' or 'ckpt_00000200'"):
        checkpoints.open(tmp_path / "b")


def test_items_of_other_names(tmp_path):
    tree, other = weights(), {"w": np.ones((2, 2))}
    orbax_step(tmp_path / "a/7", ema=other, train_state={"params": tree})
    opened = checkpoints.open(tmp_path / "a")
    assert_same(checkpoints.nest(opened), tree)
    assert opened.refused["ema"] == "another item of the checkpoint, beside 'train_state'"
    orbax_step(tmp_path / "b", weights={"params": tree}, optimizer=other)
    opened = checkpoints.open(tmp_path / "b")
    assert_same(checkpoints.nest(opened), tree)
    assert set(opened.refused) == {"optimizer"}
    orbax_step(tmp_path / "c/3", generator={"params": tree}, discriminator={"params": other})
    opened = checkpoints.nest(checkpoints.open(tmp_path / "c"))
    assert set(opened) == {"generator", "discriminator"}
    assert_same(opened["generator"], tree)
    np.testing.assert_array_equal(opened["discriminator"]["w"], other["w"])


@pytest.mark.parametrize("ocdbt", [True, False])
def test_slashes_in_keys_and_empty_keys(tmp_path, ocdbt):
    w, v = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 2), np.float32)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt)) as checkpointer:
        tree = {"mlp/~/linear_0": {"w": w}, "a": {"": {"w": v}}, "n": None, "text": "x"}
        checkpointer.save(tmp_path / "c", args=ocp.args.PyTreeSave(tree))
    opened = checkpoints.open(tmp_path / "c")
    assert set(opened) == {"mlp/~/linear_0/w", "a//w"}
    np.testing.assert_array_equal(opened["mlp/~/linear_0/w"], w)
    np.testing.assert_array_equal(opened["a//w"], v)


def test_the_layout_before_metadata(tmp_path):
    import msgpack

    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save(tmp_path / "old", args=ocp.args.PyTreeSave({"params": weights()}))
    (tmp_path / "old/_METADATA").unlink()
    tree = jax.tree_util.tree_map_with_path(
        lambda path, _: f"PLACEHOLDER://{jax.tree_util.keystr(path, simple=True, separator='.')}",
        {"params": weights()},
    )
    (tmp_path / "old/checkpoint").write_bytes(msgpack.packb(tree | {"step": 3}))
    assert_same(checkpoints.nest(checkpoints.open(tmp_path / "old")), weights())


def test_arrays_that_eight_devices_saved_are_read_by_one(tmp_path, states):
    params = states.make(3, 1, 8).params
    orbax_save(tmp_path / "c", params)
    code = f"""
import jax, numpy as np
from rmtjax import checkpoints
assert jax.device_count() == 1
np.save({str(tmp_path / "sum.npy")!r}, checkpoints.open({str(tmp_path / "c")!r})["encoder/kernel"])
"""
    alone = {name: text for name, text in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run([sys.executable, "-c", code], check=True, env=alone, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "sum.npy"), params["encoder"]["kernel"])


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**20, 2**20]},
        {"shape": [2**20, 2**20], "chunks": [2**20, 2**20]},
        {"chunks": [2**20, 2**20]},
        {"shape": [-1, 4]},
        {"dtype": "|O"},
    ],
)
def test_what_a_zarray_claims_is_checked_before_memory_is_allocated(tmp_path, change):
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save(tmp_path / "c", args=ocp.args.PyTreeSave({"w": np.ones((6, 4), np.float32)}))
    zarray = tmp_path / "c/w/.zarray"
    zarray.write_text(json.dumps(json.loads(zarray.read_text()) | change))
    with pytest.raises(InputError, match=r"/c'.* (claims|is damaged)"):
        checkpoints.open(tmp_path / "c")


@pytest.mark.parametrize(
    "content", ["[" * 5000, "[]", '{"tree_metadata": 5}', "{}", '{"tree_metadata": {"a": 1}}']
)
def test_metadata_of_another_kind_is_one_sentence(tmp_path, content):
    orbax_save(tmp_path / "c", {"w": np.ones((2, 2))})
    (tmp_path / "c/_METADATA").write_text(content)
    with pytest.raises(InputError, match="is damaged: its metadata cannot be read"):
        checkpoints.open(tmp_path / "c")


def test_keys_do_not_lead_out_of_the_folder(tmp_path):
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False)
    with ocp.Checkpointer(handler) as checkpointer:
        for name in ("c", "secret"):
            checkpointer.save(tmp_path / name, args=ocp.args.PyTreeSave({"w": np.ones((2, 2))}))
    for key in ("../secret/w", "a/../../secret/w"):
        metadata = {
            "key_metadata": [{"key": key, "key_type": 2}],
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }
        (tmp_path / "c/_METADATA").write_text(json.dumps({"tree_metadata": {"x": metadata}}))
        with pytest.raises(InputError, match="which is outside of its folder"):
            checkpoints.open(tmp_path / "c")
