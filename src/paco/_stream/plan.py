"""Runs that have not started: a `Plan` has its items, and a `Stage`, the right side of ``|``, waits for them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

from paco._base import check
from paco._base.types import MISSING, Loop, R, T, T_contra, WithoutItems
from paco._engine.admission import Admission
from paco._engine.failure import ErrorBudget
from paco._engine.outcomes import Unfinished, settled
from paco._engine.permits import refusable
from paco._engine.run import Scheduler
from paco._engine.sinks import NOTHING, AsCompleted, Batches, Drop, InOrder, Keep, Sink
from paco._engine.source import heeds
from paco._engine.watch import Watch, length
from paco._stream.coroutine import OF_STREAMS
from paco.events._listeners import installed, listeners
from paco.limits import Limiter
from paco.limits._base import checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.check import ItemFunction
    from paco._base.types import LookUp, OnError, Service, Source
    from paco._engine.nursery import Nursery
    from paco._stream.consumer import Consumer
    from paco._stream.stream import Stream
    from paco.limits import AnyLimit

#: The approximate maximum of finished results that wait for the consumer of a stream without a limit.
_UNLIMITED_BUFFER = 1024
#: The maximum number of items that wait at the workers of an engine, in addition to those in flight; also the maximum
#: in flight without a limit.
LEAD = 10_000
#: The same if items are sent one by one. It is smaller because each such item has a task in this process.
_LEAD_OF_CALLS = 1000

Out_co = TypeVar("Out_co", covariant=True)
X = TypeVar("X")


class Recording(Protocol):
    """Writes a record of each item: a journal, which is imported only when it is used, or the output of the command."""

    def begin(
        self, name: str, fn: ItemFunction, sink: InOrder | Drop, *, on_error: OnError
    ) -> tuple[Service, ItemFunction, LookUp | None]:
        """Return the service that writes, the function that replaces that of the run, and one that finds records."""
        ...


@dataclass(slots=True)  # a frozen one takes five times as long to make: as much as the rest of a run of one item
class Plan:
    """A run that has not started: its function, its source and its options. It never changes."""

    name: str
    fn: ItemFunction
    source: Any
    limit: int | Limiter = 0
    timeout: float | None = None
    on_error: OnError = "raise"
    head: tuple[Any, ...] = ()  # results that come before those of the items
    gaps: bool = False  # whether a result may be SKIP
    feeds: bool = True  # whether the results of a stream go, one by one, to the user or the next stage
    ordered: bool = True
    buffer: int | None = None
    ahead: int = 0  # how many items of an async source to read before there are slots for them
    batch: tuple[int, float | None] | None = None  # the size of the lists to deliver, and the seconds to wait for one
    max_errors: float | None = None
    journal: Recording | None = None
    engine: Callable[[], Any] | None = None  # opens the engine on which the items run: see `paco.remote`

    def length_hint(self) -> int:
        """Return how many results a stream will deliver; ``NotImplemented`` if that is unknown."""
        size, within = self.batch or (1, None)
        hint = None if self.gaps or within is not None else length(self.source)
        return NotImplemented if hint is None else -(-hint // size)

    def run(self, sink: Sink) -> Scheduler:
        """Return the run, not yet started."""
        fn, limit, judged, look_up = self.fn, self.limit, None, None
        services: list[Service] = []
        one_by_one = self.engine is not None and (
            self.journal is not None or not isinstance(limit, int) or heeds(self.source)
        )
        if one_by_one:
            fn, limit = self._called(services)
        by_item = not isinstance(limit, int) and limit.lookahead > 0
        if noted := by_item and (self.journal is not None or bool(installed or listeners.get())):
            fn = refusable(fn)
        if self.journal is not None:
            begin, held_back = self.journal.begin, cast("InOrder | Drop", sink)
            service, fn, look_up = begin(self.name, fn, held_back, on_error=self.on_error)
            services.append(service)
        if self.max_errors is not None:
            judged = sink.store = ErrorBudget(self.name, sink.store, self.max_errors, self.on_error)
        run = self._run(fn, sink, limit, None if one_by_one else self.engine, look_up)
        run.services = tuple(services)
        if noted:
            cast("Admission", run.admission).permits.refusable = True
        if isinstance(sink, Batches):
            sink.serves(run)
        if judged is not None:
            judged.ends(run)
        return run

    def _called(self, services: list[Service]) -> tuple[ItemFunction, int | Limiter]:
        """Return a function that sends one item to the engine, and the limit of its calls."""
        from paco.remote._item_calls import ItemCalls

        engine = cast("Callable[[], Any]", self.engine)
        watched = self.journal is not None or bool(installed or listeners.get())
        calls = ItemCalls(self.name, self.fn, engine, self.limit, LEAD, _LEAD_OF_CALLS, watched=watched)
        services.append(calls)
        return calls.function, calls.limit

    def _run(
        self,
        fn: ItemFunction,
        sink: Sink,
        limit: int | Limiter,
        engine: Callable[[], Any] | None,
        look_up: LookUp | None,
    ) -> Scheduler:
        """Return a run with a `Watch` only if there are listeners, and an admission only if a number is not enough."""
        how: dict[str, Any] = {
            "timeout": self.timeout,
            "on_error": self.on_error,
            "offset": len(self.head),
            "ahead": self.ahead,
        }
        watch = None
        if installed or listeners.get():
            most = limit if engine is None else limit or LEAD
            how["watch"] = watch = Watch(self.name, fn, self.source, sink, most, feeds=self.feeds)
            fn = fn if engine is not None else watch.around(fn)
        if not isinstance(limit, int):
            how["admission"] = Admission(limit, sink, self.buffer, look_up)
            limit = 0
        elif engine is not None:
            from paco.remote._chunked_run import Chunks

            there: dict[str, Any] = {"engine": engine, "limit": limit, "lead": LEAD, "on_error": self.on_error}
            how["admission"] = Chunks(self.name, self.source, sink, buffer=self.buffer, watch=watch, **there)
        return Scheduler(self.name, fn, self.source, sink, limit=limit, **how)

    def start(self, sink: Sink, consumer: Consumer | None = None, downstream: Nursery | None = None) -> Scheduler:
        """Start the run in the running loop, for a consumer that may end its source.

        If it feeds another run, that one fails at once with an error of it.
        """
        run = self.run(sink)
        if downstream is not None:
            run.feeds(downstream)
        run.start()  # may raise from the source's __iter__; then there is no run to close
        if consumer is not None:
            consumer.follow(run)
        return run

    async def collect(self, consumer: Consumer | None = None) -> list[Any]:
        """Run all items, and return the results as a list."""
        if not self.ordered or self.journal is not None or self.batch is not None:
            return await self._collect_delivered(consumer)
        keep = Keep(self.head, gaps=self.gaps)
        run = self.start(keep, consumer)
        await run.join()
        return keep.results(run.started)

    async def _collect_delivered(self, consumer: Consumer | None) -> list[Any]:
        """Return the results that a run delivers one by one."""
        # The list keeps every result anyway, so results behind a slow item need no bound.
        plan, results = replace(self, buffer=sys.maxsize, feeds=False), list[Any]()
        run = plan.start(plan.consumed(), consumer)
        try:
            await _deliver(run, results.append)
        except Unfinished as error:
            taken = results if self.batch is None else chain.from_iterable(results)
            error.outcomes = (*settled(taken), *settled(run.sink.left()))
            raise
        return results

    async def drain(self) -> None:
        """Run all items, and discard the results."""
        await self.count()

    async def count(self, consumer: Consumer | None = None) -> int:
        """Run all items, discard the results, and return the number of items."""
        run = self.start(Drop(), consumer)
        await run.join()
        return run.started - run.offset

    def consumed(self) -> InOrder:
        """Return the sink for a stream that is iterated."""
        if self.batch is not None:
            return Batches(*self.batch, *self._bounds(), self.head, ordered=self.ordered)
        return (InOrder if self.ordered else AsCompleted)(*self._bounds(), self.head)

    def _bounds(self) -> tuple[int, int]:
        """Return the window of the sink, and the maximum of results that wait there."""
        if self.engine is not None and not self.limit:
            return 2 * LEAD, LEAD if self.buffer is None else max(self.buffer, 1)
        if not isinstance(self.limit, int):
            return sys.maxsize, 1 if self.buffer is None else max(self.buffer, 1)
        if not self.limit:
            return sys.maxsize, _UNLIMITED_BUFFER if self.buffer is None else max(self.buffer, 1)
        ahead = 0 if self.batch is not None else self.limit  # results in the next list are not in the buffer
        ahead = ahead if self.engine is None else max(self.limit, _LEAD_OF_CALLS)
        window = self.limit + (ahead if self.buffer is None else self.buffer)
        return window, window


async def identical(item: T) -> T:
    """Return the item: the function of a run that only regroups its items."""
    return item


async def _deliver(run: Scheduler, take: Callable[[Any], object]) -> None:
    """Call ``take`` with each result of a run that has begun."""
    try:
        while True:
            if (result := run.take()) is not NOTHING:
                take(result)
            elif run.done:
                await run.join()
                break
            else:
                await run.until_result()
    except asyncio.CancelledError as error:
        run.stop()
        await run.join(error)
    except GeneratorExit:
        run.abandon_soon()  # the user has closed the waiting coroutine
        raise


class Stage(WithoutItems, Generic[T_contra, Out_co]):
    """A function over items that has not been given its items yet.

    ``items | stage`` gives them; ``stage | stage`` joins two. Only paco makes stages: the class is public for
    annotations. A stage of your own is an async generator function that takes the stream before it as its argument.

    A stage is immutable and reusable: each use starts a new run. All stages of a pipeline run at the same time, each
    under its own limit, with backpressure from the consumer to the source. If one stage fails, all end at once.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> quadruple = paco.map(double, limit=10) | paco.map(double, limit=5)
        >>> async def main():
        ...     return await ([1, 2, 3] | quadruple)
        >>> paco.run(main())
        [4, 8, 12]
    """

    __slots__ = ("_apply",)
    # These make numpy and pandas leave `|` to this class, instead of applying it to each element.
    __array_ufunc__ = None
    __pandas_priority__ = 5000  # that of a data frame, the highest in pandas, is 4000

    def __init__(self, name: str, apply: Callable[[Any], Out_co]) -> None:
        super().__init__(name)
        self._apply = apply

    def __repr__(self) -> str:
        return f"<paco stage {self._name}>"

    def __call__(self, source: Source[T_contra]) -> Out_co:
        """Apply the stage to items: ``stage(items)`` is ``items | stage``."""
        return self.__ror__(source)

    def __ror__(self, source: Source[T_contra]) -> Out_co:
        with check.discarding(source):
            check.iterable(self._name, source, "the left side of |")
            return self._apply(source)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name not in OF_STREAMS:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            remedy = f"give it its items first: (items | stage).{name}(...)"
            raise AttributeError(f"paco.{self._name}: a stage has no {name}; {remedy}")

    @overload
    def __or__(self: Stage[T_contra, Stream[R]], other: BatchStage) -> Stage[T_contra, Stream[list[R]]]: ...
    @overload
    def __or__(self: Stage[T_contra, Stream[R]], other: Stage[R, X]) -> Stage[T_contra, X]: ...
    def __or__(self: Stage[T_contra, Stream[Any]], other: Any) -> Any:
        if not isinstance(cast("object", other), Stage):
            if isinstance(other, Iterable | AsyncIterable):
                raise TypeError(f"paco.{self._name}: the items come first: write items | stage")
            return NotImplemented
        then: Stage[Any, Any] = other
        first, second = self._apply, then._apply
        return Stage[Any, Any](f"{self._name} | {then._name}", lambda source: second(first(source)))


class BatchStage(Stage[Any, Any]):
    """The stage that `paco.batch` returns: for items of any type, so that type checkers infer that of the lists."""

    __slots__ = ()

    if (
        TYPE_CHECKING
    ):  # at runtime, an operator that a subclass overrides would come before that of the stage on its left

        def __call__(self, source: Source[T]) -> Stream[list[T]]: ...
        def __ror__(self, source: Source[T]) -> Stream[list[T]]: ...
        @overload
        def __or__(self, other: BatchStage) -> Stage[Any, Stream[list[list[Any]]]]: ...
        @overload
        def __or__(self, other: Stage[list[T], X]) -> Stage[T, X]: ...
        def __or__(self, other: Any) -> Any: ...


def build_or_stage(
    name: str,
    coro: Any,
    iterable: Any,
    build: Callable[[Plan], object],
    limit: AnyLimit | None,
    loop: Loop,
    timeout: float | None = None,
    *,
    fn: ItemFunction | None = None,
    catch: bool = False,
    gaps: bool = False,
) -> Any:
    """Check the arguments that functions over items share, then return what ``build`` makes of their `Plan`.

    Without an ``iterable``, return a `Stage` that does so when it gets one. ``fn`` runs in place of ``coro``.
    """
    try:
        check.function(name, coro, following=iterable)
        found = limit if isinstance(limit, int | Limiter) else checked(name, limit)
        if isinstance(found, int):
            check.limit(name, found)
        seconds = check.timeout(name, timeout)
        check.loop(name, loop, "; pass further arguments by name, those of coro too")
        if catch is not False:
            check.flag(name, "return_exceptions", catch)
        if iterable is not MISSING:
            check.iterable(name, iterable)
    except BaseException:
        check.discard(iterable)
        raise
    run = coro if fn is None else fn
    on_error: OnError = "settle" if check.is_settled(run) else "return" if catch else "raise"

    def apply(source: Any) -> object:
        return build(Plan(name, run, source, found, seconds, on_error, gaps=gaps))

    return Stage[Any, Any](name, apply) if iterable is MISSING else apply(iterable)
