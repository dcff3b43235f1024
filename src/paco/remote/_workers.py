"""Worker processes on this machine. A process that dies is replaced."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextvars import Context
from functools import partial
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any, Final, Self

from paco._base import check, system
from paco.remote import _start
from paco.remote._messages import Line, called

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco.remote._start import Child

#: The maximum number of chunks at once in a process: `_sizes.py` explains why there can be many.
_AT_ONCE: Final = 64
#: The seconds that a process has to end after its items were cancelled.
_PATIENCE: Final = 5.0
#: If this many processes in a row die before they are ready, no more are started.
_STILLBORN: Final = 5


class ProcessDied(Exception):
    """A process died while it had chunks.

    Args:
        message: How it ended.
        there: Whether it was ready, so that it can have begun the chunks.
    """

    def __init__(self, message: str, *, there: bool) -> None:
        super().__init__(message)
        self.there: bool = there


class _Sent(Future[bytes]):
    """The future report of a chunk, with the name of the process that has the chunk."""

    def __init__(self, process: _Process) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()  # the chunk is cancelled in its process, not here
        self.worker = called(process.pid)


class _Process:
    """A worker process and its chunks.

    Args:
        start: Starts the process, which inherits the given handle.
        ended: Called in a thread when the process has ended, with whether it was ever ready, and its exit code.
    """

    def __init__(self, start: Callable[[int], Child], ended: Callable[[_Process, bool, int], None]) -> None:
        ours, theirs = Pipe()
        with theirs:
            self._child = start(theirs.fileno())
        #: Resolved when its process ID is known.
        self.known: Future[int] = Future()
        self.known.set_running_or_notify_cancel()  # so that it cannot be cancelled
        self._line = Line(ours)
        self._line.send(pickle.dumps((sys.path, _loops())))
        self._ended = ended
        self._lock = threading.Lock()
        self._pending: dict[int, Future[bytes]] = {}
        self._number = 0
        self._saying_goodbye = False
        #: Resolved when the process has ended and its chunks have failed.
        self.gone: Future[None] = Future()
        # In an empty context: without the GIL, a thread inherits the context of its starter, here that of one run.
        receive = partial(Context().run, self._receive)
        threading.Thread(target=receive, name="paco-process", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process ID, or 0 if it could not be started. Reading it waits until it is known, for milliseconds."""
        return self.known.result()

    @property
    def load(self) -> int:
        """The number of its chunks."""
        return len(self._pending)

    def submit(self, *chunk: bytes) -> _Sent:
        """Send a chunk, and return a future of its report."""
        future = _Sent(self)
        with self._lock:
            self._number += 1
            self._pending[self._number] = future
        self._line.send(pickle.dumps((self._number, *chunk)))
        return future

    def cancel(self, run: str) -> None:
        """Cancel the chunks of a run. Does not wait."""
        self._line.send(pickle.dumps((None, run)))

    def close(self) -> None:
        """Cancel its chunks and end it. Does not wait."""
        self._line.send(b"")

    def kill(self) -> None:
        """Kill it."""
        self._child.kill()

    def _receive(self) -> None:
        there, child = False, self._child
        self.known.set_result(child.pid)
        while (data := self._line.receive()) is not None:
            there = True
            if data:
                number, report = pickle.loads(data)  # noqa: S301 - from a process that this one started
                with self._lock:
                    future = self._pending.pop(number)
                future.set_result(report)
        try:
            code = child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:  # it closed the socket but still runs
            child.kill()
            code = child.wait()
        self._ended(self, there, code)
        self._line.close()
        self._fail(code, there=there)
        self.gone.set_result(None)

    def _fail(self, code: int, *, there: bool) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        for future in pending.values():
            message = f"process {self.pid} has ended {system.how_ended(code)}"
            future.set_exception(ProcessDied(message, there=there))


