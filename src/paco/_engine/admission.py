"""Admission under a limit object: a worker takes an item, waits for a permit, runs the item, and releases the permit.

This is separate from the hot loop in `run.py`, so that a plain number as limit costs nothing more. Workers are recycled
here too, but only one at a time is at the *gate*: it waits for room, takes an item, and waits for its permit. So only
one item is taken ahead, a permit is requested only for an item that exists, and items start in order. Under a limit
that depends on the item, more items may wait outside the gate.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.deadline import call_in
from paco._base.item import Item
from paco._engine.failure import item_failed, source_failed
from paco._engine.permits import Permits
from paco._engine.queues import Queues
from paco._engine.reader import LEAD
from paco._engine.recycled import RecycledWorker
from paco._engine.sinks import InOrder
from paco._engine.source import end_source
from paco._engine.workers import absorb_cancellation, give_way

if TYPE_CHECKING:
    import contextvars

    from paco._base.item import WorkerTask
    from paco._base.types import LookUp
    from paco._engine.run import Scheduler
    from paco._engine.sinks import Sink
    from paco.limits import Limiter

#: The maximum number of workers to wake in one turn of the loop.
_BURST: Final = 64


class Admission:
    """Starts the items of a run when a limit object grants them permits.

    Args:
        buffer: The most finished results that wait for a consumer; ``None`` for the most items in flight at once.
        look_up: Finds what is known of an item: the second part is its record, with which it needs no permit.
    """

    def __init__(self, limit: Limiter, sink: Sink, buffer: int | None = None, look_up: LookUp | None = None) -> None:
        self._limiter = limit
        self._ahead = max(limit.lookahead, 1)
        self.held: int = 0
        self.role: str = "worker"
        self._look_up = look_up
        self._stream = sink if isinstance(sink, InOrder) else None
        self.permits: Permits = Permits(limit, self._stream if buffer is None else None)
        self._store = sink.store  # after the run has ended early, nothing reads it
        self._at_gate = False  # whether a worker is at the gate
        self._gate: Item | None = None  # the item that waits there for its permit
        self._holder: RecycledWorker | None = None  # the worker that has taken the next item without getting a permit
        self._queues = Queues(limit)  # the items that wait for permits, if the limit depends on the item
        self._keeper: RecycledWorker | None = None  # the worker that waits at the gate because enough items are held
        self._burst = 1
        self._off_duty: list[asyncio.Future[None]] = []  # workers that wait for the gate; the last one is next
        self.run: Any = None

    def attach(self, run: Scheduler) -> None:
        self.run = self.permits.run = run
        for gate in self._limiter.gates:
            gate.join(run, partial(call_in, run.loop, end_source, run))

    def detach(self) -> None:
        for gate in self._limiter.gates:
            gate.leave(self.run)
        self.run = self.permits.run = None

    def stop(self) -> None:
        """Do nothing: cancelling the workers ends their waits for permits."""

    def grow(self) -> None:
        """Send workers to the gate if it is free: twice as many as the last time if all of those have passed it."""
        run: Scheduler = self.run
        if self._at_gate:
            self._burst = 1
            return
        if run.reader is not None and not run.reader.ready():
            run.reader.wake()
        for _ in range(min(self._burst, self._limiter.free)):
            if not self._call_one():
                run.pool.spawn()
        self._burst = min(2 * self._burst, _BURST)

    def _call_one(self) -> bool:
        if self._holder is not None:  # nobody else may take an item before it
            if self._holder.waiter is not None and not self._holder.waiter.done():
                self._holder.waiter.set_result(None)
            return True
        while self._off_duty:
            waiter = self._off_duty.pop()
            if not waiter.done():
                waiter.set_result(None)
                return True
        return False

    def wanted(self) -> int:
        return min(self._ahead - self.held, LEAD)

    def exhausted(self) -> None:
        """End every worker that waits for the gate."""
        while self._call_one():
            pass

    def waits_only_for(self, tasks: set[Any]) -> bool:
        return self._queues.wait_only_for(tasks, max(self.held, self._ahead))

    async def work(self, context: contextvars.Context) -> None:
        run: Scheduler = self.run
        worker = RecycledWorker(context, cast("WorkerTask", asyncio.current_task(run.loop)))
        run.noted = True
        try:
            while (item := self._admit_at_once(run, worker) or await self._admit(worker)) is not None:
                worker.turn = run.pace.seen
                try:
                    goes_on = await self._run_items(run, worker, item)
                except GeneratorExit:  # of a future that the item awaited: Python closes the item, then raises it here
                    if asyncio._get_running_loop() is None:  # the loop is gone
                        raise
                    goes_on = not run.is_ending
                if not goes_on:
                    return
                # So that nothing keeps them alive while this worker waits.
                worker.task.item = item.value = item.error = None
                if worker.taken is None and worker.is_marked():
                    run.pool.retire(worker.task)
                    return
        except BaseException as error:
            source_failed(run, error)
        finally:
            del self, run, worker

    async def _run_items(self, run: Scheduler, worker: RecycledWorker, item: Item) -> bool:
        """Run an item, then others as long as its permit can be renewed; return whether the worker may continue."""
        failed: BaseException | None = None
        try:
            worker.begins(item)
            if not self._permit_at_once(item):
                await self._wait_for_permit(item)
            self._store[item.index] = await run.fn(item.value)
            while item.error is None and (self._renews(run, worker, item) or await self._renews_later(worker, item)):
                self._store[item.index] = await run.fn(item.value)
        except BaseException as error:
            failed = error
        try:
            if item.permitted:
                try:
                    released = self.permits.give_back(item, failed)
                    if released is not None:
                        await absorb_cancellation()  # one of the item, which must not hit the limit
                        await self.permits.heard(released)
                except Exception:
                    released = None  # already reported; the outcome of the item must be reported too
            return failed is None or item_failed(run, failed, item.index, item.value)
        finally:
            del self, run, worker, failed, item  # a kept error refers to this frame

    def _renews(self, run: Scheduler, worker: RecycledWorker, item: Item) -> bool:  # noqa: C901, PLR0911 - a call costs
        """Make an item that has succeeded the next one, with the same permit, if nobody else waits for that permit.

        This one step replaces a release, a wait at the gate and an acquisition, each of which may need a turn of the
        loop. If an item waits at the gate, it is the next one, and the worker there gets the item after it.
        """
        gate, limiter, renewed = self._gate, self._limiter, None
        if run.started >= run.attention:
            turn = run.at_once(worker.turn)
            if not turn:
                return False
            worker.turn = turn
        if run.pool.resting and self.permits.too_many_rest():
            return False
        if self._ahead > 1:
            return self._passes_on(run, worker, item)
        if (gate.bound if gate is not None else self._at_gate) or self._holder is not None or not item.permitted:
            return False  # others come first
        taking = False
        try:
            has_room = self._stream is None or self._stream.room(run.started) > run.started
            if worker.is_marked() or not has_room or not limiter.renews(item.permit, gate):
                return False
            index, taking = run.started, True
            for taken in run.items:
                value, run.started = taken, index + 1
                known = None if self._look_up is None else self._look_up(value)
                break
            else:
                run.out_of_items()
                return False
            taking = False
            # The source runs code of the user. A context variable that it has set is for this item, in this worker.
            may_swap = (gate is None or not worker.has_set()) and (known is None or known[1] is None)
            if may_swap and not run.is_ending and gate is self._gate:
                renewed = limiter.renew(item.permit)
        except BaseException as error:
            source_failed(run, error) if taking else self.permits.failed(error)
            return False
        if renewed is None:
            worker.taken, self._holder = Item(value, index), worker
            worker.taken.known, worker.taken.bound = known, True
            self.held += 1
            return False
        if gate is not None:
            value, gate.value = gate.value, value
            index, gate.index = gate.index, index
            known, gate.known = gate.known, known
        item.becomes(value, index, known)
        item.permit, worker.task.item = renewed, item
        return True

    async def _renews_later(self, worker: RecycledWorker, item: Item) -> bool:
        """Try it again in the next turn, after all arrived results were handled, if items are slow."""
        run: Scheduler = self.run
        if not run.pace.in_batches or worker.turn in {0, run.pace.turn.now} or not item.permitted:
            return False
        try:
            item.limit.renews(item.permit, self._gate)  # so that an `Adaptive` hears now when the item has ended
        except BaseException as error:
            self.permits.failed(error)
            return False
        with suppress(asyncio.CancelledError):  # of the run; or of the item, which has ended, and so marks its task
            await give_way()
        worker.turn = 0  # it has waited
        return self._renews(run, worker, item)

    def _passes_on(self, run: Scheduler, worker: RecycledWorker, item: Item) -> bool:
        """Make an item that has succeeded the next one of its queue, with the same permit."""
        if not item.permitted or worker.is_marked():
            return False
        try:
            if not self._queues.renew(item):
                return False
        except BaseException as error:
            self.permits.failed(error)
            return False
        worker.task.item = item
        self.held -= 1
        self._refill(run)
        return not run.is_ending

    def _refill(self, run: Scheduler) -> None:
        """Take another item on behalf of the worker at the gate, which continues only if that item must not wait."""
        keeper = self._keeper
        if keeper is None or self.held >= self._ahead:
            return
        if run.started < run.attention and (self._stream is None or self._stream.room(run.started) > run.started):
            try:
                item = keeper.context.run(self._take, run, keeper)
            except BaseException as error:
                source_failed(run, error)
                return
            if item is None or self._queues.joins(item):
                return
            keeper.taken, self._keeper = item, None
        run.unpark(1)

    def _permit_at_once(self, item: Item) -> bool:
        """Get the permit of an item if that needs no wait, and mark its start; return whether that is done."""
        waits = False
        try:
            if not item.is_recorded():
                if item.limit is None:
                    item.limit = self._limiter.part_of(item.value)
                permit = item.limit.try_reserve(item.value)
                waits = permit is None
                if not waits:
                    self.permits.hold(item, permit)
                    item.limit.begin(permit)
        except Exception as failed:
            self.permits.refused(item, failed)
        finally:
            if not waits:
                self._passes(item)
            del self  # a kept error refers to this frame, and the store to that error
        return not waits

    async def _wait_for_permit(self, item: Item) -> None:
        """Wait for the permit of an item, and mark the start of the item."""
        self._gate = item if self._ahead == 1 else None
        try:
            permit = await self._queues.wait(item)
            self.permits.hold(item, permit)
            item.limit.begin(permit)
        except Exception as failed:
            self.permits.refused(item, failed)
        finally:
            self._passes(item)
            del self  # as above

    def _passes(self, item: Item) -> None:
        """Let the next item come to the gate, and another one wait in front of a queue."""
        self.held -= 1
        if self._ahead == 1:
            self._gate = None
            self._leave_gate()
        if self._queues.leave_front(item.limit) and not (self.run.is_ending or self._call_one()):
            self.run.pool.spawn()
        if self.run.parked:
            self.run.unpark(1)

    # ---- the gate

    def _admit_at_once(self, run: Scheduler, worker: RecycledWorker) -> Item | None:
        """Take the next item if nothing has to be waited for; otherwise return ``None``."""
        if self._at_gate or self._holder is not None or self._queues.chosen:
            return None
        item = self._take_at_once(run, worker)
        if item is not None and self._ahead == 1:
            self._at_gate = True
        elif item is not None:
            self._leave_gate()
        return item

    async def _admit(self, worker: RecycledWorker) -> Item | None:
        """Wait for the gate, then for the next item, and take it; return ``None`` if this worker must end."""
        run: Scheduler = self.run
        if run.consumer is not None and (self._at_gate or run.exhausted or self._holder is not None):
            run.notify()  # otherwise `ready` does it
        if run.pool.resting:
            run.unpark(1)  # the worker at the gate may have waited for this item to end
        while (self._at_gate or self._holder not in {None, worker}) and not (
            self._queues.chosen or run.exhausted or run.is_ending
        ):
            worker.waiter = run.loop.create_future()
            self._off_duty.append(worker.waiter)
            await run.pool.idling(worker.waiter)
        if self._queues.chosen and not run.is_ending:
            return self._queues.chosen.popleft()
        if run.is_ending or run.exhausted:
            return None
        self._at_gate = True
        item, worker.taken = worker.taken, None
        if item is not None:
            self._holder = None
            return item
        try:
            item = await self._next(run, worker)
        finally:
            if item is None or self._ahead > 1:
                self._leave_gate()  # otherwise the worker waits at the gate for the permit
        return item

    def _leave_gate(self) -> None:
        self._at_gate = False
        if not self.run.loop.is_closed():  # it is closed if this coroutine is being garbage-collected
            self.run.pool.grow_soon()

    async def _next(self, run: Scheduler, worker: RecycledWorker) -> Item | None:
        """Wait for room and for an item, and take it; return ``None`` if this worker must end."""
        while (item := self._take_at_once(run, worker)) is None:
            if not self._holds_enough(run):
                if not await run.ready(worker.turn):
                    break
                worker.turn = 0  # it has waited
                continue
            self._keeper = worker
            try:
                await run.pool.idling(run.park())
            finally:
                self._keeper = None
            item, worker.taken = worker.taken, None
            if item is not None:
                break
        return item

    def _holds_enough(self, run: Scheduler) -> bool:
        """Return whether so many items wait, for permits or in back-off, that no other one is to be taken."""
        return self.held >= self._ahead or (run.pool.resting > 0 and self.permits.too_many_rest())

    def _take_at_once(self, run: Scheduler, worker: RecycledWorker) -> Item | None:
        """Take items until one need not wait behind others, and return it; ``None`` if there is none at once."""
        while not self._holds_enough(run) and (turn := run.at_once(worker.turn)):
            worker.turn = turn
            item = self._take(run, worker)
            if item is None or self._ahead == 1 or not self._queues.joins(item):
                return item
        return None

    def _take(self, run: Scheduler, worker: RecycledWorker) -> Item | None:
        for value in run.items:
            item = Item(value, run.started)
            run.started += 1
            self.held += 1
            item.bound = worker.has_set()
            item.known = self._look_up and self._look_up(value)
            if run.watch is not None and run.reader is not None:
                run.watch.source_changed()
            return item
        run.out_of_items()
        return None
