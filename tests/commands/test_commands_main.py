"""The command `rmtjax`: its map, its subcommands' help, and what its start costs."""

import json
import os
import pwd
import subprocess
import sys

import jax
import numpy as np
import pytest

from rmtjax.commands import flags
from rmtjax.commands.main import COMMANDS, main
from rmtjax.errors import InputError


def test_the_map_has_every_command_with_an_example(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"rmtjax {name} {example}".rstrip() in shown for name, (_, example) in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_its_flags_and_is_named_as_it_was_called(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: rmtjax {name}")
    assert f"rmtjax {name} " in shown.partition("\n\n")[2]  # an example, of the same program


def test_an_unknown_command_is_one_sentence_with_the_nearest_name():
    with pytest.raises(InputError, match=r"^unknown command 'spectre': did you mean 'spectra'\?$"):
        main(["spectre"])


def test_the_groups_of_metrics_in_the_help_are_the_library_s():
    from rmtjax.commands.spectra import GROUPS
    from rmtjax.spectra import metrics

    assert ", ".join(metrics.GROUPS) == GROUPS


@pytest.mark.parametrize(
    ("module", "called"),
    [
        ("rmtjax.spectra.__main__", "python -m rmtjax.spectra"),
        ("rmtjax.__main__", "python -m rmtjax spectra"),
        (None, "rmtjax spectra"),
    ],
)
def test_the_program_is_named_as_it_was_called(module, called, monkeypatch):
    class Started:
        __spec__ = type("Spec", (), {"name": module}) if module else None

    monkeypatch.setitem(sys.modules, "__main__", Started)
    assert flags.program("spectra") == called


@pytest.mark.parametrize("home", ["/somewhere", None])
def test_a_user_without_a_home_has_no_cache_of_compiled_programs(home, monkeypatch):
    def nobody(number):
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    if home:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    updated = {}
    monkeypatch.setattr(jax.config, "update", updated.__setitem__)
    flags.set_compilation_cache()
    assert updated == ({"jax_compilation_cache_dir": f"{home}/.cache/rmtjax/jax"} if home else {})


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from rmtjax.commands.main import COMMANDS, main\n"
        "main(['--help'])\n"
        "for name in COMMANDS:\n"
        "  try: main([name, '--help'])\n"
        "  except SystemExit: pass\n"
        "print([m for m in ('jax', 'tensorflow', 'flax', 'pandas', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("line", "endings"),
    [
        ("rmtjax sp", ["spectra "]),
        ("rmtjax spectra --precision ", ["single", "double"]),
        ("rmtjax spectra --conv_", ["--conv_norm "]),
        ("rmtjax bench sel", ["selection "]),
        ("rmtjax train --config=synth", ["--config=synthetic "]),
        ("rmtjax train --config=synthetic --config.optim.na", ["--config.optim.name "]),
        ("rmtjax nothing --config=synth", []),
    ],
)
def test_the_shell_completes_commands_flags_configs_and_fields(line, endings, tmp_path):
    out = tmp_path / "endings"
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE": "1"}
    asked |= {"_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(out)}
    done = subprocess.run([sys.executable, "-m", "rmtjax"], env=os.environ | asked, capture_output=True)
    assert done.returncode == 0
    assert out.read_text().splitlines() == endings


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            ["train", "--help=augment.text"],
            "  augment.text.random_swap = 0.0\n      share of a text's",
        ),
        (["train", "--config=digits", "--help"], "  data.source = 'digits'"),
        (["train", "--config", "digits", "--config.seed=7", "--help=seed"], "  seed = 7   (default 0)"),
        (["spectra", "--help=metrics"], "  alpha\n      Exponent of the power law λ^-α"),
        (
            ["spectra", "--help=correlation"],
            "trace-log condition of SETOL (Martin and Hinrichs,",
        ),
        (["spectra", "--help=brody"], "  brody\n"),
    ],
)
def test_help_explains_fields_and_columns(words, shown, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert shown in capsys.readouterr().out


def test_every_metric_is_in_the_help_of_the_columns(capsys):
    from rmtjax.spectra import metrics

    assert set(metrics.ABOUT) == {*metrics.GROUPS, "update"}
    with pytest.raises(SystemExit):
        main(["spectra", "--help=metrics"])
    shown = capsys.readouterr().out.splitlines()
    assert {line.strip() for line in shown if line.startswith("  ")} >= set(metrics.METRICS)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian", "--config=digits"], "unknown command 'trian': did you mean 'train'?"),
        (["train", "configs/digits.py"], "--config is missing: write --config=configs/digits.py"),
        (["train", "--config=digit"], "no config file 'digit': did you mean 'digits'?"),
        (["train", "--config=digits", "--worksdir=x"], "unknown argument '--worksdir=x'"),
        (["train", "--config=digits", "--config.optim.lr=1"], "unknown field 'optim.lr'"),
        (["train", "--config=digits", "--config.seed=one"], "seed='one' is not of the right type"),
        (["train", "--help=agument"], "no field or section 'agument': did you mean 'augment'?"),
        (["spectra", "--help=alfa"], "no metric or group of metrics 'alfa': did you mean 'alpha'?"),
    ],
)
def test_a_slip_is_one_sentence_with_its_mend(words, sentence):
    with pytest.raises(InputError) as error:
        main(words)
    assert str(error.value).startswith(sentence)


