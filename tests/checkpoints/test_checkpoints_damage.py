"""A damaged newest checkpoint is set aside and said so; the one before is used, and saving goes on."""

import json
import os
import re
import shutil
import zlib

import numpy as np
import pytest

from rmtjax import checkpoints
from rmtjax.errors import InputError

CONFIG = {"seed": 3}


@pytest.fixture(scope="module")
def good(states, tmp_path_factory):
    """A run with checkpoints 0, 10 and 20, copied by every test."""
    workdir = tmp_path_factory.mktemp("good") / "run"
    with checkpoints.open_run(workdir) as run:
        for step in (0, 10, 20):
            run.save(step, states.make(step, 1, 8), CONFIG, {"validation/accuracy": 0.5})
    return workdir


@pytest.fixture
def workdir(good, tmp_path):
    return shutil.copytree(good, tmp_path / "run")


def files(step_dir):
    """All but the two small ones that Orbax writes last and nobody needs."""
    names = ("_CHECKPOINT_METADATA", "commit_success.txt")
    found = [path for path in sorted(step_dir.rglob("*")) if path.is_file()]
    return [path for path in found if path.parent != step_dir or path.name not in names]


def largest(step_dir):
    return max(files(step_dir), key=lambda path: path.stat().st_size)


def smallest(step_dir):
    return step_dir / "metrics/metrics"


def flip(path, position, bit):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def falls_back(workdir, states, expected=10):
    said = []
    with checkpoints.open_run(workdir, say=said.append) as run:
        state, step = run.restore(states.abstract(2, 4))
        assert step == expected
        states.assert_equal(state, states.make(expected))
        run.save(expected + 10, states.make(expected + 10), CONFIG)
    with checkpoints.open_run(workdir, say=pytest.fail) as run:
        state, step = run.restore(states.abstract())
        assert step == expected + 10
        states.assert_equal(state, states.make(expected + 10))
    return said


def damage(path, kind):
    if kind == "flipped byte":
        flip(path, path.stat().st_size // 2, 4)
    elif kind == "missing":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2)


