"""Worker processes of this machine: how they start, how this program talks to them, and how they end.

The imports of a worker take 0.2 s of CPU time. Forking a worker from a server that has done these imports, and ending
it, takes 20 ms. Neither way imports the program's ``__main__``. `multiprocessing` does, so programs must guard it, and
its fork server listens at an address to which other programs could connect.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import platform
import signal
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import Context
from multiprocessing import Pipe
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from paco._base import system
from paco.remote._marks import HoldGuard

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

#: Whether workers are forked. On macOS they are not: its libraries may start threads in a process that only imports.
FORKS: Final = hasattr(os, "fork") and sys.platform != "darwin"
#: The seconds that a process has to answer after its items were cancelled, and to end when it should.
PATIENCE: Final = 5.0
#: The seconds that items have to end after the program that sent them is gone.
GRACE: Final = 1.0
#: A number on its way: the process ID of a worker or its exit code, from the fork server; a chunk, before its report.
NUMBER: Final = struct.Struct("q")

_CODE: Final = "import sys; sys.path.insert(0, sys.argv[2]); from paco.remote.{} import main; main(int(sys.argv[1]))"
_WORKER: Final = _CODE.format("_worker")
_SERVER: Final = _CODE.format("_fork_server")


def called(pid: int) -> str:
    """Return the name of a process of this machine, as messages and events show it."""
    return f"process {pid} on {platform.node()}"


def start_thread(name: str, run: Callable[..., object], *args: object) -> threading.Thread:
    """Start a daemon thread in an empty context. Without the GIL, it would inherit the context of a run."""
    thread = threading.Thread(target=Context().run, args=(run, *args), name=name, daemon=True)
    thread.start()
    return thread


class Line:
    """Sends messages of bytes to another process, and receives them, over a connection that `close` closes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = start_thread("paco-line", self._send_all)

    def send(self, data: bytes) -> None:
        """Queue a message. It is dropped if the other side is gone."""
        self._queue.put(data)

    def receive(self) -> bytes | None:
        """Wait for the next message; return ``None`` if the other side is gone."""
        try:
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def close(self) -> None:
        """Send all queued messages, then close the connection."""
        self._queue.put(None)
        self._thread.join()
        system.hang_up(self._connection)

    def _send_all(self) -> None:
        try:
            while (data := self._queue.get()) is not None:
                self._connection.send_bytes(data)
        except Exception:  # the other side is gone, or must not wait for the rest of a message that cannot be sent
            system.shut(self._connection)


# ---- starting


