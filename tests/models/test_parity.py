"""With the original weights our models give the outputs of the originals, stage by stage, at two input sizes.

Against stored outputs everywhere; against the originals themselves where the `peers` extra is installed.
"""

import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest
from flax import traverse_util
from reference_cases import CASES, CLASSES, random_input, random_weights, thinned

from rmtjax import checkpoints, models
from rmtjax import config as config_lib
from rmtjax.models import pretrained

REFERENCES = pathlib.Path(__file__).parent / "references"
PEERS = all(importlib.util.find_spec(name) for name in ("torch", "torchvision", "transformers", "timm"))


def build(name):
    case, config = CASES[name], config_lib.base()
    config.model.name = case.model
    config.model.update(mean=0.0, std=1.0)
    config.model[case.model].update(case.settings)
    return models.build(config, CLASSES)


def ours(name, size, weights):
    """Logits (features where the original has no head) and what stages put out."""
    model, x = build(name), jax.numpy.asarray(random_input(size))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    assert pretrained.recognise(list(weights), variables) == CASES[name].table
    patch = CASES[name].settings.get("patch")
    grid = tuple(side // patch for side in size) if isinstance(size, tuple) else None
    params, state = pretrained.convert(weights, variables, CASES[name].table, grid)
    fresh = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    reinit = "" if CASES[name].head else "head/.*"
    params = checkpoints.merge(fresh.pop("params"), params, reinit)
    state = checkpoints.merge(fresh, state)

    @jax.jit
    def run(variables, x):
        return model.apply(variables, x, train=False, capture_intermediates=True, mutable="intermediates")

    with jax.default_matmul_precision("highest"):
        (logits, features), kept = run({"params": params} | state, x)
    out = traverse_util.flatten_dict(kept["intermediates"], sep="/")
    stages = {stage: out[f"{stage}/__call__"][0] for stage in CASES[name].stages}
    return logits if CASES[name].head else features, stages


def compare(name, size, shapes, logits, stages, seed=0, part=np.asarray):
    got, kept = ours(name, size, random_weights(shapes, seed))
    differences = {"logits": np.abs(got - logits).max()}
    for stage, wanted in stages.items():
        found = part(kept[stage])
        assert found.shape == wanted.shape
        differences[stage] = np.abs(found - wanted).max()
    assert np.std(logits) > 0.05  # there is something to agree on
    assert max(differences.values()) < 1e-4, differences
    return differences


@pytest.mark.parametrize("name", CASES)
def test_stored_outputs_of_the_original_come_out(name):
    with np.load(REFERENCES / f"{name}.npz") as stored:
        for size in CASES[name].sizes:
            prefix = f"{size}/stage/"
            stages = {key.removeprefix(prefix): stored[key] for key in stored.files if key.startswith(prefix)}
            assert stages.keys() == CASES[name].stages.keys()
            shapes = json.loads(str(stored[f"{size}/shapes"]))
            compare(name, size, shapes, stored[f"{size}/logits"], stages, part=thinned)


@pytest.mark.skipif(not PEERS, reason="the peers extra is not installed")
@pytest.mark.parametrize("name", CASES)
def test_the_original_itself_agrees_on_other_weights(name):
    from make_references import outputs

    for size, (shapes, logits, stages) in outputs(name, seed=1).items():
        print(name, size, compare(name, size, shapes, logits, stages, seed=1))


def test_references_are_small():
    assert sum(path.stat().st_size for path in REFERENCES.glob("*.npz")) <= 340_000
