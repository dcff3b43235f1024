"""The workers of a run: how long they hold the loop, how they become more, and how a resting item lends its slot."""

from __future__ import annotations

import asyncio
import math
import sys
import types
import weakref
from collections import deque
from contextlib import suppress
from operator import length_hint
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from paco._base.deadline import own_clock
from paco._base.item import WorkerTask, inside
from paco._engine.source import Calls

if TYPE_CHECKING:
    import contextvars
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Coroutine, Generator

    from paco._engine.run import Scheduler

#: The maximum number of items between two readings of the clock: 16 µs if an item takes 0.25 µs.
_STRIDE: Final = 64
#: An item is slow if it holds the loop for more than this many seconds.
_SLOW: Final = 25e-6
#: The seconds of a turn that all runs together may use before they yield to the loop.
SLICE: Final = 0.001
#: The number of items of a turn after which a run yields even if no time has passed: a test may have frozen the clock.
MOST: Final = 10_000


@types.coroutine
def give_way() -> Generator[None, None, None]:
    """Continue in the next turn of the loop: ``asyncio.sleep(0)`` with one frame less."""
    yield


def is_cancelling() -> bool:
    """Return whether the current task has been cancelled."""
    return cast("asyncio.Task[Any]", asyncio.current_task()).cancelling() > 0


async def absorb_cancellation() -> None:
    """Absorb a cancellation that a call did not receive before it ended, so that it does not hit what follows."""
    if is_cancelling():
        with suppress(asyncio.CancelledError):
            await give_way()


class Turn:
    """The current turn of an event loop. The first run that reads the clock in a turn begins it."""

    def __init__(self) -> None:
        #: The number of the current turn; 0 if it has not begun.
        self.now: int = 0
        #: The seconds of the turn that each run may use.
        self.share: float = SLICE
        #: The number of runs in the current turn so far.
        self.runs: int = 0
        self._count = 0

    def begin(self, loop: AbstractEventLoop) -> int:
        """Begin the current turn and return its number. Its time is divided by the number of runs in the last turn."""
        self.now = self._count = self._count + 1
        self.share = SLICE / max(self.runs, 1)
        self.runs = 0
        loop.call_soon(self._over)
        return self.now

    def _over(self) -> None:
        self.now = 0


_turns: Final[weakref.WeakKeyDictionary[AbstractEventLoop, Turn]] = weakref.WeakKeyDictionary()


class Pace:
    """Measures how long the items of one run hold the loop, and decides how often its workers read the clock.

    When the run begins, ``started`` items count as started.
    """

    _looked: float  # the time of the last reading of the clock
    _since: float  # when the current turn began for this run
    _first: int  # the number of items started then
    #: The seconds of the current turn that the run has used.
    used: float

    def __init__(self, loop: AbstractEventLoop, started: int) -> None:
        #: The number of items between two readings of the clock; 1 if items are slow.
        self.stride: int = 2
        #: Whether items are slow and start in batches, one for each turn of the loop.
        self.in_batches: bool = False
        #: The turn of the last reading of the clock.
        self.seen: int = 0
        self.turn: Turn = _turns.setdefault(loop, Turn())
        self._loop = loop
        self._counted = started  # the number of items started at the last reading of the clock

    def look(self, started: int) -> None:
        """Read the clock, and adapt the stride to the time that an item holds the loop.

        Within a turn, the difference of two readings is that time. From one turn to the next it is only an upper bound,
        because the loop may have waited.
        """
        now = perf_counter()
        number = self.turn.now or self.turn.begin(self._loop)
        begins = self.seen != number
        if begins:
            self.seen = number
            self._since, self._first = now, started
            self.turn.runs += 1
        if count := started - self._counted:
            each = (now - self._looked) / count
            if each * self.turn.share > _SLOW * SLICE:  # in that time, items of other runs may have held the loop too
                self.stride = self.stride if begins else 1
            elif each * self.stride < SLICE / 8:
                self.stride = min(2 * self.stride, _STRIDE)
            elif each * self.stride > SLICE / 4:
                self.stride //= 2
            # If the loop has its own clock, the order of items must not depend on real time.
            self.in_batches = self.stride == 1 and not own_clock(self._loop)
        self._looked, self._counted = now, started
        self.used = now - self._since if started - self._first < MOST else math.inf


