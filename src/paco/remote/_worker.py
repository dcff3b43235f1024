"""The worker side: each process runs its chunks in one event loop, in a separate thread.

All chunks share one loop for the life of the process, because what a function keeps between items, such as a session,
belongs to a loop. The thread is separate so that a blocking item does not block the engine's thread, which sends
heartbeats. `main` is the code of a process of `paco.remote.Workers`; other engines call `work` in theirs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from functools import partial
from importlib import import_module
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, Final

from paco._base import system
from paco._functions import threads
from paco.remote._chunk import ChunkRunner
from paco.remote._marks import Marks
from paco.remote._messages import PackedError, Report
from paco.remote._processes import GRACE, NUMBER, Line, called, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

#: The class of connections in this process, which is another one on Windows.
_Connection: Final[Any] = getattr(connection, "PipeConnection", connection.Connection)
#: The most threads of `asyncio.to_thread`: by itself, asyncio has only a few more than there are processors.
_THREADS: Final = 1000


class Host:
    """A thread with an event loop, of asyncio or made by ``new_loop``, that runs the chunks of this process.

    With ``marks``, the loop makes one every so many ``seconds``.
    """

    def __init__(
        self,
        new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
        marks: Marks | None = None,
        seconds: float = 0,
    ) -> None:
        self.process = os.getpid()
        self.chunks = ChunkRunner(marks=marks)
        self._loop = (new_loop or asyncio.new_event_loop)()
        if marks is not None:
            marks.keep_marking(self._loop, seconds)
            threads.late = marks.late
        self._loop.set_default_executor(ThreadPoolExecutor(_THREADS, "asyncio"))
        self._thread = start_thread("paco-worker", self._run)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # at the end, it cancels all tasks
            loop, ended = runner.get_loop(), False
            while not ended:
                # A task that an item started has raised it. Whatever awaits that task gets it too.
                with suppress(SystemExit, KeyboardInterrupt):
                    loop.run_forever()
                    ended = True

    def start(self, *chunk: bytes, number: int = 0) -> Future[bytes]:
        """Start a chunk, from any thread, and return a future of its report; without a chunk, of an empty answer."""
        work = self.chunks.work(*chunk, number=number) if chunk else _answer()
        return Context().run(asyncio.run_coroutine_threadsafe, work, self._loop)

    def cancel(self, run: str) -> None:
        """Cancel the chunks of a run, from any thread. Does not wait."""
        self._loop.call_soon_threadsafe(self.chunks.cancel, run)

    def end(self, run: str) -> Future[None]:
        """Cancel the chunks of a run, from any thread; the future is done when they have ended."""
        return asyncio.run_coroutine_threadsafe(self.chunks.end(run), self._loop)

    def close(self) -> None:
        """Cancel all chunks, and wait until they have ended."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


async def _answer() -> bytes:
    return b""


_host: Host | None = None
_lock = threading.Lock()


def host() -> Host:
    """Return the host of this process, which is created on first use. A forked child creates its own."""
    global _host  # noqa: PLW0603 - there is one for each process
    with _lock:
        if _host is None or _host.process != os.getpid():
            _host = Host()
            _follow_parent()
        return _host


def work(order: bytes, function: bytes, items: bytes) -> bytes:
    """Run a chunk in this process, and return its report. Engines call this in their workers."""
    return host().start(order, function, items).result()


async def end(run: str) -> None:
    """Cancel the chunks of a run in this process, and wait until they have ended. Callable in any loop."""
    await asyncio.wrap_future(host().end(run))


def _follow_parent() -> None:
    """Exit when the parent does, if multiprocessing started this process: its pools outlive it (cpython#111873)."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        system.kill_after(parent.sentinel)
        start_thread("paco-parent", _end_after, parent.join)


def _end_after(join: Callable[[], None]) -> None:
    join()
    os._exit(1)


# ---- a process of `paco.remote.Workers`


def main(descriptor: int) -> None:
    """Run chunks until the program closes the connection, given by its descriptor (on Windows, handle), or is gone."""
    for key in system.KEYS:
        signal.signal(key, signal.SIG_IGN)  # the program handles Ctrl-C, and then cancels the items here
    system.keep(descriptor)
    line = Line(_Connection(descriptor))
    sent = pickle.loads(line.receive() or b"")  # noqa: S301 - from the program that started this process
    sys.path[:], loops, files, marks = sent
    system.find_files(files)
    host = Host(_loop_factory(loops)) if marks is None else Host(_loop_factory(loops), Marks(marks[0]), marks[1])
    line.send(b"")  # tells the program that this process is ready
    if not serve(line, host):
        leave = threading.Timer(GRACE, os._exit, [1])
        leave.daemon = True
        leave.start()
    host.close()
    line.close()


def _loop_factory(package: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the ``new_event_loop`` function of a package; ``None`` if the package or the function is missing."""
    with suppress(ImportError):
        return getattr(import_module(package), "new_event_loop", None)
    return None


def serve(line: Line, host: Host) -> bool:
    """Run the chunks that arrive; return true after the closing message, false if the other side is gone."""

    def report(number: int, done: Future[bytes]) -> None:
        try:
            data = done.result()
        except CancelledError:  # this process ended before the chunk began
            return
        except BaseException as error:  # such as a report that does not fit into memory
            data = Report(called(os.getpid()), refusal=PackedError.of(error)).dump()
        line.send(NUMBER.pack(number))
        line.send(data)

    while (data := line.receive()) is not None:
        if not data:
            return True
        number, *rest = pickle.loads(data)  # noqa: S301 - from the program that started this process
        if number is None:
            host.cancel(*rest)
        else:
            host.start(*rest, number=number).add_done_callback(partial(report, number))
    return False
