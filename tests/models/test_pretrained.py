"""Weights of other programs: every name accounted for, and the models do with them what the originals did."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmtjax import config as config_lib
from rmtjax import files, models
from rmtjax.data import tfds_sets
from rmtjax.errors import InputError
from rmtjax.models import pretrained
from rmtjax.train import weights as weights_lib

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def resnet(depth=8, width=4, kind="cifar", shortcut="pad", classes=10):
    config = config_lib.base()
    config.model.name = "resnet"
    config.model.resnet.update(kind=kind, depth=depth, width=width, shortcut=shortcut)
    model = models.build(config, classes)
    return model, jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
    )


def cifar_names(variables, rng):
    """A file as akamaster's program writes it, written down apart from the table."""
    out = {}

    def norm(name, width):
        for part in ("weight", "bias", "running_mean", "running_var"):
            out[f"{name}.{part}"] = rng.random(width, np.float32)
        out[f"{name}.num_batches_tracked"] = np.asarray(3)

    out["conv1.weight"] = rng.standard_normal((4, 3, 3, 3), np.float32)
    norm("bn1", 4)
    width = 4
    for stage in (1, 2, 3):
        for conv in (1, 2):
            new = 4 * 2 ** (stage - 1)
            out[f"layer{stage}.0.conv{conv}.weight"] = rng.standard_normal((new, width, 3, 3), np.float32)
            norm(f"layer{stage}.0.bn{conv}", new)
            width = new
    out["linear.weight"], out["linear.bias"] = rng.standard_normal((10, 16), np.float32), rng.random(10)
    return out


def test_every_name_of_a_file_finds_its_variable_and_the_layouts_turn():
    _, variables = resnet()
    weights = cifar_names(variables, np.random.default_rng(0))
    table = pretrained.recognise(list(weights), variables)
    assert table == "resnet_cifar"
    params, state = pretrained.convert(weights, variables, table)
    wanted = pretrained.flat(variables)
    found = {f"params/{name}": x for name, x in params.items()} | state
    assert {n: x.shape for n, x in found.items()} == {n: x.shape for n, x in wanted.items()}
    kernel = weights["layer2.0.conv1.weight"]
    np.testing.assert_array_equal(params["stage_1_block_0/conv_1/kernel"][2, 1, 3, 5], kernel[5, 3, 2, 1])
    np.testing.assert_array_equal(params["head/kernel"], weights["linear.weight"].T)
    np.testing.assert_array_equal(
        state["batch_stats/stage_2_block_0/norm_2/var"], weights["layer3.0.bn2.running_var"]
    )


@pytest.mark.parametrize("prefix", ["module.", "model._orig_mod.", "backbone.model."])
def test_what_a_wrapper_added_to_all_names_is_removed(tmp_path, caplog, prefix):
    _, variables = resnet()
    weights = cifar_names(variables, np.random.default_rng(0))
    np.savez(tmp_path / "plain.npz", **weights)
    np.savez(tmp_path / "wrapped.npz", **{prefix + name: x for name, x in weights.items()})
    plain = load(str(tmp_path / "plain.npz"), variables)
    assert not caplog.records
    for names in (None, "resnet_cifar"):
        wrapped = load(str(tmp_path / "wrapped.npz"), variables, names=names)
        jax.tree.map(np.testing.assert_array_equal, wrapped, plain)
    assert "which a wrapper around the model adds to its names, is removed" in caplog.text


def test_what_a_table_does_not_name_and_what_a_file_lacks_are_both_listed(tmp_path):
    _, variables = resnet()
    weights = cifar_names(variables, np.random.default_rng(0))
    del weights["layer1.0.bn2.running_var"]
    weights["layer1.0.se.weight"] = np.zeros((4, 4), np.float32)
    np.savez(tmp_path / "weights.npz", **weights)
    with pytest.raises(InputError) as error:
        load(str(tmp_path / "weights.npz"), variables)
    message = str(error.value)
    assert message.startswith(f"{str(tmp_path / 'weights.npz')!r} with the names of resnet_cifar: ")
    assert "extra in the file: layer1.0.se.weight" in message
    del weights["layer1.0.se.weight"]
    np.savez(tmp_path / "weights.npz", **weights)
    with pytest.raises(
        InputError, match=r"missing in the file: batch_stats/stage_0_block_0/norm_2/var; model.reinit=''"
    ):
        load(str(tmp_path / "weights.npz"), variables)


