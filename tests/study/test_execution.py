"""Runs of a study: planned, locked, started, started again, and the command."""

import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

import forked
import pandas as pd
import pytest

from rmtjax import config as config_lib
from rmtjax import files, results, study
from rmtjax.commands import study as command
from rmtjax.errors import InputError
from rmtjax.study import execution

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"

TINY = """
from rmtjax import config

def get_config():
    c = config.smoke(config.base())
    c.model.init_from = None
    c.model.name = "mlp"
    c.model.mlp.width = 8
    c.spectra.enabled = False
    c.diversity.enabled = False
    c.evaluation.shifts = ()
    c.evaluation.ood = ()
    return c
"""
ARMS = {"plain": [], "decay": ["regularization.weight_decay=0.1"]}


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(TINY)
    return str(path)


def finish(run, accuracy):
    """What a finished run leaves, as far as the tables read it."""
    run.workdir.mkdir(parents=True, exist_ok=True)
    files.write_text(run.workdir / "config.json", config_lib.to_json(run.config))
    row = {
        "set": "test",
        "kind": "id",
        "metric": "accuracy",
        "value": accuracy,
        "low": 0,
        "high": 1,
        "null": 0.1,
        "n": 40,
    }
    (run.workdir / "evaluation.json").write_text(json.dumps({"temperature": 1.0, "rows": [row]}))
    files.write_json(run.workdir / "run.json", {"status": "finished"})


def test_runs_are_planned_all_arms_of_a_seed_first(tiny, tmp_path):
    runs = study.plan(tiny, ARMS, [0, 1], tmp_path / "out")
    assert [(run.arm, run.seed) for run in runs] == [("plain", 0), ("decay", 0), ("plain", 1), ("decay", 1)]


def test_a_folder_of_another_config_is_refused(tiny, tmp_path):
    (run,) = study.plan(tiny, {"plain": []}, [0], tmp_path / "out")
    finish(run, 0.5)
    with pytest.raises(InputError, match=r"weight_decay: 0\.0 -> 0\.1"):
        study.plan(tiny, {"plain": ["regularization.weight_decay=0.1"]}, [0], tmp_path / "out")


@pytest.mark.parametrize("text", ["", "1-", "a", "1,,2"])
def test_bad_seeds_are_one_sentence(text):
    with pytest.raises(InputError, match="is not a list of whole numbers"):
        study.seeds_of(text)


def test_a_bad_arm_name_is_refused(tmp_path):
    path = tmp_path / "arms.py"
    path.write_text("def get_arms(config):\n    return {'a/b': []}\n")
    with pytest.raises(InputError, match="arm name 'a/b'"):
        study.load_arms(str(path), config_lib.base())


@pytest.mark.parametrize(
    ("arms", "config"),
    [
        ("arms_cifar10", "cifar10_resnet20"),
        ("arms_cifar10", "cifar10_clip_vitb32"),
        ("arms_cifar10", "cars_clip_rn50"),
        ("arms_text", "banking77_minilm"),
        ("arms_transfer_synthetic", "digits"),
    ],
)
def test_arms_fit_the_config_they_are_over(arms, config, tmp_path):
    base = config_lib.load(str(CONFIGS / f"{config}.py"))
    made = study.load_arms(str(CONFIGS / f"{arms}.py"), base)
    runs = study.plan(str(CONFIGS / f"{config}.py"), made, [0], tmp_path)
    rates = {(run.config.optim.name, run.config.optim.learning_rate) for run in runs}
    if arms == "arms_cifar10" and base.optim.name == "sgd":
        assert rates == {("sgd", 1e-3), ("adam_l2", 1e-4), ("adamw", 1e-4)}
    else:  # the config's own in every arm
        assert {rate for _, rate in rates} == {base.optim.learning_rate}
    distinct = {config_lib.to_json(run.config) for run in runs}
    assert len(distinct) == len(runs)


