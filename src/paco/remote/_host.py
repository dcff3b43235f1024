"""The worker side: each process runs its chunks in one event loop, in a separate thread.

All chunks share one loop for the life of the process, because what a function keeps between items, such as a session,
belongs to a loop. The thread is separate so that a blocking item does not block the engine's thread, which sends
heartbeats.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections import OrderedDict, defaultdict
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.item import Slots
from paco.remote import _pickles
from paco.remote._chunk import Chunk
from paco.remote._messages import Order, PackedError, Report, called

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Future


#: The number of functions to cache, and of cancelled runs to remember.
_FUNCTIONS: Final = 16
_CANCELLED: Final = 1000
#: Seconds between two checks for a flag.
_LOOK: Final = 0.05


class Bench:
    """Runs the chunks of a process, in the loop of the caller.

    Args:
        where: The name of the process; empty for the default name.
    """

    def __init__(self, where: str = "") -> None:
        self._where = where or called(os.getpid())
        self._functions: OrderedDict[bytes, Callable[[Any], Awaitable[Any]]] = OrderedDict()
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._working = defaultdict[str, set[Chunk]](set)  # by run
        self._slots = defaultdict[str, Slots](Slots)  # by run

    async def work(self, order: bytes, function: bytes, items: bytes) -> bytes:
        """Run a chunk and return its report, which also contains any error."""
        try:
            chunk = self._prepared(order, function, items)
        except BaseException as error:
            return Report(self._where, refusal=PackedError.of(error)).dump()
        run = chunk.order.run
        self._look(chunk)
        chunks = self._working[run]
        chunks.add(chunk)
        try:
            return Report(self._where).dump() if run in self._cancelled else await chunk.do()
        finally:
            chunks.remove(chunk)
            if not chunks:
                del self._working[run], self._slots[run]

    def cancel(self, run: str) -> None:
        """Cancel the chunks of a run, including those that arrive later. Does not wait."""
        self._cancelled[run] = None
        if len(self._cancelled) > _CANCELLED:
            self._cancelled.popitem(last=False)
        for chunk in self._working.get(run, ()):
            chunk.run.stop()

    async def end(self, run: str) -> None:
        """Cancel the chunks of a run, and wait until they have ended."""
        self.cancel(run)
        for chunk in tuple(self._working.get(run, ())):
            await chunk.run.until_done()

    def _prepared(self, data: bytes, function: bytes, items: bytes) -> Chunk:
        order = Order.load(data)
        fn = self._functions.get(order.digest) or _pickles.loads(function)
        self._functions[order.digest] = fn
        self._functions.move_to_end(order.digest)
        if len(self._functions) > _FUNCTIONS:
            self._functions.popitem(last=False)
        return Chunk(order, self._where, fn, _pickles.loads(items), self._slots[order.run])

    def _look(self, chunk: Chunk) -> None:
        """Cancel the run when its flag appears; check repeatedly until the chunk is done."""
        flag = chunk.order.flag
        if not flag or chunk.run.done:
            return
        if Path(flag).exists():
            self.cancel(chunk.order.run)
        else:
            asyncio.get_running_loop().call_later(_LOOK, self._look, chunk)


async def chunk_in(bench: Bench, *chunk: bytes) -> bytes:
    """Run a chunk in a bench, and return its report. Names the current task for debuggers."""
    cast("asyncio.Task[bytes]", asyncio.current_task()).set_name("paco chunk")
    return await bench.work(*chunk)


class Host:
    """A thread with an event loop that runs the chunks of this process.

    Args:
        new_loop: Creates the loop; ``None`` for asyncio's default.
    """

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        self.process = os.getpid()
        self.bench = Bench()
        started = threading.Event()
        # In an empty context: without the GIL, a thread inherits the context of its starter, here that of an old run.
        run = partial(Context().run, self._run, started, new_loop)
        self._thread = threading.Thread(target=run, name="paco-worker", daemon=True)
        self._thread.start()
        started.wait()

    def _run(self, started: threading.Event, new_loop: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            self._loop = runner.get_loop()
            self._end = self._loop.create_future()
            self._loop.call_soon(started.set)
            runner.run(self._wait())

    async def _wait(self) -> None:
        await self._end

    def start(self, order: bytes, function: bytes, items: bytes) -> Future[bytes]:
        """Start a chunk, from any thread, and return a future of its report."""
        work = chunk_in(self.bench, order, function, items)
        return Context().run(asyncio.run_coroutine_threadsafe, work, self._loop)

    def cancel(self, run: str) -> None:
        """Cancel the chunks of a run, from any thread. Does not wait."""
        self._loop.call_soon_threadsafe(self.bench.cancel, run)

    def end(self, run: str) -> Future[None]:
        """Cancel the chunks of a run, from any thread; the future is done when they have ended."""
        return asyncio.run_coroutine_threadsafe(self.bench.end(run), self._loop)

    def close(self) -> None:
        """Cancel all chunks, and wait until they have ended."""
        self._loop.call_soon_threadsafe(self._end.set_result, None)
        self._thread.join()


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
        threading.Thread(target=_end_after, args=(parent.join,), name="paco-parent", daemon=True).start()


def _end_after(join: Callable[[], None]) -> None:
    join()
    os._exit(1)
