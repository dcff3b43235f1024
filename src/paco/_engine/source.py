"""Where items come from: one task that reads an async source, ahead of the workers by their free slots only.

A sync source needs nothing of this: the workers advance its iterator themselves. An async one is read, and closed, by
a single task with a context of its own, because that is what async generators are written for: a timeout, a task group
or a context variable inside one belongs to the task that entered it.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any, Protocol, cast

from paco._base.check import discard
from paco._base.errors import trim

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Callable, Iterable

    from paco._base.types import T


class Upstream:
    """A source that is a run itself: it is told at once where its failure goes, and is closed when it is left.

    A base class, not a protocol: to ask an object whether it has the methods took 28 % of a call of `paco.hedge`.
    """

    __slots__ = ()

    @abstractmethod
    def feeds(self, fail: Callable[[BaseException], None]) -> None:
        """Hear what is to be called with a failure, beside raising it."""

    @abstractmethod
    def abandon(self) -> None:
        """Hear that nobody will ask for more."""

    @abstractmethod
    async def aclose(self) -> None:
        """End, and wait until everything has."""


class Demand(Protocol):
    """What the reader asks of the run it reads for."""

    #: Items read ahead at most, however many are wanted (``limit=0`` has no end of them).
    lead: int

    def ending(self) -> bool:
        """Say whether nothing more is to be read."""
        ...

    def wanted(self) -> int:
        """Return how many items could start now, those already read included."""
        ...

    def rests(self) -> None:
        """Hear that the reader waits to be woken when there is more room."""
        ...

    def supplied(self) -> None:
        """Hear that one more item has been read."""
        ...


class Reader:
    """An iterator over what has been read of an async source: it stops when nothing is there *yet*.

    ``ended`` tells a pause from the end. An error of the source is raised in its turn, after the items before it.
    """

    __slots__ = ("_error", "_items", "_loop", "_parked", "_run", "_source", "ended")

    def __init__(self, source: Any, run: Demand, loop: AbstractEventLoop) -> None:
        self._source: Any = source
        self._run: Demand = run
        self._loop = loop
        self._items: deque[Any] = deque()
        self._error: BaseException | None = None
        self._parked: Future[None] | None = None
        self.ended = False

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> Any:
        if self._items:
            item = self._items.popleft()
            if not self._items:
                self.wake()  # there may be more room by now than when the reader went to rest
            return item
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def ready(self) -> bool:
        """Say whether a worker would get an answer: an item, the error or the end."""
        return bool(self._items) or self.ended

    def over(self) -> bool:
        """Say whether the source has ended and all of its items have been taken."""
        return self.ended and not self._items

    def waiting(self) -> int:
        """Return how many items have been read and not been taken; an error counts, it wants to be raised."""
        return len(self._items) + (self._error is not None)

    def wake(self) -> None:
        """Hear that a slot is free."""
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    async def read(self) -> None:
        """Read the source to its end, never more than is wanted, and close it when told to stop."""
        try:
            await self._read_all()
        except BaseException as error:  # whatever it is, a worker raises it in its turn
            trim(error)
            self._error = error
        self.ended = True
        self._source = None
        if not self._loop.is_closed():  # it is when this coroutine is being collected
            self._run.supplied()

    async def _read_all(self) -> None:
        items, run = self._items, self._run
        async with opened(self._source) as source:
            async for item in source:
                if run.ending():
                    return  # the source has swallowed its one cancellation, as wait_for does on 3.11 (gh-86296)
                items.append(item)
                run.supplied()
                while len(items) >= min(run.wanted(), run.lead):
                    run.rests()
                    self._parked = self._loop.create_future()
                    await self._parked

    def close(self) -> BaseException | None:
        """Let go of a source that was never read, and return the error that no worker has raised."""
        close(self._source)
        discard(*self._items)
        error, self._error = self._error, None
        return error


class opened:  # noqa: N801 - used as a function; contextlib's form assigns to the error, which a frozen one refuses
    """Iterate any source as an async one, awaited if need be, and close it in the end."""

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
    """Iterate a sync iterable that came out of an awaitable."""
    iterator = iter(iterable)
    try:
        for item in iterator:
            yield item
    finally:
        close(iterator)


class Calls(list[Any]):
    """Coroutine functions, coroutine objects and futures, to be awaited by a run."""

    def discard(self) -> None:
        """Let go of those that the run has not come to: no coroutine is reported as never awaited."""
        discard(*self)


def close(source: object) -> None:
    """Close a source that is left early, as far as that needs no waiting.

    That is a generator, and a coroutine or a stream that was not started; not what merely has a ``close``, like a file.
    """
    if inspect.isgenerator(source):
        source.close()
    elif isinstance(source, Upstream):
        source.abandon()
    elif isinstance(source, Calls):
        source.discard()
    else:
        discard(source)
