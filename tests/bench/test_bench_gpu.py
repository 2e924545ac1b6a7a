"""The bench of accelerators at the sizes of a test, and what it does where something is missing."""

import json

import jax
import jax.numpy as jnp
import pytest

from rmtjax import models
from rmtjax.bench import gpu
from rmtjax.commands import bench as command


@pytest.mark.slow
def test_all_cases_are_measured_and_written_to_a_file(tmp_path, capsys):
    file = tmp_path / "gpu.json"
    command.main(["gpu", "--small", f"--json={file}"])
    told = json.loads(file.read_text())
    cases = gpu.cases(small=True)
    assert [(row["part"], row["what"]) for row in told["rows"]] == [(case.part, case.what) for case in cases]
    assert told["jax"] == jax.__version__
    for row in told["rows"]:
        if row["what"].startswith("torch"):
            assert "seconds" in row or row["left_out"] == "needs torch"
        else:
            assert row["seconds"] > 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == len(cases) + 1
    ratios = {row["what"]: row["ratio"] for row in told["rows"] if row["part"] == "population"}
    assert ratios.pop(f"{jax.device_count()} models, one by one") == 1
    assert len(ratios) == 2


def test_all_parts_fit_into_eight_minutes_at_half_of_the_peaks(capsys):
    command.main(["gpu", "--dry"])
    *lines, total = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == len(gpu.cases())
    assert float(total.split()[0]) == pytest.approx(sum(case.expected for case in gpu.cases()), abs=1)
    assert float(total.split()[0]) < 8 * 60


def test_operations_of_a_step_are_those_that_xla_counts():
    size = (64, 128, 2, 4)
    model = models.build(gpu._vit(*size), 2)
    images = jnp.zeros((4, 64, 64, 3))
    variables = model.init(jax.random.key(0), images, train=False)
    forward = jax.jit(lambda x: model.apply(variables, x, train=False))
    counted = forward.lower(images).compile().cost_analysis()["flops"]
    assert gpu.forward_operations(*size) == pytest.approx(counted, rel=0.05)  # XLA counts norms and such too


def test_a_case_that_fails_and_one_for_which_no_time_is_left_are_said_and_do_not_end_the_others():
    def missing():
        raise ImportError("nothing", name="a_library")

    def too_large():
        raise RuntimeError("out of memory: 5 GB\nmore")

    def works():
        return lambda: jnp.zeros(3)

    named = [("a", missing), ("b", too_large), ("c", works)]
    rows = list(gpu.measure([gpu.Case("part", name, make) for name, make in named], 60.0))
    assert [row.get("left_out") for row in rows] == ["needs a_library", "out of memory: 5 GB", None]
    assert list(gpu.measure([gpu.Case("part", "d", works)], -1.0)) == [
        {"part": "part", "what": "d", "left_out": "no time was left of -1 s"}
    ]


def test_rates_shares_and_ratios():
    def works():
        return lambda: jnp.zeros(3)

    of = [
        gpu.Case("peak", "product", works, 1e6),
        gpu.Case("part", "theirs", works, 1e6),
        gpu.Case("part", "ours", works, 1e6, unit=(5, "images"), against="theirs"),
    ]
    peak, theirs, ours = gpu.measure(of, 60.0)
    assert peak["unit"] == "TFLOP/s"
    assert "share" not in peak
    assert theirs["share"] == pytest.approx(peak["seconds"] / theirs["seconds"])
    assert ours["ratio"] == pytest.approx(theirs["seconds"] / ours["seconds"])
    assert ours["rate"] == pytest.approx(5 / ours["seconds"])
    assert ours["unit"] == "images a second"
