"""The door to `python -m rmtjax.bench`: see rmtjax/commands/bench.py."""

from rmtjax.commands.bench import main
from rmtjax.errors import run_command

if __name__ == "__main__":
    run_command(main)
