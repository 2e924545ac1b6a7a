"""The door to `python -m rmtjax.study`: see rmtjax/commands/study.py."""

from rmtjax.commands.study import main
from rmtjax.errors import run_command

if __name__ == "__main__":
    run_command(main)
