"""Files that are either whole or absent, and where a name in a config says they are."""

import contextlib
import errno
import importlib.util
import json
import math
import os
import pathlib
import socket
import zipfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rmtjax.errors import InputError

if TYPE_CHECKING:
    import numpy as np

# An archive that unpacks to more than this, and to more than a hundred times its size, is a bomb.
_HARMLESS = 2**30


def located(name: str) -> pathlib.Path:
    """The path that a name in a config means.

    Args:
      name: `data:PATH` is below the folder that RMTJAX_DATA names, `package:NAME/PATH` is inside an installed
        Python package (which is not imported); anything else is a path.

    Raises:
      InputError: RMTJAX_DATA is not set, no such package, or nothing is there.
    """
    kind, separator, rest = name.partition(":")
    if not separator or kind not in ("data", "package"):
        return pathlib.Path(name)
    if kind == "data":
        root = os.environ.get("RMTJAX_DATA")
        if not root:
            raise InputError(
                f"{name!r} is below the folder that the environment variable RMTJAX_DATA names, "
                "and it is not set: "
                "set it, and put the file there from where the config's docstring says it comes"
            )
        path, mend = pathlib.Path(root, rest), "put it there from where the config's docstring says it comes"
    else:
        package, _, inside = rest.partition("/")
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        folders = list(spec.submodule_search_locations or []) if spec else []
        if not folders:
            raise InputError(
                f"{name!r} is inside the Python package {package!r}, which is not installed: install it"
            )
        path, mend = pathlib.Path(folders[0], inside), f"install a version of {package} that has it"
    if not path.exists():
        raise InputError(f"{name!r} is not there: {str(path)!r} does not exist; {mend}")
    return path


def read_arrays(path: str | os.PathLike[str]) -> "dict[str, np.ndarray]":
    """All arrays of an npz file, or that of an npy file under the name "". Nothing is unpickled.

    The sizes that headers claim are compared with those of the file before memory is taken.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: what is there is no whole file of plain arrays.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(path)
    if not os.path.isfile(path):
        raise ValueError("it is no file")
    size = os.path.getsize(path)
    try:
        if not zipfile.is_zipfile(path):
            with open(path, "rb") as file:
                return {"": _array("array", file, size)}
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            unpacked = sum(member.file_size for member in members)
            if unpacked > max(_HARMLESS, 100 * size):
                raise ValueError(f"its {size:,} bytes unpack to {unpacked:,}: save it without compression")
            found = {}
            for member in members:
                with archive.open(member) as file:
                    name = member.filename.removesuffix(".npy")
                    found[name] = _array(name, file, member.file_size)
            return found
    except Exception as error:  # those of damaged archives and headers are of many kinds
        raise ValueError(str(error).split("\n")[0] or type(error).__name__) from error


def _array(name: str, file: Any, size: int) -> "np.ndarray":
    """The array in an npy file of `size` bytes."""
    from numpy.lib import format as npy

    shape, dtype = npy_header(file)
    if not dtype.hasobject:
        check_length(name, shape, dtype, size - file.tell())
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)


def npy_header(file: Any) -> "tuple[tuple[int, ...], np.dtype]":
    """The shape and dtype of the array in an npy file, which is read up to its numbers.

    Raises:
      ValueError: it is no such file, or a side is negative.
    """
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if min(shape, default=0) < 0:
        raise ValueError(f"its header claims the shape {shape}")
    return shape, dtype


def check_length(name: str, shape: tuple[int, ...], dtype: "np.dtype", length: int) -> None:
    """Raises ValueError if an array is not of `length` bytes."""
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != length:
        raise ValueError(f"{name!r} of shape {shape} claims {claimed:,} bytes, and there are {length:,}")


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path in the same folder (same ending), renamed to `path` if the block succeeds."""
    target = pathlib.Path(path)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], held: Callable[[str], None], *, keep: bool = False) -> Iterator[int]:
    """Holds a lock, which ends with the process even if that is killed; then removes the lock's file.

    On a file system without locks nothing is held.

    Args:
      path: the file of the lock, in a folder that exists.
      held: called with "process 12 on host" where another process holds the lock. The lock is waited for,
        unless it raises.
      keep: leaves the file where it is, for processes that inherit the yielded file number and hold the lock
        longer than this one.
    """
    import fcntl  # which Windows lacks

    path = pathlib.Path(path)
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            try:
                held(file.read(200) or "another process")
                fcntl.flock(file, fcntl.LOCK_EX)
            except BaseException:
                file.close()
                raise
        except OSError:  # a file system without locks
            pass
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()  # the one that held it before has removed the file: a lock on nothing
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield file.fileno()
    finally:
        if not keep:
            path.unlink(missing_ok=True)
        file.close()


def make_folder(name: str | os.PathLike[str], what: str, flag: str) -> pathlib.Path:
    """Makes a folder for results.

    Args:
      what: how messages call it, as "the workdir".
      flag: what names it, as the flag of a command.

    Raises:
      InputError: the name is empty, or the folder cannot be made or written to.
    """
    folder = pathlib.Path(name)
    if not os.fspath(name):
        raise InputError(f"{flag} is empty: name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"{what} {str(folder)!r} cannot be made, since a part of its path is a file: choose another "
            f"{flag}"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"{what} {str(folder)!r} cannot be written to ({error.strerror}): choose another {flag}"
        ) from error
    return folder


@contextlib.contextmanager
def writing_to(name: str | os.PathLike[str], what: str, flag: str) -> Iterator[pathlib.Path]:
    """A folder for results, in which no other command writes at the same time.

    Temporary files of a command that was killed there, and so left its lock, are removed.

    Raises:
      InputError: see `make_folder`; or another process writes to it.
    """
    folder = make_folder(name, what, flag)

    def refuse(who: str) -> None:
        raise InputError(f"{what} {str(folder)!r} is in use by {who}: wait for it, or choose another {flag}")

    lock, killed = folder / ".lock", ""
    with contextlib.suppress(OSError, IndexError):
        killed = lock.read_text(encoding="utf-8", errors="replace").split()[1]  # "process 12 on host"
    with locked(lock, refuse):
        for path in folder.glob(".*") if killed.isdigit() else ():
            if f".{killed}" in path.suffixes[-2:] and path.is_file():
                path.unlink()
        yield folder


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def as_json(content: Any) -> str:
    """One line of JSON: paths as text, data frames as lists of rows, what is not finite as null."""
    return json.dumps(_finite(_plain(content)))


def _plain(node: Any) -> Any:
    """Of what JSON has: dicts, lists, texts and numbers."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple | set):
        return [_plain(value) for value in node]
    if hasattr(node, "to_dict"):
        return _plain(node.to_dict("records"))
    if hasattr(node, "item"):
        return node.item() if node.ndim == 0 else _plain(node.tolist())
    return node if isinstance(node, str | int | float | bool | None) else str(node)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """JSON with non-finite numbers as null, which every reader takes."""
    write_text(path, json.dumps(_finite(content), indent=2) + "\n")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not abs(content) < float("inf"):
        return None
    return content
