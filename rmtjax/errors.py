"""Errors a user can mend: one sentence that names the thing, its value and the mend."""

import errno
import os
import sys
import zlib
from collections.abc import Callable


class InputError(ValueError):
    """Bad input. The message is one clear sentence, shown without a traceback by `run_command`."""


def printable(text: str, longest: int = 1000) -> str:
    r"""Text for a terminal: control characters escaped, the middle of a long text left out.

    Its end stays, and a number that depends on all of it.

    >>> print(printable("a\x1b[2Jb\x00"), printable("x" * 30 + "y", 20))
    a\x1b[2Jb\x00 xxxx...b650c8c8...xy
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) <= longest:
        return text
    number, kept = zlib.crc32(text.encode(errors="surrogatepass")), longest - 14
    return f"{text[: kept - kept // 3]}...{number:08x}...{text[len(text) - kept // 3 :]}"


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
    lines = [printable(line, sys.maxsize) for line in message.split("\n")]
    print("rmtjax: " + "\n".join(lines), file=sys.stderr)
    sys.exit(2)
