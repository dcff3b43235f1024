"""THE scheduler: recycled workers run an async function over a source, under a limit.

A run has at most ``limit`` worker tasks. A worker takes the next item, awaits the function, stores the result and goes
on: no semaphore, no queue, no task per item. An item cannot tell a recycled worker from a fresh task, because a worker
whose item has left a mark (a context variable, a cancellation, another name) retires and a fresh one takes its slot.

`Run._work` is the hot path. All that is not the running of an item (yielding to the loop, backpressure, waiting for an
async source, waking the consumer) is behind one comparison, ``started >= attention``, in `Run._ready`.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterable, Awaitable
from operator import length_hint
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from paco._base.check import shorten, title
from paco._base.clock import own_clock
from paco._base.errors import as_item_error, not_awaitable, trim
from paco._engine.outcomes import settled
from paco._engine.source import Calls, Reader, Upstream, close
from paco._engine.time_slice import SLICE, Turn, give_way, turn_of
from paco._engine.workers import Crew

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from paco._engine.outcomes import Outcome
    from paco._engine.sinks import InOrder, Sink

#: Items between two looks at the clock, at most: 16 us of items that take 0.25 us.
_STRIDE: Final = 64
#: Seconds that an item holds the loop, at least, to be a slow one.
_SLOW: Final = 25e-6


class Run(Crew):
    """One run of a function over a source: `start`, then `join`, or `next` for each result of a stream.

    Args:
        name: The operation, for messages: ``map``.
        fn: Called with each item; what it returns is awaited.
        source: A checked source of items.
        sink: Where the results go.
        limit: Items in flight at most, 0 for no limit.
        timeout: Seconds for the whole run, or ``None``.
        catch: Whether an item's ``Exception`` is its result.
        offset: How many results the sink holds already.
    """

    __slots__ = (
        "_batches",
        "_catch",
        "_consumer",
        "_counted",
        "_fn",
        "_items",
        "_looked",
        "_offset",
        "_parked",
        "_reader",
        "_seen",
        "_since",
        "_sink",
        "_source",
        "_stride",
        "_turn",
        "hungry",
        "started",
    )

    _looked: float  # the time of the last look at the clock
    _since: float  # when the present turn began for this run
    _turn: Turn

    #: Items of an async source that are read ahead, at most.
    lead: ClassVar[int] = 64
    #: Whether slow items are started in batches.
    _in_batches: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        fn: Callable[[Any], Awaitable[Any]],
        source: Any,
        sink: Sink,
        *,
        limit: int,
        timeout: float | None,
        catch: bool,
        offset: int,
    ) -> None:
        super().__init__(name, limit or sys.maxsize, timeout)
        if not isinstance(source, Calls):
            self._title += f" {title(fn)}"
        self._fn: Any = fn
        self._source: Any = source
        self._items: Any = None
        self._reader: Reader | None = None
        self._sink = sink
        self._catch = catch
        self._offset = offset
        self.started: int = offset
        self._counted = offset  # how many items had been started at the last look at the clock
        self._stride = 2  # items between two looks at the clock: 1 where they have turned out to be slow
        self._seen = 0  # the turn of the last look at the clock
        self._consumer: asyncio.Future[None] | None = None
        self._parked: deque[asyncio.Future[None]] = deque()  # the workers that wait for room or for an item
        #: Whether a consumer that takes a result shall call `release`, for workers that wait for room.
        self.hungry: bool = False

    # ---- starting

    def start(self) -> None:
        """Start in the running loop: one worker, and more as they turn out to be useful."""
        source = self._source
        read = isinstance(source, AsyncIterable | Awaitable)
        if isinstance(source, Upstream):
            source.feeds(self.fail)
        if not read:
            self._items = iter(self._source)
        if not self.enter():
            return
        self._turn = turn_of(self._loop)
        self._batches = self._in_batches and not own_clock(self._loop)  # there, order must not depend on real time
        if read:
            self._items = self._reader = Reader(source, self, self._loop)
            self.start_task(self._reader.read(), self._base.copy(), f"{self._title} reader")
        self._spawn()
        self._grow_soon()

    def _useful(self) -> int:
        if self._reader is not None:
            self._reader.wake()
            return self._reader.waiting()
        # What a list and the like tell is true; others may say anything.
        items, workers = self._items, len(self._workers)
        return max(length_hint(items, workers) if type(items).__module__ == "builtins" else workers, 1)

    # ---- working

    async def _work(self, context: contextvars.Context) -> None:  # noqa: C901 - a call costs for each item
        """Run items until there are no more: the hot path. See the module's docstring before you change it."""
        task: Any = asyncio.current_task(self._loop)
        cancelling, get_name, name = task.cancelling, task.get_name, task.get_name()
        fn, items, store, base = self._fn, self._items, self._sink.store, self._base
        turn = 0
        try:
            while turn := self._seen if self.started < self._attention else await self._ready(turn):
                for item in items:
                    index = self.started
                    self.started = index + 1
                    try:
                        store[index] = await fn(item)
                    except BaseException as error:
                        if not self._item_failed(error, index, item):
                            return
                    try:
                        # Contexts compare by pointer while nothing has been set: tens of ns.
                        marked = context != base or cancelling() or get_name() is not name
                    except Exception:  # values that cannot be compared have been set
                        marked = True
                    if marked:
                        self._retire(task)
                        return
                    if self.started >= self._attention:
                        break
                else:
                    self._out_of_items()
                item = None  # not kept alive while this worker waits
        except BaseException as error:
            self._source_failed(error)
        finally:
            # The frames of a kept error lead back here: without this, it and the list that it is in would be a cycle.
            del self, store

    async def _ready(self, last: int) -> int:
        """Wait until this worker may take an item: the number of the turn, 0 when there is no more work for it.

        A worker gives way to the loop when its run's share of the turn is used up, unless its item was suspended since
        the turn was its ``last``: a worker that was resumed in this turn always gets on a little, so none starves.
        Where items are slow, it does so in the next turn, when all that has come in has been dealt with: in batches
        both cost less, 7 % of the CPU of an HTTP request. Then one look at the clock is enough for a batch.
        """
        reader, turn = self._reader, self._turn
        if self._consumer is not None:
            self._notify()
        in_batches = self._batches and self._stride == 1
        if in_batches and last and last != turn.now:
            await give_way()
            last = 0  # it has waited
        while not (self._ending or self.exhausted or self._one_too_many()):
            if last or not in_batches or self._seen != turn.now:
                self._look()
            if last == self._seen and self._looked - self._since > turn.share:
                await self._idling(give_way())
            elif self.started < (room := self._sink.room(self.started)) and (reader is None or reader.ready()):
                self._attention = min(self.started + self._stride, room) if self._consumer is None else -1
                return self._seen
            else:
                await self._idling(self._park())
        return 0

    def _look(self) -> None:
        """Look at the clock: from one look to the next in a turn, it tells how long an item holds the loop.

        From one turn to the next it tells how long at most: the loop may have waited.
        """
        now = perf_counter()
        number = self._turn.now or self._turn.begin(self._loop)
        begins = self._seen != number
        if begins:
            self._seen = number
            self._since = now
            self._turn.join()
        if count := self.started - self._counted:
            each = (now - self._looked) / count
            if each > _SLOW:
                self._stride = self._stride if begins else 1
            elif each * self._stride < SLICE / 8:
                self._stride = min(2 * self._stride, _STRIDE)
            elif each * self._stride > SLICE / 4:
                self._stride //= 2
        self._looked, self._counted = now, self.started

    async def _park(self) -> None:
        waiter = self._loop.create_future()
        self._parked.append(waiter)
        self.hungry = True
        if self._reader is not None:
            self._reader.wake()
        await waiter

    def _unpark(self, count: int) -> None:
        while count > 0 and self._parked:
            waiter = self._parked.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    def _retire(self, task: asyncio.Task[None]) -> None:
        """Give the slot of a worker that its item has left a mark on to a fresh task."""
        self._vacate(task)
        self._notify()
        if not (self.exhausted or self._ending):
            self._spawn()

    def _out_of_items(self) -> None:
        self._attention = -1
        if self._reader is None or self._reader.ended:
            self.exhausted = True
            self._unpark(len(self._parked))

    # ---- what the reader of an async source asks, and tells

    def wanted(self) -> int:
        """Return how many items could start now: the free slots, as far as the sink has room."""
        busy = len(self._workers) - self._idle
        return min(self._limit - busy, self._sink.room(self.started) - self.started)

    def rests(self) -> None:
        """Have the consumer's next taking wake the reader: there may be no worker that waits for room."""
        self.hungry = True

    def supplied(self) -> None:
        """Have a worker take what was read, or hear of the end and tell the others."""
        if self._parked:
            self._unpark(1)
        else:
            self._grow_soon()

    # ---- failing and ending

    def _item_failed(self, error: BaseException, index: int, item: object) -> bool:
        """Sort out how an item ended; true when its worker may go on."""
        where = trim(error)
        if where is not None and isinstance(error, TypeError):
            error = not_awaitable(error, where, self._name, self._fn)
        position = f"item {index - self._offset}"
        if self._ending:
            self._failure.late(error, position)
            return False
        self._leave_if_collected(error)
        error = as_item_error(error)
        if self._catch and isinstance(error, Exception):
            self._sink.store[index] = error
            return True
        self.fail(error, f"{position}: {shorten(item)}")
        return False

    def _source_failed(self, error: BaseException) -> None:
        """End the run because the source raised, or because someone else cancelled a worker that waited."""
        trim(error)
        if self._ending:
            self._failure.late(error, "the source")
            return
        self._leave_if_collected(error)
        self.fail(as_item_error(error), f"its source, after {self.started - self._offset} items")

    def _leave_if_collected(self, error: BaseException) -> None:
        """Let a GeneratorExit pass that is not an item's: the loop is gone and this coroutine is being collected."""
        if isinstance(error, GeneratorExit) and asyncio.current_task(self._loop) is None:
            raise error

    def _task_failed(self, task: asyncio.Task[None], error: BaseException) -> None:
        if task in self._workers:
            self._source_failed(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        super()._ended(task)
        self._vacate(task)

    def outcomes(self) -> tuple[Outcome[Any, Any], ...]:
        return settled(self._sink.left())

    def _stopping(self) -> None:
        self._attention = -1
        self._sink.freeze()

    def _finishing(self) -> None:
        if self._consumer is not None and not self._consumer.done():
            self._consumer.set_result(None)
        if self._reader is not None:
            self._failure.late(self._reader.close(), "closing its source")
        close(self._source)
        close(self._items)
        # Each of them leads back here: the results would live on in a cycle until the collector runs.
        self._fn = self._source = self._items = self._reader = None

    # ---- what the consumer of a stream asks

    def _notify(self) -> None:
        consumer = self._consumer
        if consumer is not None and cast("InOrder", self._sink).ready():
            self._consumer = None
            if not consumer.done():
                consumer.set_result(None)

    async def next(self, sink: InOrder) -> bool:
        """Wait until the next result is there; false at the end. An error is raised when what came before is taken."""
        if self._consumer is not None:
            raise RuntimeError(f"paco.{self._name}: another task waits for the next result; a stream has one consumer")
        while not sink.ready():
            if self.done:
                await self.join()
                return False
            if self._parked:
                self._release()  # nothing is left to take before they go on
            self._consumer = self._loop.create_future()
            self._attention = -1
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
        self._loop.call_soon(self._release, context=self._base)

    def _release(self) -> None:
        self._notify()
        if self.exhausted or self._ending:
            return
        self._unpark(self._sink.room(self.started) - self.started)
        if self._reader is not None:
            self._reader.wake()
        self.hungry = bool(self._parked)