class Processes:
    """In place of subprocess.Popen: what each command is made to do, and how often it was started."""

    def __init__(self, runs, does=lambda command, count: 0, seconds=0.0):
        self.runs, self.does, self.seconds, self.started = runs, does, seconds, []

    def __call__(self, command, stdout, pass_fds, **options):
        command = command[command.index("-m") + 1 :]
        self.started.append(command)
        self.held = pass_fds
        return self.Process(self, command, self.started.count(command))

    class Process:
        def __init__(self, outer, command, count):
            self.outer, self.command, self.count = outer, command, count

        def wait(self):
            time.sleep(self.outer.seconds)
            status = self.outer.does(self.command, self.count)
            if status == 0:
                for run in self.outer.runs:
                    mine = f"--workdir={run.workdir}" in self.command or run.arm in self.members()
                    if mine and not (run.workdir / "run.json").exists():
                        finish(run, 0.5)
            return status

        def members(self):
            if self.command[0] != "rmtjax.commands.population":
                return []
            return [run["arm"] for run in json.loads(pathlib.Path(self.command[1]).read_text())["runs"]]


@pytest.fixture
def processes(monkeypatch):
    def install(*arguments, **options):
        made = Processes(*arguments, **options)
        monkeypatch.setattr(execution.subprocess, "Popen", made)
        monkeypatch.setattr(execution, "_has_taskset", lambda: False)
        monkeypatch.setattr(execution, "_PATIENCE", 0.02)
        return made

    return install


FOUR = {name: [f"regularization.weight_decay={i / 10 + 0.1}"] for i, name in enumerate("abcd")}


def test_what_is_finished_is_not_run_again(tiny, tmp_path, processes):
    runs = study.plan(tiny, FOUR, [0], tmp_path / "out")
    made = processes(runs)
    finish(runs[1], 0.5)
    assert study.execute(runs, workers=2) == []
    assert sorted(c[2].split("/")[-2] for c in made.started) == ["a", "c", "d"]
    assert study.execute(runs) == []
    assert len(made.started) == 3


@pytest.mark.parametrize(("status", "starts"), [(1, 2), (-9, 2), (2, 1), (143, 1), (-15, 1)])
def test_what_crashed_is_started_once_more_and_the_others_go_on(status, starts, tiny, tmp_path, processes):
    runs = study.plan(tiny, FOUR, [0], tmp_path / "out")
    made = processes(runs, lambda command, count: status if f"/{'b'}/0" in command[2] else 0)
    assert [run.arm for run in study.execute(runs)] == ["b"]
    assert sum("/b/0" in command[2] for command in made.started) == starts
    table = results.collect(tmp_path / "out", FOUR)
    assert set(study.write_tables(table, tmp_path / "out")["config"]) == {"a", "c", "d"}


def test_without_a_finished_run_the_results_are_empty(tmp_path):
    found = study.write_tables(results.collect(tmp_path, FOUR), tmp_path, [("a", "b")])
    assert len(found) == 0
    assert (tmp_path / "results.csv").read_text() == "config,seed,set,metric,value\n"
    assert not (tmp_path / "summary.csv").exists()


def test_a_second_start_suffices(tiny, tmp_path, processes):
    runs = study.plan(tiny, FOUR, [0], tmp_path / "out")
    made = processes(runs, lambda command, count: -9 if count == 1 else 0)
    assert study.execute(runs, members=4) == []
    assert [command[0] for command in made.started] == ["rmtjax.commands.population"] * 2


def test_a_population_that_crashes_twice_is_tried_run_by_run(tiny, tmp_path, processes):
    runs = study.plan(tiny, FOUR, [0], tmp_path / "out")
    together = "rmtjax.commands.population"
    made = processes(runs, lambda command, count: 1 if command[0] == together or "/c/0" in command[2] else 0)
    assert [run.arm for run in study.execute(runs, members=4)] == ["c"]
    assert [command[0] for command in made.started] == [together] * 2 + ["rmtjax.train"] * 5


def test_members_that_are_left_by_a_population_that_ended_well_have_failed(tiny, tmp_path, processes):
    runs = study.plan(tiny, FOUR, [0], tmp_path / "out")
    made = processes(runs[:3])
    assert [run.arm for run in study.execute(runs, members=4)] == ["d"]
    assert len(made.started) == 1


