"""Chunks of items in a worker. A `Scheduler` runs each chunk for a limited time, under its share of the limit."""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict, defaultdict
from contextlib import nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from paco import events
from paco._base import check
from paco._base.check import given, instead_of
from paco._base.deadline import deadline
from paco._base.item import Slots, place
from paco._engine.outcomes import Err, Ok
from paco._engine.run import Scheduler
from paco._engine.sinks import Drop
from paco._engine.watch import Watch
from paco.events import ItemEnded, ItemRetried
from paco.events._listeners import Subscription
from paco.remote import _pickles
from paco.remote._messages import Order, PackedError, Report, pickled, sent
from paco.remote._processes import called

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paco._base.check import ItemFunction
    from paco._base.types import OnError
    from paco._engine.sinks import Store
    from paco.remote._marks import Marks
    from paco.remote._messages import Retry, Span

#: The number of functions to cache, and of cancelled runs to remember.
_FUNCTIONS: Final = 16
_CANCELLED: Final = 1000
#: Seconds between two checks for a flag.
_LOOK: Final = 0.05


class _Results(Drop):
    """Collects results and errors by the number of the item. Unfinished items have neither."""

    def __init__(self, on_error: OnError) -> None:
        self.values = dict[int, Any]()
        self.store: Store = self.values
        #: The errors that items raised.
        self.errors: dict[int, BaseException] = {}
        #: The errors that items raised while they were cancelled.
        self.last_errors: dict[int, BaseException] = {}
        self._goes_on = on_error != "raise"
        self._frozen = False

    def freeze(self) -> None:
        self._frozen = True

    def failed(self, index: int, error: BaseException) -> bool:
        if not self._frozen:
            self.errors[index] = error
        elif not isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.last_errors[index] = error
        return self._goes_on


class _Unfit(NamedTuple):
    """Stands for an item that cannot be unpickled here."""

    error: Exception


async def _fit(fn: ItemFunction, item: Any) -> Any:
    if isinstance(item, _Unfit):
        raise item.error
    return await fn(item)


class Chunk:
    """A chunk that runs in this process, named ``where``. All chunks of its run share the ``slots``."""

    def __init__(self, order: Order, where: str, function: ItemFunction, items: list[Any], slots: Slots) -> None:
        self.order = order
        self._where = where
        self._function = function
        self._items = items
        self._clock = events.clock()
        self._over: float | None = None  # the time from which on no further item could start
        source = self._until(self._clock() + order.seconds, items)
        self._results = results = _Results(order.on_error)
        self._ended = list[ItemEnded]()
        self._retries: list[Retry] = []
        watch = None
        if order.watched:
            subscriptions = [Subscription(self._ended.append, (ItemEnded,))]
            subscriptions += [Subscription(self._retried, (ItemRetried,))] if order.retries else []
            watch = Watch(
                order.name, function, source, results, order.limit, subscriptions=tuple(subscriptions), slots=slots
            )
            function = watch.around(function)
        how: dict[str, Any] = {"limit": order.limit, "timeout": None, "on_error": "collect", "offset": 0}
        #: The run of its items.
        self.run: Scheduler = Scheduler(order.name, function, source, results, watch=watch, **how)
        self.run.heeds_deadline = False  # the run that sent it already heeds the same deadline

    def _until(self, end: float, items: list[Any]) -> Iterator[Any]:
        """Yield the items until the time is up."""
        for item in items:
            if self._clock() >= end:
                break
            yield item
        self._over = self._clock()

    async def work(self) -> bytes:
        """Run it, and return the report as bytes."""
        clock, run, results = self._clock, self.run, self._results
        began, used = clock(), time.thread_time()
        with deadline(max(self.order.deadline, 0)):
            run.start()
        try:
            await run.join()
        except BaseException as error:  # includes SystemExit, which must not end this loop
            if all(error is not one for one in results.errors.values()):
                results.errors[-1] = error
        now, busy = clock(), time.thread_time() - used
        tail = 0.0 if self._over is None else now - self._over
        values, outcomes = self._pickled()  # which may add errors
        errors = {number: PackedError.of(error) for number, error in results.errors.items()}
        late = {number: PackedError.of(error) for number, error in results.last_errors.items()}
        return Report(
            *(self._where, run.started, now - began, busy, tail, values, outcomes, errors, late, self._spans(), now),
            retries=self._retries,
        ).dump()

    def _retried(self, event: ItemRetried) -> None:
        error = None if event.error is None else PackedError.of(event.error)
        number = -1 if (here := place()) is None else here[0]
        self._retries.append((number, event.attempt, error, event.pause))

    def _pickled(self) -> tuple[bytes, frozenset[int]]:
        """Return the pickled results, and which are outcomes. A result that cannot be sent is an error of its item."""
        values, errors = self._results.values, self._results.errors
        outcomes = frozenset(number for number, value in values.items() if isinstance(value, Ok | Err))
        there = values | {number: sent(values[number], self._items[number]) for number in outcomes}
        for number, value in values.items():
            result = there[number][2] if number in outcomes else value
            if isinstance(result, BaseException) and pickled(result) is None:
                errors[number] = result
                del there[number]
        data, unfit = _pickles.dump_all(there)
        for number, error in unfit.items():
            what = f"the result of {check.called(given(self._function))}, {check.shorten(values[number])},"
            errors[number] = _pickles.unfit(self.order.name, what, error)
        return data, outcomes

    def _spans(self) -> list[Span]:
        return [
            (one.position, one.slot, one.start, one.end, one.attempts, one.outcome == "failed")
            for one in self._ended
            if one.outcome != "cancelled"
        ]