def test_an_array_of_other_dimensions_is_a_difference_not_a_crash(tmp_path):
    _, variables = resnet()
    weights = cifar_names(variables, np.random.default_rng(0)) | {"conv1.weight": np.zeros(4, np.float32)}
    np.savez(tmp_path / "weights.npz", **weights)
    wanted = r"different: stem/kernel: \(3, 3, 3, 4\) in the model, \(4,\) in the file"
    with pytest.raises(InputError, match=wanted):
        load(str(tmp_path / "weights.npz"), variables)


def test_names_that_no_table_knows_are_said():
    _, variables = resnet()
    with pytest.raises(InputError, match=r"names such as 'a\.b' are in no table for this model: the tables"):
        pretrained.recognise(["a.b", "c.d"], variables)
    with pytest.raises(InputError, match="the names 'tim' are unknown: the tables are rmtjax, "):
        pretrained.convert({}, variables, "tim")


def load(source, variables, **options):
    state = dict(variables)
    return weights_lib.load(source, state.pop("params"), state, **options)


def test_another_head_is_fresh_and_narrow_floats_become_float32(tmp_path):
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), resnet(classes=7)[1])
    _, ten = resnet()
    weights = cifar_names(ten, np.random.default_rng(0))
    half = {name: x.astype(np.float16) for name, x in weights.items()}
    np.savez(tmp_path / "weights.npz", **half)
    params, state = load(str(tmp_path / "weights.npz"), variables, reinit="head/.*")
    np.testing.assert_array_equal(params["head"]["kernel"], variables["params"]["head"]["kernel"])
    stem = params["stem"]["kernel"]
    assert stem.dtype == np.float32
    np.testing.assert_array_equal(stem, half["conv1.weight"].astype(np.float32).transpose(2, 3, 1, 0))
    assert np.any(state["batch_stats"]["norm_stem"]["mean"])


def test_the_letters_and_a_run_come_as_before(tmp_path):
    config = config_lib.base()
    model = models.build(config, 52)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)), train=False))
    params, state = load("letters", variables)
    assert state == {}
    assert params["encoder"]["block_0"]["attention"]["query"]["kernel"].shape == (128, 4, 32)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (
            "data:nets/a.th",
            r"'data:nets/a.th' is not there: '.*a\.th' does not exist; put it there from where",
        ),
        ("package:no_such/a.th", "the Python package 'no_such', which is not installed"),
        ("package:rmtjax/none.th", r"'package:rmtjax/none.th' is not there: .*; install a version of rmtjax"),
        ("nowhere.th", "there are no weights at"),
    ],
)
def test_where_weights_are_not_is_one_sentence(name, part, tmp_path, monkeypatch):
    monkeypatch.setenv("RMTJAX_DATA", str(tmp_path))
    with pytest.raises(InputError, match=part):
        load(name, resnet()[1])


def test_data_needs_its_folder(monkeypatch):
    monkeypatch.delenv("RMTJAX_DATA", raising=False)
    with pytest.raises(InputError, match="environment variable RMTJAX_DATA names, and it is not set"):
        files.located("data:a/b.th")


def test_a_package_is_found_without_being_imported(tmp_path, monkeypatch):
    package = tmp_path / "gt_weights"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "a.npz").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert files.located("package:gt_weights/a.npz") == package / "a.npz"


@pytest.mark.skipif(not os.environ.get("RMTJAX_DATA"), reason="RMTJAX_DATA is not set")
def test_trained_resnet_20_puts_out_what_its_own_program_does():
    pytest.importorskip("torch")  # the weights are a torch file
    wanted = np.load(pathlib.Path(__file__).parent / "references" / "resnet20.npz")["logits"]
    config = config_lib.load(str(CONFIGS / "cifar10_resnet20.py"))
    model = models.build(config, 10)
    x = tfds_sets.splits("cifar10", 32)["test"]
    images, labels = jnp.asarray(x.inputs(np.arange(len(wanted)))), x.labels[: len(wanted)]
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images[:1], train=False))
    params, state = load(config.model.init_from, variables)
    logits, features = jax.jit(lambda v, x: model.apply(v, x, train=False))(
        {"params": params} | state, images
    )
    assert features.shape == (len(wanted), 64)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
    assert np.mean(logits.argmax(-1) == labels) == np.mean(wanted.argmax(-1) == labels) > 0.9
