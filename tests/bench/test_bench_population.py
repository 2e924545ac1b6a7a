import jax
import pytest

from rmtjax import config as config_lib
from rmtjax.bench import population


@pytest.mark.slow
def test_the_population_bench_compares_three_ways_in_one_run():
    config = config_lib.smoke(config_lib.base())
    config.model.vit.update(width=8, depth=1, heads=1, mlp_width=8)
    table = population.compare(config, count=jax.device_count(), steps=1, repeats=2)
    assert list(table["way"]) == [
        "one by one",
        "together, one after the other in one program",
        "together, vmapped",
    ]
    assert table["ratio"][0] == 1
    assert (table["milliseconds"] > 0).all()
    assert table["ratio"].to_numpy() == pytest.approx(
        table["milliseconds"][0] / table["milliseconds"].to_numpy()
    )
