"""What tells listeners about a run: a `Watch`, which the run holds where somebody listens.

Where nobody does, a run holds none, its function is not wrapped, and nothing in here is paid for.
"""

from __future__ import annotations

import sys
import time
from asyncio import CancelledError, current_task
from contextlib import contextmanager
from heapq import heappop, heappush
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final, Protocol

from paco import events
from paco._base import check
from paco._base.errors import as_item_error
from paco._base.worker_info import Slots
from paco._engine.sinks import AsCompleted, InOrder
from paco._engine.source import Calls, Upstream

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable, Generator

    from paco._base.item import Item, WorkerTask
    from paco._base.worker_info import Ran, Worker
    from paco._engine.sinks import Sink
    from paco._engine.source import Reader
    from paco.events import Ear
    from paco.limits import Limiter

_LIMIT, _RATE, _INPUT, _OUTPUT, _ORDER, _LOOP, _TAIL = range(len(events.WAITING))
#: What is known of an item when it starts: its position, its slot, the time.
_Begun = tuple[int, int, float]
_new: Final[Any] = vars(tuple)["__new__"]  # half of what the constructor of a named tuple takes


class Holding(Protocol):
    """What a `Watch` asks of what says who may start next."""

    held: int


class Watched(Protocol):
    """What a `Watch` asks of its run."""

    downstream: Callable[[BaseException], None] | None
    exhausted: bool
    is_ending: bool
    loop: AbstractEventLoop
    offset: int
    reader: Reader | None
    started: int
    stopped: bool

    @property
    def admission(self) -> Holding | None:
        """Says who may start next, where that is not a matter of slots."""
        ...


