"""A new metric is one entry of METRICS: no table, text, page or list keeps its own list of metrics."""

import json

import numpy as np
import pandas as pd
import pytest

from rmtjax import report, results, spectra
from rmtjax.commands import spectra as command
from rmtjax.errors import InputError
from rmtjax.report.numbers import show_metric
from rmtjax.spectra import metrics
from rmtjax.statistics import Arm

NAME, TITLE, ABOUT = "trace_per_row", "trace per row", "Sum of the eigenvalues over the number of rows."
HIDDEN = "unshown_trace"  # of a second metric, which no place shows
ENTRY = metrics.Metric(
    "scale",
    TITLE,
    ABOUT,
    lambda batch: batch.eigenvalues.sum(-1) / batch.constants["N"],
    scale=2,
    null=lambda noise, columns: columns["norm"] / noise.N,
    shown=tuple(metrics.PLACES),
)
MLP, HEAD = "block_0/mlp/up/kernel", "head/kernel"
ARMS = {"none": Arm("none", 0.0, "none")}


@pytest.fixture
def weights(monkeypatch):
    """Weights before and after training and their update; two new metrics, one of them shown nowhere."""
    monkeypatch.setitem(metrics.METRICS, NAME, ENTRY)
    monkeypatch.setitem(metrics.METRICS, HIDDEN, ENTRY._replace(title=HIDDEN, shown=()))
    rng = np.random.default_rng(0)
    before, change = ({name: rng.standard_normal((16, 12)) for name in (MLP, HEAD)} for _ in range(2))
    after = {name: before[name] + 0.1 * change[name] for name in before}
    return {"before": before, "after": after, "update": {name: 0.1 * change[name] for name in before}}


@pytest.fixture
def run(tmp_path, monkeypatch, weights, capsys):
    """The folder of a finished run with the analysis of its weights by the command, and what that printed."""
    monkeypatch.setattr(command.flags, "set_compilation_cache", lambda **options: None)
    folder = tmp_path / "study" / "none" / "0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": "finished"}))
    for stage in ("before", "after"):
        np.savez(tmp_path / f"{stage}.npz", **weights[stage])
    words = [f"{tmp_path / 'after.npz'}", f"--baseline={tmp_path / 'before.npz'}", f"--out={folder}"]
    assert command.main([*words, f"--metrics={NAME}"]) == 0
    return folder, capsys.readouterr().out


def test_a_new_metric_is_everywhere(tmp_path, run, weights):
    folder, printed = run
    trace = {stage: {name: (w**2).sum() / 16 for name, w in side.items()} for stage, side in weights.items()}

    assert printed.split().count(TITLE.split()[0]) == 2  # in both tables; heads are broken at their spaces
    assert HIDDEN not in printed

    table = pd.read_parquet(folder / "spectra.parquet").set_index(["stage", "name"])
    for key, row in table.iterrows():
        assert row[NAME] == row[HIDDEN] == row[f"{NAME}_null"] == pytest.approx(trace[key[0]][key[1]])

    page = (folder / "report.html").read_text()  # of the update, by the command
    head = f'title="{ABOUT}"><button type="button">{TITLE}'
    assert page.count(f"{head}</button>") == 1  # among the medians
    assert all(f"{head} {stage}</button>" in page for stage in trace)
    assert f'<text class="title" x="2" y="12">{TITLE}</text>' in page.split("more metrics over depth")[0]
    assert f"{TITLE} {show_metric(NAME, trace['after'][MLP])}" in page  # the sentence of a matrix
    assert HIDDEN not in page.split("more metrics over depth")[0]
    assert f"median {TITLE} before, after" in report.run_page(folder).read_text()

    long = results.collect(folder.parents[1], ARMS)
    assert {NAME, HIDDEN} <= set(long["metric"])
    numbers = results.results_table(long)
    views = {"results": numbers, "study": results.study_table(long, ARMS)}
    assert not any(view["metric"].str.contains(HIDDEN).any() for view in views.values())
    value = numbers.set_index(["set", "metric"])["value"].to_dict()
    assert value["weights/update", NAME] == pytest.approx(trace["update"][MLP])
    assert value["head/after", NAME] == pytest.approx(trace["after"][HEAD])
    assert f"update {TITLE}" in results.overview(numbers)
    assert not views["study"].duplicated(["group", "metric"]).any()
    value = views["study"].set_index(["group", "metric"])["value"].to_dict()
    assert value["backbone", f"update/{NAME}"] == pytest.approx(trace["update"][MLP])
    assert value["head", f"after/{NAME}"] == pytest.approx(trace["after"][HEAD])

    scalars = spectra.observe.every(1, tmp_path, precision="double")(1, weights["after"])
    assert scalars[f"spectra/{NAME}"] == pytest.approx(np.median(list(trace["after"].values())))

    with pytest.raises(InputError, match=f"metrics has 'trace_by_row': .*such as {NAME}"):
        command.main([str(tmp_path / "after.npz"), "--metrics=trace_by_row"])


def test_the_page_of_one_model_has_it_too(tmp_path, weights):
    spectra.analyze(weights["after"], metrics=NAME).save(tmp_path)
    page = report.spectra_page(tmp_path).read_text()
    assert page.count(f'title="{ABOUT}"><button type="button">{TITLE}</button>') == 2  # medians and matrices
