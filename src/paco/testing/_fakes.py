"""Fake sources and functions that record how they are used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

from paco.testing._loop import now

T = TypeVar("T")
R = TypeVar("R")


class _Recorder(Generic[T]):
    def __init__(self, items: Iterable[T], *, error: Exception | None = None) -> None:
        self.pulled: int = 0
        self.ended: bool = False
        self.closed: bool = False
        self.asked_after_end: bool = False
        self._items = iter(items)
        self._error = error

    def _take(self, end: type[Exception]) -> T:
        if self.ended:
            self.asked_after_end = True
            raise end
        for item in self._items:
            self.pulled += 1
            return item
        self.ended = True
        raise self._error or end


class Source(_Recorder[T], Iterator[T]):
    """An iterator that records how it is used. `generator` returns the same as a generator.

    Args:
        items: The items; read lazily, may be infinite.
        error: An exception to raise after the last item.

    Attributes:
        pulled: The number of items taken.
        ended: Whether the end, or the error, was delivered.
        closed: Whether ``close`` was called; for a started `generator`, whether it was closed or has ended.
        asked_after_end: Whether an item was requested after the end or the error. (Not recorded for a `generator`.)

    Examples:
        >>> source = Source("abc")
        >>> next(source), source.pulled, source.ended
        ('a', 1, False)
    """

    def __next__(self) -> T:
        return self._take(StopIteration)

    def close(self) -> None:
        """Record the call. The iterator stays usable: code that iterates an iterator does not own it."""
        self.closed = True

    def generator(self) -> Generator[T]:
        """Return a generator over the items that records on this object. The code that iterates it must close it."""
        try:
            yield from self
        finally:
            self.closed: bool = True


class AsyncSource(_Recorder[T], AsyncIterator[T]):
    """An async iterator that records how it is used, with the attributes of `Source`.

    Like an async generator, it raises ``RuntimeError`` if two tasks request an item at the same time.

    Args:
        items: The items; read lazily, may be infinite.
        error: An exception to raise after the last item.
        delay: Seconds to wait before each item; with ``None`` an item comes without a turn of the loop.

    Examples:
        >>> from paco.testing import run
        >>> async def first():
        ...     source = AsyncSource("abc", delay=10)
        ...     return await anext(source), source.pulled, now()
        >>> run(first)
        ('a', 1, 10.0)
    """

    def __init__(self, items: Iterable[T], *, error: Exception | None = None, delay: float | None = None) -> None:
        super().__init__(items, error=error)
        self._delay = delay
        self._asked = False

    async def __anext__(self) -> T:
        if self._asked:
            raise RuntimeError(
                "paco.testing.AsyncSource: must be asked for one item at a time, but another task waits for one; "
                "read it from a single task"
            )
        self._asked = True
        try:
            if self._delay is not None:
                await asyncio.sleep(self._delay)
            return self._take(StopAsyncIteration)
        finally:
            self._asked = False

    async def aclose(self) -> None:
        """Record the call. The iterator stays usable: code that iterates an iterator does not own it."""
        self.closed = True

    async def generator(self) -> AsyncGenerator[T]:
        """Return an async generator over the items that records on this object."""
        try:
            async for item in self:
                yield item
        finally:
            self.closed: bool = True


class Probe(Generic[T, R]):
    """An async function that waits, returns ``fn(item)``, and records when each item ran.

    Args:
        fn: A plain function, called after the wait. Its result or exception is that of the probe.
        takes: Seconds to wait for each item, or a function of the item that returns them. With 0 an item takes one turn
            of the loop; with ``None`` it does not wait at all.
        cleanup: Seconds for which a cancelled item continues, as if it awaited something in a ``finally`` block.

    Attributes:
        started: The items, in the order in which they started.
        started_at: The times at which they started, in seconds of the event loop's clock.
        finished: The items that returned a result, in the order in which they ended.
        failed: The items for which ``fn`` raised, in the order in which they ended.
        cancelled: The items that were cancelled, in the order in which they ended.
        running: The number of items in flight.
        peak: The largest number of items that were in flight at once.

    Examples:
        >>> from paco.testing import run
        >>> async def three():
        ...     double = Probe(lambda x: 2 * x, takes=10)
        ...     results = await asyncio.gather(double(1), double(2), double(3))
        ...     return results, double.peak, now()
        >>> run(three)
        ([2, 4, 6], 3, 10.0)
    """

    def __init__(
        self, fn: Callable[[T], R], *, takes: float | Callable[[T], float] | None = 0, cleanup: float | None = None
    ) -> None:
        self.started: list[T] = []
        self.started_at: list[float] = []
        self.finished: list[T] = []
        self.failed: list[T] = []
        self.cancelled: list[T] = []
        self.running: int = 0
        self.peak: int = 0
        self._fn, self._takes, self._cleanup = fn, takes, cleanup

    async def __call__(self, item: T) -> R:
        """Wait, then return ``fn(item)``."""
        self.started.append(item)
        self.started_at.append(now())
        self.running += 1
        self.peak = max(self.peak, self.running)
        outcome = self.failed
        try:
            if self._takes is not None:
                await asyncio.sleep(self._takes(item) if callable(self._takes) else self._takes)
            result = self._fn(item)
            outcome = self.finished
        except asyncio.CancelledError:
            outcome = self.cancelled
            if self._cleanup is not None:
                await asyncio.sleep(self._cleanup)
            raise
        finally:
            outcome.append(item)
            self.running -= 1
        return result