class Watch:
    """Tells listeners what happens in one run.

    Args:
        name: The operation: ``map``.
        fn: The function over the items.
        source: A checked source of items.
        sink: Where the results go.
        limit: Items in flight at most, 0 for no limit; or the limit object.
        ears: Who listens; ``None`` for those who do where this is made.
        slots: The slots of the items, where several runs share them.
    """

    __slots__ = (
        "_admission",
        "_clock",
        "_ears",
        "_error",
        "_held_back_by",
        "_last",
        "_limiter",
        "_on_end",
        "_on_start",
        "_reader",
        "_reason",
        "_run",
        "_running",
        "_slots",
        "_stream",
        "_top",
        "_waits",
        "view",
    )

    _admission: Holding | None
    _clock: Callable[[], float]
    _last: float  # the time of the last event
    _reader: Reader | None
    _reason: int  # what has kept the next item from starting since then

    def __init__(
        self,
        name: str,
        fn: Any,
        source: Any,
        sink: Sink,
        limit: int | Limiter,
        *,
        ears: tuple[Ear, ...] | None = None,
        slots: Slots | None = None,
    ) -> None:
        self._limiter = None if isinstance(limit, int) else limit
        #: Items that may be in flight at once at this moment.
        self._top = (limit or sys.maxsize) if isinstance(limit, int) else limit.most
        #: What keeps an item from starting when there is a slot, room and an item.
        self._held_back_by = _LOOP if self._limiter is None else _RATE
        self._waits = [0.0] * len(events.WAITING)
        fed, function = isinstance(source, Upstream), "" if isinstance(source, Calls) else check.title(fn)
        #: The run as listeners see it.
        self.view = events.Run(name, function, self._shown(), length(source), self._waits, fed=fed)
        self._ears = events.ears() if ears is None else ears
        self._on_start = self._hearing(events.ItemStarted)
        self._on_end = self._hearing(events.ItemEnded)
        self._stream = sink if isinstance(sink, InOrder) else None  # other sinks have always room
        self._slots = Slots() if slots is None else slots
        self._running = 0
        self._run: Any = None
        self._error: BaseException | None = None

    def _shown(self) -> int:
        return 0 if self._top == sys.maxsize else self._top

    def _hearing(self, kind: type[events.Event]) -> tuple[Ear, ...]:
        return tuple(ear for ear in self._ears if kind in ear.kinds)

    def runs_elsewhere(self, workers: dict[str, Worker], limit: int | None) -> None:
        """Show the workers that run the items, and their limit if it is not the one here."""
        self.view.workers = workers
        if limit is not None:
            self.view.limit = limit

    @contextmanager
    def starting(self, run: Watched) -> Generator[None]:
        """Watch a run that starts in the block, whose items start runs within it."""
        self._run, self._admission = run, run.admission
        view, around = self.view, events.current.get()
        view.feeds = around if run.downstream is not None else None  # whose task starts this one, to read from it
        view.parent = around if view.feeds is None else view.feeds.parent
        self._clock = events.clock()
        view.date, view.start = time.time(), self._clock()
        self._last = view.start
        self._reader, self._reason = None, self._held_back_by
        token = events.current.set(view)  # for the context in which the items run, and with them what they start
        try:
            yield
        except BaseException:
            self._run = self._admission = None  # it leads back here
            raise
        finally:
            events.current.reset(token)
        if run.reader is not None:
            self._reader, self._reason = run.reader, _INPUT
        events.tell(self._hearing(events.RunStarted), events.RunStarted(view, view.start))

    # ---- items

    def around(self, fn: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """Wrap the function over the items."""
        begins, ends, recorded = self._item_begins, self._item_ends, self._limiter is not None

        async def watched(item: Any) -> Any:
            worker: Any = current_task()
            if not recorded:
                worker.item = None  # the record is of another item, if there is one
            begun = begins(item)
            try:
                result = await fn(item)
            except StopIteration as error:  # Python would make another error of it when it leaves this coroutine
                ends(worker, begun, item, error)
                raise as_item_error(error) from error
            except BaseException as error:
                ends(worker, begun, item, error)
                raise
            ends(worker, begun, item)
            return result

        watched.__name__ = check.title(fn)
        watched.__qualname__ = getattr(fn, "__qualname__", None) or check.shorten(fn)  # it is named in messages
        return watched

    def _item_begins(self, item: Any) -> _Begun:
        view = self.view
        position = view.started
        view.started = position + 1
        slots = self._slots
        slot = heappop(slots.free) if slots.free else slots.take()
        self._running += 1
        now = self._clock()
        self._count(now)
        if self._on_start:
            events.tell(self._on_start, _new(events.ItemStarted, (view, position, slot, item, now)))
        return position, slot, now

    def _item_ends(self, worker: WorkerTask, begun: _Begun, item: Any, error: BaseException | None = None) -> None:
        position, slot, start = begun
        view, now, record, run = self.view, self._clock(), worker.item, self._run
        attempts, end, where = 1, now, None
        if record is not None:
            error, attempts, start, end, where = self._noted(record, error, start, now)
        outcome: events.Outcome = "ok"
        if error is None:
            view.ok += 1
        elif isinstance(error, GeneratorExit) and current_task(run.loop) is None:
            return  # the loop is gone, and this coroutine is being collected
        elif isinstance(error, CancelledError) and run.is_ending:
            outcome = "cancelled"
            view.cancelled += 1
        else:
            outcome = "failed"
            view.failed += 1
        heappush(self._slots.free, slot)
        self._running -= 1
        self._count(now, position + run.offset)
        if self._on_end:
            ended = _new(events.ItemEnded, (view, position, slot, item, start, end, attempts, outcome, error, where))
            events.tell(self._on_end, ended)

    def _noted(
        self, record: Item, error: BaseException | None, start: float, end: float
    ) -> tuple[BaseException | None, int, float, float, str | None]:
        """Return the error of an item, its attempts, its times and its worker, with what its record says of them."""
        error, record.error = record.error if error is None else error, None
        ran, attempts = record.ran, record.attempts
        self.view.retried += attempts > 1
        return (error, attempts, start, end, None) if ran is None else (error, attempts, ran.start, ran.end, ran.worker)

    def ran(self, position: int, item: Any, ran: Ran | None, error: BaseException | None) -> None:
        """Tell of an item that ran elsewhere and is back; without its times where they are not known."""
        view = self.view
        worker, slot, start, end, attempts, failed = ran or ("", 0, now := self._clock(), now, 1, True)
        if failed:
            view.failed += 1
        else:
            view.ok += 1
        view.retried += attempts > 1
        if self._on_start:
            events.tell(self._on_start, events.ItemStarted(view, position, slot, item, start))
        if self._on_end:
            outcome: events.Outcome = "failed" if failed else "ok"
            what = view, position, slot, item, start, end, attempts, outcome, error, worker or None
            events.tell(self._on_end, events.ItemEnded(*what))

    def elsewhere(self, in_flight: int) -> None:
        """Count the items that are with workers."""
        self._running = in_flight
        self.view.started = self.view.done + in_flight
        self._count(self._clock())

    # ---- what keeps items from starting

    def _count(self, now: float, ended: int = -1) -> None:
        """Count the time since the last event for what has kept an item from starting, and see what does from now on.

        Nothing that this depends on changes before the next event: when it does, an item starts at once. What may be in
        between, an item that is held or the end of the source, counts as an event here.
        """
        run, stream, reader, reason = self._run, self._stream, self._reader, self._reason
        if self._limiter is not None:  # it may have changed
            self._top = self._limiter.most
            self.view.limit = self._shown()
        if reason == self._held_back_by and (run.exhausted or (reader is not None and reader.over())):
            reason = _TAIL
        self._waits[reason] += now - self._last
        self._last = now
        if self._running >= self._top:
            self._reason = _LIMIT
        elif self._admission is not None and self._admission.held:
            self._reason = self._held_back_by
        elif stream is not None and stream.room(run.started) <= run.started:
            self._reason = _OUTPUT if stream.ready() or _is_next(stream, ended) else _ORDER
        else:
            self._reason = self._held_back_by if reader is None or reader.ready() else _INPUT

    def took(self) -> None:
        """Count an item of an async source that has been taken and waits for its permit."""
        if self._reader is not None:
            self._count(self._clock())

    def out_of_items(self) -> None:
        """Count the end of the source, or that it has no item yet."""
        self._count(self._clock())

    # ---- ending

    def failed(self, error: BaseException) -> None:
        """Note the error that ends the run."""
        self._error = error

    @contextmanager
    def ending(self) -> Generator[None]:
        """Tell of the end of the run, which is in the block."""
        now, stopped = self._clock(), self._run.stopped
        self._count(now)
        try:
            yield
        finally:
            self._run = self._admission = self._reader = None  # they lead back here
            error, self._error = self._error, None
            outcome: events.Outcome = "failed" if error is not None else "cancelled" if stopped else "ok"
            events.tell(self._hearing(events.RunEnded), events.RunEnded(self.view, now, outcome, error))


def _is_next(stream: InOrder, index: int) -> bool:
    """Say whether the consumer can have the result of an item that is just ending, which is not stored yet."""
    return index >= 0 and (isinstance(stream, AsCompleted) or index == stream.taken)


def length(source: Any) -> int | None:
    """Return how many items a source says to have; it may say anything."""
    try:
        hint = length_hint(source, -1)
    except Exception:
        return None
    return None if hint < 0 else hint
