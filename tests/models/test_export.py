"""Weights go out under the names of the program they came from, bit for bit."""

import importlib.util
import json
import re
import sys

import forked
import jax
import numpy as np
import pytest
from reference_cases import CASES, random_weights
from test_parity import REFERENCES, build

from rmtjax import checkpoints
from rmtjax import config as config_lib
from rmtjax.errors import InputError
from rmtjax.models import lora, name_tables, pretrained


def weights_of(name):
    """Random weights by the original's names, and our model's variables."""
    size = CASES[name].sizes[0]
    with np.load(REFERENCES / f"{name}.npz") as stored:
        weights = random_weights(json.loads(str(stored[f"{size}/shapes"])))
    model = build(name)
    x = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    return weights, jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)


@pytest.mark.parametrize("name", CASES)
def test_a_round_trip_is_exact(name):
    weights, variables = weights_of(name)
    params, state = pretrained.convert(weights, variables, CASES[name].table)
    own = pretrained.flat(variables)
    lacking = {
        path for path in own if path.startswith("params/") and path.removeprefix("params/") not in params
    }
    assert lacking <= {"params/head/kernel", "params/head/bias"}  # CLIP has no head
    back = pretrained.export(params, state, CASES[name].table)
    unused = name_tables.TABLES[CASES[name].table].unused
    weights = {
        theirs: x for theirs, x in weights.items() if theirs in back or not re.fullmatch(unused, theirs)
    }
    assert back.keys() == weights.keys()
    for theirs, wanted in weights.items():
        assert back[theirs].dtype == wanted.dtype
        np.testing.assert_array_equal(back[theirs], wanted, err_msg=theirs)


def test_vit_jax_s_names_of_today_are_known_too():
    weights, variables = weights_of("vit_jax")
    today = {}
    for name, x in weights.items():
        for old, new in (
            ("LayerNorm_2", "LayerNorm_1"),
            ("Attention_1", "Attention_0"),
            ("MlpBlock_3", "MlpBlock_0"),
        ):
            name = name.replace(old, new)
        today[name] = x
    assert today.keys() != weights.keys()
    assert pretrained.recognise(list(today), variables) == "vit_jax"
    released, _ = pretrained.convert(weights, variables, "vit_jax")
    written, _ = pretrained.convert(today, variables, "vit_jax")
    jax.tree.map(np.testing.assert_array_equal, written, released)


def test_what_a_table_has_no_name_for_is_not_exported():
    params = {"decoder": {"kernel": np.zeros((2, 2))}}
    with pytest.raises(InputError, match="the names of timm have none for params/decoder/kernel"):
        pretrained.export(params, {}, "timm")


def test_a_run_is_exported_for_torch_with_its_low_rank_factors_multiplied_out(tmp_path):
    weights, variables = weights_of("vit_timm")
    params, _ = pretrained.convert(weights, variables, "timm")
    config = config_lib.base()
    config.model.lora.update(rank=2, alpha=3.0)
    adapted = lora.Lora(None, 2, 3.0).adapted(_nested(params), jax.random.key(0))
    adapted = jax.tree_util.tree_map_with_path(
        lambda path, x: np.asarray(x) + (path[-1].key.endswith("_lora_b") * 0.1), adapted
    )
    run = tmp_path / "run"
    with checkpoints.open_run(run) as manager:
        manager.save(0, {"params": adapted, "model_state": {}}, {})
    (run / "config.json").write_text(config_lib.to_json(config))
    file = tmp_path / "new" / "out.safetensors"  # in a folder that is not there
    done = forked.run([sys.executable, "-m", "rmtjax.checkpoints", str(run), str(file), "--names=timm"])
    assert done.returncode == 0, done.stderr
    out = checkpoints.open(file)
    assert set(out) == weights.keys()
    np.testing.assert_array_equal(out["blocks.0.attn.proj.weight"], weights["blocks.0.attn.proj.weight"])
    merged = pretrained.flat(lora.Lora(None, 2, 3.0).merged(adapted))[
        "encoder/block_0/attention/query/kernel"
    ]
    np.testing.assert_array_equal(out["blocks.0.attn.qkv.weight"][:16], np.asarray(merged).reshape(16, 16).T)
    assert np.any(out["blocks.0.attn.qkv.weight"][:16] != weights["blocks.0.attn.qkv.weight"][:16])


def _nested(flat):
    tree = {}
    for name, value in flat.items():
        *folders, last = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = value
    return tree


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_takes_an_exported_batch_norm_whole():
    import torch

    weights, variables = weights_of("resnet_cifar")
    params, state = pretrained.convert(weights, variables, "resnet_cifar")
    out = pretrained.export(params, state, "resnet_cifar")
    norm = torch.nn.BatchNorm2d(4)
    of_norm = {
        name.removeprefix("bn1."): torch.from_numpy(x) for name, x in out.items() if name.startswith("bn1.")
    }
    assert norm.load_state_dict(of_norm, strict=True)
    np.testing.assert_array_equal(norm.running_var.numpy(), weights["bn1.running_var"])
