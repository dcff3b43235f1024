"""A run that tells its listeners what happens in it: it is the engine's own, over a function that is wrapped.

There is one only where somebody listens. Else the plain `Run` is used, and nothing in here is paid for.
"""

from __future__ import annotations

import sys
import time
from asyncio import CancelledError, current_task
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final

from paco import events
from paco._base import check
from paco._base.errors import as_item_error
from paco._base.worker_info import Slots
from paco._engine.admission import Paced
from paco._engine.run import Run
from paco._engine.sinks import AsCompleted, InOrder
from paco._engine.source import Calls, Upstream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paco._engine.admission import Start
    from paco._engine.sinks import Sink
    from paco.events import Ear

_LIMIT, _RATE, _INPUT, _OUTPUT, _ORDER, _LOOP, _TAIL = range(len(events.WAITING))
#: What is known of an item when it starts: its position, its slot, the time.
_Begun = tuple[int, int, float]
_new: Final[Any] = vars(tuple)["__new__"]  # half of what the constructor of a named tuple takes


if TYPE_CHECKING:
    _Base = Run
else:
    _Base = object  # it is mixed into a run of either kind


class _Watched(_Base):
    """What makes a run tell those who listen where it is made."""

    #: What keeps an item from starting when there is a slot, room and an item.
    _held_back_by = _LOOP
    #: How many items have been taken that may not start yet.
    _held: int
    #: How many items may be in flight at once at this moment.
    _top: int

    def __init__(self, name: str, fn: Callable[[Any], Awaitable[Any]], source: Any, sink: Sink, **options: Any) -> None:
        super().__init__(name, self._watching(fn), source, sink, **options)
        self._see_limit()
        self._waits = [0.0] * len(events.WAITING)
        fed = isinstance(source, Upstream)
        self._view = events.Run(
            name,
            "" if isinstance(source, Calls) else check.title(fn),
            self._shown(),
            length(source),
            self._waits,
            fed=fed,
        )
        self._ears = events.ears()
        self._on_start = self._hearing(events.ItemStarted)
        self._on_end = self._hearing(events.ItemEnded)
        self._stream = sink if isinstance(sink, InOrder) else None  # other sinks have always room
        self._slots = Slots()
        self._running = 0
        self._error: BaseException | None = None
        self._stopped = False

    def _see_limit(self) -> None:
        self._top = self._limit

    def _shown(self) -> int:
        return 0 if self._top == sys.maxsize else self._top

    def _hearing(self, kind: type[events.Event]) -> tuple[Ear, ...]:
        return tuple(ear for ear in self._ears if kind in ear.kinds)

    def runs_elsewhere(self, workers: dict[str, events.Worker], limit: int | None) -> None:
        """Hear that the items do, and what the limit is there, where the one here is for those that wait as well."""
        self._view.workers = workers
        if limit is not None:
            self._view.limit = limit

    def start(self) -> None:
        view, around = self._view, events.current.get()
        view.feeds = around if self._downstream is not None else None  # whose task starts this one, to read from it
        view.parent = around if view.feeds is None else view.feeds.parent
        self._clock = events.clock()
        view.date, view.start = time.time(), self._clock()
        self._last = view.start
        token = events.current.set(view)  # for the context in which the items run, and with them what they start
        try:
            super().start()
        except BaseException:
            self._fn = None  # it leads back here
            raise
        finally:
            events.current.reset(token)
        self._reason = self._held_back_by if self._reader is None else _INPUT
        events.tell(self._hearing(events.RunStarted), events.RunStarted(view, view.start))

    # ---- items

    def _watching(self, fn: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        begins, ends = self._item_begins, self._item_ends

        async def watched(item: Any) -> Any:
            begun = begins(item)
            try:
                result = await fn(item)
            except StopIteration as error:  # Python would make another error of it when it leaves this coroutine
                ends(begun, item, error)
                raise as_item_error(error) from error
            except BaseException as error:
                ends(begun, item, error)
                raise
            ends(begun, item)
            return result

        watched.__name__ = check.title(fn)
        watched.__qualname__ = getattr(fn, "__qualname__", None) or check.shorten(fn)  # it is named in messages
        return watched

    def _item_begins(self, item: Any) -> _Begun:
        view = self._view
        position = view.started
        view.started = position + 1
        slot = self._slots.take()
        self._running += 1
        now = self._clock()
        self._count(now)
        if self._on_start:
            events.tell(self._on_start, _new(events.ItemStarted, (view, position, slot, item, now)))
        return position, slot, now

    def _item_ends(self, begun: _Begun, item: Any, error: BaseException | None = None) -> None:
        position, slot, start = begun
        view, now = self._view, self._clock()
        attempts, end, worker = 1, now, None
        if view.mentions:
            error, attempts, start, end, worker = self._mentioned(error, start, now)
        outcome: events.Outcome = "ok"
        if error is None:
            view.ok += 1
        elif isinstance(error, GeneratorExit) and current_task(self._loop) is None:
            return  # the loop is gone, and this coroutine is being collected
        elif self._ending and isinstance(error, CancelledError):
            outcome = "cancelled"
            view.cancelled += 1
        else:
            outcome = "failed"
            view.failed += 1
        self._slots.give(slot)
        self._running -= 1
        self._count(now, position + self._offset)
        if self._on_end:
            ended = _new(events.ItemEnded, (view, position, slot, item, start, end, attempts, outcome, error, worker))
            events.tell(self._on_end, ended)

    def _mentioned(
        self, error: BaseException | None, start: float, end: float
    ) -> tuple[BaseException | None, int, float, float, str | None]:
        """Return the error of an item, its attempts, its times and its worker, with what was mentioned about it."""
        view, task = self._view, current_task(self._loop)
        mention = None if view.mentions is None or task is None else view.mentions.pop(task, None)
        if mention is None:
            return error, 1, start, end, None
        view.retried += bool(mention.retries)
        ran, error, attempts = mention.ran, mention.error if error is None else error, 1 + mention.retries
        return (error, attempts, start, end, None) if ran is None else (error, attempts, ran.start, ran.end, ran.worker)

    def _count(self, now: float, ended: int = -1) -> None:
        """Count the time since the last event for what has kept an item from starting, and see what does from now on.

        Nothing that this depends on changes before the next event: when it does, an item starts at once. What may be in
        between, an item that is held or the end of the source, counts as an event here.
        """
        stream, reader, reason = self._stream, self._reader, self._reason
        if reason == self._held_back_by and (self.exhausted or (reader is not None and reader.over())):
            reason = _TAIL
        self._waits[reason] += now - self._last
        self._last = now
        if self._running >= self._top:
            self._reason = _LIMIT
        elif self._held:
            self._reason = self._held_back_by
        elif stream is not None and stream.room(self.started) <= self.started:
            self._reason = _OUTPUT if stream.ready() or _is_next(stream, ended) else _ORDER
        else:
            self._reason = self._held_back_by if reader is None or reader.ready() else _INPUT

    def _out_of_items(self) -> None:
        self._count(self._clock())
        super()._out_of_items()

    # ---- ending

    def fail(self, error: BaseException, note: str = "") -> None:
        if not (self._ending or self._abandoned):
            self._error = error
        super().fail(error, note)

    def _stopping(self) -> None:
        self._stopped = True
        super()._stopping()

    def _finishing(self) -> None:
        now = self._clock()
        self._count(now)
        try:
            super()._finishing()
        finally:
            error, self._error = self._error, None
            outcome: events.Outcome = "failed" if error is not None else "cancelled" if self._stopped else "ok"
            events.tell(self._hearing(events.RunEnded), events.RunEnded(self._view, now, outcome, error))


class WatchedRun(_Watched, Run):
    """A `Run` that tells those who listen where it is made."""

    _held = 0


class WatchedPaced(_Watched, Paced):
    """A `Paced` run that does."""

    _held_back_by = _RATE

    def _see_limit(self) -> None:
        self._top = self._limiter.most

    def _count(self, now: float, ended: int = -1) -> None:
        self._see_limit()  # it may have changed
        self._view.limit = self._shown()
        super()._count(now, ended)

    def _take(self, turn: int) -> Start | None:
        start = super()._take(turn)
        if start is not None and self._reader is not None:
            self._count(self._clock())
        return start


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
