"""Admission for a run whose items run elsewhere: it sends them in chunks, and stores the results of chunks.

The run has one worker task, which fills chunks and sends them. The run handles everything else as usual: the source,
the sink, order, backpressure, errors, the consumer, and the end.
"""

from __future__ import annotations

import asyncio
import math
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from paco._engine.failure import item_failed, source_failed
from paco._engine.outcomes import Err
from paco._engine.sinks import InOrder
from paco._engine.watch import length
from paco._engine.workers import SLICE
from paco.remote._dispatch import Dispatcher, Entry, RunOptions

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from paco._base.types import OnError
    from paco._engine.run import Scheduler
    from paco._engine.sinks import Sink
    from paco._engine.watch import Watch
    from paco.remote._dispatch import Outcomes
    from paco.remote._engines import Engine

#: The number of items between two readings of the clock while a chunk is filled.
_STRIDE: Final = 64


class Chunks:
    """Sends the items of a run to the workers of an engine.

    `RunOptions` describes the arguments that are missing here.

    Args:
        source: A checked source of items.
        sink: Where the results go.
        limit: The maximum number of items in flight, in all workers together; 0 for ``lead``.
        buffer: The maximum number of results that wait for a consumer; ``None`` for those of a few chunks.
        watch: Notifies listeners; ``None`` if there are none.
    """

    __slots__ = ("_dispatcher", "_options", "_stream", "_total", "_wanted", "held", "role", "run")

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
        self._options = RunOptions(name, engine, limit or lead, lead, on_error, watched=watch is not None)
        self._wanted = 1
        self._total = length(source)
        self._stream = sink if isinstance(sink, InOrder) and buffer is None else None
        self.run: Any = None
        self._dispatcher: Any = None

    def attach(self, run: Scheduler) -> None:
        self.run = run

    def detach(self) -> None:
        self.run = None

    def grow(self) -> None:
        """Do nothing: a single worker fills all chunks."""

    def exhausted(self) -> None:
        """Do nothing: the single worker notices the end of the source."""

    def stop(self) -> None:
        if self._dispatcher is not None:  # it is None if the run ends as it starts
            self._dispatcher.stop()

    # ---- the single worker

    async def work(self, context: contextvars.Context) -> None:
        run: Scheduler = self.run
        workers = {} if run.watch is None else run.watch.view.workers
        self._dispatcher = dispatcher = Dispatcher(run, run.fn, self._options, workers, self._landed)
        try:
            await dispatcher.open()
            await self._send_all(run, dispatcher)
        except BaseException as error:
            source_failed(run, error)
        finally:
            await dispatcher.close()
            self._dispatcher = None  # break the reference cycle
            run.exhausted = True
            del self, run, dispatcher

    async def _send_all(self, run: Scheduler, dispatcher: Dispatcher) -> None:
        while True:
            while dispatcher.send(self._left(run), self._take):
                self._report(run)
                await asyncio.sleep(0)
            if run.is_ending or (run.exhausted and dispatcher.quiet):
                return
            if run.reader is not None:
                # Once for all items that are read until the next chunk: this takes longer than reading one.
                self._wanted = dispatcher.sizes.wanted(dispatcher.in_flight)
                run.reader.wake()
            run.notify()
            await run.park()

    def _report(self, run: Scheduler) -> None:
        """Report the items in flight to the watch, after a chunk was sent or came back."""
        if run.watch is not None:
            run.watch.elsewhere(self._dispatcher.in_flight)

    def _left(self, run: Scheduler) -> float:
        """Return the number of items left; infinity if the source does not know, or reported too few."""
        left = -1 if self._total is None else self._total + run.offset - run.started
        return math.inf if left < 0 else left

    def _take(self, count: int) -> list[Entry]:
        """Take at most ``count`` items, for at most one time slice."""
        run: Scheduler = self.run
        entries = list[Entry]()
        end = perf_counter() + SLICE
        while not run.exhausted:
            before = len(entries)
            room = min(run.sink.room(run.started) - run.started, count - before, _STRIDE)
            if room <= 0:
                break
            for item in run.items:
                entries.append((run.started, item))
                run.started += 1
                if len(entries) - before >= room or run.left is not None:  # the source itself has ended the run
                    break
            else:
                run.out_of_items()
                break
            if perf_counter() >= end:
                break
        return entries

    def wanted(self) -> int:
        """Return the number of items that the reader may read ahead: those of the next chunk."""
        return self._wanted

    # ---- a chunk that is back

    def _landed(self, entries: list[Entry], outcomes: Outcomes) -> None:
        """Store the outcomes of a chunk, and have the worker send more."""
        run: Scheduler = self.run
        values, errors, _ = outcomes
        if run.watch is not None:
            self._publish(run.watch, entries, outcomes)
        store = run.sink.store
        for number, value in values.items():
            store[entries[number][0]] = value
        for number, error in errors.items():
            item_failed(run, error, *entries[number])
        if self._stream is not None:
            self._stream.window = self._stream.most = self._options.limit + self._dispatcher.sizes.ahead()
        self._report(run)
        run.notify()
        run.unpark(1)

    def _publish(self, watch: Watch, entries: list[Entry], outcomes: Outcomes) -> None:
        """Send the events of the items of a chunk that is back."""
        values, errors, ran = outcomes
        failures = {number: value.error if isinstance(value, Err) else None for number, value in values.items()}
        for number, error in (failures | errors).items():
            index, item = entries[number]
            watch.ran(index - self.run.offset, item, ran.get(number), error)
