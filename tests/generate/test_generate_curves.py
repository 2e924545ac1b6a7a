import numpy as np
import pytest

from rmtjax import config as config_lib
from rmtjax import report
from rmtjax.errors import InputError
from rmtjax.generate import curves, synthetic_sets


def manifest(value):
    score = {"value": value, "low": value, "high": value}
    row = {"space": "pixel", "metric": "vendi_score", "value": value}
    return {
        "recognised": {"value": None, "reason": "many"},
        "distance_ratio": value,
        "classification_accuracy_score": {"synthetic": score, "real": score},
        "frechet_distance": {"synthetic": value, "real": 0.0, "n": 5},
        "diversity": [row | {"set": "synthetic"}, row | {"set": "real"}],
    }


def test_a_table_and_picture_of_knobs(tmp_path, monkeypatch):
    asked = []

    def ensure(config):
        asked.append((config.synthetic.guidance, config.synthetic.temperature, config.seed))
        return synthetic_sets.SyntheticSet(
            tmp_path, np.zeros(0), np.zeros(0), manifest(config.synthetic.guidance + config.seed), None
        )

    monkeypatch.setattr(synthetic_sets, "ensure", ensure)
    wanted = curves.parse(["guidance:0,1.5", "temperature:0.8"])
    table = curves.measure(config_lib.base(), wanted, [0, 1])
    assert asked == [(0, 1, 0), (0, 1, 1), (1.5, 1, 0), (1.5, 1, 1), (1, 0.8, 0), (1, 0.8, 1)]
    assert not (table["metric"] == "recognised").any()
    of = table[(table["metric"] == "vendi_score_pixel") & (table["set"] == "real")]
    assert of["value"].tolist() == [0, 1, 1.5, 2.5, 1, 2]
    picture = report.knobs_figure(table, tmp_path / "knobs.png")
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("text", "message"), [("guidance", "has no numbers"), ("guidence:1", "names no knob: they are guidance")]
)
def test_what_is_no_curve_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        curves.parse([text])


def test_a_setting_out_of_range_is_said_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(synthetic_sets, "ensure", lambda config: pytest.fail("nothing is to be made"))
    with pytest.raises(InputError, match=r"synthetic\.edit_start=1\.0 is out of range"):
        curves.measure(config_lib.base(), {"edit_start": [0.5, 1.0]}, [0])
    config = config_lib.base()
    config.synthetic.method = "gaussian"
    with pytest.raises(
        InputError, match=r"synthetic\.guidance=2\.0 does nothing with synthetic\.method='gaussian'"
    ):
        curves.measure(config, {"guidance": [1.0, 2.0]}, [0])