#: The maximum number of workers to start in one turn of the loop: starting that many takes 0.4 ms.
_AT_ONCE: Final = 128


class Admitting(Protocol):
    """Decides when items start, in place of the hot loop: `Admission` for a limit object, `Chunks` for an engine."""

    #: The number of items that have been taken but may not start yet.
    held: int
    #: The word for its workers in task names.
    role: str

    def attach(self, run: Scheduler, /) -> None:
        """Admit the items of this run, which starts."""
        ...

    def detach(self) -> None:
        """Drop the reference to the run, which has ended: that is a cycle."""
        ...

    def work(self, context: contextvars.Context, /) -> Coroutine[Any, Any, None]:
        """Do the work of one worker, in its context."""
        ...

    def grow(self) -> None:
        """Start more workers if they are useful."""
        ...

    def wanted(self) -> int:
        """Return the number of items that may be taken now, if the sink has room for them."""
        ...

    def exhausted(self) -> None:
        """End the workers that wait for an item: none are left."""
        ...

    def stop(self) -> None:
        """Start nothing more: the run is ending early."""
        ...


class WorkerPool:
    """The workers of a run; at most ``limit`` of them have a slot."""

    #: The run to work for; ``None`` after its end, to break the reference cycle.
    run: Any

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        #: The tasks that have a slot.
        self.workers: set[asyncio.Task[None]] = set()
        #: The number of workers that wait and run no item.
        self.idle: int = 0
        #: The number of tasks that have lent their slot while they rest.
        self.resting: int = 0
        self._spawned = 0  # workers started so far
        self._growing = False
        self._skipped = False  # whether the pool did not grow, because a worker was idle
        #: Tasks that wait to get a slot back, each with the future that grants it.
        self.returning: deque[tuple[asyncio.Task[None], asyncio.Future[None]]] = deque()

    # ---- growing on demand

    def spawn(self) -> None:
        """Start a worker."""
        run: Scheduler = self.run
        context = run.base.copy()
        work, role = (run.work, "worker") if run.admission is None else (run.admission.work, run.admission.role)
        self._spawned = number = self._spawned + 1
        self.workers.add(run.start_task(work(context), context, f"{run.title} {role} {number}"))

    def grow_soon(self) -> None:
        """Start more workers in the next turn of the loop, if by then every worker is suspended in an item."""
        run: Scheduler = self.run
        if not (self._growing or run.exhausted or run.is_ending) and len(self.workers) < self.limit:
            self._growing = True
            run.loop.call_soon(self._grow, context=run.base)

    def _grow(self) -> None:
        self._growing = False
        run: Scheduler | None = self.run
        if run is None or run.exhausted or run.is_ending:
            return
        if run.admission is not None:
            run.admission.grow()
        elif self.idle:
            self._skipped = True
        else:
            count = min(self._useful(run), self.limit - len(self.workers), _AT_ONCE)
            for _ in range(count):
                self.spawn()
            if count > 0:
                self.grow_soon()

    def _useful(self, run: Scheduler) -> int:
        """Return the number of workers to add: the items left if known, otherwise as many as there are workers."""
        if run.reader is not None:
            return run.reader.useful(len(self.workers))
        # Length hints of built-in iterators are reliable; others may be wrong.
        items, useful = run.items, len(self.workers)
        if type(items).__module__ == "builtins" or isinstance(items, Calls):
            with suppress(Exception):  # there are more items than sys.maxsize, or the __len__ of a sequence raises
                useful = length_hint(items, useful)
        return max(useful, 1)

    def spare(self) -> int:
        """Return how many items, besides that of the calling worker, could start now; 0 under a limit object."""
        run: Scheduler = self.run
        free = self.limit - len(self.workers) + self.idle
        if free <= 0 or run.admission is not None:
            return 0
        return max(min(free, run.sink.room(run.started) - run.started - 1), 0)

    def retire(self, task: asyncio.Task[None]) -> None:
        """Give the slot of a worker on which an item has left a trace to a new task."""
        run: Scheduler = self.run
        self.vacate(task)
        run.notify()
        if not (run.exhausted or run.is_ending):
            self.spawn()

    def idles(self) -> None:
        """Count one more idle worker, one that runs no item. Afterwards, it lowers the count and calls `resumes`."""
        self.idle += 1
        self._call_source()

    def _call_source(self) -> None:
        """If no worker runs an item, tell the source: no item can add to it any more."""
        reader = self.run.reader
        if reader is not None and reader.heeds and self.idle >= len(self.workers):
            reader.starves()

    def resumes(self) -> None:
        """Start more workers if the pool did not, because the calling worker was idle."""
        if self._skipped:
            self._skipped = False
            self.grow_soon()

    async def idling(self, wait: Awaitable[None]) -> None:
        """Await something as an idle worker."""
        self.idles()
        try:
            await wait
        finally:
            self.idle -= 1
        self.resumes()

    # ---- lending a slot, and getting it back

    async def rest(self, task: WorkerTask, seconds: float, error: BaseException) -> None:
        """Sleep inside the item that this task runs, after an attempt raised ``error``; another item uses its slot.

        At most ``limit`` items lend their slots at once. Others keep their slots while they sleep.
        """
        if self.limit == sys.maxsize or self.resting >= self.limit:
            await asyncio.sleep(seconds)
            return
        run: Scheduler = self.run
        self.resting += 1
        self.vacate(task)
        try:
            await asyncio.sleep(seconds)
            if len(self.workers) - self.idle >= self.limit:
                waiter = run.loop.create_future()
                self.returning.append((task, waiter))
                run.attention = -1  # the next worker that calls `Scheduler.ready` ends, and frees its slot
                await waiter
        finally:
            # If it was cancelled, it finishes without a slot. The surplus worker then ends in `Scheduler.ready`.
            self.resting -= 1
            self.workers.add(task)
            run.attention = -1

    def vacate(self, task: asyncio.Task[None]) -> None:
        """Free the slot of a task, and give it away."""
        self.workers.discard(task)
        self._call_source()
        self._fill()

    def resize(self, limit: int) -> None:
        """Change the number of slots. A worker that is one too many ends when its item has."""
        self.limit = limit
        self.run.attention = -1
        self._fill()

    def _fill(self) -> None:
        """Give free slots to items that return from their rest, or otherwise to new workers."""
        while self.returning and len(self.workers) - self.idle < self.limit:
            returning, waiter = self.returning.popleft()
            if not waiter.done():
                self.workers.add(returning)
                waiter.set_result(None)
        self.grow_soon()


def is_out_of_budget() -> bool:
    """Return whether what runs here is part of an item whose budget is spent."""
    item = inside.get()
    return item is not None and item.is_out_of_budget()


async def back_off(seconds: float, error: BaseException) -> bool:
    """Sleep after an attempt that raised ``error``. Inside an item, others use its slot and its permits meanwhile.

    Return whether another attempt may start; not if a budget of the item was spent meanwhile.
    """
    task = asyncio.current_task()
    run: Any = task.nursery if isinstance(task, WorkerTask) else None
    if run is not None and task in run.pool.workers:
        if run.admission is not None:
            may_start: bool = await run.admission.permits.rest(task, seconds, error)
            return may_start
        await run.pool.rest(task, seconds, error)
    else:
        await asyncio.sleep(seconds)
    return not is_out_of_budget()
