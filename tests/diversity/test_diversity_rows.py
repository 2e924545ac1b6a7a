"""Sets at equal size and the rows of diversity.json."""

import json
import subprocess
import sys

import numpy as np
import pytest

from rmtjax import diversity


def test_equal_n_is_seeded_ordered_and_keeps_pairs():
    rng = np.random.default_rng(0)
    sets = {
        "real": np.arange(30.0)[:, None],
        "augmented": np.arange(30.0)[:, None] + 0.5,
        "few": rng.random((12, 1)),
    }
    equal = diversity.at_equal_n(sets, seed=1)
    assert {len(x) for x in equal.values()} == {12}
    np.testing.assert_array_equal(equal["few"], sets["few"])
    np.testing.assert_array_equal(equal["augmented"], equal["real"] + 0.5)
    assert np.all(np.diff(equal["real"][:, 0]) > 0)
    np.testing.assert_array_equal(equal["real"], diversity.at_equal_n(sets, seed=1)["real"])
    assert not np.array_equal(equal["real"], diversity.at_equal_n(sets, seed=2)["real"])
    assert {len(x) for x in diversity.at_equal_n(sets, seed=1, n=5).values()} == {5}
    with pytest.raises(ValueError, match="set 'few' has 12 examples, fewer than n=13"):
        diversity.at_equal_n(sets, seed=1, n=13)


def test_rows():
    rng = np.random.default_rng(0)
    sets = {"real": rng.random((40, 4, 4, 1)), "synthetic": np.repeat(rng.random((6, 4, 4, 1)), 10, axis=0)}
    sets = {name: images.astype(np.float32) for name, images in sets.items()}
    reference = rng.random((50, 4, 4, 1)).astype(np.float32)
    rows = diversity.diversity_rows(sets, reference, space="pixel", seed=3)
    assert json.loads(json.dumps(rows)) == rows
    assert [(r["set"], r["metric"]) for r in rows] == [
        ("real", "vendi_score"),
        ("real", "coverage"),
        ("synthetic", "vendi_score"),
        ("synthetic", "coverage"),
    ]
    assert all(r["low"] <= r["value"] <= r["high"] and r["n"] == 40 and r["space"] == "pixel" for r in rows)
    real = sets["real"].reshape(40, 16)
    assert rows[0]["value"] == pytest.approx(diversity.vendi_score(real))
    assert rows[0]["null"] == pytest.approx(diversity.vendi_of_isotropic(40, 16))
    assert rows[1]["value"] == diversity.coverage(reference.reshape(50, 16), real, 3).value
    assert rows[1]["null"] == pytest.approx(diversity.expected_coverage(50, 40, 3))
    assert rows[2]["value"] < rows[0]["value"]  # six images, however often repeated
    assert rows[3]["value"] < rows[1]["value"]
    assert len(diversity.diversity_rows(sets, None, space="pixel")) == 2


def test_rows_on_request():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(60, 8)) + 0.5
    sets = {"real": real, "augmented": real + 0.3 * rng.normal(size=real.shape), "synthetic": real[:40] * 2}
    reference = rng.normal(size=(70, 8)) + 0.5
    options = {"space": "feature", "paired": {"augmented": "real"}, "base": "real"}
    rows = diversity.diversity_rows(sets, reference, metrics=diversity.METRICS, **options)
    assert json.loads(json.dumps(rows)) == rows
    found = {(r["set"], r["metric"]): r for r in rows}
    assert [m for s, m in found if s == "augmented"] == [
        "vendi_score", "coverage", "weighted_vendi", "weighted_vendi_unpaired", "rke", "truncated_vendi",
        "gaussian_vendi", "effective_rank", "precision", "recall", "density",
    ]  # fmt: skip
    assert ("real", "weighted_vendi") not in found
    assert ("synthetic", "weighted_vendi") not in found
    assert all(r["low"] <= r["value"] <= r["high"] and r["n"] == 40 for r in rows)
    assert all(np.isfinite(r["null"]) for r in rows)
    cut = diversity.at_equal_n(sets, seed=0)
    scores = diversity.manifold_scores(reference, cut["augmented"], 3)
    for metric in ("precision", "recall", "density", "coverage"):
        assert found["augmented", metric]["value"] == pytest.approx(getattr(scores, metric), rel=1e-12)
    bandwidth = diversity.median_distance(reference)
    assert found["real", "gaussian_vendi"]["detail"].startswith(
        f"bandwidth {bandwidth:.4g}, the median distance"
    )
    assert found["augmented", "weighted_vendi"]["value"] == pytest.approx(
        diversity.weighted_vendi(cut["real"], cut["augmented"]).value
    )
    default = diversity.diversity_rows(sets, reference, **options)
    assert {r["metric"] for r in default} == {"vendi_score", "coverage", "weighted_vendi"}
    assert all(set(r) == {"set", "space", "metric", "value", "low", "high", "null", "n"} for r in default)


def test_intervals_of_manifold_scores_hold_their_expectation():
    rng = np.random.default_rng(0)
    made = [
        diversity.manifold_intervals(rng.normal(size=(100, 3)), rng.normal(size=(80, 3)) * 1.2)
        for _ in range(120)
    ]
    for name in ("precision", "recall", "density"):
        expected = np.mean([m[name].value for m in made])
        held = np.mean([m[name].low <= expected <= m[name].high for m in made])
        assert held >= 0.88, (name, held)
        assert np.mean([m[name].high - m[name].low for m in made]) < 0.6


def test_bad_requests_are_one_sentence():
    sets = {"a": np.ones((5, 3)), "b": np.ones((5, 4))}
    with pytest.raises(ValueError, match="set 'a' has 3 numbers an example and set 'b' 4"):
        diversity.diversity_rows(sets, None, space="pixel")
    with pytest.raises(ValueError, match="set 'a' has 3 numbers an example and the reference 2"):
        diversity.diversity_rows({"a": sets["a"]}, np.ones((9, 2)), space="pixel")
    with pytest.raises(ValueError, match="metric 'vendy' is unknown"):
        diversity.diversity_rows(sets, None, space="pixel", metrics=("vendy",))


def test_import_is_light_and_stands_alone():
    code = (
        "import sys, rmtjax.diversity\n"
        "print([m for m in ('tensorflow', 'flax', 'matplotlib') if m in sys.modules],"
        " [m for m in sys.modules if m.startswith('rmtjax.') and not m.startswith('rmtjax.diversity')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[] ['rmtjax.errors']"
