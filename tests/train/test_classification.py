import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rmtjax import config as config_lib
from rmtjax import data
from rmtjax.errors import InputError
from rmtjax.train import classification, experiment, sharding, step


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        features = x.reshape(x.shape[0], -1)
        return nn.Dense(3, name="head")(features), features


def setup(n=5):
    model = Linear()
    x = np.random.default_rng(0).random((n, 2, 2, 1), np.float32)
    variables = model.init(jax.random.key(0), x, train=False)
    logits, _ = model.apply(variables, x, train=False)
    return model, variables["params"], x, np.asarray(logits, np.float64)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_initial_parameters_are_scaled_and_metrics_are_checked_before_training():
    config = config_lib.base()
    config.data.update(train_examples=20, validation_examples=10, test_examples=10)
    config.model.update(name="mlp", init_from=None)
    config.evaluation.update(shifts=(), ood=())
    plain, _ = experiment.prepare(config).init(jax.random.key(0))
    config.model.init_scale = 8.0
    scaled, _ = experiment.prepare(config).init(jax.random.key(0))
    assert np.asarray(plain["hidden_0"]["kernel"]).any()
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(8 * a, b), plain, scaled)
    config.spectra.metrics = "default,shuffle"
    with pytest.raises(InputError, match=r"spectra\.metrics has 'shuffle': it must be default, all, a group"):
        experiment.prepare(config)


def test_another_seed_of_the_head_changes_the_head_alone():
    config = config_lib.base()
    config.data.update(train_examples=20, validation_examples=10, test_examples=10)
    config.evaluation.update(shifts=(), ood=())

    def start(seed):
        task = experiment.prepare(config)
        return task.load(*jax.jit(task.init)(step.named_key(seed, "init")))[0]

    plain = [start(seed) for seed in (0, 1)]
    config.model.head_seed = 5
    other = [start(seed) for seed in (0, 1)]
    kernels = [params.pop("head")["kernel"] for params in (*plain, *other)]
    assert all((one != two).all() for one, two in itertools.combinations(kernels, 2))
    jax.tree.map(np.testing.assert_array_equal, plain[0], other[0])


def test_the_loss_is_cross_entropy():
    model, params, x, logits = setup()
    label = np.array([0, 1, 2, 0, 1], np.int32)
    loss, (_, scalars) = classification.make_loss(model)(params, {}, {"inputs": x, "label": label}, {})
    assert float(loss) == pytest.approx(-log_softmax(logits)[range(5), label].mean(), rel=1e-5)
    assert float(scalars["accuracy"]) == pytest.approx((logits.argmax(-1) == label).mean())


def test_label_smoothing_and_mixup_mix_the_targets():
    model, params, x, logits = setup()
    label, other = np.array([0, 1, 2, 0, 1], np.int32), np.array([1, 1, 0, 2, 0], np.int32)
    weight = np.array([1.0, 0.7, 0.5, 0.2, 0.9], np.float32)
    target = weight[:, None] * np.eye(3)[label] + (1 - weight[:, None]) * np.eye(3)[other]
    target = 0.9 * target + 0.1 / 3
    batch = {"inputs": x, "label": label, "label_mix": other, "mix_weight": weight}
    loss, _ = classification.make_loss(model, label_smoothing=0.1)(params, {}, batch, {})
    assert float(loss) == pytest.approx(-(target * log_softmax(logits)).sum(-1).mean(), rel=1e-5)


def test_predictions_come_once_each_in_order_whatever_the_padding():
    model, params, x, logits = setup(n=21)
    source = data.from_arrays("x", x, np.arange(21) % 3, ("a", "b", "c"))
    predict = classification.make_predict(model, sharding.make_mesh())
    out, features, label = predict(params, {}, data.evaluation_batches(source, batch_size=8))
    np.testing.assert_allclose(out, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(label, np.arange(21) % 3)
    np.testing.assert_allclose(features, x.reshape(21, -1))
    assert jnp.asarray(out).dtype == jnp.float32
