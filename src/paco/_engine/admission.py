"""The same run under a limit object: an item is taken, gets a permit, runs, and gives the permit back.

The hot loop of `run.py` knows nothing of it: a number stays as fast as it is. Workers are recycled here as well,
but one of them at a time stands at the *gate*: it waits for room, takes an item, and waits for the limit to let that
start; then the next one may. So one item is taken ahead, no permit is asked for an item that does not come, and first
come is first served. Under a limit that looks at items, some more may wait for their permits, outside of the gate.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.check import discard
from paco._base.errors import trim
from paco._engine.run import Run
from paco._engine.sinks import InOrder
from paco.limits._base import Holder, holder

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable

    from paco._engine.sinks import Sink
    from paco.limits import Limiter

#: Workers that are woken for one turn of the loop at most, when each of those before has found an item and a permit.
_BURST: Final = 64
#: So many items may rest before nothing more starts, under a limit that does not count.
_RESTING: Final = 1000


class Start:
    """An item that has been taken, and then its permit."""

    __slots__ = ("item", "number", "permit", "turn")

    permit: Any

    def __init__(self, number: int, item: Any, turn: int) -> None:
        self.number = number
        self.item = item
        self.turn = turn


class Paced(Run):
    """A `Run` under a limit object.

    Args:
        name: As of `Run`, like ``fn``, ``source``, ``sink`` and the ``options``.
        fn: Called with each item.
        source: A checked source of items.
        sink: Where the results go.
        limit: The limit.
        buffer: Finished results that may wait for a consumer; ``None`` for as many as have been in flight at once.
        options: The others.
    """

    __slots__ = (
        "_ahead",
        "_at_gate",
        "_buffer",
        "_burst",
        "_could_run",
        "_held",
        "_limiter",
        "_off_duty",
        "_peak",
        "_permits",
        "_store",
        "_waiting",
    )

    _in_batches = False  # they come out of the gate one by one

    def __init__(
        self,
        name: str,
        fn: Callable[[Any], Awaitable[Any]],
        source: Any,
        sink: Sink,
        *,
        limit: Limiter,
        buffer: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, fn, source, sink, limit=0, **options)
        self._limiter = limit
        self._ahead = max(limit.lookahead, 1)
        self._held = 0  # items that have been taken and wait for their permit
        self._buffer = buffer
        self._waiting = sink if isinstance(sink, InOrder) else None  # the results that wait for a consumer
        self._peak = 0  # items that have been in flight at once
        self._store = sink.store  # what is stored in it when the run has ended early, nobody sees
        self._permits: dict[asyncio.Task[None], Start] = {}  # what runs, by its worker
        self._at_gate = False
        self._burst = 1
        self._could_run = 0  # how many could run at once, at most, while the present ones went to rest
        self._off_duty: list[asyncio.Future[None]] = []  # workers that wait for the gate; the last is next

    # ---- growing

    def _grow(self) -> None:
        """Send workers to the gate, unless one is there: twice as many as the last time, if those have all got on."""
        self._growing = False
        if self._at_gate or self.exhausted or self._ending:
            self._burst = 1
            return
        if self._reader is not None:
            self._reader.wake()
        for _ in range(min(self._burst, self._limiter.free)):
            if not self._call_one():
                self._spawn()
        self._burst = min(2 * self._burst, _BURST)

    def _call_one(self) -> bool:
        while self._off_duty:
            waiter = self._off_duty.pop()
            if not waiter.done():
                waiter.set_result(None)
                return True
        return False

    def wanted(self) -> int:
        """Return how many more items may be taken now."""
        return min(self._ahead - self._held, self._sink.room(self.started) - self.started)

    def _out_of_items(self) -> None:
        super()._out_of_items()
        while self.exhausted and self._call_one():
            pass  # each hears of the end

    # ---- working

    async def _work(self, context: contextvars.Context) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task(self._loop))
        name = task.get_name()
        holder.set(Holder(holder.get()))
        base = context.copy()
        turn = 0
        try:
            while (start := await self._admit(turn)) is not None:
                turn = start.turn
                if not await self._run_one(task, start):
                    return
                start = None  # the item is not kept alive while this worker waits
                try:
                    marked = context != base or task.cancelling() or task.get_name() is not name
                except Exception:  # values that cannot be compared have been set
                    marked = True
                if marked:
                    self._retire(task)
                    return
        except BaseException as error:
            self._source_failed(error)
        finally:
            del self

    async def _run_one(self, task: asyncio.Task[None], start: Start) -> bool:
        """Run an item; true when its worker may go on."""
        failed: BaseException | None = None
        try:
            start.permit = await self._permit(start.item)
            self._permits[task] = start
            self._store[start.number] = await self._fn(start.item)
        except BaseException as error:
            failed = error
        try:
            if task in self._permits:
                del self._permits[task]
                try:
                    released = self._give_back(start.permit, failed)
                    if released is not None:
                        await self._heard(released)
                except Exception:
                    released = None  # it has been told; what has become of the item is to be told as well
            return failed is None or self._item_failed(failed, start.number, start.item)
        finally:
            del self, failed, start  # the frames of an error that is kept lead back here

    async def _permit(self, item: Any) -> Any:
        """Wait for the permit of an item that has been taken.

        What a limit says that looks at the item is an error of that item; another limit fails for all.
        """
        try:
            permit = await self._limiter.reserve(item)
            self._limiter.begin(permit)
        except Exception as failed:
            if not self._limiter.lookahead:
                self._limit_failed(failed)
            raise
        finally:
            self._held -= 1
            if self._ahead == 1:
                self._leave_gate()
            self._unpark(1)
        return permit

    def _give_back(self, permit: Any, error: BaseException | None) -> Awaitable[None] | None:
        """Tell the limit how an item has ended."""
        try:
            released = self._limiter.release(permit, error)
        except Exception as failed:
            self._limit_failed(failed)
            raise
        if isinstance(error, GeneratorExit) and asyncio.current_task(self._loop) is None:
            discard(released)  # the loop is gone: there is nobody to wait
            return None
        return released

    async def _heard(self, released: Awaitable[None]) -> None:
        try:
            await released
        except Exception as failed:
            self._limit_failed(failed)
            raise

    def _limit_failed(self, error: Exception) -> None:
        trim(error)
        self.fail(error, "its limit")

    # ---- the gate

    async def _admit(self, turn: int) -> Start | None:
        """Wait for this worker's turn at the gate, and there for an item that may start, if there is one."""
        self._notify()
        if self._resting:
            self._unpark(1)  # whoever is at the gate may have waited for this item to end
        while self._at_gate and not (self.exhausted or self._ending):
            await self._idling(self._wait_for_turn())
        if self._ending or self.exhausted:
            return None
        self._at_gate = True
        start: Start | None = None
        try:
            start = await self._next(turn)
        finally:
            if start is None or self._ahead > 1:
                self._leave_gate()  # else it waits there for its permit
        return start

    def _leave_gate(self) -> None:
        self._at_gate = False
        if not self._loop.is_closed():  # it is when this coroutine is being collected
            self._grow_soon()

    async def _next(self, turn: int) -> Start | None:
        """Wait for room and for an item, and take it."""
        while turn := await self._ready(turn):
            if self._held >= self._ahead or (self._resting and self._too_many_rest()):
                await self._idling(self._park())
            elif start := self._take(turn):
                return start
        return None

    async def _wait_for_turn(self) -> None:
        waiter = self._loop.create_future()
        self._off_duty.append(waiter)
        await waiter

    def _take(self, turn: int) -> Start | None:
        for item in self._items:
            number = self.started
            self.started = number + 1
            self._held += 1
            self._follow()
            return Start(number, item, turn)
        self._out_of_items()
        return None

    def _follow(self) -> None:
        """Let as many results wait for a slow consumer as items have been in flight at once."""
        self._peak = max(self._peak, len(self._permits) + 1)
        if self._waiting is not None and self._buffer is None:
            self._waiting.most = self._peak

    # ---- giving the permit away, and taking one again

    async def rest(self, task: asyncio.Task[None], seconds: float, error: BaseException) -> None:
        if task not in self._permits:
            await asyncio.sleep(seconds)
            return
        start = self._permits.pop(task)
        self._could_run = max(self._limiter.most, self._could_run if self._resting else 0)
        self._resting += 1
        try:
            released = self._give_back(start.permit, error)
            if released is not None:
                await self._heard(released)
            await asyncio.sleep(seconds)
            start.permit = await self._limiter.acquire(start.item)
            self._permits[task] = start
        finally:
            self._resting -= 1
            self._unpark(1)
            del error  # its frames may lead back here

    def _too_many_rest(self) -> bool:
        """Say whether nothing new may start: all who rest come back, so that memory is bounded by their number.

        They have no permit, so that every attempt takes a new one; as many may rest as run, or could have run when they
        began to rest, and no more begin.
        """
        most = min(max(self._limiter.most, self._could_run), _RESTING)
        return self._resting >= most and self._resting + len(self._permits) >= 2 * most
