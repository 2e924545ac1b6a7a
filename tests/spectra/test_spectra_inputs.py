"""Everything that holds weights gives the same numbers for the same weights."""

import numpy as np
import pytest
from flax import nnx

from rmtjax import checkpoints, spectra
from rmtjax.errors import InputError


def state(seed=0):
    """Weights as torch lays them out: a convolution (out, in, *window), a dense layer (out, in)."""
    rng = np.random.default_rng(seed)
    return {
        "stem.weight": rng.standard_normal((16, 3, 3, 3)).astype(np.float32),
        "stem.bias": np.zeros(16, np.float32),
        "head.weight": rng.standard_normal((10, 16)).astype(np.float32),
    }


def numbers(analysis):
    """The columns that do not depend on names, in the order of the sizes of matrices."""
    table = analysis.table.sort_values(["slices", "N"])
    return table[["slices", "N", "M", "log_norm", "stable_rank", "entropy"]].to_numpy(float)


def expected():
    weights = state()
    kernel = weights["stem.weight"].transpose(2, 3, 1, 0)
    params = {"stem": {"kernel": kernel}, "head": {"kernel": weights["head.weight"].T}}
    return numbers(spectra.analyze(params, metrics="scale"))


def safetensors(folder, seed=0):
    folder.mkdir(parents=True)
    checkpoints.save_safetensors(folder / "model.safetensors", state(seed), {})
    return folder / "model.safetensors"


def test_a_state_dict_of_numpy_arrays():
    found = spectra.analyze(state(), metrics="scale")
    np.testing.assert_allclose(numbers(found), expected(), rtol=1e-6)
    assert dict(zip(found.table["name"], found.table["kind"], strict=True)) == {
        "stem.weight": "conv",
        "head.weight": "head",
    }
    assert list(found.left_out) == ["stem.bias"]
    twice = spectra.analyze(state() | {"tied.weight": (tied := state()["head.weight"]), "again.weight": tied})
    assert twice.left_out["again.weight"] == "the same storage as 'tied.weight'"


def test_a_path_as_text(tmp_path, monkeypatch):
    path = safetensors(tmp_path / "model")
    np.testing.assert_allclose(numbers(spectra.analyze(str(path), metrics="scale")), expected(), rtol=1e-6)
    assert spectra.analyze(path.parent, metrics="scale").table.attrs["source"] == [str(path.parent)]
    monkeypatch.setenv("RMTJAX_DATA", str(tmp_path))
    np.testing.assert_allclose(
        numbers(spectra.analyze("data:model/model.safetensors", metrics="scale")), expected(), rtol=1e-6
    )
    assert set(spectra.eigenvalues(path)) == {"stem.weight", "head.weight"}


def test_a_model_of_the_cache_of_hugging_face(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--someone--tiny"
    safetensors(folder / "snapshots" / "abc")
    for name in ("someone/tiny", folder, folder / "snapshots" / "abc"):
        np.testing.assert_allclose(numbers(spectra.analyze(name, metrics="scale")), expected(), rtol=1e-6)
    safetensors(folder / "snapshots" / "def", seed=1)
    with pytest.raises(InputError, match=r"holds 2 versions and none called main: name one .* abc, def"):
        checkpoints.open("someone/tiny")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc\n")
    np.testing.assert_allclose(
        numbers(spectra.analyze("someone/tiny", metrics="scale")), expected(), rtol=1e-6
    )
    with pytest.raises(InputError, match=r"no model of that name in '.*hub': `hf download someone/other`"):
        spectra.analyze("someone/other")
    with pytest.raises(InputError, match=r"no such file or directory$"):
        spectra.analyze(str(tmp_path / "absent.safetensors"))
    (folder / "refs" / "main").write_text("../../../outside")
    with pytest.raises(InputError, match="holds 2 versions"):
        checkpoints.open(folder)


def test_an_nnx_module():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.stem = nnx.Conv(3, 16, (3, 3), rngs=rngs)
            self.drop = nnx.Dropout(0.1, rngs=rngs)
            self.head = nnx.Linear(16, 10, rngs=rngs)

    net = Net(nnx.Rngs(0))
    net.stem.kernel[...] = state()["stem.weight"].transpose(2, 3, 1, 0)
    net.head.kernel[...] = state()["head.weight"].T
    found = spectra.analyze(net, metrics="scale")
    np.testing.assert_allclose(numbers(found), expected(), rtol=1e-6)
    assert set(found.table["name"]) == {"stem/kernel", "head/kernel"}


@pytest.fixture
def keras():
    return pytest.importorskip("keras")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras, when it saves
def test_a_keras_model(keras, tmp_path):
    """A layer's own name says nothing of its class; that of the model does."""
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="mixer"),
        keras.layers.Conv2D(16, 3, name="stem"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10, name="head"),
    ]
    model = keras.Sequential(layers)
    model.compile("adam", "mse")
    found = spectra.analyze(model, metrics="scale")
    assert found.table.set_index("name")["slices"].filter(like="stem/kernel").tolist() == [9]
    model.save(tmp_path / "model.keras")
    stored = spectra.analyze(tmp_path / "model.keras", metrics="scale")
    np.testing.assert_allclose(numbers(found), numbers(stored), rtol=1e-6)
    assert len(found.table) == len(stored.table)
    assert any(name.endswith("mixer/depthwise_kernel") for name in [*found.table["name"], *found.left_out])
    assert found.table.attrs["source"] == ["Sequential"]