def test_two_studies_of_one_folder_share_the_runs(tiny, tmp_path, processes):
    runs = study.plan(tiny, FOUR, [0, 1, 2], tmp_path / "out")
    made = processes(runs, seconds=0.02)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        both = [pool.submit(study.execute, runs, 2) for _ in range(2)]
        assert [future.result() for future in both] == [[], []]
    assert len(made.started) == len({command[2] for command in made.started}) == 12
    assert len(results.collect(tmp_path / "out", FOUR).drop_duplicates(["arm", "seed"])) == 12


def test_a_process_that_outlives_its_study_keeps_its_runs(tiny, tmp_path, processes):
    runs = study.plan(tiny, FOUR, [0], tmp_path / "out")
    made = processes(runs)
    (unit,) = study.units(runs, 4)
    with execution._locked(unit) as locks:
        inherited = [os.dup(number) for number in locks]  # as a process that was started has them
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = pool.submit(study.execute, runs)
        time.sleep(0.1)
        assert not made.started
        for run in runs:
            finish(run, 0.5)
        for number in inherited:
            os.close(number)
        assert waiting.result() == []
    assert not made.started


def test_shards_are_disjoint_and_whole(tiny, tmp_path, processes):
    runs = study.plan(tiny, FOUR, [0, 1], tmp_path / "out")
    made = processes(runs)
    for k in range(3):
        before = len(made.started)
        assert study.execute(runs, shard=(k, 3)) == []
        assert 2 <= len(made.started) - before <= 3
    assert len(made.started) == len({command[2] for command in made.started}) == 8


def test_units_hold_what_can_be_trained_together(tiny, tmp_path):
    arms = {
        "plain": [],
        "noisy": ["augment.gaussian_noise=0.5"],
        "decay": ["regularization.weight_decay=0.1"],
    }
    runs = study.plan(tiny, arms, [0, 1, 2], tmp_path / "out")
    found = [[(run.arm, run.seed) for run in unit.runs] for unit in study.units(runs, 4)]
    plain = [(arm, seed) for seed in range(3) for arm in ("plain", "noisy")]
    assert found == [plain[:4], plain[4:], [("decay", seed) for seed in range(3)]]
    assert all(len(unit.runs) == 1 for unit in study.units(runs))
    names = [unit.name for unit in study.units(runs, 4)]
    assert len(set(names)) == 3
    assert names == [unit.name for unit in study.units(study.plan(tiny, arms, [0, 1, 2], tmp_path / "b"), 4)]


def test_fewer_seeds_leave_controls_their_own():
    path = str(CONFIGS / "study_digits.py")
    design = study.load_design(path, config_lib.load(path))
    few = study.fewer_seeds(design, [0, 10])
    assert (few["none"], few["dropout_0.3"], few["dropout_0.1"], few["again"]) == (
        [0, 10],
        [0, 10],
        [0],
        [100, 101],
    )
    with pytest.raises(InputError, match="--seeds=500: the design has none of these seeds"):
        study.fewer_seeds(design, [500])


def test_a_member_that_diverged_is_told_and_not_tried_again(tiny, tmp_path, processes):
    runs = study.plan(tiny, FOUR, [0], tmp_path / "out")
    made = processes(runs)
    for run in runs[:3]:
        finish(run, 0.5)
    for run in runs:
        run.workdir.mkdir(parents=True, exist_ok=True)
        record = {"status": "finished" if run is not runs[3] else "diverged", "members": 4}
        files.write_json(run.workdir / "run.json", record)
    assert [run.arm for run in study.execute(runs, members=4)] == ["d"]
    assert not made.started


