import importlib.util

from rmtjax.bench import corruptions


def test_the_bench_of_corruptions_has_a_row_each():
    table = corruptions.compare(("contrast", "brightness"), seconds=0.01, repeats=1)
    assert list(table["corruption"]) == ["contrast", "brightness"]
    assert (table["rmtjax"] > 0).all()
    installed = importlib.util.find_spec(corruptions.PEER) is not None
    assert ("ratio" in table) == installed
