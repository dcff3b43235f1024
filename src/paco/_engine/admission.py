"""Who may start next under a limit object: an item is taken, gets a permit, runs, and gives the permit back.

The hot loop of `run.py` knows nothing of it: a number stays as fast as it is. Workers are recycled here too, but one
of them at a time stands at the *gate*: it waits for room, takes an item, and waits for the limit to let that start;
then the next one may. So one item is taken ahead, no permit is asked for an item that does not come, and first come is
first served. Under a limit that looks at items, some more may wait for their permits, outside of the gate.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from paco._base.check import discard
from paco._base.errors import trim
from paco._base.item import Item, inside
from paco._engine.sinks import InOrder

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable

    from paco._base.item import WorkerTask
    from paco._engine.run import Run
    from paco._engine.sinks import Sink
    from paco.limits import Limiter

#: Workers that are woken for one turn of the loop at most, when each of those before has found an item and a permit.
_BURST: Final = 64
#: Items of an async source that are read ahead, at most, however many the limit looks at.
_LEAD: Final = 64
#: So many items may rest before nothing more starts, under a limit that does not count.
_RESTING: Final = 1000


class Admission:
    """Lets the items of a run start when a limit object does.

    Args:
        limit: The limit.
        sink: Where the results go.
        buffer: Finished results that may wait for a consumer; ``None`` for as many as have been in flight at once.
    """

    __slots__ = (
        "_ahead",
        "_at_gate",
        "_burst",
        "_could_run",
        "_limiter",
        "_off_duty",
        "_peak",
        "_run",
        "_running",
        "_store",
        "_waiting",
        "held",
        "lead",
        "role",
    )

    def __init__(self, limit: Limiter, sink: Sink, buffer: int | None = None) -> None:
        self._limiter = limit
        self._ahead = max(limit.lookahead, 1)
        self.held: int = 0
        self.lead: int = _LEAD
        self.role: str = "worker"
        self._waiting = sink if isinstance(sink, InOrder) and buffer is None else None
        self._store = sink.store  # what is stored in it when the run has ended early, nobody sees
        self._running = 0  # items that have their permits
        self._peak = 0  # items that have been in flight at once
        self._at_gate = False
        self._burst = 1
        self._could_run = 0  # how many could run at once, at most, while the present ones went to rest
        self._off_duty: list[asyncio.Future[None]] = []  # workers that wait for the gate; the last is next
        self._run: Any = None  # while there is one: it leads to here

    def begin(self, run: Run) -> None:
        self._run = run

    def stop(self) -> None:
        """Do nothing: the workers are cancelled, and wait for their permits no longer."""

    def end(self) -> None:
        self._run = None

    # ---- growing

    def grow(self) -> None:
        """Send workers to the gate, unless one is there: twice as many as the last time, if those have all got on."""
        run: Run = self._run
        if self._at_gate:
            self._burst = 1
            return
        if run.reader is not None:
            run.reader.wake()
        for _ in range(min(self._burst, self._limiter.free)):
            if not self._call_one():
                run.crew.spawn()
        self._burst = min(2 * self._burst, _BURST)

    def _call_one(self) -> bool:
        while self._off_duty:
            waiter = self._off_duty.pop()
            if not waiter.done():
                waiter.set_result(None)
                return True
        return False

    def wanted(self) -> int:
        return self._ahead - self.held

    def exhausted(self) -> None:
        """Have each worker that waits for the gate end."""
        while self._call_one():
            pass

    # ---- working

    async def work(self, context: contextvars.Context) -> None:
        run: Run = self._run
        task: Any = asyncio.current_task(run.loop)
        name, around, turn = task.get_name(), inside.get(), 0
        try:
            while (item := await self._admit(turn)) is not None:
                turn = run.pace.seen
                task.item, item.parent = item, around
                inside.set(item)
                base = context.copy()
                if not await self._run_one(run, item):
                    return
                task.item = item.value = None  # the item is not kept alive while this worker waits
                try:
                    marked = context != base or task.cancelling() or task.get_name() is not name
                except Exception:  # values that cannot be compared have been set
                    marked = True
                if marked:
                    run.retire(task)
                    return
        except BaseException as error:
            run.source_failed(error)
        finally:
            del self, run

    async def _run_one(self, run: Run, item: Item) -> bool:
        """Run an item; true when its worker may go on."""
        failed: BaseException | None = None
        try:
            await self._permit(item)
            self._store[item.index] = await run.fn(item.value)
        except BaseException as error:
            failed = error
        try:
            if item.permitted:
                try:
                    released = self._give_back(item, failed)
                    if released is not None:
                        await self._heard(released)
                except Exception:
                    released = None  # it has been told; what has become of the item is to be told as well
            return failed is None or run.item_failed(failed, item.index, item.value)
        finally:
            del self, run, failed, item  # the frames of an error that is kept lead back here

    async def _permit(self, item: Item) -> None:
        """Wait for the permit of an item that has been taken, if there is none at once.

        What a limit says that looks at the item is an error of that item; another limit fails for all.
        """
        try:
            permit = self._limiter.try_reserve(item.value)
            if permit is None:
                permit = await self._limiter.reserve(item.value)
            self._limiter.begin(permit)
        except Exception as failed:
            if not self._limiter.lookahead:
                self._limit_failed(failed)
            raise
        finally:
            self.held -= 1
            if self._ahead == 1:
                self._leave_gate()
            self._run.unpark(1)
        self._hold(item, permit)

    def _hold(self, item: Item, permit: Any) -> None:
        item.permit, item.permitted = permit, True
        self._running += 1

    def _give_back(self, item: Item, error: BaseException | None) -> Awaitable[None] | None:
        """Tell the limit how an item has ended; what it returns is to be awaited."""
        permit, item.permit, item.permitted = item.permit, None, False
        self._running -= 1
        try:
            released = self._limiter.release(permit, error)
        except Exception as failed:
            self._limit_failed(failed)
            raise
        if isinstance(error, GeneratorExit) and asyncio.current_task(self._run.loop) is None:
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
        self._run.fail(error, "its limit")

    # ---- the gate

    async def _admit(self, turn: int) -> Item | None:
        """Wait for this worker's turn at the gate, and there for an item that may start, if there is one."""
        run: Run = self._run
        run.notify()
        if run.crew.resting:
            run.unpark(1)  # whoever is at the gate may have waited for this item to end
        while self._at_gate and not (run.exhausted or run.is_ending):
            await run.crew.idling(self._wait_for_turn())
        if run.is_ending or run.exhausted:
            return None
        self._at_gate = True
        item: Item | None = None
        try:
            item = await self._next(run, turn)
        finally:
            if item is None or self._ahead > 1:
                self._leave_gate()  # else it waits there for its permit
        return item

    def _leave_gate(self) -> None:
        self._at_gate = False
        if not self._run.loop.is_closed():  # it is when this coroutine is being collected
            self._run.crew.grow_soon()

    async def _next(self, run: Run, turn: int) -> Item | None:
        """Wait for room and for an item, and take it."""
        while turn := await run.ready(turn):
            if self.held >= self._ahead or (run.crew.resting and self._too_many_rest()):
                await run.crew.idling(run.park())
            elif item := self._take(run):
                return item
        return None

    async def _wait_for_turn(self) -> None:
        waiter = self._run.loop.create_future()
        self._off_duty.append(waiter)
        await waiter

    def _take(self, run: Run) -> Item | None:
        for value in run.items:
            item = Item(value, run.started)
            run.started += 1
            self.held += 1
            if self._waiting is not None:
                # As many results wait for a slow consumer as items have been in flight at once.
                self._waiting.most = self._peak = max(self._peak, self._running + 1)
            if run.watch is not None:
                run.watch.took()
            return item
        run.out_of_items()
        return None

    # ---- giving the permit away, and taking one again

    async def rest(self, task: WorkerTask, seconds: float, error: BaseException) -> None:
        item = task.item
        if item is None or not item.permitted:
            await asyncio.sleep(seconds)
            return
        run: Run = self._run
        self._could_run = max(self._limiter.most, self._could_run if run.crew.resting else 0)
        run.crew.resting += 1
        try:
            released = self._give_back(item, error)
            if released is not None:
                await self._heard(released)
            await asyncio.sleep(seconds)
            permit = self._limiter.try_acquire(item.value)
            self._hold(item, await self._limiter.acquire(item.value) if permit is None else permit)
        finally:
            run.crew.resting -= 1
            run.unpark(1)
            del error  # its frames may lead back here

    def _too_many_rest(self) -> bool:
        """Say whether nothing new may start: all who rest come back, so that memory is bounded by their number.

        They have no permit, so that every attempt takes a new one; as many may rest as run, or could have run when they
        began to rest, and no more begin.
        """
        most = min(max(self._limiter.most, self._could_run), _RESTING)
        resting: int = self._run.crew.resting
        return resting >= most and resting + self._running >= 2 * most
