"""Engines, which run chunks: worker processes of this machine; `engine_of` chooses among them and the other modules.

A process that dies is replaced.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from paco._base import check, system
from paco._base.types import Executor
from paco.remote import _processes
from paco.remote._processes import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.check import ItemFunction
    from paco._base.types import Future
    from paco.limits import Limiter

#: The maximum number of chunks at once in a process: `_feedback.py` explains why there can be many.
_AT_ONCE: Final = 64
#: If this many processes in a row die before they are ready, no more are started.
_STILLBORN: Final = 5


class Engine(Protocol):
    """Runs the chunks of one run."""

    #: The maximum number of chunks at once.
    slots: int
    #: The number of processes, as far as known.
    processes: int
    #: A path that `cancel` creates to tell the workers; empty if the engine cancels in another way.
    flag: str
    #: Whether its processes are `Workers`: they share the clock of this machine, and chunks spread evenly.
    ours: bool

    async def open(self) -> None:
        """Prepare to run chunks; called when the run begins."""
        ...

    def submit(self, order: bytes, function: bytes, items: bytes) -> Future:
        """Start a chunk, and return a future of its report."""
        ...

    def lost(self, error: BaseException) -> int | None:
        """Classify an error of a chunk: was its worker lost, so that another worker can run the chunk?

        Returns:
            ``None`` if not, 1 if the worker died with the chunk, 0 if the chunk had not begun.
        """
        ...

    def cancel(self, run: str, futures: list[Future]) -> None:
        """Cancel the chunks of a run, whether begun or not. Their futures are done when the items have ended."""
        ...

    async def close(self) -> None:
        """Release resources; called when the run ends."""
        ...


class Workers:
    """Processes on this machine that run async functions over items: ``paco.map(fetch, urls).on(workers)``.

    The processes start on first use, which takes about 0.2 s. They are kept for any number of runs, and replaced when
    they die. One that is stopped or blocked is killed if it gives no answer for 5 s after its run was cancelled. They
    end when the block ends, or when the program ends in any way. ``.on(4)`` starts four for one run. On systems with
    ``fork`` except macOS, they are forked from a server process that has imported what they need; on other systems,
    each is a new process. The program itself is never forked, and its ``__main__`` is not imported.

    Each process has one event loop for its whole life, so what a function keeps in its module (a session, a model) is
    created once per process. If the program runs on uvloop, so do the processes. They communicate with the program
    through pairs of sockets (on Windows, pipes) to which nothing else can connect.

    Args:
        count: The number of processes; ``None`` for the number of processors available to this program.
        kill_after: Seconds for which an item may hold the event loop of its process; ``None`` for no limit. When they
            are over, at most a quarter later, the process is killed, whatever it does: it blocks, computes, or holds
            the GIL. The item fails with `WorkerLost`, the others in that process run again, and a new process takes
            its place. An item that awaits does not hold its process: use ``paco.timeout`` for those. One that waits for
            a thread of `threaded` holds it from its cancellation on.

    Raises:
        TypeError: ``count`` is not an ``int``, or ``kill_after`` is not a number.
        ValueError: ``count`` is less than 1, or ``kill_after`` is 0 or less.

    Examples:
        >>> import operator
        >>> with paco.remote.Workers(2) as workers:
        ...     paco.run(paco.map(paco.wraps(operator.neg), [1, 2, 3]).on(workers))
        [-1, -2, -3]
    """

    def __init__(self, count: int | None = None, *, kill_after: float | None = None) -> None:
        self.count: int = _processors() if count is None else check.integer("remote.Workers", "count", count, 1)
        self._kill_after = kill_after
        if kill_after is not None:
            check.positive("remote.Workers", "kill_after", kill_after, "seconds (a number above 0) or None")
        self._lock = threading.RLock()
        self._starter = _processes.Starter()
        self._processes: list[WorkerProcess] = []
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

    def started(self) -> list[WorkerProcess]:
        """Start the processes that are missing, and return all processes."""
        with self._lock:
            if self._closed:
                raise RuntimeError("paco.remote.Workers: closed; create new workers")
            while len(self._processes) < self.count:
                self._processes.append(WorkerProcess(self._starter.start, self._ended, self._kill_after))
            return self._processes.copy()

    def send(self, *chunk: bytes) -> Future:
        """Send a chunk (order, function, items) to the process with the fewest chunks; return a future of its report.

        Raises:
            RuntimeError: The workers are closed, or several processes in a row died as they started.
        """
        with self._lock:
            if self._stillborn >= _STILLBORN:
                raise RuntimeError(
                    f"paco.remote.Workers: {self._stillborn} processes in a row died as they started; "
                    "their messages are on stderr"
                )
            return min(self.started(), key=lambda process: len(process.pending)).submit(*chunk)

    def cancel(self, run: str, chunks: list[Any]) -> None:
        """Cancel the chunks of a run, given their futures, in all processes. Does not wait."""
        with self._lock:
            for process in self._processes:
                process.cancel(run, chunks)

    def _ended(self, process: WorkerProcess, there: bool, code: int) -> None:
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
        gone = {process.gone: process for process in self.leave()}
        for late in wait(gone, _processes.PATIENCE).not_done:
            gone[late].kill()
        wait(gone)

    def leave(self) -> list[WorkerProcess]:
        """Ask the processes to end, and return them without waiting."""
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


class WorkersEngine:
    """Workers as the engine of a run, which ends them unless ``keep`` is true."""

    flag = ""
    ours = True

    def __init__(self, workers: Workers, *, keep: bool) -> None:
        self._workers = workers
        self._keep = keep
        self.processes: int = workers.count
        self.slots: int = _AT_ONCE * workers.count

    async def open(self) -> None:
        for process in self._workers.started():
            await asyncio.wrap_future(process.known)

    def submit(self, order: bytes, function: bytes, items: bytes) -> Future:
        return self._workers.send(order, function, items)

    def lost(self, error: BaseException) -> int | None:
        return int(error.there) if isinstance(error, _processes.ProcessDied) else None

    def cancel(self, run: str, futures: list[Any]) -> None:
        self._workers.cancel(run, futures)

    async def close(self) -> None:
        processes = [] if self._keep else self._workers.leave()
        timers = [asyncio.get_running_loop().call_later(_processes.PATIENCE, process.kill) for process in processes]
        for process in processes:
            await asyncio.wrap_future(process.gone)
        for timer in timers:
            timer.cancel()


def elsewhere(name: str, engine: Any, slots: int | None, fn: ItemFunction, limit: int | Limiter) -> dict[str, Any]:
    """Return the changes to a plan that make its items run on an engine. The first arguments are those of `engine_of`.

    Items run in the threads of a ``ThreadPoolExecutor`` one by one, without an engine.
    """
    if isinstance(engine, ThreadPoolExecutor):
        from paco.remote._threads import on_threads

        there = on_threads(name, engine, slots, fn, limit)
        if there is not None:
            return {"fn": there[0], "limit": there[1], "engine": None}
    return {"engine": engine_of(name, engine, slots)}


def engine_of(name: str, engine: Any, slots: int | None, kill_after: float | None = None) -> Callable[[], Engine]:
    """Return a function that opens the engine when a run starts.

    Args:
        name: The operation, for messages.
        engine: The ``engine`` argument of `Stream.on`.
        slots: The maximum number of chunks at once; ``None`` for what the engine reports.
        kill_after: That of the `Workers` which a number starts.

    Raises:
        TypeError: ``engine`` is not an engine.
        ValueError: The number of processes is below 1, or the address is of an unknown kind.
    """
    if slots is not None:
        slots = check.integer(name, "slots", slots, 1)
    if isinstance(engine, int):
        count = check.integer(name, "engine", engine, 1)
        return lambda: WorkersEngine(Workers(count, kill_after=kill_after), keep=False)
    if isinstance(engine, Workers):
        return lambda: WorkersEngine(engine, keep=True)
    if isinstance(engine, str) or type(engine).__module__.partition(".")[0] == "distributed":
        from paco.remote._dask import dask_engine

        return dask_engine(name, engine, slots)
    if not isinstance(engine, type) and isinstance(engine, Executor):
        from paco.remote._executors import ExecutorEngine, Interpreters, is_pool, slots_of

        kind = Interpreters if is_pool(engine) else ExecutorEngine
        return lambda: kind(engine, slots or slots_of(engine))
    expected = (
        "a number of processes such as os.cpu_count(), paco.remote.Workers, an executor (anything with submit), "
        "a Dask client or an address such as 'dask://host:8786'"
    )
    raise TypeError(check.refusal(name, "engine", expected, engine))
