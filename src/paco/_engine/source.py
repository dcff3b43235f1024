"""Sources of items. One task reads an async source, and reads no further ahead than there are free slots.

Workers advance the iterator of a sync source themselves. An async source is read and closed by a single task with its
own context, because async generators require it: a timeout, a task group or a context variable inside a generator
belongs to the task that entered it.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.check import discard
from paco._base.deadline import call_in
from paco._base.errors import trim
from paco._engine.sinks import NOTHING

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Iterable

    from paco._base.types import T
    from paco._engine.run import Scheduler

#: The maximum number of items to read ahead of an async source, whatever the limit of the run.
LEAD: Final = 64


class Upstream:
    """A source that is a run itself: the previous stage of a pipeline.

    It is a base class and not a protocol: the check for the methods took 28% of the time of a `paco.hedge` call.
    """

    __slots__ = ()

    @abstractmethod
    def feeds(self, fail: Callable[[BaseException], None]) -> None:
        """Call ``fail`` with the first error at once, in addition to raising it."""

    def has_result(self) -> bool:
        """Return whether `take` may return a result."""
        return False

    def take(self) -> Any:
        """Remove and return the next result; `NOTHING` if that needs waiting."""
        return NOTHING

    def end_source(self) -> bool:
        """Take nothing more from its own source, and return whether its results end when those on the way are there."""
        return False

    @abstractmethod
    def abandon(self) -> None:
        """Stop: nothing will read further results. Does not wait."""

    @abstractmethod
    async def aclose(self) -> None:
        """Stop, and wait until all tasks have ended."""


class Reader:
    """An iterator over the items read from an async source. It stops when no item is available *yet*.

    ``ended`` distinguishes the end of the source from a pause. An error of the source is raised after the items that
    precede it. Up to ``ahead`` items are read before there are slots for them.
    """

    def __init__(self, source: Any, run: Scheduler, ahead: int) -> None:
        self._source: Any = source
        self._run: Scheduler = run
        self._items: deque[Any] = deque()
        self._error: BaseException | None = None
        #: The source, if a worker may take from it without this task.
        self._upstream: Upstream | None = source if isinstance(source, Upstream) else None
        self._ahead = ahead
        self._task: asyncio.Task[Any] | None = None  # the task that reads, until the source has ended
        self._cut = False  # whether it ends early
        self.parked: Future[None] | None = None
        self.ended: bool = False

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> Any:
        if self._items:
            item = self._items.popleft()
            if len(self._items) <= self._ahead // 2:
                self.wake()  # there may be more room now than when the reader paused
            return item
        if self._upstream is not None and (item := self._upstream.take()) is not NOTHING:
            return item
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def ready(self) -> bool:
        """Return whether the next step returns an item, raises the error, or reaches the end, without waiting."""
        return bool(self._items) or self.ended or (self._upstream is not None and self._upstream.has_result())

    def over(self) -> bool:
        """Return whether the source has ended and all of its items have been taken."""
        return self.ended and not self._items

    def waiting(self) -> int:
        """Return the number of items read but not taken. An error counts as one, because a worker must raise it."""
        return len(self._items) + (self._error is not None)

    def rests(self) -> bool:
        """Return whether the reader has paused, because no more items were wanted, and has not continued yet."""
        return self.parked is not None

    def wake(self) -> None:
        """Continue to read if the reader has paused: a slot may be free."""
        if self.parked is not None and not self.parked.done():
            self.parked.set_result(None)

    async def read(self) -> None:
        """Read the source to its end, never further than wanted, and close it. If the run ends, close it early."""
        run = self._run
        self._task = asyncio.current_task()
        try:
            if not self._cut:
                await self._read(run)
        except BaseException as error:  # a worker raises it after the items before it
            if not (self._cut and isinstance(error, asyncio.CancelledError)) or run.is_ending:
                trim(error)
                self._error = error
        self.ended = True
        self._upstream = self._task = None
        if not run.loop.is_closed():  # it is closed if this coroutine is being garbage-collected
            run.supplied()

    async def _read(self, run: Scheduler) -> None:
        items, given = self._items, self._source
        self._source = None
        async with opened(given) as source:
            try:
                async for item in source:
                    if run.is_ending:
                        break  # the source has swallowed its only cancellation, as wait_for does on 3.11 (gh-86296)
                    items.append(item)
                    run.supplied()
                    if self._cut:
                        break
                    while len(items) >= max(run.wanted(), 0) + self._ahead:
                        run.hungry = True  # maybe no worker waits for room, so the consumer must wake this task
                        self.parked = run.loop.create_future()
                        await self.parked
                        self.parked = None
            finally:
                self._task = None  # what the source does to close itself is not cancelled

    def end(self) -> None:
        """Read nothing more, as if the source had ended here; what has been read is run.

        A previous stage ends by itself, when everything that it has taken has passed it. Any other source is cancelled
        in the next turn, so that no item is lost that it is about to return.
        """
        if not (self._upstream is not None and self._upstream.end_source()):
            self._cut = True
            self._run.loop.call_soon(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def close(self) -> BaseException | None:
        """Close a source that was never read, and return the error that no worker has raised."""
        close(self._source)
        discard(*self._items)
        error, self._error = self._error, None
        return error


class opened:  # noqa: N801 - used as a function; contextlib's form assigns to the error, which a frozen one refuses
    """Return an ``async with`` block that iterates any source as an async one, awaits it if needed, and closes it."""

    def __init__(self, source: Any) -> None:
        self._source: Any = source
        self._iterator: AsyncIterator[Any] | None = None

    async def __aenter__(self) -> AsyncIterator[Any]:
        source: Any = self._source
        self._source = None
        if not isinstance(source, AsyncIterable) and isinstance(source, Awaitable):
            source = await cast("Awaitable[object]", source)
        if not isinstance(source, AsyncIterable):
            source = _each(cast("Iterable[object]", source))
        self._iterator = iterator = aiter(cast("AsyncIterable[Any]", source))
        return iterator

    async def __aexit__(self, *exc_info: object) -> None:
        iterator: Any = self._iterator
        if isinstance(iterator, AsyncGenerator | Upstream):
            await cast("AsyncGenerator[Any, None]", iterator).aclose()


async def _each(iterable: Iterable[T]) -> AsyncGenerator[T]:
    """Iterate a sync iterable that an awaitable returned."""
    iterator = iter(iterable)
    try:
        for item in iterator:
            yield item
    finally:
        close(iterator)


def end_source(run: Scheduler) -> None:
    """Have a run take nothing more from its source, as if that had ended here. What it has taken is run.

    The run may be over, or not have begun. Call this in its loop.
    """
    if run.exhausted or run.is_ending or run.left is not None:
        return
    run.left = ()
    if run.reader is not None:
        run.reader.end()
    elif run.items is not None:
        # Under a limit object, a worker may have taken an item that must still wait: the workers find the end
        # themselves. The hot loop has its own reference to the items.
        run.left, run.items = run.items, iter(())
        if run.admission is None:
            run.out_of_items()
        run.unpark(len(run.parked))


class SourceEnd:
    """Ends the source of the runs of a plan when asked to, which may be before they begin."""

    __slots__ = ("_run", "asked")

    def __init__(self) -> None:
        #: Whether the source is to end.
        self.asked: bool = False
        self._run: Callable[[], Scheduler | None] | None = None

    def follow(self, run: Scheduler) -> None:
        """End the source of this run when asked to, or now if that has been asked."""
        self._run = weakref.ref(run)
        if self.asked:
            end_source(run)

    def ask(self) -> None:
        """Take nothing more from the source."""
        self.asked = True
        run = None if self._run is None else self._run()
        if run is not None:
            call_in(run.loop, end_source, run) if hasattr(run, "loop") else end_source(run)


class Calls(list[Any]):
    """A list of coroutine functions, coroutine objects and futures that a run awaits."""

    def discard(self) -> None:
        """Close coroutines that the run did not start, so that Python does not warn that they were never awaited."""
        discard(*self)


def close(source: object) -> None:
    """Close a source that is not read to its end, if that is possible without waiting.

    This closes a generator, and a coroutine or a stream that was not started. It does not close other objects with a
    ``close`` method, such as a file.
    """
    if inspect.isgenerator(source):
        source.close()
    elif isinstance(source, Upstream):
        source.abandon()
    elif isinstance(source, Calls):
        source.discard()
    else:
        discard(source)
