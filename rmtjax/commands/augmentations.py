"""Lists the augmentations of images and texts: the fields of a config that set how strong each is.

rmtjax augmentations | less
"""

from rmtjax.commands import flags


def main(argv: list[str] | None = None) -> int:
    flags.parser("augmentations", __doc__).parse_args(argv)
    from rmtjax import config

    print(config.fields(config.base(), "augment"))
    print("\nrmtjax train --config=digits --config.augment.rotation=0.5 turns one on; 0 is off.")
    return 0
