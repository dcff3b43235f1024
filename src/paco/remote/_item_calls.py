"""Items that are sent one by one, because each must wait for a permit or be recorded in a journal.

The run is the same as without workers, so that the limit and the journal handle each item. Its function sends the item
and waits for the result. Items that are sent in the same turn of the loop travel in one chunk.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from paco._base.check import instead_of
from paco._base.item import item_here
from paco._engine.outcomes import Err
from paco.events import failed
from paco.remote._dispatch import Dispatcher, RunOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.check import ItemFunction
    from paco._base.item import Ran, Worker
    from paco._engine.run import Scheduler
    from paco.limits import Limiter
    from paco.remote._dispatch import Entry, Outcomes
    from paco.remote._engines import Engine


class _SentItem:
    """An item that was sent, until its outcome is back."""

    #: The error that it raised while it was cancelled.
    late: BaseException | None = None
    #: Where and when it ran, if requested.
    ran: Ran | None = None

    def __init__(self) -> None:
        #: Resolved with its outcome.
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class ItemCalls:
    """Sends the items of one run one by one, and returns their results.

    `RunOptions` describes the arguments that are missing here.

    Args:
        fn: The function over the items.
        limit: The limit of the run.
        most: The maximum number of items in flight if the limit sets none.
        lead: The number of items to send in addition to those in flight, if the limit is a number.
    """

    def __init__(
        self,
        name: str,
        fn: ItemFunction,
        engine: Callable[[], Engine],
        limit: int | Limiter,
        most: int,
        lead: int,
        *,
        watched: bool = False,
    ) -> None:
        self._fn = fn
        number = limit if isinstance(limit, int) else None
        self._options = RunOptions(name, engine, number or most, most, "return", watched=watched, paced=number is None)
        self.role = "sender"
        #: The workers that have received items, by name.
        self.workers: dict[str, Worker] = {}
        #: The function and the limit that the run must use.
        self.function = instead_of(fn, self._call)
        self.limit: int | Limiter = limit if number is None else self._options.limit + lead
        self._woken = asyncio.Event()
        self._finished = False

    async def _call(self, value: Any) -> Any:
        call = _SentItem()
        self._dispatcher.queue.append((call, value))
        self._woken.set()
        try:
            return await call.answer
        except asyncio.CancelledError:
            self._dispatcher.stop()
            await self._dispatcher.all_back()
            late = call.late
            if late is None:
                raise
        finally:
            self._tell(call)
            del call  # its error refers to this frame
        try:
            raise late
        finally:
            del late

    def _tell(self, call: _SentItem) -> None:
        """Record where and when the item ran, and the error that it returned, for listeners, limits and the journal."""
        answer, ran = call.answer, call.ran
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            outcome = answer.result()
            if isinstance(outcome, Err):
                failed(outcome.error)
        if ran is not None and (item := item_here()) is not None:
            item.ran = ran
            item.attempts += ran.attempts - 1

    # ---- the task that sends; it starts before those of the items

    def prepare(self, run: Scheduler) -> None:
        """Set up for a run, before it has any tasks."""
        self._run: Scheduler = weakref.proxy(run)
        self._dispatcher = Dispatcher(self._run, self._fn, self._options, self.workers, self._landed)
        if run.watch is not None:
            run.watch.runs_elsewhere(self.workers, None if self._options.paced else self._options.limit)

    async def serve(self) -> None:
        """Send items as they arrive, until all other tasks of the run have ended."""
        dispatcher = self._dispatcher
        try:
            await dispatcher.open()
            while not self._finished:
                # Under a limit object, items wait for their permits, so that more may come at any time, or none.
                while dispatcher.send(0 if self._options.paced or self._run.exhausted else math.inf):
                    pass
                await self._pause()
        except Exception as error:
            dispatcher.broken(error)
        finally:
            await dispatcher.close()

    async def _pause(self) -> None:
        """Wait to be woken. A cancellation does not end this task: it only cancels the items."""
        self._woken.clear()
        try:
            await self._woken.wait()
            if self._options.paced:
                await asyncio.sleep(0)  # one more turn, so that a third more items travel together
        except asyncio.CancelledError:
            self._dispatcher.stop()

    def finish(self) -> None:
        """End the sending task: all other tasks of the run have ended."""
        self._finished = True
        self._woken.set()

    def _landed(self, entries: list[Entry], outcomes: Outcomes) -> None:
        """Resume the calls of a chunk that is back, and have the task send more."""
        values, errors, ran = outcomes
        for number, one in ran.items():
            entries[number][0].ran = one
        for number, value in values.items():
            with suppress(asyncio.InvalidStateError):  # only this item's task was cancelled
                entries[number][0].answer.set_result(value)
        for number, error in errors.items():
            try:
                entries[number][0].answer.set_exception(error)
            except asyncio.InvalidStateError:
                entries[number][0].late = error
        self._woken.set()
