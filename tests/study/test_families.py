"""Arms that designs have in common."""

import pytest

from rmtjax import config as config_lib
from rmtjax.errors import InputError
from rmtjax.study import families


def test_placebos_halve_and_double_what_the_config_has():
    config = config_lib.base()
    config.train.update(total_steps=100, batch_size=32)
    config.optim.update(learning_rate=3e-5, head_learning_rate=None)
    arms = families.placebos(config, seeds="0-2")
    assert arms["learning_rate_x0.5"]["overrides"] == ["optim.learning_rate=1.5e-05"]
    assert arms["steps_x2"]["overrides"] == ["train.total_steps=200"]
    assert arms["batch_size_x0.5"] == families.arm("batch size x0.5", 0.5, "train.batch_size=16", seeds="0-2")
    assert "another_head" in arms
    names = families.families_of(arms)
    assert len(names) == len(arms) == 8
    assert families.knobs(names)["steps x2"] == families.knobs(names)["steps x0.5"] == "steps"
    assert "label smoothing" not in families.knobs(names)
    config.optim.head_learning_rate = 1e-3
    config.model.init_from = None
    arms = families.placebos(config, seeds="0-2")
    assert "another_head" not in arms  # from scratch every seed draws all weights
    assert arms["learning_rate_x2"]["overrides"] == [
        "optim.learning_rate=6e-05",
        "optim.head_learning_rate=0.002",
    ]
    for steps in (None, 75):
        config.train.total_steps = steps
        with pytest.raises(InputError, match=f"train.total_steps={steps} cannot be halved"):
            families.placebos(config, seeds="0-2")


def test_doses_of_diversity_alone_have_its_sign():
    arms = families.diversity_alone(400, (50, 200), seeds="0-4", most_seeds="0-19")
    doses = {name: cell["dose"] for name, cell in arms.items()}
    assert doses["distinct_50"] == -3
    assert doses["distinct_200"] == -1
    assert doses["selection_least"] == -doses["selection_most"] == -0.5
    assert doses["selection_0.75"] == 0.25
    assert {name for name, cell in arms.items() if cell["seeds"] == "0-19"} == {"selection_most"}
