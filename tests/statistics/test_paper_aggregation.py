"""The paper's aggregation, by hand."""

import pandas as pd
import pytest

from rmtjax import statistics
from rmtjax.errors import InputError


def table(alpha, log_norm, ids=(3, 9, 229)):
    names = ["conv1", "block.0", "head"][: len(ids)]
    columns = {"layer_id": ids, "name": "Linear", "longname": names, "alpha": alpha, "log_norm": log_norm}
    return pd.DataFrame(columns)


PRE = table([2.0, 3.0, 4.0], [1.0, 1.0, 1.0])
BASE = table([2.5, 3.5, 5.0], [1.0, 2.0, 1.0])
ARMS = {
    "div": {
        "auto": table([3.0, 3.5, 7.0], [1.5, 2.0, 1.0]),
        "rand": table([4.0, 3.5, 5.0], [2.5, 2.0, 2.0]),
    },
    "wd": {"wd1": table([2.5, 4.5, 9.0], [0.0, 0.0, 0.0])},
}


def values(found, metric):
    wide = found.layers[found.layers["metric"] == metric].pivot(
        index="layer", columns="family", values="value"
    )
    return wide.loc[["conv1", "block.0", "head"]]


def test_a_hand_computed_example_comes_out_exactly():
    found = statistics.paper_aggregation(PRE, BASE, ARMS, ("alpha", "log_norm"))
    # conv1, alpha: div is the mean of (3 - 2) - (2.5 - 2) = .5 and (4 - 2) - .5 = 1.5.
    assert values(found, "alpha")["div"].tolist() == [1.0, 0.0, 1.0]
    assert values(found, "alpha")["wd"].tolist() == [0.0, 1.0, 4.0]
    assert values(found, "log_norm")["div"].tolist() == [1.0, 0.0, 0.5]
    assert values(found, "log_norm")["wd"].tolist() == [-1.0, -2.0, -1.0]
    means = found.means.set_index(["family", "metric"])["value"]
    assert means["div", "alpha"] == pytest.approx(2 / 3, abs=1e-15)
    assert means["wd", "alpha"] == pytest.approx(5 / 3, abs=1e-15)
    # alpha: between 2 * 3 * .5² = 1.5 with 1 degree of freedom, within 2/3 + 26/3 = 28/3 with 4.
    anova = found.anova.set_index("metric")
    assert anova.loc["alpha", "F"] == pytest.approx(1.5 / (28 / 12), abs=1e-14)
    assert anova.loc["alpha", "layers"] == 3
    pair = found.pairs.set_index("metric").loc["alpha"]
    assert pair["t"] == pytest.approx(-((1.5 / (28 / 12)) ** 0.5), abs=1e-14)  # of two groups t² = F
    assert pair["p"] == pytest.approx(anova.loc["alpha", "p"], abs=1e-14)
    # (1, 0, 1) and (0, 1, 4) less their means: 1/3 (1, -2, 1) and 1/3 (-5, -2, 7).
    assert pair["pearson"] == pytest.approx(6 / (6 * 78) ** 0.5, abs=1e-14)


def test_each_arm_may_have_its_own_start():
    """The authors draw the head anew in each arm; a change is from the arm's own start."""
    own = dict.fromkeys(("baseline", "rand", "wd1"), PRE) | {"auto": table([2.0, 3.0, 6.0], [1.0, 1.0, 1.0])}
    found = statistics.paper_aggregation(own, BASE, ARMS, ("alpha", "log_norm"))
    assert values(found, "alpha")["div"].tolist() == [1.0, 0.0, 0.0]


def test_frozen_layers_are_left_out_and_layers_joined_by_name():
    frozen = {"div": {"auto": table([2.0, 3.5, 7.0], [1.0, 2.0, 1.0], ids=(1, 2, 3))}}
    found = statistics.paper_aggregation(PRE, BASE, frozen, ("alpha", "log_norm"))
    assert set(found.layers["layer"]) == {"block.0", "head"}  # conv1 is as it was in that arm
    assert found.means.set_index("metric").loc["alpha", "value"] == 1.0
    assert found.pairs.empty


def test_data_sets_are_averaged_layer_by_layer():
    one = statistics.paper_aggregation(PRE, BASE, ARMS, ("alpha", "log_norm"))
    far = {"div": {"a": table([9.0, 3.5, 5.0], [1.0, 2.0, 1.0])}, "wd": ARMS["wd"]}
    two = statistics.paper_aggregation(PRE, BASE, far, ("alpha", "log_norm"))
    both = statistics.pooled([one.layers, two.layers])
    assert values(both, "alpha")["div"].tolist() == [(1.0 + 6.5) / 2, 0.0, 0.5]
    assert values(both, "alpha")["wd"].tolist() == [0.0, 1.0, 4.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: statistics.paper_aggregation(PRE, BASE, {"div": {}}), "at least one arm"),
        (lambda: statistics.paper_aggregation(PRE, BASE, ARMS), "no column 'entropy'"),
        (
            lambda: statistics.paper_aggregation({"baseline": PRE}, BASE, ARMS, ("alpha",)),
            "no table for 'auto'",
        ),
        (
            lambda: statistics.paper_aggregation(PRE, pd.concat([BASE, BASE]), ARMS, ("alpha",)),
            "names each layer once",
        ),
    ],
)
def test_bad_tables_are_named(change, words):
    with pytest.raises(InputError, match=words):
        change()
