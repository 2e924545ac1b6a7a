"""Lists the augmentations of images and texts: the fields of a config that set how strong each is.

rmtjax augmentations | less
"""

from rmtjax.commands import flags


@flags.command
def main(argv: list[str] | None = None) -> int:
    flags.parser("augmentations", __doc__).parse_args(argv)
    from rmtjax import config

    flags.found(**{name: field.about for name, field in config.each_field() if name.startswith("augment.")})
    print(config.fields(config.base(), "augment"))
    print("\nrmtjax train --config=digits --config.augment.rotation=0.5 turns one on; 0 is off.")
    return 0
