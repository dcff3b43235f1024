"""The workers of a run and their slots: how they become more, and how an item that rests lends its slot to another."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from paco._base.item import WorkerTask

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Coroutine

    from paco._engine.source import Reader

#: New workers in one turn of the loop, at most: to start as many takes 0.4 ms.
_AT_ONCE: Final = 128


class Admitting(Protocol):
    """Says who may start next: what a run holds where that is not a matter of slots, and the hot loop does not run."""

    #: Items of an async source that are read ahead, at most.
    lead: int
    #: Items that have been taken and may not start yet.
    held: int
    #: What its workers are called.
    role: str

    def begin(self, run: Any, /) -> None:
        """Say it for a run that starts."""
        ...

    def work(self, context: contextvars.Context, /) -> Coroutine[Any, Any, None]:
        """Do the work of one worker, in its context."""
        ...

    def grow(self) -> None:
        """Start more workers, if they are useful."""
        ...

    def wanted(self) -> int:
        """Return how many more items may be taken now, if there is room for them."""
        ...

    def exhausted(self) -> None:
        """End what waits for an item: there are no more."""
        ...

    async def rest(self, task: WorkerTask, seconds: float, error: BaseException) -> None:
        """Sleep inside of an item, which gives its permit to another one meanwhile."""
        ...

    def stop(self) -> None:
        """Start nothing more: the run ends before its items do."""
        ...

    def end(self) -> None:
        """Let go of the run, which leads to here and has ended."""
        ...


class Employer(Protocol):
    """What a `Crew` asks of its run."""

    admission: Admitting | None
    attention: int
    base: contextvars.Context
    exhausted: bool
    is_ending: bool
    items: Any
    loop: asyncio.AbstractEventLoop
    reader: Reader | None
    title: str

    def work(self, context: contextvars.Context) -> Coroutine[Any, Any, None]:
        """Run items in a context, as a worker."""
        ...

    def start_task(
        self, coro: Coroutine[Any, Any, None], context: contextvars.Context, name: str
    ) -> asyncio.Task[None]:
        """Start a task that the run waits for."""
        ...


class Crew:
    """Workers, at most ``limit`` of which have a slot.

    Args:
        limit: How many slots there are.
    """

    __slots__ = ("_growing", "_returning", "_run", "_spawned", "idle", "limit", "resting", "workers")

    def __init__(self, limit: int) -> None:
        #: How many slots there are.
        self.limit: int = limit
        #: The tasks that have a slot.
        self.workers: set[asyncio.Task[None]] = set()
        #: How many of them are not in an item.
        self.idle: int = 0
        #: How many tasks have given their slot away for a while.
        self.resting: int = 0
        self._spawned = 0  # how many workers there have been
        self._growing = False
        self._returning: deque[tuple[asyncio.Task[None], asyncio.Future[None]]] = (
            deque()
        )  # those that want a slot again
        self._run: Any = None

    def begin(self, run: Employer) -> None:
        """Work for a run."""
        self._run = run

    def end(self) -> None:
        """Let go of the run, which leads to here."""
        self._run = None

    # ---- growing on demand

    def spawn(self) -> None:
        """Start a worker."""
        run: Employer = self._run
        context = run.base.copy()
        work, role = (run.work, "worker") if run.admission is None else (run.admission.work, run.admission.role)
        self._spawned = number = self._spawned + 1
        self.workers.add(run.start_task(work(context), context, f"{run.title} {role} {number}"))

    def grow_soon(self) -> None:
        """Grow in the next turn of the loop, when each worker has been seen suspended in an item."""
        run: Employer = self._run
        if not (self._growing or run.exhausted or run.is_ending) and len(self.workers) < self.limit:
            self._growing = True
            run.loop.call_soon(self._grow, context=run.base)

    def _grow(self) -> None:
        self._growing = False
        run: Employer | None = self._run
        if run is None or run.exhausted or run.is_ending:
            return
        if run.admission is not None:
            run.admission.grow()
        elif not self.idle:  # whoever ends its idling asks again
            count = min(self._useful(run), self.limit - len(self.workers), _AT_ONCE)
            for _ in range(count):
                self.spawn()
            if count > 0:
                self.grow_soon()

    def _useful(self, run: Employer) -> int:
        """Return how many more workers would find an item; where nobody can tell, as many as there are."""
        if run.reader is not None:
            run.reader.wake()
            return run.reader.waiting()
        # What a list and the like tell is true; others may say anything.
        items, workers = run.items, len(self.workers)
        return max(length_hint(items, workers) if type(items).__module__ == "builtins" else workers, 1)

    async def idling(self, wait: Awaitable[None]) -> None:
        """Wait for something, without an item."""
        self.idle += 1
        try:
            await wait
        finally:
            self.idle -= 1
        self.grow_soon()

    # ---- giving a slot away, and taking it again

    async def rest(self, task: WorkerTask, seconds: float, error: BaseException) -> None:
        """Sleep inside of an item while another one has its slot; at most ``limit`` do so at once.

        Args:
            task: The worker, which is the present task.
            seconds: How long.
            error: How the attempt before the rest has ended.
        """
        if self.limit == sys.maxsize or self.resting >= self.limit:
            await asyncio.sleep(seconds)
            return
        run: Employer = self._run
        self.resting += 1
        self.vacate(task)
        try:
            await asyncio.sleep(seconds)
            if len(self.workers) - self.idle >= self.limit:
                waiter = run.loop.create_future()
                self._returning.append((task, waiter))
                run.attention = -1  # a worker that comes to `Run.ready` now ends, and leaves its slot
                await waiter
        finally:
            # Cancelled, it runs to its end beside as many others as are allowed; one worker too many then ends.
            self.resting -= 1
            self.workers.add(task)
            run.attention = -1

    def one_too_many(self) -> bool:
        """Say whether the worker that asks has to end, for an item that wants its slot again."""
        if self._returning or len(self.workers) > self.limit:
            self.vacate(cast("WorkerTask", asyncio.current_task(self._run.loop)))
            return True
        return False

    def vacate(self, task: asyncio.Task[None]) -> None:
        """Leave a slot to an item that comes back from its rest, or else to a new worker."""
        self.workers.discard(task)
        while self._returning and len(self.workers) - self.idle < self.limit:
            returning, waiter = self._returning.popleft()
            if not waiter.done():
                self.workers.add(returning)
                waiter.set_result(None)
        self.grow_soon()


async def back_off(seconds: float, error: BaseException) -> None:
    """Sleep between two attempts at something; inside of an item another one has its slot and its permits meanwhile.

    Args:
        seconds: How long.
        error: How the attempt has ended.
    """
    task = asyncio.current_task()
    run: Any = task.nursery if isinstance(task, WorkerTask) else None
    if run is not None and task in run.crew.workers:
        await (run.crew if run.admission is None else run.admission).rest(task, seconds, error)
    else:
        await asyncio.sleep(seconds)
