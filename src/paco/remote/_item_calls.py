"""Items that are sent one by one: where each has to wait for its permit, or leaves a record in a journal.

The run stays the one that it is without workers, so that the limit and the journal see each item; its function is one
that hands the item over and waits for its result. What is handed over in one turn of the loop travels together.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from paco._base.errors import trim
from paco._base.item import Item, item_here
from paco._base.item_function import instead_of
from paco._engine.outcomes import Err
from paco.remote import _pickles
from paco.remote._dispatch import Dispatcher, Entry, RunOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paco._base.worker_info import Ran, Worker
    from paco._engine.run import Scheduler
    from paco.limits import Limiter
    from paco.remote._engines import Engine


class ItemCalls:
    """The calls of one run.

    Args:
        name: The operation, for messages.
        fn: The function over the items.
        engine: Opens the engine.
        limit: Of the run.
        most: Items in flight at most where the limit does not say.
        lead: Items that are handed over beside those in flight, where the limit is a number.
        watched: Whether it is wanted where and when the items run.
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
        #: Those who have had items, by their names.
        self.workers: dict[str, Worker] = {}
        #: Of the call that has just come back, until something is awaited: where and when its item ran.
        self.last: Ran | None = None
        #: What the run is to have for a function, and for a limit.
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
            del item  # its error leads back here
        try:
            raise late
        finally:
            del late

    def _tell(self, item: Item) -> None:
        """Note where and when the item ran, for those who listen to the run."""
        self.last = ran = item.ran
        here = None if ran is None else item_here()
        if ran is not None and here is not None:
            here.ran = ran
            here.attempts += ran.attempts - 1
            if ran.failed and item.answer.exception() is None and isinstance(item.answer.result(), Err):
                here.error = item.answer.result().error

    # ---- the task, which begins before those of the items

    _dispatcher: Dispatcher

    def prepare(self, run: Scheduler) -> None:
        """Be called before the run has any tasks."""
        self._run: Scheduler = weakref.proxy(run)
        if run.watch is not None:
            run.watch.runs_elsewhere(self.workers, None if self._job.paced else self._job.limit)

    async def keep(self) -> None:
        """Send what is handed over, until the run is at its end."""
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
            if (
                dispatcher is not None and not dispatcher.loop.is_closed()
            ):  # it is when this coroutine is being collected
                await dispatcher.close()

    async def _pause(self) -> None:
        """Wait to be woken; a cancellation is for the items, and only ends what they do."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
            if self._job.paced:
                await asyncio.sleep(0)  # a turn more, and a third more of what has come back together goes together
        except asyncio.CancelledError:
            self._dispatcher.stop()
        finally:
            self._waiter = None

    def alone(self) -> None:
        """Hear that all other tasks of the run have ended."""
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

    # ---- what the dispatcher tells

    def left(self) -> float:
        return len(self._calls) if self._job.paced or self._run.exhausted else math.inf

    def arrived(self, entries: list[Entry], values: dict[int, Any], ran: dict[int, Ran]) -> None:
        for number, one in ran.items():
            entries[number][0].ran = one
        for number, value in values.items():
            with suppress(asyncio.InvalidStateError):  # somebody has cancelled its task, and nothing else
                entries[number][0].answer.set_result(value)

    def failed(self, entry: Entry, error: BaseException, ran: Ran | None = None) -> None:
        try:
            entry[0].answer.set_exception(error)
        except asyncio.InvalidStateError:
            entry[0].error = error  # it was being cancelled

    def broken(self, error: BaseException) -> None:
        trim(error)
        self._run.fail(error, "its workers")

    def landed(self) -> None:
        self._wake()
