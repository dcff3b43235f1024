"""The permits of a run's items: held while an item runs, given back at its end, and lent while it is in back-off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.check import discard, named_as
from paco._base.errors import trim

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from paco._base.check import ItemFunction
    from paco._base.item import Item, WorkerTask
    from paco._engine.run import Scheduler
    from paco._engine.sinks import InOrder
    from paco.limits import Limiter

#: The maximum number of items in back-off, under a limit that does not count items.
_RESTING: Final = 1000


def refusable(fn: ItemFunction) -> ItemFunction:
    """Return a function that calls ``fn``, or raises the error with which the limit has refused the item.

    So listeners and the journal see such an item as one that has failed.
    """

    async def called(value: Any) -> Any:
        item: Any = cast("WorkerTask", asyncio.current_task()).item
        error, item.refusal = item.refusal, None
        if error is None:
            return await fn(value)
        try:
            raise error
        finally:
            del error, item  # the error refers to this frame

    return named_as(fn, called)


class Permits:
    """The permits that the items of a run hold.

    Args:
        limit: Grants them, and hears how each item has ended.
        stream: The sink of a stream for which at most as many results wait as items were in flight at once.
    """

    def __init__(self, limit: Limiter, stream: InOrder | None) -> None:
        self._limiter = limit
        self._stream = stream
        self._running = 0  # items that hold permits
        self._could_run: int  # the largest limit since the items now in back-off began to rest
        #: Whether the function of the run is a `refusable` one, which raises the errors of the limit.
        self.refusable: bool = False
        self.run: Any

    def hold(self, item: Item, permit: Any) -> None:
        item.permit, item.permitted = permit, True
        self._running += 1
        if self._stream is not None and self._running > self._stream.most:
            # At most as many results wait for a slow consumer as items were in flight at once.
            self._stream.most = self._running

    def give_back(self, item: Item, error: BaseException | None) -> Awaitable[None] | None:
        """Release the permit of an item that has ended; the caller must await the result unless it is ``None``.

        If the item returned its error, as `settle` does, the limit gets that error.
        """
        permit, item.permit, item.permitted = item.permit, None, False
        error, item.error = item.error if error is None else error, None
        self._running -= 1
        try:
            released: Awaitable[None] | None = item.limit.release(permit, error)
        except Exception as failed:
            self.failed(failed)
            raise
        if isinstance(error, GeneratorExit) and asyncio.current_task(self.run.loop) is None:
            discard(released)  # the loop is gone, so the release cannot be awaited
            return None
        return released

    async def heard(self, released: Awaitable[None]) -> None:
        try:
            await released
        except Exception as failed:
            self.failed(failed)
            raise

    def refused(self, item: Item, error: Exception) -> None:
        """Fail the item if a limit that depends on it has raised; otherwise fail the run."""
        if not self._limiter.lookahead:
            self.failed(error)
        if self.refusable:
            item.refusal = error
            return
        try:
            raise error
        finally:
            del error  # it refers to this frame

    def failed(self, error: BaseException) -> None:
        trim(error)
        self.run.fail(error, "its limit")

    async def rest(self, task: WorkerTask, seconds: float, error: BaseException) -> bool:
        """Sleep without the permit of the item, and get another one; return whether it may make another attempt."""
        item = cast("Item", task.item)
        if not item.permitted:
            await asyncio.sleep(seconds)
            return not item.is_out_of_budget()
        run: Scheduler = self.run
        self._could_run = max(self._limiter.most, self._could_run if run.pool.resting else 0)
        run.pool.resting += 1
        try:
            released = self.give_back(item, error)
            if released is not None:
                await self.heard(released)
            await asyncio.sleep(seconds)
            item.limit = limiter = self._limiter.part_of(item.value)
            if item.is_out_of_budget():
                return False
            permit = limiter.try_reserve(item.value)
            if permit is None:
                permit = await limiter.reserve(item.value)
            self.hold(item, permit)
            if item.is_out_of_budget():  # others have spent it during the wait
                return False
            limiter.begin(permit)
            return True
        finally:
            run.pool.resting -= 1
            run.unpark(1)
            del error  # it may refer to this frame

    def too_many_rest(self) -> bool:
        """Return whether too many items are in back-off, where they hold no permit but use memory, to start another."""
        most, resting = min(max(self._limiter.most, self._could_run), _RESTING), self.run.pool.resting
        return bool(resting >= most and resting + self._running >= 2 * most)
