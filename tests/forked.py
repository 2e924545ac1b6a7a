"""Commands of the package in processes forked from one that has imported everything: 7 s saved at each start.

`start` and `run` stand for subprocess.Popen and subprocess.run where the words are those of
`python -m module` or `python -c code`. A forked process has the environment, the arguments and the pipes of
the command and gets its signals. It begins where the command begins after its imports: no backend of JAX
has been started. Only on Linux is such a fork safe; elsewhere the command is started as usual.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import jax

COMMANDS = ("train", "population", "evaluate", "spectra", "study", "generate", "diversity")
MODULES = tuple(f"rmtjax.commands.{name}" for name in COMMANDS)
MODULES += ("rmtjax.measure", "rmtjax.report", "rmtjax.study")
MODULES += ("flax.linen", "matplotlib.pyplot", "sklearn.metrics")
MODULES += ("tensorflow", "tensorflow_datasets", "tensorboardX")


class Process:
    """What subprocess.Popen gives, of a process that another one forked."""

    def __init__(self, connection, pid, args, stdout, stderr):
        self._connection, self.pid, self.args = connection, pid, args
        self.stdout, self.stderr, self.returncode = stdout, stderr, None

    def poll(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout=0)
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = int(self._connection.recv(64).decode())
            self._connection.close()
        return self.returncode

    def communicate(self, timeout=None):
        """All that was written to the pipes, read while it is written so that none of them fills up."""
        deadline = None if timeout is None else time.monotonic() + timeout
        said = {pipe: b"" for pipe in (self.stdout, self.stderr) if pipe is not None}
        open_pipes = [pipe for pipe in said if not pipe.closed]
        while open_pipes:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            ready = select.select(open_pipes, [], [], left)[0]
            if not ready:
                raise subprocess.TimeoutExpired(self.args, timeout)
            for pipe in ready:
                block = os.read(pipe.fileno(), 65536)
                said[pipe] += block
                if not block:
                    open_pipes.remove(pipe)
                    pipe.close()
        self.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
        return tuple(said[pipe].decode() if pipe in said else None for pipe in (self.stdout, self.stderr))

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        self.wait()


def start(words, *, env=None, cwd=None, stdin=None, stdout=None, stderr=None, pass_fds=()):
    """subprocess.Popen of [sys.executable, ...] with pipes of text, and without input."""
    assert words[0] == sys.executable
    if sys.platform != "linux":
        options = {"stdout": stdout, "stderr": stderr, "pass_fds": pass_fds, "text": True}
        return subprocess.Popen(words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, **options)
    pipes, numbers = [], []
    for asked, inherited in ((stdout, 1), (stderr, 2)):
        ours = None
        if asked == subprocess.PIPE:
            ours, theirs = os.pipe()
            ours = io.FileIO(ours)
        elif asked == subprocess.STDOUT:
            theirs = os.dup(numbers[0])
        elif asked == subprocess.DEVNULL:
            theirs = os.open(os.devnull, os.O_WRONLY)
        else:
            theirs = os.dup(inherited if asked is None else asked.fileno())
        pipes.append(ours)
        numbers.append(theirs)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(_parent())
    asked = {
        "words": words[1:],
        "env": dict(os.environ if env is None else env),
        "cwd": str(cwd or os.getcwd()),
    }
    message = json.dumps(asked).encode()
    socket.send_fds(connection, [len(message).to_bytes(8, "little")], [*numbers, *pass_fds])
    connection.sendall(message)
    for number in numbers:
        os.close(number)
    return Process(connection, int.from_bytes(connection.recv(8), "little"), words, *pipes)


def run(words, *, timeout=None, **options):
    """subprocess.run of such words, with what they print."""
    process = start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    try:
        out, errors = process.communicate(timeout)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(words, process.returncode, out, errors)


@functools.cache
def _parent():
    """Address of the process that imports everything and then forks; it ends with this one."""
    folder = tempfile.TemporaryDirectory(prefix="rmtjax-processes-")
    atexit.register(folder.cleanup)
    address = str(pathlib.Path(folder.name) / "socket")
    env = os.environ | {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, __file__, address], stdin=subprocess.PIPE, env=env)
    atexit.register(process.kill)
    while not os.path.exists(address):
        assert process.poll() is None
        time.sleep(0.05)
    return address


def serve(address):
    for name in MODULES:
        importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads must not be forked"
    gc.collect()
    gc.freeze()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(address + ".new")
    server.listen()
    os.rename(address + ".new", address)
    running = {}
    while True:
        ready = select.select([server, sys.stdin], [], [], 0.01 if running else None)[0]
        if sys.stdin in ready:  # closed: who started this has ended
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            return
        if server in ready:
            connection = server.accept()[0]
            size, numbers, _, _ = socket.recv_fds(connection, 8, 32)
            message = b""
            while len(message) < int.from_bytes(size, "little"):
                message += connection.recv(65536)
            pid = os.fork()
            if pid == 0:
                server.close()
                connection.close()
                for other in running.values():
                    other.close()
                become(numbers, **json.loads(message))
            for number in numbers:
                os.close(number)
            connection.sendall(pid.to_bytes(8, "little"))
            running[pid] = connection
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            with contextlib.suppress(OSError), running.pop(pid) as connection:
                connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def become(numbers, words, env, cwd):
    """Turns a forked process into `python *words`; never returns."""
    for standard, number in enumerate((os.open(os.devnull, os.O_RDONLY), *numbers[:2])):
        os.dup2(number, standard)
    changed = {name for name in env.keys() | os.environ.keys() if env.get(name) != os.environ.get(name)}
    for name in changed:  # which JAX would read when it is imported
        if name.startswith("JAX_"):
            was = jax.config.values[name.lower()]
            assert isinstance(was, str | float), name
            jax.config.update(name.lower(), type(was)(env[name]))
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    kind, sys.argv = words[0], words[1:] if words[0] == "-m" else words[:1] + words[2:]
    sys.path[0] = cwd
    code = 0
    try:
        if kind == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    with contextlib.suppress(BaseException):
        threading._shutdown()
        atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