def test_configs_and_augmentations_are_listed(capsys):
    main(["configs"])
    shown = capsys.readouterr().out
    assert "\nsynthetic\n    " in shown
    assert "arms_text" not in shown  # no config by itself
    main(["augmentations"])
    assert "  augment.rand_augment = 0.0\n      RandAugment\n" in capsys.readouterr().out


def printed(words, capsys):
    assert main([*words, "--json"]) == 0
    out, beside = capsys.readouterr()
    (line,) = out.splitlines()
    return json.loads(line), beside


def test_json_is_one_line_and_all_else_goes_to_stderr(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "weights.npz", a=rng.standard_normal((20, 30)), b=np.zeros((9, 9)), c=np.ones(3))
    found, beside = printed(["spectra", f"{tmp_path}/weights.npz", f"--out={tmp_path}/out"], capsys)
    assert [row["name"] for row in found["table"]] == ["a", "b"]
    assert found["table"][0]["N"] == 30
    assert found["table"][1]["alpha"] is None
    assert found["left_out"] == {"c": "fewer than two dimensions: no spectrum"}
    assert found["out"] == f"{tmp_path}/out"
    assert "matrices in" in beside
    features = rng.standard_normal((40, 6)).astype(np.float32)
    np.savez(tmp_path / "features.npz", features=features)
    found, _ = printed(["diversity", f"{tmp_path}/features.npz"], capsys)
    assert {row["metric"] for row in found["table"]} >= {"vendi_score"}
    found, _ = printed(["study", "--config=study_digits", f"--out={tmp_path}/study", "--dry_run"], capsys)
    assert len(found["runs"]) > 200
    assert found["seconds_left"] is None
    found, _ = printed(["configs"], capsys)
    assert found["synthetic"].endswith(".")


def test_json_goes_to_a_file_that_is_named_and_the_text_stays(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "weights.npz", a=rng.standard_normal((20, 30)))
    assert main(["spectra", f"{tmp_path}/weights.npz", f"--json={tmp_path}/found.json"]) == 0
    out, beside = capsys.readouterr()
    assert "matrices in" in out
    assert not beside.startswith("{")
    assert json.loads((tmp_path / "found.json").read_text())["table"][0]["name"] == "a"
    main(["configs"])  # the file is that of one command
    assert "synthetic" not in (tmp_path / "found.json").read_text()


def test_no_json_is_printed_where_a_command_fails(tmp_path, capsys):
    with pytest.raises(InputError, match="there are no weights"):
        main(["spectra", f"{tmp_path}/absent.npz", "--json"])
    assert capsys.readouterr().out == ""
