"""A chunk of items, run in a worker by the engine itself: for a while, under its share of the limit."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from paco import events
from paco._base import check
from paco._base.deadline import deadline
from paco._base.item_function import given
from paco._engine.run import Run
from paco._engine.sinks import Drop
from paco._engine.watch import WatchedRun
from paco.events import Ear, ItemEnded
from paco.remote import _pickles
from paco.remote._errors import Failure
from paco.remote._messages import Report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from paco._base.worker_info import Slots
    from paco.remote._messages import Order, Span

    _Base = Run
else:
    _Base = object  # it is mixed into a run of either kind


class _While:
    """The items of a chunk, as long as there is time."""

    def __init__(self, items: list[Any], seconds: float) -> None:
        self._items = iter(items)
        self._seconds = seconds
        self._clock = events.clock()
        #: When there was nothing more to start.
        self.over: float | None = None

    def __iter__(self) -> Self:
        self._end = self._clock() + self._seconds
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
    """A run whose errors are kept by the numbers of their items; what else ends it has the number -1.

    It can have the slots of another chunk, one by one as that has nothing more to start in them: so none of them is
    idle from the last items of a chunk to the first of the next.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Whether it has started.
        self.begun = False
        #: Whether it is not to start any more.
        self.unwanted = False
        self._most = self._limit
        self._own = 0  # slots that are not of another one
        self._go: asyncio.Future[None] | None = None  # resolved when it may start, or is unwanted
        self._heir: _Chunk | None = None  # who has the slots that become free
        self.errors: dict[int, BaseException] = {}
        self.late: dict[int, BaseException] = {}  # of items that were being cancelled
        self._at = -1
        self.heeds_deadline = False  # the run that has sent it does, under the same one

    # ---- having the slots of another

    async def comes_after(self, before: _Chunk, own: int) -> None:
        """Wait until there is a slot: one's own, or one that another chunk needs no more. Or until it is `unwanted`."""
        self._limit = self._own = own
        self._go = asyncio.get_running_loop().create_future()
        before.leaves_to(self)
        if not own:
            await self._go

    def leaves_to(self, heir: _Chunk) -> None:
        """Leave the slots to another chunk; none if this one fails."""
        self._heir = heir
        self._hand_on()

    def _hand_on(self) -> None:
        if self._heir is None:
            return
        if self.unwanted:
            if self.done:  # and not before: how this one has failed is to be known first
                self._heir.stop()
        elif self.exhausted:
            self._heir.has(self._limit - len(self._tasks))

    def has(self, slots: int) -> None:
        """Have so many slots of the chunk before from now on."""
        self._limit = min(self._own + slots, self._most)
        if self.begun:
            self._grow_soon()
            self._hand_on()
        elif slots > 0:
            self._may_go_on()

    def _may_go_on(self) -> None:
        if self._go is not None and not self._go.done():
            self._go.set_result(None)

    def start(self) -> None:
        self.begun = True
        super().start()

    def stop(self) -> None:
        if self.begun:
            super().stop()
        else:
            self.unwanted = True
            self._may_go_on()

    def _stopping(self) -> None:
        self.unwanted = True
        super()._stopping()

    def _ended(self, task: asyncio.Task[None]) -> None:
        super()._ended(task)
        self._hand_on()

    # ---- failing

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
    """A chunk whose items' times are wanted; nobody hears of the runs inside of its items.

    Its slots are those of all chunks of its run in this process: another one can have items in some of them.
    """

    def __init__(self, *args: Any, slots: Slots, **options: Any) -> None:
        super().__init__(*args, **options)
        self._slots = slots
        self.ended = list[ItemEnded]()
        self._ears = (Ear(self.ended.append, (ItemEnded,)),)
        self._on_start, self._on_end = (), self._ears


#: A chunk of either kind.
Chunk: TypeAlias = PlainChunk | WatchedChunk


class Work(NamedTuple):
    """A chunk that is about to be run.

    Attributes:
        run: It.
        items: What is started of it.
        order: How.
        where: In which process, for messages.
        function: Called with each item.
        results: Where the results go.
        came: When it came here.
    """

    run: Chunk
    items: _While
    order: Order
    where: str
    function: Callable[[Any], Awaitable[Any]]
    results: _Results
    came: float

    @classmethod
    def of(
        cls, order: Order, where: str, function: Callable[[Any], Awaitable[Any]], items: list[Any], slots: Slots
    ) -> Work:
        """Make one; to be called where it will run."""
        results = _Results()
        how: dict[str, Any] = {"limit": order.limit, "timeout": None, "catch": order.catch, "offset": 0}
        kind = partial(WatchedChunk, slots=slots) if order.watched else PlainChunk
        source = _While(items, order.seconds)
        run: Chunk = kind(order.name, function, source, results, **how)
        return cls(run, source, order, where, function, results, events.clock()())

    async def do(self) -> bytes:
        """Run it, and return the report."""
        clock, run = events.clock(), self.run
        began, used = clock(), time.thread_time()
        with deadline(max(self.order.deadline - (began - self.came), 0)):
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
            what = f"what {check.called(given(self.function))} returned, {check.shorten(value)},"
            return Failure.of(_pickles.unfit(self.order.name, what, error))
        return None


def _spans(ended: list[ItemEnded]) -> list[Span]:
    return [
        (one.position, one.slot, one.start, one.end, one.attempts, one.outcome == "failed")
        for one in ended
        if one.outcome != "cancelled"
    ]
