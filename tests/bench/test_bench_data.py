import argparse

import pytest

from rmtjax.bench import data as bench_data
from rmtjax.errors import InputError


def test_the_data_bench_times_augmentations_beside_the_peers_there_are(monkeypatch):
    monkeypatch.setattr(bench_data, "PEERS", ())  # whatever is installed: they take long to start
    table = bench_data.compare((32,), ("none", "horizontal_flip"), seconds=0.01, repeats=1)
    assert list(table["augmentation"]) == ["none", "horizontal_flip"]
    assert (table["rmtjax"] > 0).all()
    assert table["ratio"].isna().all()


def test_an_unknown_augmentation_is_named():
    with pytest.raises(
        InputError, match="--names has 'flip', which is no augmentation: they are none, auto_augment"
    ):
        bench_data.main(argparse.Namespace(names="rotation,flip", seconds=1.0, repeats=1), [])
