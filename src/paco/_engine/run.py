"""THE scheduler: recycled workers run an async function over a source, under a limit.

A run has at most ``limit`` worker tasks. A worker takes the next item, awaits the function, stores the result and goes
on: no semaphore, no queue, no task per item. An item cannot tell a recycled worker from a fresh task, because a worker
whose item has left a mark (a context variable, a cancellation, another name) retires and a fresh one takes its slot.

`Run.work` is the hot path. All that is not the running of an item (yielding to the loop, backpressure, waiting for an
async source, waking the consumer) is behind one comparison, ``started >= attention``, in `Run.ready`.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterable, Awaitable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.check import shorten, title
from paco._base.errors import as_item_error, not_awaitable, trim
from paco._engine.nursery import Nursery
from paco._engine.outcomes import settled
from paco._engine.source import Calls, Reader, Upstream, close
from paco._engine.time_slice import Pace, give_way
from paco._engine.workers import Crew

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from paco._base.types import OnError
    from paco._engine.outcomes import Outcome
    from paco._engine.sinks import Collector, InOrder, Sink
    from paco._engine.watch import Watch
    from paco._engine.workers import Admitting

#: Items of an async source that are read ahead, at most: without a limit as many are wanted as there are.
_LEAD: Final = 64
_UNWATCHED: Final = nullcontext()


class Run(Nursery):
    """One run of a function over a source: `start`, then `join`, or `next` for each result of a stream.

    Args:
        name: The operation, for messages: ``map``.
        fn: Called with each item; what it returns is awaited.
        source: A checked source of items.
        sink: Where the results go.
        limit: Items in flight at most, 0 for no limit.
        timeout: Seconds for the whole run, or ``None``.
        on_error: What becomes of an item's ``Exception``.
        offset: How many results the sink holds already.
        watch: Tells listeners; ``None`` where nobody listens.
        admission: Says who may start next; ``None`` where the limit is a number.
    """

    __slots__ = (
        "_consumer",
        "_on_error",
        "_parked",
        "_source",
        "admission",
        "attention",
        "crew",
        "exhausted",
        "fn",
        "freed",
        "hungry",
        "items",
        "lead",
        "offset",
        "pace",
        "reader",
        "sink",
        "started",
        "stopped",
        "watch",
    )

    def __init__(
        self,
        name: str,
        fn: Callable[[Any], Awaitable[Any]],
        source: Any,
        sink: Sink,
        *,
        limit: int,
        timeout: float | None,
        on_error: OnError,
        offset: int,
        watch: Watch | None = None,
        admission: Admitting | None = None,
    ) -> None:
        super().__init__(name, timeout)
        if not isinstance(source, Calls):
            self.title += f" {title(fn)}"
        #: The workers, and their slots.
        self.crew: Crew = Crew(limit or sys.maxsize)
        #: Says who may start next, where that is not a matter of slots.
        self.admission: Admitting | None = admission
        #: Who is told what happens, if anybody listens.
        self.watch: Watch | None = watch
        #: Called with each item.
        self.fn: Any = fn
        self._source: Any = source
        #: An iterator over the items.
        self.items: Any = None
        #: What reads the source, if it is an async one.
        self.reader: Reader | None = None
        #: Where the results go.
        self.sink: Sink = sink
        self._on_error = on_error
        #: How many results came before the first item.
        self.offset: int = offset
        #: The index of the next item.
        self.started: int = offset
        #: When as many items have been started, a worker asks before it takes another.
        self.attention: int = -1
        #: Whether there are no more items.
        self.exhausted: bool = False
        #: Whether it ended before its items did.
        self.stopped: bool = False
        #: Items of an async source that are read ahead, at most.
        self.lead: int = _LEAD if admission is None else admission.lead
        #: Called when a worker has ended.
        self.freed: Callable[[], None] | None = None
        #: How long the items hold the loop.
        self.pace: Pace = Pace(offset)
        self._consumer: asyncio.Future[None] | None = None
        self._parked: deque[asyncio.Future[None]] = deque()  # the workers that wait for room or for an item
        #: Whether a consumer that takes a result shall call `release`, for workers that wait for room.
        self.hungry: bool = False

    # ---- starting

    def start(self) -> None:
        """Start in the running loop: one worker, and more as they turn out to be useful."""
        with _UNWATCHED if self.watch is None else self.watch.starting(self):
            source = self._source
            read = isinstance(source, AsyncIterable | Awaitable)
            if isinstance(source, Upstream):
                source.feeds(self.fail)
            if not read:
                self.items = iter(self._source)
            if not self.enter():
                return
            self.crew.begin(self)
            if self.admission is not None:
                self.admission.begin(self)
            self.pace.begin(self.loop, batches=self.admission is None)
            if read:
                self.items = self.reader = Reader(source, self, self.loop)
                self.start_task(self.reader.read(), self.base.copy(), f"{self.title} reader")
            self.crew.spawn()
            self.crew.grow_soon()

    # ---- working

    async def work(self, context: contextvars.Context) -> None:  # noqa: C901 - a call costs for each item
        """Run items until there are no more: the hot path. See the module's docstring before you change it."""
        task: Any = asyncio.current_task(self.loop)
        cancelling, get_name, name = task.cancelling, task.get_name, task.get_name()
        fn, items, store, base, pace = self.fn, self.items, self.sink.store, self.base, self.pace
        turn = 0
        try:
            while turn := pace.seen if self.started < self.attention else await self.ready(turn):
                for item in items:
                    index = self.started
                    self.started = index + 1
                    try:
                        store[index] = await fn(item)
                    except BaseException as error:
                        if not self.item_failed(error, index, item):
                            return
                    try:
                        # Contexts compare by pointer while nothing has been set: tens of ns.
                        marked = context != base or cancelling() or get_name() is not name
                    except Exception:  # values that cannot be compared have been set
                        marked = True
                    if marked:
                        self.retire(task)
                        return
                    if self.started >= self.attention:
                        break
                else:
                    self.out_of_items()
                item = None  # not kept alive while this worker waits
        except BaseException as error:
            self.source_failed(error)
        finally:
            # The frames of a kept error lead back here: without this, it and the list that it is in would be a cycle.
            del self, store

    async def ready(self, last: int) -> int:
        """Wait until this worker may take an item: the number of the turn, 0 when there is no more work for it.

        A worker gives way to the loop when its run's share of the turn is used up, unless its item was suspended since
        the turn was its ``last``: a worker that was resumed in this turn always gets on a little, so none starves.
        Where items are slow, it does so in the next turn, when all that has come in has been dealt with: in batches
        both cost less, 7 % of the CPU of an HTTP request. Then one look at the clock is enough for a batch.
        """
        reader, pace = self.reader, self.pace
        turn = pace.turn
        if self._consumer is not None:
            self.notify()
        in_batches = pace.batches and pace.stride == 1
        if in_batches and last and last != turn.now:
            await give_way()
            last = 0  # it has waited
        while not (self.is_ending or self.exhausted or self.crew.one_too_many()):
            if last or not in_batches or pace.seen != turn.now:
                pace.look(self.started)
            if last == pace.seen and pace.used > turn.share:
                await self.crew.idling(give_way())
            elif self.started < (room := self.sink.room(self.started)) and (reader is None or reader.ready()):
                self.attention = min(self.started + pace.stride, room) if self._consumer is None else -1
                return pace.seen
            else:
                await self.crew.idling(self.park())
        return 0

    async def park(self) -> None:
        waiter = self.loop.create_future()
        self._parked.append(waiter)
        self.hungry = True
        if self.reader is not None:
            self.reader.wake()
        await waiter

    def unpark(self, count: int) -> None:
        while count > 0 and self._parked:
            waiter = self._parked.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    def retire(self, task: asyncio.Task[None]) -> None:
        """Give the slot of a worker that its item has left a mark on to a fresh task."""
        self.crew.vacate(task)
        self.notify()
        if not (self.exhausted or self.is_ending):
            self.crew.spawn()

    def out_of_items(self) -> None:
        if self.watch is not None:
            self.watch.out_of_items()
        self.attention = -1
        if self.reader is None or self.reader.ended:
            self.exhausted = True
            self.unpark(len(self._parked))
            if self.admission is not None:
                self.admission.exhausted()

    # ---- what the reader of an async source asks, and tells

    def wanted(self) -> int:
        """Return how many items could start now: the free slots, as far as the sink has room."""
        crew, room = self.crew, self.sink.room(self.started) - self.started
        free = crew.limit - len(crew.workers) + crew.idle if self.admission is None else self.admission.wanted()
        return min(free, room)

    def rests(self) -> None:
        """Have the consumer's next taking wake the reader: there may be no worker that waits for room."""
        self.hungry = True

    def supplied(self) -> None:
        """Have a worker take what was read, or hear of the end and tell the others."""
        if self._parked:
            self.unpark(1)
        else:
            self.crew.grow_soon()

    # ---- failing and ending

    def item_failed(self, error: BaseException, index: int, item: object) -> bool:
        """Sort out how an item ended; true when its worker may go on."""
        where = trim(error)
        if where is not None and isinstance(error, TypeError):
            error = not_awaitable(error, where, self.name, self.fn)
        position = f"item {index - self.offset}"
        if self._on_error == "collect":
            return self._collected(error, index)
        if self.is_ending:
            self._failure.late(error, position)
            return False
        self._leave_if_collected(error)
        error = as_item_error(error)
        if self._on_error == "return" and isinstance(error, Exception):
            self.sink.store[index] = error
            return True
        self.fail(error, f"{position}: {shorten(item)}")
        return False

    def _collected(self, error: BaseException, index: int) -> bool:
        """Hand an error to the sink; true when its worker may go on."""
        self._leave_if_collected(error)
        goes_on = cast("Collector", self.sink).failed(index, error if self.is_ending else as_item_error(error))
        if not (goes_on or self.is_ending):
            self.fail(as_item_error(error))  # whoever collects errors knows what to say of the item
        return goes_on and not self.is_ending

    def source_failed(self, error: BaseException) -> None:
        """End the run because the source raised, or because someone else cancelled a worker that waited."""
        trim(error)
        if self.is_ending:
            self._failure.late(error, "the source")
            return
        self._leave_if_collected(error)
        self.fail(as_item_error(error), f"its source, after {self.started - self.offset} items")

    def _leave_if_collected(self, error: BaseException) -> None:
        """Let a GeneratorExit pass that is not an item's: the loop is gone and this coroutine is being collected."""
        if isinstance(error, GeneratorExit) and asyncio.current_task(self.loop) is None:
            raise error

    def _task_failed(self, task: asyncio.Task[None], error: BaseException) -> None:
        if task in self.crew.workers:
            self.source_failed(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        super()._ended(task)
        if not self.done:
            self.crew.vacate(task)
        if self.freed is not None:
            self.freed()

    def outcomes(self) -> tuple[Outcome[Any, Any], ...]:
        return settled(self.sink.left())

    def fail(self, error: BaseException, note: str = "") -> None:
        if self.watch is not None and not (self.is_ending or self._abandoned):
            self.watch.failed(error)
        super().fail(error, note)

    def _stopping(self) -> None:
        self.stopped = True
        self.attention = -1
        self.sink.freeze()
        if self.admission is not None:
            self.admission.stop()

    def _finishing(self) -> None:
        with _UNWATCHED if self.watch is None else self.watch.ending():
            if self._consumer is not None and not self._consumer.done():
                self._consumer.set_result(None)
            if self.reader is not None:
                self._failure.late(self.reader.close(), "closing its source")
            close(self._source)
            close(self.items)
        # Each of them leads back here: the results would live on in a cycle until the collector runs.
        self.fn = self._source = self.items = self.reader = None
        self.crew.end()
        if self.admission is not None:
            self.admission.end()

    # ---- what the consumer of a stream asks

    def notify(self) -> None:
        consumer = self._consumer
        if consumer is not None and cast("InOrder", self.sink).ready():
            self._consumer = None
            if not consumer.done():
                consumer.set_result(None)

    async def next(self, sink: InOrder) -> bool:
        """Wait until the next result is there; false at the end. An error is raised when what came before is taken."""
        if self._consumer is not None:
            raise RuntimeError(f"paco.{self.name}: another task waits for the next result; a stream has one consumer")
        while not sink.ready():
            if self.done:
                await self.join()
                return False
            if self._parked:
                self._release()  # nothing is left to take before they go on
            self._consumer = self.loop.create_future()
            self.attention = -1
            try:
                await self._consumer
            except asyncio.CancelledError as error:
                self.stop()
                await self.join(error)
            finally:
                self._consumer = None
        return True

    def release(self) -> None:
        """Let workers that wait for room, or a consumer that waits for a result, look again in the next turn."""
        self.hungry = False
        self.loop.call_soon(self._release, context=self.base)

    def _release(self) -> None:
        self.notify()
        if self.exhausted or self.is_ending:
            return
        self.unpark(self.sink.room(self.started) - self.started)
        if self.reader is not None:
            self.reader.wake()
        self.hungry = bool(self._parked)
