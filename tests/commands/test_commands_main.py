"""The command `rmtjax`: its map, its subcommands' help, and what its start costs."""

import pwd
import subprocess
import sys

import jax
import pytest

from rmtjax.commands import flags
from rmtjax.commands.main import COMMANDS, main
from rmtjax.errors import InputError


def test_the_map_has_every_command_with_an_example(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"rmtjax {name} {example}" in shown for name, (_, example) in COMMANDS.items())


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
        "import sys; from rmtjax.commands.main import main\n"
        "main(['--help'])\n"
        "try: main(['spectra', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('jax', 'tensorflow', 'flax', 'pandas', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
