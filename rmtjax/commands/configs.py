"""Lists the configs of this project, which `--config` takes by name.

rmtjax configs | less
"""

from rmtjax.commands import flags


@flags.command
def main(argv: list[str] | None = None) -> int:
    flags.parser("configs", __doc__, "configs").parse_args(argv)
    from rmtjax import config

    flags.found(**{name: config.first_sentence(path) for name, path in config.shipped().items()})
    for name, path in config.shipped().items():
        print(f"{name}\n    {config.first_sentence(path)}")
    return 0