KINDS = ["flipped byte", "truncated", "missing"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choose", [largest, smallest])
def test_the_run_goes_on_from_the_one_before_and_saves_again(workdir, states, kind, choose, capfd):
    damage(choose(workdir / "checkpoints/20"), kind)
    said = falls_back(workdir, states)
    where = re.escape(repr(str(workdir / "damaged/20")))
    assert len(said) == 2
    assert re.fullmatch(rf"checkpoint 20 is damaged \(.+\) and was moved to {where}", said[0])
    assert said[1] == "continuing from checkpoint 10"
    assert capfd.readouterr() == ("", "")  # no traceback from Orbax's or TensorStore's threads


@pytest.mark.parametrize("kind", KINDS)
def test_damage_to_any_file_is_noticed(good, tmp_path, kind):
    for path in files(good / "checkpoints/20"):
        if (kind, path.name) == ("missing", "checksums.json"):
            continue  # then it is read as any Orbax checkpoint; in its run it is damaged (tested below)
        step_dir = shutil.copytree(good / "checkpoints/20", tmp_path / "20")
        damage(step_dir / path.relative_to(good / "checkpoints/20"), kind)
        with pytest.raises(InputError, match=rf"the checkpoint '.*/20' is damaged: .*{path.name}"):
            checkpoints.nest(checkpoints.open(step_dir))
        shutil.rmtree(step_dir)


def test_many_flipped_bytes_in_the_arrays(good, tmp_path):
    rng = np.random.default_rng(1)
    step_dir = shutil.copytree(good / "checkpoints/20", tmp_path / "20")
    path = largest(step_dir)
    whole = path.read_bytes()
    for position in rng.integers(len(whole), size=100):
        flip(path, position, rng.integers(8))
        with pytest.raises(
            InputError, match=f"is damaged: the checksum of state/.*{path.name} does not match"
        ):
            checkpoints.nest(checkpoints.open(step_dir))
        path.write_bytes(whole)
    assert checkpoints.nest(checkpoints.open(step_dir))


def test_arrays_are_verified_too(good, tmp_path):
    """Files that are what was written, but not what was to be written: the array's own checksum tells."""
    step_dir = shutil.copytree(good / "checkpoints/20", tmp_path / "20")
    sums = json.loads((step_dir / "checksums.json").read_text())
    del sums["self"]
    sums["arrays"]["params/head/kernel"][2] ^= 1
    sums["self"] = zlib.crc32(json.dumps(sums, sort_keys=True).encode())
    (step_dir / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(InputError, match="is damaged: the checksum of params/head/kernel does not match"):
        checkpoints.nest(checkpoints.open(step_dir))


def test_a_folder_emptied_and_one_half_deleted(workdir, states):
    shutil.rmtree(workdir / "checkpoints/20/state")
    for path in (workdir / "checkpoints/10").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    said = falls_back(workdir, states, expected=0)
    assert len(said) == 3
    assert sorted(os.listdir(workdir / "damaged")) == ["10", "20"]


def test_weights_of_another_step_are_noticed(workdir, states):
    shutil.rmtree(workdir / "checkpoints/20/state")
    shutil.copytree(workdir / "checkpoints/10/state", workdir / "checkpoints/20/state")
    assert "checkpoint 20 is damaged (the checksum of state/" in falls_back(workdir, states)[0]


def test_the_same_step_damaged_twice_keeps_both(workdir, states):
    for names in (["20"], ["20", "20-1"], ["20", "20-1", "20-2"]):
        (workdir / "checkpoints/20/checksums.json").unlink()
        falls_back(workdir, states)
        assert sorted(os.listdir(workdir / "damaged")) == names


def test_nothing_good_left_starts_afresh(workdir, states):
    for step in (0, 10, 20):
        os.truncate(largest(workdir / f"checkpoints/{step}"), 100)
    said = []
    with checkpoints.open_run(workdir, say=said.append) as run:
        assert run.restore(states.abstract()) is None
        run.save(0, states.make(0), CONFIG)
    assert said[-1] == f"no good checkpoint is left in {str(workdir / 'checkpoints')!r}: starting from step 0"
    assert os.listdir(workdir / "checkpoints") == ["0"]


def test_readers_pass_over_damaged_checkpoints_and_change_nothing(workdir, states):
    os.truncate(largest(workdir / "checkpoints/20"), 100)
    said = []
    params = checkpoints.nest(checkpoints.open(workdir, say=said.append))
    np.testing.assert_array_equal(params["head"]["kernel"], states.make(10).params["head"]["kernel"])
    assert len(said) == 1
    assert re.fullmatch(
        r"checkpoint 20 in '.*' is damaged \(state/\S+ has 100 bytes, not \d+\) and is skipped",
        said[0],
    )
    with pytest.raises(
        InputError, match=r"the checkpoint '.*/20' is damaged: state/\S+ has 100 bytes, not \d+"
    ):
        checkpoints.nest(checkpoints.open(workdir / "checkpoints/20"))
    for step in (0, 10):
        (workdir / f"checkpoints/{step}/checksums.json").write_text("{}")
    with pytest.raises(InputError, match="holds no good checkpoint"):
        checkpoints.nest(checkpoints.open(workdir, say=said.append))
    assert sorted(os.listdir(workdir / "checkpoints")) == ["0", "10", "20"]


def test_what_no_reader_needs_may_be_missing(workdir, states):
    for name in ("_CHECKPOINT_METADATA", "commit_success.txt"):
        (workdir / "checkpoints/20" / name).unlink()
    with checkpoints.open_run(workdir, say=pytest.fail) as run:
        states.assert_equal(run.restore(states.abstract()).state, states.make(20))