def test_runs_in_a_file_of_rows_count_as_done(tiny, tmp_path, processes):
    runs = study.plan(tiny, FOUR, [0, 1], tmp_path / "out")
    for run in runs[:2]:
        finish(run, 0.5)
    first, other = str(tmp_path / "rows" / "first.parquet"), str(tmp_path / "other.parquet")
    study.KeptRows([first]).add_finished(runs)
    shutil.rmtree(tmp_path / "out")
    for run in runs[1:4]:
        finish(run, 0.75 if run.arm == "b" else 0.25)
    study.KeptRows([other]).add_finished(runs)
    shutil.rmtree(tmp_path / "out")

    kept = study.KeptRows([first, other])
    assert list(kept.made) == [(arm, 0) for arm in "abcd"]
    runs = study.plan(tiny, FOUR, [0, 1], tmp_path / "out", kept.made)
    made = processes(runs)
    assert study.execute(runs, after_unit=lambda: kept.add_finished(runs)) == []
    assert len(made.started) == 4, "those of the other seed"
    table = study.KeptRows([first]).table({arm: [0, 1] for arm in FOUR})
    accuracy = table[table["metric"] == "accuracy"].set_index(["arm", "seed"])["value"]
    # Of the two files that have b, the first one counts.
    assert accuracy.to_dict() == {(arm, 0): 0.5 if arm in "ab" else 0.25 for arm in "abcd"} | {
        (arm, 1): 0.5 for arm in "abcd"
    }
    assert list(table["arm"].drop_duplicates()) == list(FOUR)


def test_rows_of_another_config_are_refused(tiny, tmp_path):
    runs = study.plan(tiny, FOUR, [0], tmp_path / "out")
    finish(runs[0], 0.5)
    rows = str(tmp_path / "rows.parquet")
    study.KeptRows([rows]).add_finished(runs)
    changed = FOUR | {"a": ["regularization.dropout=0.3"]}
    with pytest.raises(
        InputError, match=r"a/0 with another config \(regularization.dropout: 'default' -> 0\.3"
    ):
        study.plan(tiny, changed, [0], tmp_path / "elsewhere", study.KeptRows([rows]).made)
    others = study.plan(tiny, changed, [0], tmp_path / "elsewhere")
    finish(others[0], 0.5)
    second = str(tmp_path / "second.parquet")
    study.KeptRows([second]).add_finished(others)
    with pytest.raises(InputError, match=r"second\.parquet' holds the run a/0 with another config"):
        study.KeptRows([rows, second])
    with pytest.raises(InputError, match="no file of rows of a study"):
        study.KeptRows([tiny])
    with pytest.raises(InputError, match="no file of rows of a study"):
        study.KeptRows([rows, str(tmp_path / "missing.parquet")])


def test_rows_that_cannot_be_written_are_told_before_anything_is_trained(tiny, tmp_path, processes):
    arms = tmp_path / "arms.py"
    arms.write_text("def get_arms(config):\n    return {'plain': []}\n")
    made = processes([])
    arguments = [f"--config={tiny}", f"--arms={arms}", "--seeds=0", f"--out={tmp_path / 'out'}"]
    with pytest.raises(InputError, match="since a part of its path is a file: choose another --rows"):
        command.main([*arguments, f"--rows={arms / 'rows.parquet'}"])
    assert not made.started


def test_what_was_begun_alone_goes_on_alone(tiny, tmp_path):
    runs = study.plan(tiny, FOUR, [0], tmp_path / "out")
    runs[1].workdir.mkdir(parents=True)
    files.write_json(runs[1].workdir / "run.json", {"status": "stopped"})
    runs[2].workdir.mkdir(parents=True)
    files.write_json(runs[2].workdir / "run.json", {"status": "running", "members": 3})
    assert sorted("".join(run.arm for run in unit.runs) for unit in study.units(runs, 4)) == ["acd", "b"]


def test_units_of_equal_configs_have_names_of_their_own(tiny, tmp_path):
    runs = study.plan(tiny, {"a": [], "b": [], "c": [], "d": []}, [0], tmp_path / "out")
    assert len({unit.name for unit in study.units(runs, 2)}) == 2


