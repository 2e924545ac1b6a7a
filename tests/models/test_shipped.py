"""The weights that ship: whole, small, and made by the config that says so."""

import hashlib
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from rmtjax import checkpoints, models
from rmtjax import config as config_lib

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def test_letters_carry_their_config_and_its_hash():
    path = models.SHIPPED["letters"]
    assert path.stat().st_size <= 1.7e6
    metadata = checkpoints.read_metadata(path)
    assert hashlib.sha256(metadata["config"].encode()).hexdigest() == metadata["config_sha256"]
    stored, now = json.loads(metadata["config"]), config_lib.load(str(CONFIGS / "pretrain_letters.py"))
    # Its default names factors of low rank as well now: of this model the same parameters decay.
    weights = checkpoints.nest(checkpoints.open(path))
    names = [
        jax.tree_util.keystr(key, simple=True, separator="/")
        for key, _ in jax.tree_util.tree_leaves_with_path(weights)
    ]
    then, today = (
        {name for name in names if re.fullmatch(regex, name)}
        for regex in (stored["regularization"]["decayed"], now.regularization.decayed)
    )
    assert then == today
    assert then
    for line in config_lib.differing_fields(now, stored):
        name = line.partition(":")[0]
        if name == "regularization.decayed":
            continue
        assert not name.startswith(("data.", "augment.", "model.", "regularization.", "optim.", "train.")), (
            line
        )


def test_letters_fit_the_model_and_a_wrong_one_is_refused():
    loaded = checkpoints.nest(checkpoints.open(models.SHIPPED["letters"]))
    config = config_lib.base()
    model = models.build(config, 52)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)), train=False))[
        "params"
    ]
    merged = checkpoints.merge(params, loaded, "")
    assert {leaf.dtype for leaf in jax.tree.leaves(merged)} == {jnp.dtype("float32")}
    config.model.vit.depth = 3
    smaller = models.build(config, 52)
    params = jax.eval_shape(lambda: smaller.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)), train=False))[
        "params"
    ]
    with pytest.raises(ValueError, match="encoder/block_3/attention/key/bias"):
        checkpoints.merge(params, loaded, "")
