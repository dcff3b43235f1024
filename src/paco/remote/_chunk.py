"""A chunk of items in a worker. A `paco._engine.run.Run` runs it for a limited time, under its share of the limit."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from paco import events
from paco._base import check
from paco._base.check import given
from paco._base.deadline import deadline
from paco._engine.run import Scheduler
from paco._engine.sinks import Drop
from paco._engine.watch import Watch
from paco.events import ItemEnded, Subscription
from paco.remote import _pickles
from paco.remote._messages import PackedError, Report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from paco._base.item import Slots
    from paco._base.types import OnError
    from paco._engine.sinks import Store
    from paco.remote._messages import Order, Span


class _While:
    """An iterator over the items of a chunk that stops when the time is up."""

    def __init__(self, items: list[Any], seconds: float) -> None:
        self.items = iter(items)
        self._seconds = seconds
        self._clock = events.clock()
        #: The time from which on no further item could start.
        self.over: float | None = None

    def __iter__(self) -> Self:
        self._end = self._clock() + self._seconds
        return self

    def __next__(self) -> Any:
        now = self._clock()
        if now < self._end:
            for item in self.items:
                return item
        self.over = now
        raise StopIteration


class _Results(Drop):
    """Collects results and errors by the number of the item. Unfinished items have neither."""

    __slots__ = ("_frozen", "_goes_on", "errors", "late", "values")

    def __init__(self, on_error: OnError) -> None:
        self.values = dict[int, Any]()
        self.store: Store = self.values
        #: The errors that items raised.
        self.errors: dict[int, BaseException] = {}
        #: The errors that items raised while they were cancelled.
        self.late: dict[int, BaseException] = {}
        self._goes_on = on_error == "return"
        self._frozen = False

    def freeze(self) -> None:
        self._frozen = True

    def failed(self, index: int, error: BaseException) -> bool:
        """Store the error of an item, and return whether the other items continue."""
        if not self._frozen:
            self.errors[index] = error
        elif not isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.late[index] = error
        return self._goes_on and isinstance(error, Exception)


class Chunk:
    """A chunk that runs in this process, under its share of the limit.

    Args:
        order: How to run it.
        where: The name of this process, for messages.
        function: Called with each item; its result is awaited.
        items: Its items.
        slots: The slots of the items of all chunks of the run.
    """

    def __init__(
        self, order: Order, where: str, function: Callable[[Any], Awaitable[Any]], items: list[Any], slots: Slots
    ) -> None:
        self.order = order
        self._where = where
        self._function = function
        self._items = source = _While(items, order.seconds)
        self._results = results = _Results(order.on_error)
        self._ended = list[ItemEnded]()
        watch = None
        if order.watched:
            subscriptions = (Subscription(self._ended.append, (ItemEnded,)),)
            watch = Watch(order.name, function, source, results, order.limit, subscriptions=subscriptions, slots=slots)
            function = watch.around(function)
        how: dict[str, Any] = {"limit": order.limit, "timeout": None, "on_error": "collect", "offset": 0}
        #: The run of its items.
        self.run: Scheduler = Scheduler(order.name, function, source, results, watch=watch, **how)
        self.run.heeds_deadline = False  # the run that sent it already heeds the same deadline

    async def do(self) -> bytes:
        """Run it, and return the report as bytes."""
        clock, run, results = events.clock(), self.run, self._results
        began, used = clock(), time.thread_time()
        with deadline(max(self.order.deadline, 0)):
            run.start()
        try:
            await run.join()
        except BaseException as error:  # includes SystemExit, which must not end this loop
            if all(error is not one for one in results.errors.values()):
                results.errors[-1] = error
        now, busy = clock(), time.thread_time() - used
        tail = 0.0 if self._items.over is None else now - self._items.over
        errors = {index: PackedError.of(error) for index, error in results.errors.items()}
        late = {index: PackedError.of(error) for index, error in results.late.items()}
        values, spans = self._pickled(errors), _spans(self._ended)
        return Report(self._where, run.started, now - began, busy, tail, values, errors, late, spans, now).dump()

    def _pickled(self, errors: dict[int, PackedError]) -> bytes:
        values = self._results.values
        try:
            return _pickles.dumps(values)
        except Exception:
            for index in list(values):
                if (failure := self._unfit(values[index])) is not None:
                    errors[index] = failure
                    del values[index]
        return _pickles.dumps(values)

    def _unfit(self, value: Any) -> PackedError | None:
        """Return the error if a result cannot be pickled; otherwise ``None``."""
        try:
            _pickles.dumps(value)
        except Exception as error:
            what = f"the result of {check.called(given(self._function))}, {check.shorten(value)},"
            return PackedError.of(_pickles.unfit(self.order.name, what, error))
        return None


def _spans(ended: list[ItemEnded]) -> list[Span]:
    return [
        (one.position, one.slot, one.start, one.end, one.attempts, one.outcome == "failed")
        for one in ended
        if one.outcome != "cancelled"
    ]
