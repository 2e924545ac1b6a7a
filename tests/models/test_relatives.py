"""DINOv2, DeiT and SigLIP beyond test_parity.py: names of today, files, grids of positions, real weights."""

import json
import os
import re

import jax
import make_vit_s14_reference
import numpy as np
import pytest
from reference_cases import CASES, random_weights
from safetensors.numpy import save_file
from test_export import weights_of
from test_parity import REFERENCES

from rmtjax import config as config_lib
from rmtjax import models
from rmtjax.models import pretrained
from rmtjax.train import weights as weights_lib


def renamed(weights, *pairs):
    out = {}
    for name, x in weights.items():
        for old, new in pairs:
            name = re.sub(old, new, name)
        out[name] = x
    return out


ATTENTION = (
    (r"attention\.attention\.(q|k|v)\w+\.", r"attention.\1_proj."),
    (r"attention\.output\.dense", "attention.o_proj"),
)
VIT = (
    *ATTENTION,
    (r"encoder\.layer\.", "layers."),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"output\.dense", "mlp.fc2"),
)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("dinov2", ATTENTION),
        ("dinov2_registers", (*ATTENTION, (r"weights_out", "down_proj"))),
        ("vit_transformers", VIT),
        ("deit", VIT),
    ],
)
def test_names_of_modules_of_today_s_transformers_are_known_too(name, pairs):
    weights, variables = weights_of(name)
    today = renamed(weights, *pairs)
    for stacked in [key for key in today if "weights_in" in key]:
        halves = np.split(today.pop(stacked), 2)
        today |= {
            stacked.replace("weights_in", part): half
            for part, half in zip(("gate_proj", "up_proj"), halves, strict=True)
        }
    assert today.keys() != weights.keys()
    assert pretrained.recognise(list(today), variables) == CASES[name].table
    before, _ = pretrained.convert(weights, variables, CASES[name].table)
    after, _ = pretrained.convert(today, variables, CASES[name].table)
    assert before.keys() == after.keys()
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_timm_s_own_names_of_dinov2_are_known_too():
    released, variables = weights_of("dinov2_timm")
    own = renamed(released, ("register_tokens", "reg_token"))
    del own["mask_token"]
    own["cls_token"] = own["cls_token"] + own["pos_embed"][:, :1]
    own["pos_embed"] = own["pos_embed"][:, 1:]
    assert pretrained.recognise(list(own), variables) == "timm"
    wanted, _ = pretrained.convert(released, variables, "timm")
    found, _ = pretrained.convert(own, variables, "timm")
    for params in (wanted, found):
        position = params.pop("embed/position")
        params["patches"] = position[:, 1:]
        params["class"] = params.pop("embed/class_token") + position[:, :1]
    assert wanted.keys() == found.keys()
    jax.tree.map(np.testing.assert_array_equal, wanted, found)


def test_timm_s_names_of_gated_mlps_and_of_a_distilled_deit():
    gated, variables = weights_of("dinov2_registers")
    wanted, _ = pretrained.convert(gated, variables, "dinov2_registers")
    for first, second in (("w12", "w3"), ("fc1", "fc2")):  # DINOv2's release, and timm
        theirs = renamed(gated, (r".*layer\.", "blocks."), ("weights_in", first), ("weights_out", second))
        found, _ = pretrained.convert(theirs, variables, "timm")
        for layer in ("gate", "linear", "out"):
            name = f"encoder/block_1/mlp/{layer}/kernel"
            np.testing.assert_array_equal(found[name], wanted[name])
    deit, variables = weights_of("deit")
    wanted, _ = pretrained.convert(deit, variables, "deit")
    theirs = renamed(
        deit, ("cls_classifier", "head"), ("distillation_classifier", "head_dist"),
        (r".*distillation_token", "dist_token"), (r".*position_embeddings", "pos_embed"),
    )  # fmt: skip
    found, _ = pretrained.convert(theirs, variables, "timm")
    for name in ("head/class_head/kernel", "head/dist_head/bias", "embed/dist_token", "embed/position"):
        np.testing.assert_array_equal(found[name], wanted[name])


@pytest.mark.parametrize("name", ["dinov2", "dinov2_registers", "dinov2_timm", "deit", "siglip"])
def test_a_folder_of_hugging_face_is_loaded_for_another_head_and_grid(name, tmp_path):
    case = CASES[name]
    with np.load(REFERENCES / f"{name}.npz") as stored:
        weights = random_weights(json.loads(str(stored["32/shapes"])))
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text("{}")
    config = config_lib.base()
    config.model.vit.update(case.settings)
    config.model.vit.pool = "class_token" if case.settings["class_token"] else "mean"
    model = models.build(config, 3)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    params = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), x)["params"]
    loaded, _ = weights_lib.load(str(tmp_path), params, {}, reinit=r"head/.*|.*classifier\..*|head.*")
    first = case.settings["class_token"] + case.settings.get("distillation_token", False)
    assert loaded["embed"]["position"].shape == (1, 64 + first, 16)
    assert isinstance(loaded["head"]["kernel"], jax.ShapeDtypeStruct)
    kernel = loaded["encoder"]["block_1"]["attention"]["query"]["kernel"]
    assert np.std(kernel) > 0


def test_positions_are_interpolated_where_both_grids_are_known():
    x = np.random.default_rng(0).standard_normal((1, 17, 3)).astype(np.float32)
    assert pretrained.resized_positions(x, 17) is x
    assert pretrained.resized_positions(x, 26) is not x
    wide = pretrained.resized_positions(x, 1 + 15, (3, 5))
    assert wide.shape == (1, 16, 3)
    np.testing.assert_array_equal(wide[:, 0], x[:, 0])
    other = pretrained.resized_positions(x, 17, (2, 8))  # as many, in another shape
    assert other.shape == x.shape
    assert np.abs(other - x).max() > 0.1
    assert pretrained.resized_positions(x, 16) is x  # no class token: it is a difference, which is said
    assert pretrained.resized_positions(x[:, :12], 26) is not None  # 12 are no square
    half = pretrained.resized_positions(x.astype(np.float16), 26)
    assert half.dtype == np.float32  # as of weights that are widened before
    even = np.ones((1, 16, 3), np.float32)
    for smooth in (False, True):
        np.testing.assert_allclose(pretrained.resized_positions(even, 6, (2, 3), smooth), 1, rtol=1e-6)


@pytest.mark.skipif(not os.environ.get("RMTJAX_DATA"), reason="RMTJAX_DATA is not set")
def test_features_by_real_weights_are_those_of_transformers():
    wanted = np.load(REFERENCES / "vit_s14.npz")["features"]
    assert np.std(wanted) > 0.5
    found = make_vit_s14_reference.our_tokens(make_vit_s14_reference.two_images())
    np.testing.assert_allclose(found[:, 0], wanted, atol=1e-4)
