"""The workers of a run and their slots: how they become more, and how an item that rests lends its slot to another."""

from __future__ import annotations

import asyncio
import sys
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from paco._engine.nursery import Nursery, Worker

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable

#: New workers in one turn of the loop, at most: to start as many takes 0.4 ms.
_AT_ONCE: Final = 128


class Crew(Nursery):
    """Workers, at most ``limit`` of which have a slot. A subclass says what they do, and how many find something to do.

    Args:
        name: The operation, for messages: ``map``.
        limit: How many slots there are.
        timeout: Seconds for the whole run, or ``None``.
    """

    __slots__ = (
        "_attention",
        "_growing",
        "_idle",
        "_limit",
        "_resting",
        "_returning",
        "_role",
        "_spawned",
        "_workers",
        "exhausted",
    )

    def __init__(self, name: str, limit: int, timeout: float | None) -> None:
        super().__init__(name, timeout)
        self._limit = limit
        self._attention = -1  # when as many items have been started, a worker asks before it takes another
        self._workers: set[asyncio.Task[None]] = set()  # the tasks that have a slot
        self._role = "worker"  # what they are called
        self._spawned = 0  # how many there have been
        self._idle = 0  # those of them that are not in an item
        self._resting: int = 0  # the tasks that have given their slot away for a while
        self._returning: deque[tuple[asyncio.Task[None], asyncio.Future[None]]] = deque()  # those that want one again
        self._growing = False
        #: Whether there are no more items.
        self.exhausted: bool = False

    async def _work(self, context: contextvars.Context) -> None:
        """Run items in a context; a subclass says how."""

    @abstractmethod
    def _useful(self) -> int:
        """Return how many more workers would find an item; where nobody can tell, as many as there are."""

    # ---- growing on demand

    def _spawn(self) -> None:
        context = self._base.copy()
        self._spawned = number = self._spawned + 1
        self._workers.add(self.start_task(self._work(context), context, f"{self._title} {self._role} {number}"))

    def _grow_soon(self) -> None:
        if not (self._growing or self.exhausted or self._ending) and len(self._workers) < self._limit:
            self._growing = True
            self._loop.call_soon(self._grow, context=self._base)

    def _grow(self) -> None:
        """Become more, now that each worker has been seen suspended in an item."""
        self._growing = False
        if self._idle or self.exhausted or self._ending:
            return  # whoever ends its idling asks again
        count = min(self._useful(), self._limit - len(self._workers), _AT_ONCE)
        for _ in range(count):
            self._spawn()
        if count > 0:
            self._grow_soon()

    async def _idling(self, wait: Awaitable[None]) -> None:
        self._idle += 1
        try:
            await wait
        finally:
            self._idle -= 1
        self._grow_soon()

    # ---- giving a slot away, and taking it again

    async def rest(self, task: asyncio.Task[None], seconds: float, error: BaseException) -> None:
        """Sleep inside of an item while another one has its slot; at most ``limit`` do so at once.

        Args:
            task: The worker, which is the present task.
            seconds: How long.
            error: How the attempt before the rest has ended.
        """
        if self._limit == sys.maxsize or self._resting >= self._limit:
            await asyncio.sleep(seconds)
            return
        self._resting += 1
        self._vacate(task)
        try:
            await asyncio.sleep(seconds)
            if len(self._workers) - self._idle >= self._limit:
                waiter = self._loop.create_future()
                self._returning.append((task, waiter))
                self._attention = -1  # a worker that comes to `_ready` now ends, and leaves its slot
                await waiter
        finally:
            # Cancelled, it runs to its end beside as many others as are allowed; one worker too many then ends.
            self._resting -= 1
            self._workers.add(task)
            self._attention = -1

    def _one_too_many(self) -> bool:
        """Say whether the worker that asks has to end, for an item that wants its slot again."""
        if self._returning or len(self._workers) > self._limit:
            self._vacate(cast("asyncio.Task[None]", asyncio.current_task(self._loop)))
            return True
        return False

    def _vacate(self, task: asyncio.Task[None]) -> None:
        """Leave a slot to an item that comes back from its rest, or else to a new worker."""
        self._workers.discard(task)
        while self._returning and len(self._workers) - self._idle < self._limit:
            returning, waiter = self._returning.popleft()
            if not waiter.done():
                self._workers.add(returning)
                waiter.set_result(None)
        self._grow_soon()


async def back_off(seconds: float, error: BaseException) -> None:
    """Sleep between two attempts at something; inside of an item another one has its slot and its permits meanwhile.

    Args:
        seconds: How long.
        error: How the attempt has ended.
    """
    task = asyncio.current_task()
    run = task.nursery if isinstance(task, Worker) else None
    if isinstance(run, Crew):
        await run.rest(cast("Worker", task), seconds, error)
    else:
        await asyncio.sleep(seconds)
