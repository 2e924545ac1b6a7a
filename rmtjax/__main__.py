"""The door to `python -m rmtjax`: see rmtjax/commands/main.py."""

from rmtjax.commands.main import run

if __name__ == "__main__":
    run()
