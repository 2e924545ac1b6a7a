import jax
import pytest

from rmtjax import config as config_lib
from rmtjax.bench import train as bench_train


@pytest.mark.slow
def test_the_training_bench_compares_three_ways_in_one_run(capsys):
    config = config_lib.smoke(config_lib.base())
    config.model.init_from = None
    config.model.name = "mlp"
    config.train.batch_size = jax.device_count()
    table = bench_train.compare(config, steps=3, skip=1)
    assert list(table["way"]) == [
        "plain JAX, ready batches",
        "loop with input",
        "loop with input and checkpoints",
    ]
    assert table["ratio"][0] == 1
    assert (table["examples_per_second"] > 0).all()
    assert table["waiting_for_input"].between(0, 1).all()
