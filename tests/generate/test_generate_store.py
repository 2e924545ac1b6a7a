import json
import threading
import time

import pytest

from rmtjax.errors import InputError
from rmtjax.generate import store

MADE_FROM = {"seed": 0, "guidance": 1.5}


def write_content(folder):
    (folder / "content.txt").write_text("content")
    return {"fact": 3}


def refuse(folder):
    raise AssertionError("this must not be built")


def ensure(root, build=write_content, made_from=MADE_FROM, say=print):
    return store.ensure(root, made_from, build, say)


def test_name_does_not_depend_on_the_order_of_keys_but_on_every_value():
    assert store.digest({"a": 1, "b": {"c": 2.0}}) == store.digest({"b": {"c": 2.0}, "a": 1})
    others = [{"a": 1, "b": {"c": 2.5}}, {"a": 2, "b": {"c": 2.0}}, {"a": 1}]
    assert len({store.digest(other) for other in others}) == 3


def test_built_once_and_found_again(tmp_path):
    first = ensure(tmp_path / "cache")
    second = ensure(tmp_path / "cache", refuse)
    assert (first.fresh, second.fresh) == (True, False)
    assert second.path == first.path == tmp_path / "cache" / store.digest(MADE_FROM)
    assert second.manifest == first.manifest
    assert second.manifest["made_from"] == MADE_FROM
    assert second.manifest["fact"] == 3
    assert sorted(path.name for path in first.path.iterdir()) == ["content.txt", "manifest.json"]
    assert [path.name for path in first.path.parent.iterdir()] == [
        first.path.name
    ]  # no lock, nothing half-built


@pytest.mark.parametrize("damage", ["altered", "missing", "manifest", "made_from", "fact"])
def test_damage_is_refused_by_name(tmp_path, damage):
    stored = ensure(tmp_path)
    content, manifest = stored.path / "content.txt", stored.path / "manifest.json"
    named = content if damage in ("altered", "missing") else manifest
    if damage == "altered":
        content.write_text("kontent")
    elif damage == "missing":
        content.unlink()
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:-10])
    else:
        changed = json.loads(manifest.read_text())
        if damage == "fact":
            changed["fact"] = 4
        else:
            changed["made_from"]["seed"] = 1
        manifest.write_text(json.dumps(changed))
    with pytest.raises(InputError, match="delete the folder") as error:
        ensure(tmp_path, refuse)
    assert str(error.value).startswith(repr(str(named)))


def test_what_a_killed_build_left_is_found_by_the_next_one(tmp_path):
    def killed(folder):
        (folder / "part.txt").write_text("part")
        (folder / ".other.123.txt").write_text("half")  # of files.atomic
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure(tmp_path, killed)
    assert not (tmp_path / store.digest(MADE_FROM)).exists()

    def finish(folder):
        assert (folder / "part.txt").read_text() == "part"
        return write_content(folder)

    assert set(ensure(tmp_path, finish).manifest["files"]) == {"content.txt", "part.txt"}


def test_bad_input_while_building_leaves_nothing(tmp_path):
    def bad(folder):
        (folder / "part.txt").write_text("part")
        raise InputError("bad")

    with pytest.raises(InputError, match="bad"):
        ensure(tmp_path, bad)
    assert list(tmp_path.iterdir()) == []


def test_the_second_of_two_waits_and_builds_nothing(tmp_path):
    started, said = threading.Event(), []

    def slow(folder):
        started.set()
        deadline = time.monotonic() + 30
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        return write_content(folder)

    results = []
    first = threading.Thread(target=lambda: results.append(ensure(tmp_path, slow)))
    first.start()
    assert started.wait(30)
    results.append(ensure(tmp_path, refuse, say=said.append))
    first.join()
    assert len(said) == 1
    assert "waiting" in said[0]
    assert sorted(result.fresh for result in results) == [False, True]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_below_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"synthetic\.cache cannot be made") as error:
        ensure(tmp_path / "file" / "cache")
    assert str(tmp_path / "file" / "cache") in str(error.value)
