"""A plan describes a run that has not started: its function, its source and its options."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from paco._engine.admission import Admission
from paco._engine.run import Scheduler
from paco._engine.sinks import AsCompleted, Drop, ErrorBudget, InOrder, Keep, Sink
from paco._engine.watch import Watch
from paco.events import subscriptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paco._base.item import Ran
    from paco._base.types import OnError
    from paco._engine.nursery import Service
    from paco.limits import Limiter

#: The approximate maximum of finished results that wait for the consumer of a stream without a limit.
_UNLIMITED_BUFFER = 1024
#: The maximum number of items that wait at the workers of an engine, in addition to those in flight; also the maximum
#: in flight without a limit.
LEAD = 10_000
#: The same if items are sent one by one. It is smaller because each such item has a task in this process.
_LEAD_OF_CALLS = 1000


ItemFunction: TypeAlias = "Callable[[Any], Awaitable[Any]]"


def ran_here() -> Ran | None:
    """Return ``None``: the item ran in this process."""
    return None


class Recording(Protocol):
    """Writes a record of each item. `paco.journal.Journal` implements it, and is imported only when used."""

    def begin(
        self,
        name: str,
        fn: ItemFunction,
        sink: InOrder,
        limit: int | Limiter,
        *,
        on_error: OnError,
        ran: Callable[[], Ran | None],
    ) -> tuple[Service, ItemFunction, int | Limiter]:
        """Return the service of the records, and the function and the limit that the run must use instead.

        Args:
            name: The operation, for messages.
            fn: The function over the items.
            sink: Where the results go.
            limit: The limit of the run.
            on_error: What happens with an item's exception.
            ran: Returns where and when the item ran whose call has just returned; ``None`` for this process.
        """
        ...


def policy(return_exceptions: object) -> OnError:
    """Return the error policy that corresponds to a ``return_exceptions`` argument."""
    return "return" if return_exceptions else "raise"


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that has not started: its function, its source and its options."""

    name: str
    fn: ItemFunction
    source: Any
    limit: int | Limiter = 0
    timeout: float | None = None
    on_error: OnError = "raise"
    head: tuple[Any, ...] = ()  # results that come before those of the items
    gaps: bool = False  # whether a result may be SKIP
    ordered: bool = True
    buffer: int | None = None
    max_errors: float | None = None
    journal: Recording | None = None
    engine: Callable[[], Any] | None = None  # opens the engine on which the items run: see `paco.remote`

    def run(self, sink: Sink) -> Scheduler:
        """Return the run, not yet started."""
        fn, limit, judged = self.fn, self.limit, None
        services: list[Service] = []
        one_by_one = self.engine is not None and (self.journal is not None or not isinstance(limit, int))
        ran = ran_here
        if one_by_one:
            fn, limit, ran = self._called(services)
        if self.journal is not None:
            begin, stream = self.journal.begin, cast("InOrder", sink)
            service, fn, limit = begin(self.name, fn, stream, limit, on_error=self.on_error, ran=ran)
            services.append(service)
        if self.max_errors is not None:
            judged = sink.store = ErrorBudget(self.name, sink.store, self.max_errors, self.on_error)
        run = self._run(fn, sink, limit, None if one_by_one else self.engine)
        run.services = tuple(services)
        if judged is not None:
            judged.ends(run)
        return run

    def _called(self, services: list[Service]) -> tuple[ItemFunction, int | Limiter, Callable[[], Ran | None]]:
        """Return a function that sends one item to the engine, the limit of its calls, and the ``ran`` function."""
        from paco.remote._item_calls import ItemCalls

        engine, watched = cast("Callable[[], Any]", self.engine), self.journal is not None or bool(subscriptions())
        calls = ItemCalls(self.name, self.fn, engine, self.limit, LEAD, _LEAD_OF_CALLS, watched=watched)
        services.append(calls)
        return calls.function, calls.limit, lambda: calls.last

    def _run(self, fn: ItemFunction, sink: Sink, limit: int | Limiter, engine: Callable[[], Any] | None) -> Scheduler:
        """Return a run with a `Watch` only if there are listeners, and an admission only if a number is not enough."""
        how: dict[str, Any] = {"timeout": self.timeout, "on_error": self.on_error, "offset": len(self.head)}
        watch = None
        if subscriptions():
            most = limit if engine is None else limit or LEAD
            how["watch"] = watch = Watch(self.name, fn, self.source, sink, most)
            fn = fn if engine is not None else watch.around(fn)
        if not isinstance(limit, int):
            how["admission"] = Admission(limit, sink, self.buffer)
            limit = 0
        elif engine is not None:
            from paco.remote._chunked_run import Chunks

            there: dict[str, Any] = {"engine": engine, "limit": limit, "lead": LEAD, "on_error": self.on_error}
            how["admission"] = Chunks(self.name, self.source, sink, buffer=self.buffer, watch=watch, **there)
            limit = 1
        return Scheduler(self.name, fn, self.source, sink, limit=limit, **how)

    async def collect(self) -> list[Any]:
        """Run all items, and return the results as a list."""
        keep = Keep(self.head, gaps=self.gaps)
        run = self.run(keep)
        run.start()
        await run.join()
        return keep.results(run.started)

    async def drain(self) -> None:
        """Run all items, and discard the results."""
        run = self.run(Drop())
        run.start()
        await run.join()

    def consumed(self) -> InOrder:
        """Return the sink for a stream that is iterated."""
        kind = InOrder if self.ordered else AsCompleted
        if self.engine is not None and not self.limit:
            return kind(2 * LEAD, LEAD if self.buffer is None else max(self.buffer, 1), self.head)
        if not isinstance(self.limit, int):
            return kind(sys.maxsize, 1 if self.buffer is None else max(self.buffer, 1), self.head)
        if not self.limit:
            return kind(sys.maxsize, _UNLIMITED_BUFFER if self.buffer is None else max(self.buffer, 1), self.head)
        ahead = self.limit if self.engine is None else max(self.limit, _LEAD_OF_CALLS)
        window = self.limit + (ahead if self.buffer is None else self.buffer)
        return kind(window, window, self.head)
