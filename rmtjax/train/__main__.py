"""The door to `python -m rmtjax.train`: see rmtjax/commands/train.py."""

from rmtjax.commands.train import main
from rmtjax.errors import run_command

if __name__ == "__main__":
    run_command(main)
