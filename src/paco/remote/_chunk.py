"""A chunk of items, run in a worker by the engine itself: for a while, under its share of the limit."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from paco import events
from paco._base import check
from paco._base.deadline import deadline
from paco._base.item_function import given
from paco._engine.run import Scheduler
from paco._engine.sinks import Drop
from paco._engine.watch import Watch
from paco.events import Ear, ItemEnded
from paco.remote import _pickles
from paco.remote._errors import PackedError
from paco.remote._messages import Report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from paco._base.types import OnError
    from paco._base.worker_info import Slots
    from paco._engine.sinks import Store
    from paco.remote._messages import Order, Span


class _While:
    """The items of a chunk, as long as there is time."""

    def __init__(self, items: list[Any], seconds: float) -> None:
        self.items = iter(items)
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
            for item in self.items:
                return item
        self.over = now
        raise StopIteration


class _Results(Drop):
    """The results and the errors by the numbers of the items: what was not finished has none."""

    __slots__ = ("_frozen", "_goes_on", "errors", "late", "values")

    def __init__(self, on_error: OnError) -> None:
        self.values = dict[int, Any]()
        self.store: Store = self.values
        #: How items have failed.
        self.errors: dict[int, BaseException] = {}
        #: The same of items that were being cancelled.
        self.late: dict[int, BaseException] = {}
        self._goes_on = on_error == "return"
        self._frozen = False

    def freeze(self) -> None:
        self._frozen = True

    def failed(self, index: int, error: BaseException) -> bool:
        """Keep the error of an item; true where the others go on."""
        if not self._frozen:
            self.errors[index] = error
        elif not isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.late[index] = error
        return self._goes_on and isinstance(error, Exception)


class Chunk:
    """A chunk that is run here, under its share of the limit.

    It can have the slots of another chunk, one by one as that has nothing more to start in them: so none of them is
    idle from the last items of a chunk to the first of the next.

    Args:
        order: How to run it.
        where: In which process, for messages.
        function: Called with each item.
        items: What is started of it.
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
        self._came = events.clock()()
        self._ended = list[ItemEnded]()
        watch = None
        if order.watched:
            ears = (Ear(self._ended.append, (ItemEnded,)),)
            watch = Watch(order.name, function, source, results, order.limit, ears=ears, slots=slots)
            function = watch.around(function)
        how: dict[str, Any] = {"limit": order.limit, "timeout": None, "on_error": "collect", "offset": 0}
        #: The run of its items.
        self.run: Scheduler = Scheduler(order.name, function, source, results, watch=watch, **how)
        self.run.heeds_deadline = False  # the run that has sent it does, under the same one
        #: Whether it has started.
        self.begun = False
        self._unwanted = False
        self._most = order.limit
        self._own = 0  # slots that are not of another one
        self._go: asyncio.Future[None] | None = None  # resolved when it may start, or is unwanted
        self._heir: Chunk | None = None  # who has the slots that become free

    @property
    def unwanted(self) -> bool:
        """Whether it is not to start, or to start no more items."""
        return self._unwanted or self.run.stopped

    # ---- having the slots of another

    async def comes_after(self, before: Chunk) -> None:
        """Wait until there is a slot: one's own, or one that another chunk needs no more. Or until it is `unwanted`."""
        self.run.crew.limit = self._own = max(self._most - before._most, 0)
        self._go = asyncio.get_running_loop().create_future()
        before.leaves_to(self)
        if not self._own:
            await self._go

    def leaves_to(self, heir: Chunk) -> None:
        """Leave the slots to another chunk; none if this one fails."""
        self._heir = heir
        self._hand_on()

    def _hand_on(self) -> None:
        heir, run = self._heir, self.run
        if heir is None:
            return
        if self.unwanted:
            if run.done:  # and not before: how this one has failed is to be known first
                heir.stop()
        elif run.exhausted:
            heir.has(run.crew.limit - len(run.tasks))

    def has(self, slots: int) -> None:
        """Have so many slots of the chunk before from now on."""
        self.run.crew.limit = min(self._own + slots, self._most)
        if self.begun:
            if not self.run.done:
                self.run.crew.grow_soon()
            self._hand_on()
        elif slots > 0:
            self._may_go_on()

    def _may_go_on(self) -> None:
        if self._go is not None and not self._go.done():
            self._go.set_result(None)

    def stop(self) -> None:
        """Cancel what runs of it, or have it not start."""
        if self.begun:
            self.run.stop()
        else:
            self._unwanted = True
            self._may_go_on()

    # ---- running

    async def do(self) -> bytes:
        """Run it, and return the report."""
        clock, run, results = events.clock(), self.run, self._results
        began, used = clock(), time.thread_time()
        self.begun = True
        run.freed = self._hand_on
        with deadline(max(self.order.deadline - (began - self._came), 0)):
            run.start()
        try:
            await run.join()
        except BaseException as error:  # also SystemExit, which is not to end this loop
            if all(error is not one for one in results.errors.values()):
                results.errors[-1] = error
        run.freed = None  # it leads back here
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
        """Return why a result cannot travel, if it cannot."""
        try:
            _pickles.dumps(value)
        except Exception as error:
            what = f"what {check.called(given(self._function))} returned, {check.shorten(value)},"
            return PackedError.of(_pickles.unfit(self.order.name, what, error))
        return None


def _spans(ended: list[ItemEnded]) -> list[Span]:
    return [
        (one.position, one.slot, one.start, one.end, one.attempts, one.outcome == "failed")
        for one in ended
        if one.outcome != "cancelled"
    ]
