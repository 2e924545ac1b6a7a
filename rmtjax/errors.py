"""Errors a user can mend: one sentence that names the thing, its value and the mend."""

import errno
import os
import sys
from collections.abc import Callable


class InputError(ValueError):
    """Bad input. The message is one clear sentence, shown without a traceback by `run_command`."""


def run_command(main: Callable[[], int | None]) -> None:
    """Runs a command's `main` and exits: its return value, 2 on bad input or a full disk, 130 on Ctrl-C."""
    try:
        sys.exit(main() or 0)
    except InputError as error:
        message = str(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" at {os.fspath(error.filename)!r}" if error.filename else ""
        message = (
            f"the disk is full{where}: free some space or choose another --workdir, then run the same command"
        )
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"rmtjax: {message}", file=sys.stderr)
    sys.exit(2)
