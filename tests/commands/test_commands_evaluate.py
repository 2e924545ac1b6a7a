"""`python -m rmtjax.evaluate` beside other runs: mCE against a reference, robustness against baselines."""

import json

import pytest

from rmtjax import config as config_lib
from rmtjax.commands import evaluate
from rmtjax.errors import InputError
from rmtjax.evaluation import robustness

TINY = """
from rmtjax import config

def get_config():
    c = config.smoke(config.base())
    c.model.init_from = None
    c.model.name = "mlp"
    c.evaluation.shifts = ("corrupted",)
    c.evaluation.ood = ()
    c.evaluation.corruptions = ("contrast", "impulse_noise")
    c.evaluation.corrupted_examples = 30
    return c
"""


LETTERS = """
from rmtjax import config

def get_config():
    c = config.smoke(config.base())
    c.data.source = "letters"
    c.data.test_examples = 104
    c.evaluation.shifts = ()
    c.evaluation.ood = ()
    return c
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a trained model, as far as evaluate reads it."""
    from rmtjax import train

    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.py").write_text(TINY)
    config = config_lib.load(str(folder / "tiny.py"))
    train.run(config, folder / "run")
    return folder / "run"


def evaluated(*words):
    return evaluate.main(list(map(str, words)))


def test_a_run_beside_a_reference_and_baselines(run, tmp_path, capsys):
    assert evaluated(run, f"--out={tmp_path / 'plain'}") == 0
    plain = json.loads((tmp_path / "plain" / "evaluation.json").read_text())
    rows = {(row["set"], row["metric"]): row for row in plain["rows"]}
    assert rows["corrupted/contrast/3", "accuracy"]["n"] == 30
    assert rows["test", "accuracy"]["n"] == 40
    assert ("corrupted", "mce") not in rows
    assert "reference" not in plain
    assert (plain["corrupted"]["n"], plain["corrupted"]["shape"]) == (30, [16, 16, 1])
    for k, (clean, shifted) in enumerate(((0.3, 0.2), (0.5, 0.4), (0.6, 0.45), (0.7, 0.5), (0.8, 0.7))):
        (tmp_path / f"baseline{k}").mkdir()
        of = [("test", clean), ("corrupted", shifted)]
        content = {"rows": [{"set": s, "metric": "accuracy", "value": v} for s, v in of]}
        (tmp_path / f"baseline{k}" / "evaluation.json").write_text(json.dumps(content))
    capsys.readouterr()

    again = [
        f"--reference={tmp_path / 'plain'}",
        "--baselines",
        *(tmp_path / f"baseline{k}" for k in range(5)),
    ]
    assert evaluated(run, f"--out={tmp_path / 'beside'}", *again) == 0
    content = json.loads((tmp_path / "beside" / "evaluation.json").read_text())
    beside = {(row["set"], row["metric"]): row for row in content["rows"]}
    assert beside["corrupted", "mce"]["value"] == pytest.approx(1, abs=1e-5)  # it is its own reference
    assert {key: row for key, row in beside.items() if key in rows} == rows
    assert set(beside) - set(rows) == {
        ("corrupted", m) for m in ("mce", "relative_mce", "effective_robustness")
    }
    assert content["reference"] == str(tmp_path / "plain")
    text = capsys.readouterr().out
    assert evaluate.LEAST_BASELINES == robustness.LEAST_BASELINES
    with pytest.raises(InputError, match=r"--baselines has 1 runs, .* at least 5"):
        evaluated(run, "--baselines", tmp_path / "plain")
    assert f"mCE: the errors of {tmp_path / 'plain'} are 1" in text
    assert "above the line of 5 baseline runs" in text


def test_batches_that_the_devices_cannot_share_are_made_larger(run, tmp_path):
    smaller = f"--config={run.parent / 'tiny.py'}", "--config.train.evaluation_batch_size=7"
    for name, words in (("own", ()), ("smaller", smaller)):
        assert evaluated(run, f"--out={tmp_path / name}", *words) == 0
    own, other = (
        json.loads((tmp_path / name / "evaluation.json").read_text())["rows"] for name in ("own", "smaller")
    )
    values = [[row["value"] for row in rows] for rows in (own, other)]
    assert values[1] == pytest.approx(values[0], abs=1e-5)


def test_a_reference_on_other_images_is_refused(run, tmp_path):
    rows = [
        {"set": s, "metric": "accuracy", "value": 0.5} for s in ("corrupted/contrast/1", "corrupted/clean")
    ]
    content = {"rows": rows, "corrupted": {"n": 40, "shape": [16, 16, 1], "labels": ""}}
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="on 40 corrupted examples and this one is on 30"):
        evaluated(run, f"--out={tmp_path / 'out'}", f"--reference={tmp_path}")


def test_shipped_weights_are_evaluated_by_their_name(tmp_path):
    (tmp_path / "letters.py").write_text(LETTERS)
    assert evaluated("letters", f"--config={tmp_path / 'letters.py'}", f"--out={tmp_path}") == 0
    rows = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    assert next(row["value"] for row in rows if row["metric"] == "accuracy") > 0.5
    with pytest.raises(InputError, match="there is nothing at 'lettres'"):
        evaluated("lettres")


def test_a_reference_that_is_no_run_is_one_sentence(run, tmp_path):
    for words in (f"--reference={tmp_path}",), ("--baselines", tmp_path):
        with pytest.raises(InputError, match=r"has no evaluation\.json: give the folder of a run"):
            evaluated(run, *words)
