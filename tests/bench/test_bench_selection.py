import argparse

from rmtjax import config as config_lib
from rmtjax.bench import selection


def test_diversity_rises_with_both_settings_and_all_is_drawn(capsys, tmp_path, monkeypatch):
    tables = []
    measure = selection.measure
    monkeypatch.setattr(selection, "QUANTILES", (0.0, 1.0))
    monkeypatch.setattr(selection, "REPEATED", (4, 1))
    monkeypatch.setattr(selection, "COST", (500, 8, 2, 20))
    monkeypatch.setattr(selection, "measure", lambda *of: tables.append(measure(*of)) or tables[-1])
    monkeypatch.setattr(config_lib, "load", lambda path, overrides: config)
    config = config_lib.base()
    config.data.train_examples = 80
    config.model.init_from = None
    selection.main(argparse.Namespace(config="", seeds=2, out=tmp_path / "made"), [])
    value = tables[0].groupby(["metric", "knob", "setting", "set"])["value"].mean()
    for metric in ("vendi_score_pixel", "within_classes_pixel"):
        for knob, low in (("select, by pixels", 0.0), ("share that is distinct", 0.25)):
            random = value[metric, knob, 1.0, "real"]
            assert value[metric, knob, low, "synthetic"] < random <= value[metric, knob, 1.0, "synthetic"]
    assert "20 of 500 examples of 8 features and 2 classes" in capsys.readouterr().out
    assert (tmp_path / "made" / "selection.png").stat().st_size > 10_000
