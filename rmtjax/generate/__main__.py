"""The door to `python -m rmtjax.generate`: see rmtjax/commands/generate.py."""

from rmtjax.commands.generate import main
from rmtjax.errors import run_command

if __name__ == "__main__":
    run_command(main)