def test_ctrl_c_starts_nothing_more(tiny, tmp_path):
    """In a process of its own: four slow runs, of which the first is interrupted."""
    script = tmp_path / "study.py"
    script.write_text(
        "import sys\nfrom rmtjax import study\n"
        f"runs = study.plan({tiny!r}, {FOUR!r}, [0], {str(tmp_path / 'out')!r})\n"
        "for run in runs:\n    run.command[:] = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "study.execute(runs)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], start_new_session=True, stderr=subprocess.DEVNULL
    )
    logs = tmp_path / "out"
    while not list(logs.glob("*/0/log.txt")):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert len(list(logs.glob("*/0/log.txt"))) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shard=4/4"], "--shard='4/4' is not K/N"),
        (["--shard=x"], "is not K/N"),
        (["--population=0"], "--population=0 is out of range"),
        (["--workers=0"], "--workers=0 is out of range"),
    ],
)
def test_bad_flags_are_one_sentence(flags, message, tmp_path, monkeypatch):
    arguments = [f"--config={CONFIGS / 'study_digits.py'}", f"--out={tmp_path / 'out'}", *flags]
    monkeypatch.setattr("sys.argv", ["study", *arguments])
    with pytest.raises(InputError, match=message):
        command.main()
    assert not (tmp_path / "out").exists()


SMOKE = """
import importlib.util
from rmtjax import config

spec = importlib.util.spec_from_file_location("study_digits", {path!r})
shipped = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shipped)

def get_config():
    c = config.smoke(shipped.get_config())
    c.model.vit.update(width=16, depth=1, heads=2, mlp_width=16)
    c.evaluation.update(corrupted_examples=10, bootstrap_samples=10, ood=())
    c.evaluation.corruptions = c.evaluation.corruptions[:1]
    c.regularization.update(weight_decay=1e-4, dropout=1e-4)  # not none: so all arms are trained together
    return c

def get_design(c):
    design = shipped.get_design(c)
    kept = ["none", "again", "augmentation_1", "dropout_0.3", "dropout_0.5", "adamw_0.3"]
    arms = {{name: design["arms"][name] for name in kept}}
    arms["none"]["overrides"] = ["optim.learning_rate=0.001"]
    for role in ("synthetic", "same_dose", "placebos", "progress", "sources"):
        del design["roles"][role]
    return design | {{"arms": arms}}
"""


@pytest.mark.slow
def test_a_smoke_study_answers(tmp_path, monkeypatch, capsys):
    """The shipped study, shrunk: six arms of five families, two seeds, trained together, from the command
    to the page.
    """
    popen = types.SimpleNamespace(**vars(subprocess) | {"Popen": forked.start})
    monkeypatch.setattr(execution, "subprocess", popen)
    monkeypatch.setattr(execution, "_has_taskset", lambda: False)
    config, out = tmp_path / "smoke.py", tmp_path / "out"
    config.write_text(SMOKE.format(path=str(CONFIGS / "study_digits.py")))
    arguments = [f"--config={config}", "--seeds=0-1", f"--rows={tmp_path / 'rows.parquet'}"]
    assert command.main([*arguments, f"--out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "6 arms, 12 runs" in printed
    assert printed.count("T1:") == printed.count("T2:") == 1
    study_table = pd.read_csv(out / "study.csv")
    assert len(study_table.drop_duplicates(["arm", "seed"])) == 12
    assert {"backbone", "head", "q", "run"} <= set(study_table["group"])
    for name in ("answers.csv", "effects.csv", "study.html", "results.csv", "results.png"):
        assert (out / name).stat().st_size > 0
    records = [json.loads(path.read_text()) for path in out.glob("*/*/run.json")]
    assert sorted({record["members"] for record in records}) == [12]
    assert {record["status"] for record in records} == {"finished"}
    of_seed = [out / arm / "0" for arm in ("dropout_0.3", "dropout_0.5")]  # fed the same
    assert len({(folder / "diversity.json").read_text() for folder in of_seed}) == 1
    assert len({(folder / "evaluation.json").read_text() for folder in of_seed}) == 2
    # On another machine, from the file of rows alone: nothing is trained, and the answers are the same.
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setattr(execution, "subprocess", None)
    assert command.main([*arguments, f"--out={elsewhere}"]) == 0
    assert not list(elsewhere.glob("*/*/run.json"))
    tables = {path.name: path.read_bytes() for path in out.glob("*.csv")}
    assert {"answers.csv", "study.csv", "effects.csv", "results.csv", "spectra.csv"} <= tables.keys()
    assert {path.name: path.read_bytes() for path in elsewhere.glob("*.csv")} == tables
