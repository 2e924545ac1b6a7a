"""Every notebook runs from its first cell to its last, and shows what is stored in it."""

import os

import pytest
from notebook_outputs import NOTEBOOKS, executed, shown

LARGEST = 1_500_000  # bytes of all notebooks together


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch):
    one_device = os.environ["XLA_FLAGS"].replace("count=8", "count=1")  # as its reader has
    monkeypatch.setenv("XLA_FLAGS", one_device)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # a kernel draws into its notebook
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    stored, found = nbformat.read(path, as_version=4), executed(path)
    assert any(shown(cell) for cell in stored.cells), "no output is stored: make notebooks"
    for before, after in zip(stored.cells, found.cells, strict=True):
        assert shown(after) == shown(before), f"make notebooks, after this cell changed:\n{before.source}"


def test_notebooks_are_small():
    assert sum(path.stat().st_size for path in NOTEBOOKS) < LARGEST
