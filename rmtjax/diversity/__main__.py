"""The door to `python -m rmtjax.diversity`: see rmtjax/commands/diversity.py."""

from rmtjax.commands.diversity import main
from rmtjax.errors import run_command

if __name__ == "__main__":
    run_command(main)
