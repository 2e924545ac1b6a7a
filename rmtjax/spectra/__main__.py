"""The door to `python -m rmtjax.spectra`: see rmtjax/commands/spectra.py."""

from rmtjax.commands.spectra import main
from rmtjax.errors import run_command

if __name__ == "__main__":
    run_command(main)
