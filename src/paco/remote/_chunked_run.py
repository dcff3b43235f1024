"""Admission for a run whose items run elsewhere: it sends them in chunks, and stores the results of chunks.

The run has one worker task, which fills chunks and sends them. The run handles everything else as usual: the source,
the sink, order, backpressure, errors, the consumer, and the end.
"""

from __future__ import annotations

import asyncio
import math
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from paco._base.errors import trim
from paco._engine.outcomes import Err
from paco._engine.sinks import InOrder
from paco._engine.watch import length
from paco._engine.workers import SLICE
from paco.remote import _pickles
from paco.remote._dispatch import Dispatcher, Entry, RunOptions

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from paco._base.item import Ran, Worker
    from paco._base.types import OnError
    from paco._engine.run import Scheduler
    from paco._engine.sinks import Sink
    from paco._engine.watch import Watch
    from paco.remote._engines import Engine

#: The number of items between two readings of the clock while a chunk is filled.
_STRIDE: Final = 64


class Chunks:
    """Sends the items of a run to the workers of an engine.

    Args:
        name: The operation, for messages: ``map``.
        source: A checked source of items.
        sink: Where the results go.
        engine: Opens the engine.
        limit: The maximum number of items in flight, in all workers together; 0 for ``lead``.
        lead: The maximum number of items that wait at the workers, in addition to those in flight.
        buffer: The maximum number of results that wait for a consumer; ``None`` for those of a few chunks.
        on_error: What happens with an item's ``Exception``.
        watch: Notifies listeners; ``None`` if there are none.
    """

    __slots__ = (
        "_dispatcher",
        "_engine",
        "_job",
        "_stream",
        "_there",
        "_total",
        "_wanted",
        "held",
        "lead",
        "role",
        "run",
    )

    def __init__(
        self,
        name: str,
        source: Any,
        sink: Sink,
        *,
        engine: Callable[[], Engine],
        limit: int,
        lead: int,
        buffer: int | None,
        on_error: OnError,
        watch: Watch | None,
    ) -> None:
        self.held: int = 0
        self.role: str = "sender"
        self.lead: int = 10_000  # `wanted` is a tighter bound: the items of one chunk
        self._engine = engine
        self._job = RunOptions(name, b"", limit or lead, lead, on_error, watched=watch is not None)
        self._dispatcher: Dispatcher | None = None
        self._there: dict[str, Worker] = {} if watch is None else watch.view.workers
        self._wanted = 1
        self._total = length(source)
        self._stream = sink if isinstance(sink, InOrder) and buffer is None else None
        self.run: Any = None

    def grow(self) -> None:
        """Do nothing: a single worker fills all chunks."""

    def exhausted(self) -> None:
        """Do nothing: the single worker notices the end of the source."""

    def stop(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.stop()

    # ---- the single worker

    async def work(self, context: contextvars.Context) -> None:
        run: Scheduler = self.run
        try:
            job = self._job._replace(function=_pickles.dump_function(self._job.name, run.fn))
            self._dispatcher = dispatcher = Dispatcher(self._engine(), job, self, self._there)
        except Exception as error:
            self.broken(error)
            return
        try:
            await self._open(dispatcher)
            await self._send_all(run, dispatcher)
        except BaseException as error:
            run.source_failed(error)
        finally:
            if not run.loop.is_closed():  # it is closed if this coroutine is being garbage-collected
                await dispatcher.close()
            self._dispatcher = None  # break the reference cycle
            run.exhausted = True
            del self, run, dispatcher

    async def _open(self, dispatcher: Dispatcher) -> None:
        try:
            await dispatcher.open()
        except Exception as error:
            self.broken(error)

    async def _send_all(self, run: Scheduler, dispatcher: Dispatcher) -> None:
        while True:
            while dispatcher.send(self._take):
                self._sent()
                await asyncio.sleep(0)
            if run.is_ending or (run.exhausted and dispatcher.quiet):
                return
            if run.reader is not None:
                self._wanted = dispatcher.wanted()  # once for all items that are read until the next chunk
                run.reader.wake()
            run.notify()
            await run.park()

    def _sent(self) -> None:
        """Report the items in flight to the watch, after a chunk was sent or came back."""
        if self.run.watch is not None:
            self.run.watch.elsewhere(0 if self._dispatcher is None else self._dispatcher.in_flight)

    def _take(self, count: int) -> list[Entry]:
        """Take at most ``count`` items, for at most one time slice."""
        run: Scheduler = self.run
        entries = list[Entry]()
        end = perf_counter() + SLICE
        while not run.exhausted and (room := self._room(count - len(entries))) > 0:
            before = len(entries)
            for item in run.items:
                entries.append((run.started, item))
                run.started += 1
                if len(entries) - before >= room:
                    break
            else:
                run.out_of_items()
                break
            if perf_counter() >= end:
                break
        return entries

    def _room(self, count: int) -> int:
        run: Scheduler = self.run
        return min(run.sink.room(run.started) - run.started, count, _STRIDE)

    def wanted(self) -> int:
        """Return the number of items that the reader may read ahead: those of the next chunk."""
        return self._wanted

    def left(self) -> float:
        """Return the number of items left; infinity if the source does not know, or reported too few."""
        run: Scheduler = self.run
        left = -1 if self._total is None else self._total + run.offset - run.started
        return math.inf if left < 0 else left

    # ---- for the dispatcher

    def arrived(self, entries: list[Entry], values: dict[int, Any], ran: dict[int, Ran]) -> None:
        run: Scheduler = self.run
        if run.watch is not None:
            for number, one in ran.items():
                if number in values:
                    index, item = entries[number]
                    value = values[number]
                    run.watch.ran(index - run.offset, item, one, value.error if isinstance(value, Err) else None)
        store = run.sink.store
        for number, value in values.items():
            store[entries[number][0]] = value

    def failed(self, entry: Entry, error: BaseException, ran: Ran | None = None) -> None:
        run: Scheduler = self.run
        if run.watch is not None:
            run.watch.ran(entry[0] - run.offset, entry[1], ran, error)
        run.item_failed(error, *entry)

    def broken(self, error: BaseException) -> None:
        trim(error)
        self.run.fail(error, "its workers")

    def landed(self) -> None:
        run: Scheduler = self.run
        if self._dispatcher is not None and self._stream is not None:
            dispatcher = self._dispatcher
            ahead = dispatcher.sizes.ahead(dispatcher.spread())
            self._stream.window = self._stream.most = self._job.limit + ahead
        run.notify()
        run.unpark(1)
        self._sent()
