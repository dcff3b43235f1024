"""Callers that wait for room: in an inbox, or in the executor."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any

from paco.limits._deadlock import all_stuck

if TYPE_CHECKING:
    from paco._engine.run import Scheduler


class Room:
    """The callers that wait for room, first come, first served."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], asyncio.Task[Any] | None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self) -> None:
        """Wait until there may be room: until `make` wakes this caller."""
        room = asyncio.get_running_loop().create_future()
        self._waiting[room] = asyncio.current_task()
        try:
            await room
        except asyncio.CancelledError:
            if room.done() and not room.cancelled():
                self.make()  # it is for the next one
            raise
        finally:
            del self._waiting[room]

    def make(self, count: int = 1) -> None:
        """Wake the first ``count`` callers."""
        for room in list(islice((room for room in self._waiting if not room.done()), count)):
            room.set_result(None)

    def open(self) -> None:
        """Wake all callers."""
        self.make(len(self._waiting))

    def refuse_deadlock(self, run: Scheduler | None, name: str, remedy: str) -> None:
        """Raise ``RuntimeError`` if all workers of a run wait for room, directly or not, with the caller as the last.

        Under a limit object, nobody knows whether another worker could start: it raises nothing.
        """
        if run is None or run.is_ending or run.pool.idle or len(run.pool.workers) < run.pool.limit:
            return
        workers = run.pool.workers
        if all_stuck(workers, {asyncio.current_task(), *self._waiting.values()}):
            raise RuntimeError(
                f"paco.{name}: put() would wait forever: all {len(workers)} items in flight wait for room; {remedy}"
            )