def _loops() -> str:
    """Return the package of the running event loop, such as ``uvloop``, from which processes create theirs too."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.__name__
    return type(loop).__module__.partition(".")[0]


class Workers:
    """Processes on this machine that run async functions over items: ``paco.map(fetch, urls).on(workers)``.

    The processes start on first use, which takes about 0.2 s. They are kept for any number of runs, and replaced when
    they die. They end when the block ends, or when the program ends in any way. ``.on(4)`` starts four for one run. On
    systems with ``fork`` except macOS, they are forked from a server process that has imported what they need; on other
    systems, each is a new process. The program itself is never forked, and its ``__main__`` is not imported.

    Each process has one event loop for its whole life, so what a function keeps in its module (a session, a model) is
    created once per process. If the program runs on uvloop, so do the processes. They communicate with the program
    through pairs of sockets (on Windows, pipes) to which nothing else can connect.

    Args:
        count: The number of processes; ``None`` for the number of processors available to this program.

    Raises:
        TypeError: ``count`` is not an ``int``.
        ValueError: ``count`` is less than 1.

    Examples:
        >>> import operator
        >>> with paco.remote.Workers(2) as workers:
        ...     paco.run(paco.map(paco.wraps(operator.neg), [1, 2, 3]).on(workers))
        [-1, -2, -3]
    """

    def __init__(self, count: int | None = None) -> None:
        self.count: int = _processors() if count is None else check.integer("remote.Workers", "count", count, 1)
        self._lock = threading.RLock()
        self._starter = _start.Starter()
        self._processes: list[_Process] = []
        self._stillborn = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<paco.remote.Workers {self.count}, {len(self._processes)} started>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """The process ids of the processes that run."""
        with self._lock:
            return [process.pid for process in self._processes if process.pid]

    def start(self) -> None:
        """Start the processes that are missing. Does not wait until they are ready.

        Raises:
            RuntimeError: The workers are closed.
        """
        self.started()

    def started(self) -> list[_Process]:
        """Start the processes that are missing, and return all processes."""
        with self._lock:
            if self._closed:
                raise RuntimeError("paco.remote.Workers: closed; create new workers")
            while len(self._processes) < self.count:
                self._processes.append(_Process(self._starter.start, self._ended))
            return self._processes.copy()

    def send(self, *chunk: bytes) -> Future[bytes]:
        """Send a chunk to the process with the fewest chunks, and return a future of its report.

        Args:
            *chunk: The order, the function and the items.

        Raises:
            RuntimeError: The workers are closed, or several processes in a row died as they started.
        """
        with self._lock:
            if self._stillborn >= _STILLBORN:
                raise RuntimeError(
                    f"paco.remote.Workers: {self._stillborn} processes in a row died as they started; "
                    "their messages are on stderr"
                )
            return min(self.started(), key=lambda process: process.load).submit(*chunk)

    def cancel(self, run: str) -> None:
        """Cancel the chunks of a run in all processes. Does not wait."""
        with self._lock:
            for process in self._processes:
                process.cancel(run)

    def _ended(self, process: _Process, there: bool, code: int) -> None:
        with self._lock:
            self._processes.remove(process)
            if there:
                self._stillborn = 0
            elif not system.was_killed(code):  # a killed process does not show that none can start
                self._stillborn += 1
            last = self._closed and not self._processes
        if last:
            self._starter.close()

    def close(self) -> None:
        """Cancel the items of the processes, and wait until the processes have ended; after 5 s each is killed."""
        for process in self.leave():
            try:
                process.gone.result(_PATIENCE)
            except TimeoutError:
                process.kill()
                process.gone.result()

    def leave(self) -> list[_Process]:
        """Tell the processes to end, and return them. Does not wait."""
        with self._lock:
            self._closed = True
            processes = self._processes.copy()
        for process in processes:
            process.close()
        if not processes:
            self._starter.close()
        return processes


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SharedWorkers:
    """Workers of the user as the engine of a run; `close` leaves them open."""

    flag = ""
    one_clock = True

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.processes: int = workers.count
        self.apart: int = workers.count
        self.slots: int = _AT_ONCE * workers.count

    async def open(self) -> None:
        for process in self._workers.started():
            await asyncio.wrap_future(process.known)

    def submit(self, order: bytes, function: bytes, items: bytes) -> Future[bytes]:
        return self._workers.send(order, function, items)

    def lost(self, error: BaseException) -> int | None:
        return int(error.there) if isinstance(error, ProcessDied) else None

    def cancel(self, run: str, futures: list[Any]) -> None:
        self._workers.cancel(run)

    async def close(self) -> None:
        """Do nothing: the user closes the workers."""


class PrivateWorkers(SharedWorkers):
    """Workers for one run, as the engine of that run."""

    def __init__(self, count: int) -> None:
        super().__init__(Workers(count))

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        processes: list[Any] = self._workers.leave()
        timer = loop.call_later(_PATIENCE, lambda: [process.kill() for process in processes])
        for process in processes:
            await asyncio.wrap_future(process.gone)
        timer.cancel()