def test_a_keras_model_of_ones_own(keras):
    """It has no config, so that the names of its layers have to tell."""

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.stem, self.head = keras.layers.Conv2D(16, 3), keras.layers.Dense(10)

        def call(self, x):
            return self.head(keras.ops.mean(self.stem(x), (1, 2)))

    model = Net()
    model(np.zeros((1, 8, 8, 3), np.float32))
    model.stem.kernel.assign(state()["stem.weight"].transpose(2, 3, 1, 0))
    model.head.kernel.assign(state()["head.weight"].T)
    np.testing.assert_allclose(numbers(spectra.analyze(model, metrics="scale")), expected(), rtol=1e-6)


@pytest.fixture
def torch_net():
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential()
    net.add_module("stem", torch.nn.Conv2d(3, 16, 3))
    net.add_module("head", torch.nn.Linear(16, 10, bias=False))
    tensors = {name: torch.from_numpy(array) for name, array in state().items()}
    net.load_state_dict(tensors)
    return net


def test_a_module_of_torch_and_its_state_dict(torch_net):
    import torch

    for model in (torch_net, torch_net.state_dict(), {"state_dict": torch_net.state_dict(), "epoch": 3}):
        np.testing.assert_allclose(numbers(spectra.analyze(model, metrics="scale")), expected(), rtol=1e-6)
    half = spectra.analyze(torch_net.to(torch.bfloat16), metrics="scale")
    np.testing.assert_allclose(numbers(half), expected(), rtol=0.02)
    tied = torch.nn.ModuleDict({"one": torch.nn.Linear(8, 8), "two": torch.nn.Linear(8, 8)})
    tied["two"].weight = tied["one"].weight
    assert spectra.analyze(tied).left_out["two.weight"] == "the same storage as 'one.weight'"
    before = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(8, 12))
    weight = before.weight.detach().numpy()
    (values,) = spectra.eigenvalues(before).values()
    np.testing.assert_allclose(values, np.linalg.svd(weight)[1][::-1] ** 2, rtol=1e-5)


def test_two_sides_of_a_comparison_may_be_of_different_kinds(tmp_path):
    path = safetensors(tmp_path / "model", seed=1)
    found = spectra.compare(state(), path, other=state(seed=2), metrics="scale")
    assert list(found.table["stage"].unique()) == ["before", "after", "update"]
    assert found.table["cosine_other"].notna().sum() == 2
    many = spectra.compare_many({"run": (state(), str(path))}, metrics="scale")["run"]
    np.testing.assert_allclose(many.table["log_norm"], found.table["log_norm"])


def test_what_lies_beside_the_working_directory_says_nothing_of_a_live_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "gptq", "bits": 4}}')
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 64, "r": 8}')
    assert checkpoints.weights_of(state()).adapter == {}
    np.testing.assert_allclose(numbers(spectra.analyze(state(), metrics="scale")), expected(), rtol=1e-6)
