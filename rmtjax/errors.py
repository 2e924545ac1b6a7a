"""Errors a user can mend: one sentence that names the thing, its value and the mend."""

import contextlib
import errno
import io
import os
import signal
import sys
import zlib
from collections.abc import Callable
from typing import Any


class InputError(ValueError):
    """Bad input. The message is one clear sentence, shown without a traceback by `run_command`."""


# What the extra `train` brings.
OF_TRAINING = {
    "flax",
    "ml_collections",
    "optax",
    "orbax",
    "sklearn",
    "statsmodels",
    "tensorflow",
    "tensorflow_datasets",
    "tokenizers",
}

# Of a file or folder that is named: what the system says of it is enough.
_OF_PATHS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


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


def is_heard(number: int) -> bool:
    """Whether a signal is not ignored, as Ctrl-C is by what a shell has started in the background."""
    return signal.getsignal(number) != signal.SIG_IGN


def say_stopped(number: int, then: str, where: str = "") -> None:
    """Says by which signal a command was stopped, where, and what to do. A handler of signals may call it."""
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    with contextlib.suppress(OSError):
        os.write(2, f"\nstopped by {name}{where and ' '}{where}: {then}\n".encode())


def end_on_signals() -> None:
    """SIGTERM and Ctrl-C end the process with a sentence.

    There is no KeyboardInterrupt, since an exception within a callback, such as JAX's of the garbage
    collector, is lost.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if is_heard(number):
            signal.signal(number, _ended)


def run_command(main: Callable[[], int | None]) -> None:
    """Runs a command's `main` and exits.

    The exit status is what it returns; 2 on bad input, a full disk or a path that cannot be used; 130 on
    Ctrl-C, 143 on SIGTERM, and 141 where nobody reads any more what the command prints.
    """
    end_on_signals()
    # As stderr does it: a locale may lack a letter of a sentence.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main() or 0
        sys.stdout.flush()
        sys.exit(status)
    except InputError as error:
        message = str(error)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in OF_TRAINING:
            raise
        message = (
            f"this command needs {library}, which is not installed: pip install 'rmtjax[train]' (of a "
            "checkout: '.[train]') brings what training, evaluation and studies need beside the analysis of "
            "weights"
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes it once more when it ends
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        where = f" at {os.fspath(error.filename)!r}" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = (
                f"the disk is full{where}: free some space or choose another folder, then run the same "
                "command"
            )
        elif error.errno in _OF_PATHS and error.filename:
            message = f"{os.fspath(error.filename)!r} cannot be used: {error.strerror}"
        else:
            raise
    except UnicodeEncodeError as error:
        if "surrogates" not in error.reason:  # which stand for bytes that are no text in this locale
            raise
        near = error.object[max(error.start - 40, 0) : error.end + 40]
        message = (
            f"{near!a} is of a path with bytes that are not UTF-8, or not read as such in this locale: "
            "set PYTHONUTF8=1, or rename the file or folder"
        )
    except KeyboardInterrupt:  # of the second Ctrl-C while training
        say_stopped(signal.SIGINT, _AGAIN)
        sys.exit(128 + signal.SIGINT)
    lines = [printable(line, sys.maxsize) for line in message.split("\n")]
    with contextlib.suppress(BrokenPipeError):
        print("rmtjax: " + "\n".join(lines), file=sys.stderr, flush=True)
    sys.exit(2)


_AGAIN = "files are whole or absent, and the same command goes on from those that are there"


def _ended(number: int, frame: Any) -> None:
    say_stopped(number, _AGAIN)
    os._exit(128 + number)
