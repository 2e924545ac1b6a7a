"""The door to `python -m rmtjax.evaluate`: see rmtjax/commands/evaluate.py."""

from rmtjax.commands.evaluate import main
from rmtjax.errors import run_command

if __name__ == "__main__":
    run_command(main)