def _run(code: str, handle: int) -> subprocess.Popen[Any]:
    command = [sys.executable, "-P", "-c", code, str(handle), str(Path(__file__).parents[2])]
    return subprocess.Popen(  # noqa: S603 - the interpreter that runs this
        command, stdin=subprocess.DEVNULL, stdout=_stdout(), **system.handed_down(handle)
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


class ForkServer:
    """Starts workers through a fork server, which it starts with the first worker."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[Any] | None = None

    def start(self, handle: int) -> Child:
        """Start a worker that inherits a handle."""
        if self._process is None or self._process.poll() is not None:  # there is none yet, or it was killed
            self.close()
            self._requests, theirs = socket.socketpair()
            with theirs:
                self._process = _run(_SERVER, theirs.fileno())
        pipe, end = os.pipe()
        with suppress(BrokenPipeError, ConnectionResetError):  # the server was just killed, which closes the pipe
            socket.send_fds(self._requests, [b"f"], [handle, end])
        os.close(end)
        return Forked(pipe, self._process)

    def close(self) -> None:
        """End the server, and wait until it has ended. It ends after its workers."""
        process, self._process = self._process, None
        if process is not None:
            self._requests.close()
            process.send_signal(signal.SIGCONT)  # if it is stopped, it could not end
            process.wait()


class Forked:
    """A worker that the fork server forked, with the methods of `subprocess.Popen` that paco uses.

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
        """The process ID, or 0 if the process could not be started. Reading it waits until it is known."""
        if self._pid is None:
            self._pid = self._read() or 0
        return self._pid

    def _read(self) -> int | None:
        data = os.read(self._pipe, NUMBER.size)
        return NUMBER.unpack(data)[0] if data else None

    def wait(self) -> int:
        """Wait until the process has ended, and return its exit code."""
        code = self._read()
        if code is None:  # the server was killed, so it cannot report the exit code, nor that the process has ended
            self.kill()
            code = self._server.wait()
        self._code = code
        os.close(self._pipe)
        return code

    def kill(self) -> None:
        """Kill the process. If its process ID is not known yet, kill the fork server instead."""
        if self._pid is None:
            self._server.kill()
        elif self._pid and self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._server.send_signal(signal.SIGCONT)  # if it is stopped, it could not report the end


#: A worker process as it was started.
Child: TypeAlias = "subprocess.Popen[Any] | Forked"
#: How workers start on this system.
Starter: Final = ForkServer if FORKS else Spawn


# ---- a process and its chunks


class ProcessDied(Exception):
    """A process died while it had chunks; ``there`` says whether it was ready, so that it can have begun them."""

    def __init__(self, message: str, *, there: bool) -> None:
        super().__init__(message)
        self.there: bool = there


class ProcessHeld(ProcessDied):
    """A process was killed because an item held its event loop for too long.

    Args:
        item: The number of this item, if it is in the chunk that has this error.
    """

    def __init__(self, message: str, item: int | None) -> None:
        super().__init__(message, there=True)
        self.item: int | None = item


class SentFuture(Future[bytes]):
    """The future report of a chunk, with the name of the process that has the chunk."""

    worker: str


class WorkerProcess:
    """A worker process and its chunks.

    Args:
        start: Starts the process, which inherits the given handle.
        ended: Called in a thread when the process has ended, with whether it was ever ready, and its exit code.
        kill_after: The seconds after which it is killed if its event loop does not go round; ``None`` for no limit.
    """

    def __init__(
        self,
        start: Callable[[int], Child],
        ended: Callable[[WorkerProcess, bool, int], None],
        kill_after: float | None = None,
    ) -> None:
        ours, theirs = Pipe()
        self._child = start(theirs.fileno())
        #: Resolved when its process ID is known.
        self.known: Future[int] = Future()
        self.known.set_running_or_notify_cancel()  # so that it cannot be cancelled
        self._line = Line(ours)
        self._code: Future[int] = Future()
        self._guard = None if kill_after is None else HoldGuard(kill_after, self.kill, self._code)
        orders = None if self._guard is None else self._guard.orders
        self._line.send(pickle.dumps((sys.path, _loops(), system.files, orders)))
        self._ended = ended
        self._lock = threading.Lock()
        #: The future reports of its chunks, by number.
        self.pending: dict[int, Future[bytes]] = {}
        self._number = 0
        #: Resolved when the process has ended and its chunks have failed.
        self.gone: Future[None] = Future()
        start_thread("paco-process", self._receive)
        start_thread("paco-wait", self._wait, theirs)
        if self._guard is not None:
            start_thread("paco-guard", self._guard.watch)

    @property
    def pid(self) -> int:
        """The process ID, or 0 if it could not be started. Reading it waits until it is known, for milliseconds."""
        return self.known.result()

    def submit(self, *chunk: bytes) -> SentFuture:
        """Send a chunk, and return a future of its report. Without a chunk, the report is an empty answer."""
        future = SentFuture()
        future.set_running_or_notify_cancel()  # the chunk is cancelled in its process, not here
        future.worker = called(self.pid)
        with self._lock:
            self._number += 1
            self.pending[self._number] = future
        self._line.send(pickle.dumps((self._number, *chunk)))
        return future

    def cancel(self, run: str, chunks: list[Future[bytes]]) -> None:
        """Cancel the chunks of a run, given their futures. Does not wait, but kills the process if it is blocked."""
        self._line.send(pickle.dumps((None, run)))
        with self._lock:
            mine = {*chunks} & {*self.pending.values()}
        if mine:
            start_thread("paco-cancel", self._kill_if_blocked, mine)

    def _kill_if_blocked(self, chunks: set[Future[bytes]]) -> None:
        """Until these chunks have ended, ask the process for answers; kill it if it gives none."""
        while chunks:
            if wait([self.submit()], PATIENCE).not_done:
                self.kill()
                return
            chunks = wait(chunks, PATIENCE).not_done

    def close(self) -> None:
        """Cancel its chunks and end it. Does not wait."""
        self._line.send(b"")

    def kill(self) -> None:
        """Kill the process."""
        self._child.kill()

    def _wait(self, theirs: Connection) -> None:
        """Wait until the process has ended, then end the connection, which a process that it has left may have, too."""
        self.known.set_result(self._child.pid)
        self._code.set_result(self._child.wait())
        system.hang_up(theirs)

    def _receive(self) -> None:
        there, number, unread = False, None, None
        try:
            while (data := self._line.receive()) is not None:
                there = True
                if number is not None:
                    with self._lock:
                        future = self.pending.pop(number)
                    future.set_result(data)
                    number = None
                elif data:
                    (number,) = NUMBER.unpack(data)
        except Exception as error:  # such as a report that does not fit into memory: what follows cannot be read
            unread = error.with_traceback(None)  # which refers to what was read
            self.kill()
        code = self._exit_code()
        self._ended(self, there, code)
        self._line.close()
        with self._lock:
            pending, self.pending = self.pending, {}
        for key, future in pending.items():
            died = self._died(key, code, there=there)
            future.set_exception(died if unread is None or key != number else unread)
        self.gone.set_result(None)

    def _exit_code(self) -> int:
        try:
            return self._code.result(PATIENCE)
        except TimeoutError:  # it closed the socket but still runs
            self.kill()
            return self._code.result()

    def _died(self, chunk: int, code: int, *, there: bool) -> ProcessDied:
        """Return the error of a chunk of this process, which has ended."""
        held = None if self._guard is None else self._guard.held
        if self._guard is None or held is None:
            return ProcessDied(f"process {self.pid} has ended {system.how_ended(code)}", there=there)
        why = f"{called(self.pid)} for more than {self._guard.seconds} s, and the process was killed"
        if held.of_item:
            return ProcessHeld(f"the item held {why}", held.item if held.chunk == chunk else None)
        return ProcessDied(f"something held {why}", there=True)


def _loops() -> str:
    """Return the package of the running event loop, such as ``uvloop``, from which processes create theirs too."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.__name__
    return type(loop).__module__.partition(".")[0]
