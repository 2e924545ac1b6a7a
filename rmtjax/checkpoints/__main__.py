"""The door to `python -m rmtjax.checkpoints`: see rmtjax/commands/export.py."""

from rmtjax.commands.export import main
from rmtjax.errors import run_command

if __name__ == "__main__":
    run_command(main)