class ChunkRunner:
    """Runs the chunks of a process, in the loop of the caller.

    Args:
        where: The name of the process; empty for its process ID.
        marks: Where the steps of items are marked; ``None`` if they are not.
    """

    def __init__(self, where: str = "", marks: Marks | None = None) -> None:
        self._where = where or called(os.getpid())
        self._marks = marks
        self._function = lru_cache(_FUNCTIONS)(_pickles.loads)  # a run sends its function with every chunk
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._working = defaultdict[str, set[Chunk]](set)  # by run
        self._slots = defaultdict[str, Slots](Slots)  # by run

    async def work(self, order: bytes, function: bytes, items: bytes, *, number: int = 0) -> bytes:
        """Run a chunk in the current task, which it names, and return its report, which also contains any error.

        ``number`` is that of the chunk in its marks.
        """
        cast("asyncio.Task[bytes]", asyncio.current_task()).set_name("paco chunk")
        try:
            with nullcontext() if self._marks is None else self._marks.preparing():
                chunk = self._prepared(order, function, items, number)
        except BaseException as error:
            return Report(self._where, refusal=PackedError.of(error)).dump()
        run = chunk.order.run
        self._look(chunk)
        chunks = self._working[run]
        chunks.add(chunk)
        try:
            return Report(self._where).dump() if run in self._cancelled else await chunk.work()
        finally:
            chunks.remove(chunk)
            if not chunks:
                del self._working[run], self._slots[run]

    def cancel(self, run: str) -> None:
        """Cancel the chunks of a run, including those that arrive later. Does not wait."""
        self._cancelled[run] = None
        if len(self._cancelled) > _CANCELLED:
            self._cancelled.popitem(last=False)
        for chunk in self._working.get(run, ()):
            chunk.run.stop()

    async def end(self, run: str) -> None:
        """Cancel the chunks of a run, and wait until they have ended."""
        self.cancel(run)
        for chunk in tuple(self._working.get(run, ())):
            await chunk.run.until_done()

    def _prepared(self, data: bytes, function: bytes, items: bytes, number: int) -> Chunk:
        order, fn = Order.load(data), self._function(function)
        values, unfit = _pickles.load_all(items)
        if unfit:
            values |= {item: _Unfit(self._refused(order.name, error)) for item, error in unfit.items()}
            fn = instead_of(fn, partial(_fit, fn))
        fn = fn if self._marks is None else self._marks.around(fn, number)
        return Chunk(order, self._where, fn, [values[item] for item in sorted(values)], self._slots[order.run])

    def _refused(self, name: str, error: Exception) -> Exception:
        """Return the error of an item that cannot be unpickled here."""
        return _pickles.unfit(name, "the item", error)

    def _look(self, chunk: Chunk) -> None:
        """Cancel the run when its flag appears; check repeatedly until the chunk is done."""
        flag = chunk.order.flag
        if not flag or chunk.run.done:
            return
        if Path(flag).exists():
            self.cancel(chunk.order.run)
        else:
            asyncio.get_running_loop().call_later(_LOOK, self._look, chunk)
