"""The start of worker processes: a fork server forks them, or each is a new process.

The imports of a worker take 0.2 s of CPU time. Forking a worker from a server that has done these imports, and ending
it, takes 20 ms. Neither way imports the program's ``__main__``. `multiprocessing` does, so programs must guard it, and
its fork server listens at an address to which other programs could connect.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from paco._base import system
from paco.remote._fork_server import NUMBER

#: Whether workers are forked. On macOS they are not: its libraries may start threads in a process that only imports.
FORKS: Final = hasattr(os, "fork") and sys.platform != "darwin"

_CODE: Final = "import sys; sys.path.insert(0, sys.argv[2]); from paco.remote.{} import main; main(int(sys.argv[1]))"
_WORKER: Final = _CODE.format("_worker")
_SERVER: Final = _CODE.format("_fork_server")


class Child(Protocol):
    """A worker process, with the methods of `subprocess.Popen` that paco uses."""

    @property
    def pid(self) -> int:
        """The process ID, or 0 if the process could not be started. Reading it waits until it is known."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended, and return its exit code.

        Raises:
            subprocess.TimeoutExpired: It has not ended within ``timeout`` seconds.
        """
        ...

    def kill(self) -> None:
        """Kill the process."""
        ...


def _run(code: str, handle: int) -> subprocess.Popen[Any]:
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(  # noqa: S603 - the interpreter that runs this
        [sys.executable, "-P", "-c", code, str(handle), root],
        stdin=subprocess.DEVNULL,
        stdout=_stdout(),
        **system.handed_down(handle),
    )


def _stdout() -> int | None:
    """Return the file descriptor of this program's stdout, for the workers to print to; ``None`` if it has none."""
    with suppress(AttributeError, OSError, ValueError):  # stdout is closed or was replaced
        descriptor = sys.stdout.fileno()
        os.fstat(descriptor)
        return descriptor
    return None


class Spawn:
    """Starts each worker as a new process."""

    def start(self, handle: int) -> Child:
        """Start a worker that inherits a handle."""
        return _run(_WORKER, handle)

    def close(self) -> None:
        """Do nothing: there is no server."""


class ServerProcess(NamedTuple):
    """A fork server process, and the socket for requests to it."""

    process: subprocess.Popen[Any]
    requests: socket.socket


class ForkServer:
    """Starts workers through a fork server, which it starts with the first worker."""

    def __init__(self) -> None:
        self._server: ServerProcess | None = None

    def start(self, handle: int) -> Child:
        """Start a worker that inherits a handle."""
        server = self._server
        if server is None or server.process.poll() is not None:  # there is none yet, or it was killed
            self.close()
            ours, theirs = socket.socketpair()
            with theirs:
                self._server = server = ServerProcess(_run(_SERVER, theirs.fileno()), ours)
        pipe, end = os.pipe()
        with suppress(BrokenPipeError, ConnectionResetError):  # the server was just killed, which closes the pipe
            socket.send_fds(server.requests, [b"f"], [handle, end])
        os.close(end)
        return Forked(pipe, server.process)

    def close(self) -> None:
        """End the server, and wait until it has ended. It ends after its workers."""
        server, self._server = self._server, None
        if server is not None:
            server.requests.close()
            server.process.wait()


class Forked:
    """A worker that the fork server forked.

    Args:
        pipe: The pipe to which the server writes the process ID, then the exit code.
        server: The server process.
    """

    def __init__(self, pipe: int, server: subprocess.Popen[Any]) -> None:
        self._pipe = pipe
        self._server = server
        self._pid: int | None = None
        self._code: int | None = None

    @property
    def pid(self) -> int:
        if self._pid is None:
            self._pid = self._read() or 0
        return self._pid

    def _read(self) -> int | None:
        data = os.read(self._pipe, NUMBER.size)
        return NUMBER.unpack(data)[0] if data else None

    def wait(self, timeout: float | None = None) -> int:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        if not poll.poll(None if timeout is None else 1000 * timeout):
            raise subprocess.TimeoutExpired("a worker", timeout or 0)
        code = self._read()
        if code is None:  # the server was killed, so it cannot report the exit code
            self.kill()
            code = self._server.wait()
        self._code = code
        os.close(self._pipe)
        return code

    def kill(self) -> None:
        if self._pid is None:
            self._server.kill()
        elif self._pid and self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)


#: How workers start on this system.
Starter: Final = ForkServer if FORKS else Spawn
