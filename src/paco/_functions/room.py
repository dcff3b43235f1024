"""Callers that wait for room: in an inbox, or in the executor."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

from paco.limits._deadlock import stuck

if TYPE_CHECKING:
    from paco._engine.admission import Admission
    from paco._engine.run import Scheduler

#: The turns of the loop in which to look for a deadlock after a caller has begun to wait under a limit object.
_LOOKS: Final = 5


class Room:
    """The callers that wait for room, first come, first served."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], asyncio.Task[Any] | None] = {}
        self._looks = 0  # how often to look for a deadlock
        self._look: asyncio.Handle | None = None

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
        """Raise ``RuntimeError`` if nothing can make room, because all items in flight wait for it, directly or not.

        The caller is the last of them. Under a limit object, an item that has just been taken may first have to wait
        for its permit: the error is raised a few turns of the loop later, by `wait`.
        """
        if run is None:
            return
        error = f"paco.{name}: put() would wait forever: all {{}} items in flight wait for room; {remedy}"
        if run.admission is None:
            if count := _stuck_items(run, {asyncio.current_task(), *self._waiting.values()}):
                raise RuntimeError(error.format(count))
        else:
            self._looks = _LOOKS
            if self._look is None:
                self._look = run.loop.call_soon(self._look_again, run, error)

    def _look_again(self, run: Scheduler, error: str) -> None:
        self._look, self._looks = None, self._looks - 1
        waiting = {room: task for room, task in self._waiting.items() if not room.done()}
        if not waiting:
            return
        if count := _stuck_items(run, {*waiting.values()}):
            next(reversed(waiting)).set_exception(RuntimeError(error.format(count)))
        elif self._looks:
            self._look = run.loop.call_soon(self._look_again, run, error)


def _stuck_items(run: Scheduler, waiting: set[asyncio.Task[Any] | None]) -> int:
    """Return the number of items in flight if all of them wait for tasks that are waiting, and no other can start."""
    pool, admission = run.pool, cast("Admission | None", run.admission)  # no item waits here that runs elsewhere
    may_start = not admission.held if admission is not None else pool.idle or len(pool.workers) < pool.limit
    if may_start or run.is_ending or (run.reader is not None and run.reader.reads_on()):
        return 0
    tasks = stuck(waiting)
    found = tasks >= pool.workers if admission is None else admission.waits_only_for(tasks)
    return len(tasks & pool.workers) if found else 0
