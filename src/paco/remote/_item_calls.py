"""Items that are sent one by one, because each must wait for a permit or be recorded in a journal.

The run is the same as without workers, so that the limit and the journal handle each item. Its function sends the item
and waits for the result. Items that are sent in the same turn of the loop travel in one chunk.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from paco._base.check import instead_of
from paco._base.errors import trim
from paco._base.item import Item, item_here
from paco._engine.outcomes import Err
from paco.remote import _pickles
from paco.remote._dispatch import Dispatcher, Entry, RunOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paco._base.item import Ran, Worker
    from paco._engine.run import Scheduler
    from paco.limits import Limiter
    from paco.remote._engines import Engine


class ItemCalls:
    """Sends the items of one run one by one, and returns their results.

    Args:
        name: The operation, for messages.
        fn: The function over the items.
        engine: Opens the engine.
        limit: The limit of the run.
        most: The maximum number of items in flight if the limit sets none.
        lead: The number of items to send in addition to those in flight, if the limit is a number.
        watched: Whether to record where and when the items run.
    """

    def __init__(
        self,
        name: str,
        fn: Callable[[Any], Awaitable[Any]],
        engine: Callable[[], Engine],
        limit: int | Limiter,
        most: int,
        lead: int,
        *,
        watched: bool = False,
    ) -> None:
        self._fn = fn
        self._engine = engine
        number = limit if isinstance(limit, int) else None
        self._job = RunOptions(name, b"", number or most, most, "return", watched=watched, paced=number is None)
        self.role = "sender"
        #: The workers that have received items, by name.
        self.workers: dict[str, Worker] = {}
        #: Where and when the item of the call that has just returned ran. Valid until the next await.
        self.last: Ran | None = None
        #: The function and the limit that the run must use.
        self.function = instead_of(fn, self._call)
        self.limit: int | Limiter = limit if number is None else self._job.limit + lead
        self._calls: deque[Entry] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._alone = False

    async def _call(self, value: Any) -> Any:
        item = Item(value)
        item.answer = asyncio.get_running_loop().create_future()
        self._calls.append((item, value))
        self._wake()
        try:
            return await item.answer
        except asyncio.CancelledError:
            self._dispatcher.stop()
            await self._dispatcher.home()
            late = item.error
            if late is None:
                raise
        finally:
            self._tell(item)
            del item  # its error refers to this frame
        try:
            raise late
        finally:
            del late

    def _tell(self, item: Item) -> None:
        """Record where and when the item ran, for listeners and the journal."""
        self.last = ran = item.ran
        here = None if ran is None else item_here()
        if ran is not None and here is not None:
            here.ran = ran
            here.attempts += ran.attempts - 1
            if ran.failed and item.answer.exception() is None and isinstance(item.answer.result(), Err):
                here.error = item.answer.result().error

    # ---- the task that sends; it starts before those of the items

    _dispatcher: Dispatcher

    def prepare(self, run: Scheduler) -> None:
        """Set up for a run, before it has any tasks."""
        self._run: Scheduler = weakref.proxy(run)
        if run.watch is not None:
            run.watch.runs_elsewhere(self.workers, None if self._job.paced else self._job.limit)

    async def serve(self) -> None:
        """Send items as they arrive, until all other tasks of the run have ended."""
        dispatcher: Dispatcher | None = None
        try:
            job = self._job._replace(function=_pickles.dump_function(self._job.name, self._fn))
            self._dispatcher = dispatcher = Dispatcher(self._engine(), job, self, self.workers)
            await dispatcher.open()
            while not self._alone:
                while dispatcher.send(self._take):
                    pass
                await self._pause()
        except Exception as error:
            self.broken(error)
        finally:
            # The loop is closed if this coroutine is being garbage-collected.
            if dispatcher is not None and not dispatcher.loop.is_closed():
                await dispatcher.close()

    async def _pause(self) -> None:
        """Wait to be woken. A cancellation does not end this task: it only cancels the items."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
            if self._job.paced:
                await asyncio.sleep(0)  # one more turn, so that a third more items travel together
        except asyncio.CancelledError:
            self._dispatcher.stop()
        finally:
            self._waiter = None

    def finish(self) -> None:
        """End the sending task: all other tasks of the run have ended."""
        self._alone = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self, count: int) -> list[Entry]:
        entries = list[Entry]()
        while self._calls and len(entries) < count:
            entries.append(self._calls.popleft())
        return entries

    # ---- for the dispatcher

    def left(self) -> float:
        return len(self._calls) if self._job.paced or self._run.exhausted else math.inf

    def arrived(self, entries: list[Entry], values: dict[int, Any], ran: dict[int, Ran]) -> None:
        for number, one in ran.items():
            entries[number][0].ran = one
        for number, value in values.items():
            with suppress(asyncio.InvalidStateError):  # only this item's task was cancelled
                entries[number][0].answer.set_result(value)

    def failed(self, entry: Entry, error: BaseException, ran: Ran | None = None) -> None:
        try:
            entry[0].answer.set_exception(error)
        except asyncio.InvalidStateError:
            entry[0].error = error  # the item was being cancelled

    def broken(self, error: BaseException) -> None:
        trim(error)
        self._run.fail(error, "its workers")

    def landed(self) -> None:
        self._wake()
