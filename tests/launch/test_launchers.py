"""The launchers, as far as one machine without a cluster can tell."""

import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import cloudpickle
import pytest
import submitit
import yaml

from rmtjax.commands import flags

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "slurm_study.py"
TINY = """
from rmtjax import config

def get_config():
    c = config.smoke(config.base())
    c.model.init_from = None
    c.model.name = "mlp"
    c.model.mlp.width = 8
    c.train.total_steps = 2
    for part in (c.spectra, c.diversity, c.evaluation):
        part.enabled = False
    c.evaluation.shifts = c.evaluation.ood = ()
    return c

def get_arms(config):
    return {"plain": []}
"""


@pytest.fixture
def module():
    spec = importlib.util.spec_from_file_location("slurm_study", SCRIPT)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    sys.modules["slurm_study"] = found
    cloudpickle.register_pickle_by_value(found)  # as it is where the script itself is the program
    yield found
    cloudpickle.unregister_pickle_by_value(found)
    del sys.modules["slurm_study"]


@pytest.fixture
def study(tmp_path):
    """Runs the script on a tiny study."""
    (tmp_path / "tiny.py").write_text(TINY)

    def run(*words, **environment):
        command = [
            sys.executable,
            str(SCRIPT),
            f"--config={tmp_path / 'tiny.py'}",
            f"--out={tmp_path / 'out'}",
        ]
        return subprocess.run(
            [*command, *words], capture_output=True, text=True, env=os.environ | environment
        )

    return run


