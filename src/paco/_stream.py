"""What the functions over items return: a `Stream` of results, to await or to iterate; and the `Plan` of its run."""

from __future__ import annotations

import sys
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from dataclasses import dataclass, replace
from operator import length_hint
from typing import TYPE_CHECKING, Any, Generic

from paco import _check
from paco._answer import Answer
from paco._engine import Run
from paco._paced import Paced
from paco._sinks import NOTHING, SKIP, AsCompleted, Drop, InOrder, Judged, Keep, Sink
from paco._source import close
from paco._types import T_co
from paco._watched import WatchedPaced, WatchedRun
from paco.events import ears

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType

    from paco.limits import Limiter


#: Finished results that wait for the consumer of a stream without a limit, at most (and about).
_UNLIMITED_BUFFER = 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do, before it has started."""

    name: str
    fn: Callable[[Any], Awaitable[Any]]
    source: Any
    limit: int | Limiter = 0
    timeout: float | None = None
    catch: bool = False
    head: tuple[Any, ...] = ()  # results that come before those of the items
    gaps: bool = False  # whether a result may be SKIP
    ordered: bool = True
    buffer: int | None = None
    max_errors: float | None = None

    def run(self, sink: Sink) -> Run:
        """Make the run, not started yet."""
        if self.max_errors is None:
            return self._run(sink)
        judged = sink.store = Judged(self.name, sink.store, self.max_errors, catch=self.catch)
        run = self._run(sink)
        judged.ends(run)
        return run

    def _run(self, sink: Sink) -> Run:
        """Make one that tells about itself only if somebody listens."""
        how: dict[str, Any] = {"timeout": self.timeout, "catch": self.catch, "offset": len(self.head)}
        if isinstance(self.limit, int):
            count = WatchedRun if ears() else Run
            return count(self.name, self.fn, self.source, sink, limit=self.limit, **how)
        paced = WatchedPaced if ears() else Paced
        return paced(self.name, self.fn, self.source, sink, limit=self.limit, buffer=self.buffer, **how)

    async def collect(self) -> list[Any]:
        """Run, and return the results as a list."""
        keep = Keep(self.head, gaps=self.gaps)
        run = self.run(keep)
        run.start()
        await run.join()
        return keep.results(run.started)

    async def drain(self) -> None:
        """Run, and forget the results."""
        run = self.run(Drop())
        run.start()
        await run.join()

    def consumed(self) -> InOrder:
        """Make the sink of a stream that is iterated."""
        kind = InOrder if self.ordered else AsCompleted
        if not isinstance(self.limit, int):
            return kind(sys.maxsize, 1 if self.buffer is None else max(self.buffer, 1), self.head)
        if not self.limit:
            return kind(sys.maxsize, _UNLIMITED_BUFFER if self.buffer is None else max(self.buffer, 1), self.head)
        window = self.limit + (self.limit if self.buffer is None else self.buffer)
        return kind(window, window, self.head)


# The list that `await` gives is a fresh one: nobody else sees it as a list of something wider, so T may be covariant.
class Stream(
    Coroutine[Any, Any, list[T_co]],  # pyright: ignore[reportInvalidTypeArguments]
    AsyncIterator[T_co],
    Generic[T_co],
):
    """The results of an async function over items: ``await`` it for the list, or iterate it in constant memory.

    Nothing starts before it is used, and it is used once. While it is iterated, the function runs ahead of the
    consumer: by at most ``limit`` items in flight and as many finished ones (`buffer` changes that). Leaving an
    ``async with`` block, being cancelled, an error and the end all come back when everything that was started has
    finished. A stream that is dropped after a plain ``break`` cancels what runs, within the next steps of the loop.

    ```python
    pages = await paco.map(fetch, urls, limit=50)

    async with paco.map(fetch, urls, limit=50) as pages:
        async for page in pages:
            ...
    ```

    Errors are raised when the results before them have been taken: an item's own exception with a note that names the
    item, ``TimeoutError`` from the call's ``timeout``.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> async def main():
        ...     return [number async for number in paco.map(double, range(3), limit=2)]
        >>> paco.run(main())
        [0, 2, 4]
    """

    __slots__ = ("__name__", "__weakref__", "_coro", "_downstream", "_plan", "_run", "_sink", "_use")

    def __init__(self, plan: Plan) -> None:
        self._use = ""
        self._plan = plan
        self.__name__: str = f"paco.{plan.name}"  # by which asyncio shows a task of this stream
        self._run: Run | None = None
        self._sink: InOrder | None = None
        self._coro: Answer[list[T_co]] | None = None
        self._downstream: Callable[[BaseException], None] | None = None

    def __repr__(self) -> str:
        plan = self._plan
        return f"<paco.{plan.name} stream of {_check.shorten(plan.fn)}, limit={plan.limit}, {self._use or 'unused'}>"

    def __length_hint__(self) -> int:
        plan = self._plan
        hint = -1 if plan.gaps else length_hint(plan.source, -1)
        return NotImplemented if hint < 0 else hint + len(plan.head)

    # ---- the same run in another form

    def as_completed(self) -> Stream[T_co]:
        """Return the stream that gives each result as soon as it is there, in order of completion."""
        return self._become(ordered=False)

    def buffer(self, count: int) -> Stream[T_co]:
        """Return the stream that lets up to ``count`` finished results wait for a slow consumer.

        Without a limit all that is in flight may finish: then nothing more starts, about, while so many results wait.

        Args:
            count: An ``int`` of 0 or more. The default is as many as the limit, or about 1,000 without one.
        """
        return self._become(buffer=_check.integer(f"{self._plan.name}.buffer", "count", count, 0))

    def max_errors(self, most: float) -> Stream[T_co]:
        """Return the stream that ends early, with `TooManyErrors`, when more items than that have failed.

        Errors are the `Err` values of a settled function and, with ``return_exceptions``, the exceptions; without
        either the first one ends the run anyway. What had finished is in the ``outcomes`` of the error.

        Args:
            most: How many are borne: an ``int`` of 0 or more; or a float between 0 and 1, the fraction of the finished
                items, which is judged when 20 have finished, and from then on at each.

        Examples:
            >>> async def invert(number):
            ...     return 1 / number
            >>> async def main():
            ...     try:
            ...         return await paco.map(paco.settle(invert), [1, 0, 2, 0, 4, 5], limit=1).max_errors(1)
            ...     except paco.TooManyErrors as error:
            ...         print(error)
            ...         return paco.partition(error.outcomes)[0]
            >>> [one.value for one in paco.run(main())]
            paco.map: 2 of 4 items failed, and max_errors is 1
            [1.0, 0.5]
        """
        return self._become(max_errors=_check.count_or_fraction(f"{self._plan.name}.max_errors", "most", most))

    def _become(self, **changes: Any) -> Stream[T_co]:
        self._claim("replaced")
        return Stream(replace(self._plan, **changes))

    def _claim(self, use: str) -> None:
        if self._use:
            name = self._plan.name
            raise RuntimeError(f"paco.{name}: a stream is used once, and this one has been {self._use}; call it again")
        self._use = use

    # ---- await

    def __await__(self) -> Generator[Any, Any, list[T_co]]:
        self._claim("awaited")
        return self._collect().__await__()

    async def _collect(self) -> list[T_co]:
        if not self._plan.ordered:
            return [result async for result in Stream[T_co](self._plan)]
        return await self._plan.collect()

    def send(self, value: Any) -> Any:
        """Go on as a coroutine: ``asyncio.run`` and ``create_task`` drive a stream through this."""
        return self._coroutine().send(value)

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Any:
        """Raise inside, as a coroutine."""
        return self._coroutine().throw(typ, val, tb)

    def close(self) -> None:
        """End it as a coroutine: what has not been started will not be."""
        if self._coro is not None:
            self._coro.close()
        elif not self._use:
            self._use = "closed"
            close(self._plan.source)

    def _coroutine(self) -> Answer[list[T_co]]:
        if self._coro is None:
            self._claim("awaited")
            self._coro = Answer(self._plan.name, self._collect(), self._plan.source)
        return self._coro

    # ---- async for, async with

    def __aiter__(self) -> Stream[T_co]:
        if self._use != "iterated" or (self._run is not None and self._run.told):
            self._claim("iterated")
        return self

    async def __anext__(self) -> T_co:
        run, sink = self._run, self._sink
        if run is None or sink is None:
            run, sink = self._start()
        while True:
            result: T_co = sink.take()
            if result is NOTHING:
                if not await run.next(sink):
                    raise StopAsyncIteration
                continue
            if run.hungry:
                run.release()
            if result is not SKIP:
                return result

    def _start(self) -> tuple[Run, InOrder]:
        if self._use != "iterated":
            self._claim("iterated")
        sink = self._plan.consumed()
        run = self._plan.run(sink)
        if self._downstream is not None:
            run.feeds(self._downstream)
        run.start()  # raises what the source's __iter__ raises: then there is no run to close
        self._run, self._sink = run, sink
        return run, sink

    async def __aenter__(self) -> Stream[T_co]:
        self._claim("iterated")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what runs and wait until it has finished. Does nothing where there is nothing left."""
        if self._run is not None:
            await self._run.close()
        elif self._use in {"", "iterated"}:
            self._use = "closed"
            close(self._plan.source)

    # ---- being the source of another run

    def feeds(self, fail: Callable[[BaseException], None]) -> None:
        """Be iterated by a run that is to fail with this one, at once."""
        self._claim("iterated")
        self._downstream = fail

    def abandon(self) -> None:
        """Cancel what runs, without waiting."""
        if self._run is not None:
            self._run.abandon()
        else:
            self._use = self._use or "closed"
            close(self._plan.source)

    def __del__(self) -> None:
        if not self._use:
            message = f"paco.{self._plan.name}(...) was never awaited or iterated"
            warnings.warn(message, RuntimeWarning, stacklevel=2, source=self)
            self.close()
        elif self._run is not None:
            self._run.abandon_soon()
