"""Sources of items: what a source may be, and how it is opened and closed."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any, cast

from paco._base.check import discard
from paco._engine.sinks import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from paco._base.types import T
    from paco._engine.nursery import Nursery
    from paco._engine.run import Scheduler


class Upstream:
    """What a run reads if its source is a run itself: the previous stage of a pipeline.

    A source has a method ``__upstream__`` that returns it, so that users of a stream do not see these methods. It is
    looked up as special methods are: the check for a protocol took 28% of the time of a `paco.hedge` call.
    """

    __slots__ = ()

    #: Whether this source, or one before it, must be told when the runs that read it have nothing else to do.
    heeds: bool = False

    def starves(self) -> None:
        """Note that the run which reads this waits for a result, and may have nothing else to do; see `heeds`."""

    def __upstream__(self) -> Upstream:
        return self

    @abstractmethod
    def feeds(self, run: Nursery) -> None:
        """Make ``run`` fail at once with the first error of this source, before it reads that far."""

    def has_result(self) -> bool:
        """Return whether `take` may return a result."""
        return False

    def take(self) -> Any:
        """Remove and return the next result; `NOTHING` if that needs waiting."""
        return NOTHING

    async def next(self, wanted: Callable[[], bool], /) -> Any:
        """Wait for the next result and return it; raise ``StopAsyncIteration`` at the end.

        If a result is not ``wanted`` any more when it has come, leave it there and return `NOTHING`: meanwhile, workers
        may have called `take` for all items that can start. By default there is no `take`, so that it is still wanted.
        """
        return await anext(cast("AsyncIterator[Any]", self))

    def end_source(self) -> bool:
        """Take nothing more from its own source, and return whether its results end when those on the way are there."""
        return False

    @abstractmethod
    def abandon(self) -> None:
        """Stop: nothing will read further results. Does not wait."""

    @abstractmethod
    async def aclose(self) -> None:
        """Stop, and wait until all tasks have ended."""


def upstream_of(source: object) -> Upstream | None:
    """Return the upstream of a source; ``None`` if the source is not a run."""
    upstream: Callable[[object], Upstream] | None = getattr(type(source), "__upstream__", None)
    return None if upstream is None else upstream(source)


def heeds(source: object) -> bool:
    """Return whether a source must be told when the runs that read it have nothing else to do."""
    upstream = upstream_of(source)
    return upstream is not None and upstream.heeds


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
        if isinstance(iterator, AsyncGenerator) or upstream_of(iterator) is not None:
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

    The run has begun, and may be over. Call this in its loop.
    """
    if run.exhausted or run.is_ending or run.left is not None:
        return
    if run.watch is not None:
        run.watch.view.stopping = True
    if run.reader is not None:
        run.left = ()
        run.reader.end()
    else:
        # Under a limit object, a worker may have taken an item that must still wait: the workers find the end
        # themselves. The hot loop has its own reference to the items.
        run.left, run.items = run.items, iter(())
        if run.admission is None:
            run.out_of_items()
        run.unpark(len(run.parked))


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
    elif (upstream := upstream_of(source)) is not None:
        upstream.abandon()
    elif isinstance(source, Calls):
        source.discard()
    else:
        discard(source)
