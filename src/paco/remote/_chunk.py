"""A chunk of items, run in a worker by the engine itself: for a while, under its share of the limit."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from paco import _check, events
from paco._deadline import deadline
from paco._engine import Run
from paco._sinks import Drop
from paco._stage import given
from paco._watched import WatchedRun
from paco.events import Ear, ItemEnded
from paco.remote import _pickles
from paco.remote._errors import Failure
from paco.remote._wire import Report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from paco.remote._wire import Order, Span

    _Base = Run
else:
    _Base = object  # it is mixed into a run of either kind


class _While:
    """The items of a chunk, as long as there is time."""

    def __init__(self, items: list[Any], seconds: float) -> None:
        self._items = iter(items)
        self._clock = events.clock()
        self._end = self._clock() + seconds
        #: When there was nothing more to start.
        self.over: float | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        now = self._clock()
        if now < self._end:
            for item in self._items:
                return item
        self.over = now
        raise StopIteration


class _Results(Drop):
    """The results by the numbers of the items: what was not finished has none."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.store = self.values = dict[int, Any]()


class _Chunk(_Base):
    """A run whose errors are kept by the numbers of their items; what else ends it has the number -1."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.errors: dict[int, BaseException] = {}
        self.late: dict[int, BaseException] = {}  # of items that were being cancelled
        self._at = -1
        self.heeds_deadline = False  # the run that has sent it does, under the same one

    def _item_failed(self, error: BaseException, index: int, item: object) -> bool:
        if self._ending and not isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.late[index] = error
            return False
        self._at = index
        goes_on = super()._item_failed(error, index, item)
        self._at = -1
        if goes_on:
            self.errors[index] = cast("_Results", self._sink).values.pop(index)
        return goes_on

    def fail(self, error: BaseException, note: str = "") -> None:
        self.errors[self._at] = error
        super().fail(error)  # the note is of the run that has sent it, which knows the position of the item


class PlainChunk(_Chunk, Run):
    """A chunk that nobody watches."""


class WatchedChunk(_Chunk, WatchedRun):
    """A chunk whose items' times are wanted; nobody hears of the runs inside of its items."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ended = list[ItemEnded]()
        self._ears = (Ear(self.ended.append, (ItemEnded,)),)
        self._on_start, self._on_end = (), self._ears


class Work(NamedTuple):
    """A chunk that is about to be run.

    Attributes:
        run: It.
        items: What is started of it.
        order: How.
        where: In which process, for messages.
        function: Called with each item.
        results: Where the results go.
    """

    run: PlainChunk | WatchedChunk
    items: _While
    order: Order
    where: str
    function: Callable[[Any], Awaitable[Any]]
    results: _Results

    @classmethod
    def of(cls, order: Order, where: str, function: Callable[[Any], Awaitable[Any]], items: list[Any]) -> Work:
        """Make one; to be called where it will run."""
        results = _Results()
        how: dict[str, Any] = {"limit": order.limit, "timeout": None, "catch": order.catch, "offset": 0}
        kind = WatchedChunk if order.watched else PlainChunk
        source = _While(items, order.seconds)
        return cls(kind(order.name, function, source, results, **how), source, order, where, function, results)

    async def do(self) -> bytes:
        """Run it, and return the report."""
        clock, run = events.clock(), self.run
        began, used = clock(), time.thread_time()
        with deadline(self.order.deadline):
            run.start()
        with suppress(BaseException):  # it is in its errors, and SystemExit is not to end this loop
            await run.join()
        now, busy = clock(), time.thread_time() - used
        tail = 0.0 if self.items.over is None else now - self.items.over
        errors = {index: Failure.of(error) for index, error in run.errors.items()}
        late = {index: Failure.of(error) for index, error in run.late.items()}
        values = self._pickled(errors)
        spans = _spans(run.ended) if isinstance(run, WatchedChunk) else []
        return Report(self.where, run.started, now - began, busy, tail, values, errors, late, spans, now).dump()

    def _pickled(self, errors: dict[int, Failure]) -> bytes:
        values = self.results.values
        try:
            return _pickles.dumps(values)
        except Exception:
            for index in list(values):
                if (failure := self._unfit(values[index])) is not None:
                    errors[index] = failure
                    del values[index]
        return _pickles.dumps(values)

    def _unfit(self, value: Any) -> Failure | None:
        """Return why a result cannot travel, if it cannot."""
        try:
            _pickles.dumps(value)
        except Exception as error:
            what = f"what {_check.called(given(self.function))} returned, {_check.shorten(value)},"
            return Failure.of(_pickles.unfit(self.order.name, what, error))
        return None


def _spans(ended: list[ItemEnded]) -> list[Span]:
    return [
        (one.position, one.slot, one.start, one.end, one.attempts, one.outcome == "failed")
        for one in ended
        if one.outcome != "cancelled"
    ]