def fields(path):
    """The parameters of a batch file."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", path.read_text(), re.M))


@pytest.mark.slow
def test_slurm_gets_an_array_of_shards_and_a_last_job_behind_it(study, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in {
        "srun": "",
        "sbatch": f'n=$(ls {programs}/*.sbatch 2>/dev/null | wc -l); cp "$1" {programs}/$n.sbatch; '
        "echo Submitted batch job 70$n",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    asked = ("--account=physics", "--partition=long", "--time=1-02:30:00", "--gpus=2", "--cpus=6")
    done = study(
        f"--arms={tmp_path / 'tiny.py'}",
        "--seeds=0-4",
        "--jobs=3",
        *asked,
        PATH=f"{programs}:{os.environ['PATH']}",
    )
    assert done.returncode == 0, done.stderr
    assert "3 jobs: 700; tables: 701" in done.stdout
    shards, tables = (fields(programs / f"{n}.sbatch") for n in (0, 1))
    for job in (shards, tables):
        assert (job["account"], job["partition"], job["time"]) == ("physics", "long", "1590")
        assert (job["gpus-per-node"], job["cpus-per-task"], job["nodes"]) == ("2", "6", "1")
    assert shards["array"] == "0-2%3"
    assert "dependency" not in shards
    assert tables["dependency"] == "afterany:700"
    assert "array" not in tables
    jobs = [
        submitit.SlurmJob(tmp_path / "out" / "jobs", name).submission() for name in ("700_0", "700_2", "701")
    ]
    endings = [job.function.words[-1] for job in jobs]
    assert endings == ["--shard=0/3", "--shard=2/3", "--seeds=0-4"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--jobs=2", "--executor=local"],
            "defines no get_design",
        ),  # of the study itself, before anything is submitted
        (["--jobs=0"], "--jobs=0 is out of range"),
        (["--jobs=2", "--time=2h"], "'2h' is no time: write minutes"),
    ],
)
def test_a_mistake_is_told_before_anything_is_submitted(study, tmp_path, words, message):
    done = study(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_study_by_the_local_executor_ends_with_its_tables(study, tmp_path):
    words = (f"--arms={tmp_path / 'tiny.py'}", "--seeds=0-1", "--jobs=2", "--executor=local", "--time=10")
    done = study(*words, XLA_FLAGS=os.environ["XLA_FLAGS"].replace("count=8", "count=1"))
    assert done.returncode == 0, done.stderr + done.stdout
    out = tmp_path / "out"
    assert str(out / "results.csv") in done.stdout  # what the last job said is shown
    assert (out / "results.csv").exists()
    logs = [path.read_text() for path in (out / "jobs").glob("*_log.out")]
    assert sorted("shard" in log for log in logs) == [False, True, True]
    for seed in ("0", "1"):  # by its shard, and not again for the tables
        assert (out / "plain" / seed / "log.txt").read_text().count("results go to") == 1
        assert json.loads((out / "plain" / seed / "run.json").read_text())["status"] == "finished"


def test_a_job_at_the_end_of_its_time_starts_again_and_leaves_nothing_behind(module, tmp_path):
    starts = tmp_path / "starts"
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=12 / 60, signal_delay_s=6)
    script = f'echo $$ >> {starts}; [ "$(wc -l < {starts})" -gt 1 ] || sleep 60'
    job = executor.submit(module.Command(["bash", "-c", script]))
    assert job.exception() is None
    first, second = starts.read_text().split()
    assert first != second
    with pytest.raises(ProcessLookupError):
        os.killpg(int(first), 0)


def test_a_command_that_fails_is_a_failed_job(module, tmp_path):
    with pytest.raises(RuntimeError, match="exit 3 ended with 3"):
        module.Command(["bash", "-c", "exit 3"])()


def test_the_signal_that_is_for_submitit_does_not_end_the_command(module):
    assert module.Command(["bash", "-c", "kill -USR2 $$; exit 0"])() is None
    assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())  # of this process it still may


def test_a_command_that_slurm_stops_has_not_failed_yet(module, monkeypatch):
    waited = []
    monkeypatch.setattr(module.time, "sleep", waited.append)
    with pytest.raises(RuntimeError, match="ended with -15"):
        module.Command(["bash", "-c", "kill -TERM $$"])()
    assert waited == [module.PATIENCE]


@pytest.mark.parametrize(
    ("text", "minutes"), [("90", 90), ("1:30:00", 90), ("0:00:01", 1), ("2-00:00:30", 2881)]
)
def test_times_are_as_slurm_writes_them(module, text, minutes):
    assert module.minutes(text) == minutes


@pytest.mark.parametrize("path", sorted((ROOT / "launch").glob("*.s[hb]*")), ids=lambda path: path.name)
def test_shell_files_are_shell(path):
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def jobsets():
    """Both documents of the manifest, by label, with the values that its own top gives to the variables."""
    text = (ROOT / "launch" / "k8s-jobset.yaml").read_text()
    exports = re.findall(r"^#   export (.*?)(?:  +#.*)?$", text, re.M)
    values = dict(word.split("=", 1) for line in exports for word in line.split())
    substituted = re.sub(r"\$\{(\w+)\}", lambda name: values[name[1]], text)  # as envsubst does
    found = list(yaml.safe_load_all(substituted))
    return {document["metadata"]["labels"]["rmtjax"]: document for document in found}, values


def pods(jobset):
    return {job["name"]: job["template"]["spec"] for job in jobset["spec"]["replicatedJobs"]}


def test_jobsets_ask_for_gpus_and_a_shared_volume(jobsets):
    documents, values = jobsets
    assert documents.keys() == {"study", "train"}
    for document in documents.values():
        assert (document["apiVersion"], document["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
        for job in pods(document).values():
            spec = job["template"]["spec"]
            (container,) = spec["containers"]
            assert container["image"] == values["IMAGE"]
            assert container["resources"]["limits"]["nvidia.com/gpu"] == values["GPUS"]
            (volume,) = spec["volumes"]
            assert volume["persistentVolumeClaim"]["claimName"] == values["CLAIM"]
            (mount,) = container["volumeMounts"]
            assert mount == {"name": volume["name"], "mountPath": f"{container['workingDir']}/runs"}


def test_each_pod_of_the_study_takes_its_shard_and_the_tables_come_last(jobsets):
    documents, values = jobsets
    study = pods(documents["study"])
    assert list(study) == ["shards", "tables"]
    shards = study["shards"]
    assert shards["completionMode"] == "Indexed"
    assert shards["completions"] == shards["parallelism"] == int(values["PODS"])
    assert shards["template"]["spec"]["restartPolicy"] == "Never"  # a limit for each index needs it
    words = shards["template"]["spec"]["containers"][0]["args"]
    assert words[-1] == f"--shard=$(JOB_COMPLETION_INDEX)/{values['PODS']}"
    tables = documents["study"]["spec"]["replicatedJobs"][1]
    assert tables["dependsOn"] == [{"name": "shards", "status": "Complete"}]
    last = study["tables"]["template"]["spec"]["containers"][0]["args"]
    assert last == words[:-1]
    assert not any("--shard" in word for word in last)


def test_processes_of_a_run_on_kubernetes_find_each_other_by_flags(jobsets, monkeypatch):
    monkeypatch.chdir(ROOT)
    documents, values = jobsets
    (workers,) = pods(documents["train"]).values()
    words = workers["template"]["spec"]["containers"][0]["args"]
    words = [word.replace("$(JOB_COMPLETION_INDEX)", "3") for word in words]
    _, arguments = flags.parse("train", "", words)
    # JobSet's name of the first pod, in the network that has the JobSet's name.
    assert arguments.coordinator == f"{values['NAME']}-workers-0-0.{values['NAME']}:55527"
    assert (arguments.process_id, arguments.num_processes) == (3, int(values["PODS"]))
    assert workers["completions"] == workers["parallelism"] == arguments.num_processes
    assert documents["train"]["spec"]["failurePolicy"]["maxRestarts"] > 0
