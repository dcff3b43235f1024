"""The only scheduler: recycled worker tasks run an async function over a source, under a limit.

A run has at most ``limit`` workers. A worker takes the next item, awaits the function, stores the result and continues:
there is no semaphore, no queue, and no task per item. If an item leaves a trace on its worker (a context variable, a
cancellation, a task name), a new worker takes its slot, so that no item can tell a recycled worker from a new task.

`Scheduler.work` is the hot path. Everything else (yielding to the loop, backpressure, waiting for an async source,
waking the consumer) happens in `Scheduler.ready`, behind a single comparison: ``started >= attention``.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterable, Awaitable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.check import title
from paco._engine.failure import item_failed, source_failed
from paco._engine.nursery import Nursery
from paco._engine.outcomes import settled
from paco._engine.reader import LEAD, Reader
from paco._engine.sinks import SKIP
from paco._engine.source import Calls, close, upstream_of
from paco._engine.workers import Pace, WorkerPool, give_way

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from paco._base.types import OnError
    from paco._engine.outcomes import Outcome
    from paco._engine.sinks import InOrder, Sink
    from paco._engine.watch import Watch
    from paco._engine.workers import Admitting

_UNWATCHED: Final = nullcontext()


class Scheduler(Nursery):
    """One run of a function over a source: call `start`, then `join`, or `take` for each result of a stream.

    Args:
        name: The operation, for messages: ``map``.
        source: A checked source of items.
        limit: The maximum number of items in flight; 0 for no limit.
        timeout: Seconds for the whole run; ``None`` for no limit.
        ahead: The number of items to read from an async source before there are slots for them.
        offset: The number of results that the sink already holds, which precede those of the items.
        watch: Notifies listeners; ``None`` if there are none.
        admission: Decides when items start; ``None`` if the limit is a number.
    """

    # A dict beside the slots of the base would make a plain run a third dearer on Python 3.13.
    __slots__ = (
        "_ahead",
        "_source",
        "admission",
        "attention",
        "due",
        "exhausted",
        "fn",
        "hungry",
        "items",
        "left",
        "offset",
        "on_error",
        "pace",
        "parked",
        "pool",
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
        ahead: int = 0,
        watch: Watch | None = None,
        admission: Admitting | None = None,
    ) -> None:
        function = watch.view.function if watch is not None else "" if isinstance(source, Calls) else title(fn)
        super().__init__(name, timeout, function)
        #: The workers, and their slots.
        self.pool: WorkerPool = WorkerPool(limit or sys.maxsize)
        self.admission: Admitting | None = admission
        self.watch: Watch | None = watch
        self.fn: Any = fn
        self._source: Any = source
        self.items: Any = None
        #: The rest of the source, if `end_source` has cut it off.
        self.left: Any = None
        self.reader: Reader | None = None
        self.sink: Sink = sink
        self.on_error: OnError = on_error
        self._ahead = ahead
        self.offset: int = offset
        #: The index of the next item.
        self.started: int = offset
        #: The index from which on a worker calls `ready` before it takes an item.
        self.attention: int = -1
        #: The index from which on a worker reads the clock before it takes an item.
        self.due: int = -1
        #: Whether the source has no more items.
        self.exhausted: bool = False
        #: Whether the run is ending before all items have run.
        self.stopped: bool = False
        #: Workers that wait for room or for an item.
        self.parked: deque[asyncio.Future[None]] = deque()
        #: Whether the consumer must call `release` after it takes a result, because workers wait for room.
        self.hungry: bool = False

    def start(self) -> None:
        """Start in the running loop with one worker; more start as they become useful."""
        with _UNWATCHED if self.watch is None else self.watch.starting(self):
            read = isinstance(source := self._source, AsyncIterable | Awaitable)
            if (upstream := upstream_of(self._source)) is not None:
                upstream.feeds(self)
            if not read:
                self.items = iter(self._source)
            if not self.enter():
                return
            if read:
                self.items = self.reader = Reader(source, self, self._ahead)
                context = self.base.copy()
                if self.watch is not None:
                    context.run(self.watch.reads)
                self.reader.start(context)
            self.pace: Pace = Pace(self.loop, self.offset)
            self.pool.run = self
            if self.admission is not None:
                self.admission.attach(self)
            self.pool.spawn()
            self.pool.grow_soon()

    # ---- working

    async def work(self, context: contextvars.Context) -> None:  # noqa: C901 - a call costs for each item
        """Run items until none are left. This is the hot path: read the module's docstring before you change it."""
        task: Any = asyncio.current_task(self.loop)
        cancelling, get_name, name = task.cancelling, task.get_name, task.get_name()
        fn, items, store, base, pace = self.fn, self.items, self.sink.store, self.base, self.pace
        turn = 0
        try:
            while turn := pace.seen if self.started < self.attention else self.at_once(turn) or await self.ready(turn):
                for item in items:
                    index = self.started
                    self.started = index + 1
                    try:
                        store[index] = await fn(item)
                    except BaseException as error:
                        if not item_failed(self, error, index, item):
                            return
                    try:
                        # Contexts that nothing was set in compare by pointer, in tens of nanoseconds.
                        marked = context != base or cancelling() or get_name() is not name
                    except Exception:  # an item has set a value that cannot be compared
                        marked = True
                    if marked:
                        self.pool.retire(task)
                        return
                    if self.started >= self.attention:
                        break
                else:
                    self.out_of_items()
                item = None  # so that the item is not kept alive while this worker waits
        except BaseException as error:
            source_failed(self, error)
        finally:
            # A kept error refers to this frame. What holds the error would be in a reference cycle: the store, or the
            # object whose method the function is.
            del self, store, fn

    def at_once(self, last: int) -> int:
        """Return what `ready` returns if a worker may take an item at once, otherwise 0.

        It reads the clock once for each stride of items.
        """
        if self.consumer is not None:
            self.notify()
        started, reader, pace, pool = self.started, self.reader, self.pace, self.pool
        if self.is_ending or self.exhausted or pool.returning or len(pool.workers) > pool.limit:
            return 0
        if started >= self.due:
            if pace.in_batches and last and last != pace.turn.now:
                return 0
            if last or not pace.in_batches or pace.seen != pace.turn.now:
                pace.look(started)
            if last == pace.seen and pace.used > pace.turn.share:
                return 0
            self.due = started + pace.stride
        sink: Any = self.sink
        if (reader is not None and not reader.ready()) or started >= (room := sink.room(started)):
            return 0
        self.attention = min(self.due, room) if self.consumer is None or sink.late or sink.wakes else -1
        return pace.seen

    async def ready(self, last: int) -> int:
        """Wait until a worker may take an item, after `at_once` returned 0; return the turn, or 0 if it must end.

        A worker yields to the loop when its run has used up its share of the turn, unless its ``last`` turn was an
        earlier one: a resumed worker always runs one more item, so none starves. If items are slow, it takes the next
        item in the next turn, after all arrived results were handled; batches save 7% of the CPU of an HTTP request.
        """
        pace, pool, turn = self.pace, self.pool, 0
        if pace.in_batches and last and last != pace.turn.now:
            await give_way()
            last = 0  # it has waited
            turn = self.at_once(last)
        while not turn:
            if self.is_ending or self.exhausted:
                break
            if pool.returning or len(pool.workers) > pool.limit:  # a resting item gets the slot of this worker back
                pool.vacate(cast("asyncio.Task[None]", asyncio.current_task(self.loop)))
                break
            pool.idles()
            try:
                if self.started >= self.due:
                    await give_way()
                    last = 0
                else:
                    await self.park()
            finally:
                pool.idle -= 1
            pool.resumes()
            turn = self.at_once(last)
        return turn

    def park(self) -> asyncio.Future[None]:
        """Return a future that is resolved when there may be room or an item."""
        waiter: asyncio.Future[None] = asyncio.Future(loop=self.loop)  # `Future[None](…)` takes twice as long
        self.parked.append(waiter)
        self.hungry = True
        reader = self.reader
        if reader is not None and reader.parked is not None:
            reader.wake()
        return waiter

    def unpark(self, count: int) -> None:
        while count > 0 and self.parked:
            waiter = self.parked[0]  # removed when it is woken: a KeyboardInterrupt between must not lose it
            if not waiter.done():
                waiter.set_result(None)
                count -= 1
            self.parked.popleft()

    def out_of_items(self) -> None:
        if self.watch is not None:
            self.watch.source_changed()
        self.attention = -1
        if self.reader is None or self.reader.ended:
            self.exhausted = True
            if self.parked:
                self.unpark(len(self.parked))
            if self.admission is not None:
                self.admission.exhausted()

    # ---- for the reader of an async source

    def wanted(self) -> int:
        """Return the number of items that could start now: the free slots, but no more than the sink has room for."""
        pool, room = self.pool, self.sink.room(self.started) - self.started
        if self.admission is not None:
            return min(self.admission.wanted(), room)
        return min(pool.limit - len(pool.workers) + pool.idle, room, LEAD)

    def supplied(self, count: int = 1) -> None:
        """Have workers take the items that were read, or one of them handle the end of the source."""
        if self.parked:
            self.unpark(count)
        else:
            self.pool.grow_soon()

    # ---- failing and ending

    def _task_failed(self, task: asyncio.Task[None], error: BaseException) -> None:
        if task in self.pool.workers:
            source_failed(self, error)

    def _task_left(self, task: asyncio.Task[None]) -> None:
        self.pool.vacate(task)

    def outcomes(self) -> tuple[Outcome[Any, Any], ...]:
        return settled(self.sink.left())

    def fail(self, error: BaseException, note: str = "") -> None:
        if self.watch is not None and not (self.is_ending or self._abandoned):
            self.watch.error = error
        super().fail(error, note)

    def _stopping(self) -> None:
        self.stopped = True
        self.attention = -1
        self.sink.freeze()
        if self.admission is not None:
            self.admission.stop()

    def _finishing(self) -> None:
        try:
            with _UNWATCHED if self.watch is None else self.watch.ending():
                if self.reader is not None:
                    self.late(self.reader.close(), "closing its source")
                if self.stopped or self.left is not None:
                    for source in (self._source, self.items, self.left):
                        close(source)
        finally:
            # Each of these refers back to the run. The cycle would keep the results alive until garbage collection.
            self.fn = self._source = self.items = self.left = self.reader = None
            self.pool.run = None
            if self.admission is not None:
                self.admission.detach()

    # ---- who waits for whom

    def awaited(self) -> list[asyncio.Future[Any]]:
        if not (self.exhausted or self.is_ending) and self.wanted() > 0:
            return []  # another item may start, and end what they wait for
        return super().awaited() if self.consumer is None else [*super().awaited(), self.consumer]

    def is_idle(self, task: asyncio.Task[None]) -> bool:
        waiter: Any = getattr(task, "_fut_waiter", None)
        rests = self.reader is not None and waiter is self.reader.parked
        return rests or waiter in self.parked or waiter in getattr(self.admission, "_off_duty", ())

    # ---- for the consumer of a stream

    def notify(self) -> None:
        """Wake the consumer if the next result is available."""
        sink: Any = self.sink  # cast() would take 40 ns
        consumer = self.consumer
        if consumer is not None and sink.ready():
            if not consumer.done():
                consumer.set_result(None)
            self.consumer = None

    def has_result(self) -> bool:
        """Return whether the next result is available."""
        return cast("InOrder", self.sink).ready()

    def take(self) -> Any:
        """Take the next result that is not `SKIP`; return `NOTHING` if that needs waiting."""
        sink: Any = self.sink
        while (result := sink.take()) is SKIP:
            pass
        if self.hungry:
            self.release()
        return result

    def until_result(self) -> asyncio.Future[None]:
        """Return a future that is resolved when `take`, which has found nothing, may find a result, or at the end.

        The run continues if the wait is cancelled, for example by a timeout: the consumer may wait again.
        """
        if self.consumer is not None and not self.consumer.done():
            raise RuntimeError(f"paco.{self.name}: another task waits for the next result; a stream has one consumer")
        if self.parked:
            self._release()  # the consumer has taken everything, so there is room
        waiter: asyncio.Future[None] = asyncio.Future(loop=self.loop)
        self.consumer = waiter
        sink: Any = self.sink
        self.attention = self.attention if sink.late or sink.wakes else -1
        if self.reader is not None and self.reader.heeds:
            self.reader.starves()
        return waiter

    def release(self) -> None:
        """In the next turn, wake the workers that wait for room, and a consumer whose result is available."""
        self.hungry = False
        self.loop.call_soon(self._release, context=self.base)

    def _release(self) -> None:
        self.notify()
        if self.exhausted or self.is_ending:
            return
        self.unpark(self.sink.room(self.started) - self.started)
        if self.reader is not None:
            self.reader.wake()
        self.hungry = bool(self.parked)
