"""The same run with its items elsewhere: it takes them from the source in chunks, and stores the results of chunks.

The engine's `Run` with other work for its one worker, which fills chunks and sends them. All else is as ever: where
items come from, where results go, their order, room, errors, the consumer, and the end.
"""

from __future__ import annotations

import asyncio
import math
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from paco import events
from paco._base.errors import trim
from paco._base.worker_info import Ran
from paco._engine.outcomes import Err
from paco._engine.run import Run
from paco._engine.sinks import InOrder
from paco._engine.time_slice import SLICE
from paco._engine.watch import _Watched, length
from paco.events import ItemEnded, ItemStarted
from paco.remote import _pickles
from paco.remote._dispatch import Dispatcher, Entry, Job

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable

    from paco._base.worker_info import Worker
    from paco._engine.sinks import Sink
    from paco.remote._engines import Engine

#: Items from one look at the clock to the next, while a chunk is filled.
_STRIDE: Final = 64
#: Slices of a turn in which a chunk is filled, at most: then it goes as it is.
_SLICES: Final = 8


class RemoteRun(Run):
    """A `Run` whose items run in the workers of an engine.

    Args:
        name: As of `Run`, like ``fn``, ``source``, ``sink`` and the ``options``.
        fn: Sent to the workers, and called there.
        source: A checked source of items.
        sink: Where the results go.
        engine: Opens the engine.
        limit: Items in flight at most, in all workers together; 0 for ``lead``.
        lead: Items that may be with the workers, and wait there, beside those in flight.
        buffer: Results that may wait for a consumer; ``None`` for what a few chunks have.
        options: The others.
    """

    lead = 10_000  # what is read is wanted for one chunk

    __slots__ = ("_dispatcher", "_engine", "_job", "_stream", "_there", "_total", "_wanted")

    def __init__(
        self,
        name: str,
        fn: Callable[[Any], Awaitable[Any]],
        source: Any,
        sink: Sink,
        *,
        engine: Callable[[], Engine],
        limit: int,
        lead: int,
        buffer: int | None = None,
        catch: bool,
        **options: Any,
    ) -> None:
        super().__init__(name, fn, source, sink, limit=1, catch=catch, **options)
        self._role = "sender"
        self._engine = engine
        self._job = Job(name, b"", limit or lead, lead, catch=catch, watched=False)
        self._dispatcher: Dispatcher | None = None
        self._there: dict[str, Worker] = {}
        self._wanted = 1
        self._total = length(source)
        self._stream = sink if isinstance(sink, InOrder) and buffer is None else None

    # ---- the one worker

    async def _work(self, context: contextvars.Context) -> None:
        try:
            job = self._job._replace(function=_pickles.dump_function(self._name, self._fn))
            self._dispatcher = dispatcher = Dispatcher(self._engine(), job, self, self._there)
        except Exception as error:
            self.broken(error)
            return
        try:
            await self._open(dispatcher)
            await self._send_all(dispatcher)
        except BaseException as error:
            self._source_failed(error)
        finally:
            if not self._loop.is_closed():  # it is when this coroutine is being collected
                await dispatcher.close()
            self.exhausted = True
            del self, dispatcher

    async def _open(self, dispatcher: Dispatcher) -> None:
        try:
            await dispatcher.open()
        except Exception as error:
            self.broken(error)

    async def _send_all(self, dispatcher: Dispatcher) -> None:
        while True:
            while dispatcher.send(self._take):
                self._sent()
                await asyncio.sleep(0)
            if self._ending or (self.exhausted and dispatcher.quiet):
                return
            if self._reader is not None:
                self._wanted = dispatcher.wanted()  # once for all that are read until the next chunk
                self._reader.wake()
            self._notify()
            await self._park()

    def _sent(self) -> None:
        """Hear that a chunk is in flight."""

    def _take(self, count: int) -> list[Entry]:
        """Take so many items at most, and not for long."""
        entries = list[Entry]()
        end = perf_counter() + SLICE
        while not self.exhausted and (room := self._room(count - len(entries))) > 0:
            before = len(entries)
            for item in self._items:
                entries.append((self.started, item))
                self.started += 1
                if len(entries) - before >= room:
                    break
            else:
                self._out_of_items()
                break
            if perf_counter() >= end:
                break
        return entries

    def _room(self, count: int) -> int:
        return min(self._sink.room(self.started) - self.started, count, _STRIDE)

    def wanted(self) -> int:
        """Return how many items the reader may have read: as many as the next chunk will have."""
        return min(self._wanted, self._sink.room(self.started) - self.started)

    def left(self) -> float:
        """Return how many items are to come, if the source tells, and does not tell too few."""
        left = -1 if self._total is None else self._total + self._offset - self.started
        return math.inf if left < 0 else left

    # ---- what the dispatcher tells

    def arrived(self, entries: list[Entry], values: dict[int, Any], ran: dict[int, Ran]) -> None:
        store = self._sink.store
        for number, value in values.items():
            store[entries[number][0]] = value

    def failed(self, entry: Entry, error: BaseException, ran: Ran | None = None) -> None:
        self._item_failed(error, *entry)

    def broken(self, error: BaseException) -> None:
        trim(error)
        self.fail(error, "its workers")

    def landed(self) -> None:
        if self._dispatcher is not None and self._stream is not None:
            dispatcher = self._dispatcher
            ahead = dispatcher.sizes.ahead(dispatcher.spread())
            self._stream.window = self._stream.most = self._job.limit + ahead
        self._notify()
        self._unpark(1)

    def _stopping(self) -> None:
        super()._stopping()
        if self._dispatcher is not None:
            self._dispatcher.stop()

    def _finishing(self) -> None:
        super()._finishing()
        self._dispatcher = None


class WatchedRemote(_Watched, RemoteRun):
    """A `RemoteRun` that tells those who listen where it is made: of each item when its chunk has come back."""

    _held = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._job = self._job._replace(watched=True)
        self._there = self._view.workers

    def _watching(self, fn: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        return fn  # it is watched where it runs

    def _see_limit(self) -> None:
        self._top = self._job.limit

    def arrived(self, entries: list[Entry], values: dict[int, Any], ran: dict[int, Ran]) -> None:
        for number, one in ran.items():
            if number in values:
                value = values[number]
                self._tell(entries[number], one, value.error if isinstance(value, Err) else None)
        super().arrived(entries, values, ran)

    def failed(self, entry: Entry, error: BaseException, ran: Ran | None = None) -> None:
        now = self._clock()
        self._tell(entry, ran or Ran("", 0, now, now, 1, failed=True), error)
        super().failed(entry, error, ran)

    def _tell(self, entry: Entry, ran: Ran, error: BaseException | None) -> None:
        view, position = self._view, entry[0] - self._offset
        worker, slot, start, end, attempts, failed = ran
        if failed:
            view.failed += 1
        else:
            view.ok += 1
        view.retried += attempts > 1
        if self._on_start:
            events.tell(self._on_start, ItemStarted(view, position, slot, entry[1], start))
        if self._on_end:
            outcome: events.Outcome = "failed" if failed else "ok"
            ended = ItemEnded(view, position, slot, entry[1], start, end, attempts, outcome, error, worker or None)
            events.tell(self._on_end, ended)

    def landed(self) -> None:
        super().landed()
        self._sent()

    def _sent(self) -> None:
        self._running = 0 if self._dispatcher is None else self._dispatcher.in_flight
        self._view.started = self._view.done + self._running
        self._count(self._clock())
