"""Matrices made to be in a phase are found there; pure noise of any shape is random-like."""

import numpy as np

from rmtjax import spectra

RNG = np.random.default_rng(3)


def test_phases_of_made_matrices():
    def noise(rows, columns):
        return RNG.standard_normal((rows, columns))

    def spiked(strength):
        u, v = (x / np.linalg.norm(x) for x in (RNG.standard_normal(400), RNG.standard_normal(200)))
        edge = np.sqrt(400) + np.sqrt(200)
        return noise(400, 200) + strength * edge * np.outer(u, v)

    tree = {
        "square": noise(256, 256), "wide": noise(800, 200),
        "slices": noise(3, 3 * 64 * 64).reshape(9, 64, 64)[0],
        "spikes": spiked(3), "edge": spiked(0.72),
        "heavy": RNG.pareto(1.0, (256, 256)) * RNG.choice([-1, 1], (256, 256)),
        "collapsed": noise(200, 4) @ noise(4, 100), "zero": np.zeros((40, 30)),
        "decayed": noise(400, 200) * np.sqrt(np.linspace(0.2, 3, 200)),
    }  # fmt: skip
    table = spectra.analyze({name: {"kernel": w} for name, w in tree.items()}).table
    found = {
        name.removesuffix("/kernel"): phase for name, phase in zip(table["name"], table["phase"], strict=True)
    }
    assert found["square"] == found["wide"] == found["slices"] == "random-like"
    assert found["spikes"] == "bulk+spikes"
    assert found["edge"] == "bleeding-out"
    assert found["heavy"] == "heavy-tailed"
    assert found["collapsed"] == "rank-collapse"
    assert found["zero"] == ""
    assert found["decayed"] in ("bulk-decay", "heavy-tailed")


def test_without_the_groups_it_needs_there_is_no_label():
    assert "phase" not in spectra.analyze({"a": RNG.standard_normal((30, 20))}, metrics="scale,tail").table
