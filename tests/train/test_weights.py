"""Weights on their way into a training run: low-rank factors beside them, and the paper's configs from
scratch."""

import json
import pathlib

import jax
import numpy as np
import pandas as pd
import pytest

from rmtjax import checkpoints, measure, models, train
from rmtjax import config as config_lib
from rmtjax.checkpoints.digests import named_leaves
from rmtjax.errors import InputError
from rmtjax.train.weights import of_config as pretrained

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


@pytest.mark.slow
def test_low_rank_factors_and_the_head_alone_are_trained_from_pretrained_weights(tmp_path):
    config = config_lib.smoke(config_lib.base())
    config.model.lora.update(rank=2, alpha=6.0)
    config.train.update(total_steps=3, checkpoint_steps=3)
    config.optim.learning_rate = 1e-2
    config.regularization.weight_decay = 0.1
    result = train.run(config, tmp_path)
    letters = named_leaves(checkpoints.nest(checkpoints.open(models.SHIPPED["letters"])))
    after = {name: np.asarray(x) for name, x in named_leaves(result.state.params).items()}
    factors = {name for name in after if "_lora_" in name}
    assert {name.split("/")[-2] for name in factors} == {"query", "value"}
    assert len(factors) == 4 * 2 * 2  # blocks, query and value, A and B
    for name, x in after.items():
        if name in factors:
            assert name.endswith("_a") or np.any(x != 0), name  # B has left zero
        elif not name.startswith("head/"):
            np.testing.assert_array_equal(x, letters[name], err_msg=name)
    config.spectra.enabled = True
    config.spectra.metrics = "scale"
    measure.spectra_of_runs(config, [tmp_path])
    table = pd.read_parquet(tmp_path / "spectra.parquet")
    name = "encoder/block_0/attention/query/kernel_lora_BA"
    row = table[(table["name"] == name) & (table["stage"] == "after")].iloc[0]
    a, b = (after[name.replace("BA", leaf)] for leaf in "ab")
    assert row["matrix_rank"] == 2
    np.testing.assert_allclose(row["norm"], np.linalg.norm(3.0 * a @ b) ** 2, rtol=1e-3)
    restored = train.restore(config, tmp_path)
    for name, x in named_leaves(restored.state.params).items():
        np.testing.assert_array_equal(x, after[name], err_msg=name)
    _from_here_on(config, tmp_path, after)


def _from_here_on(config, run, after):
    """Other runs from that one: factors are kept, or multiplied out, or there is a sentence."""
    params = jax.eval_shape(lambda: after)
    for source in (run, run / "checkpoints" / "3"):
        config.model.init_from = str(source)
        kept, _ = pretrained(config)(params, {})
        assert kept.keys() == after.keys()
        for name, x in kept.items():
            np.testing.assert_array_equal(x, after[name], err_msg=name)
        plain = {name: x for name, x in params.items() if "_lora_" not in name}
        config.model.lora.rank = 0
        merged, _ = pretrained(config)(plain, {})
        config.model.lora.rank = 2
        wanted = named_leaves(models.lora.Lora(None, 2, 6.0).merged(after))
        assert merged.keys() == plain.keys()
        for name, x in merged.items():
            np.testing.assert_allclose(x, wanted[name], rtol=1e-6, atol=1e-7, err_msg=name)
        name = "encoder/block_0/attention/query/kernel"
        assert np.any(merged[name] != after[name])
    config.model.lora.alpha = 8.0
    with pytest.raises(InputError, match=r"alpha=6\.0, but the model has 8\.0: set model\.lora\.alpha=6\.0"):
        pretrained(config)(params, {})
    config.model.lora.alpha = 6.0
    wider = {
        name: np.zeros((3, *x.shape[1:]) if name.endswith("_lora_b") else x.shape)
        for name, x in params.items()
    }
    with pytest.raises(InputError, match=r"the weights do not fit the model: different: .*kernel_lora_b"):
        pretrained(config)(wider, {})
    config.model.init_names = "timm_vit"
    with pytest.raises(InputError, match=r"model\.init_names='timm_vit' is for weights of other programs"):
        pretrained(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_clip_vitb32", "cars_clip_rn50"])
def test_the_paper_s_models_train_from_scratch_when_small(name, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 64, 64, 3), np.uint8)
    np.savez(tmp_path / "made.npz", image=images, label=np.arange(120) % 3)
    config = config_lib.load(str(CONFIGS / f"{name}.py"))
    config.model.init_from = None
    config_lib.smoke(config)
    config.data.source = f"npz:{tmp_path / 'made.npz'}"
    config.data.update(image_size=64, test_examples=20)
    config.train.update(total_steps=2, checkpoint_steps=2)
    config.evaluation.update(enabled=False)
    result = train.run(config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert int(result.state.step) == 2
