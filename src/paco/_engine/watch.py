"""Notification of listeners: a run that has listeners holds a `Watch`, which sends them events.

A run without listeners has no `Watch`, and its function is not wrapped, so that listeners cost it nothing.
"""

from __future__ import annotations

import sys
import time
from asyncio import CancelledError, current_task
from contextlib import contextmanager
from heapq import heappop, heappush
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final

from paco import events
from paco._base import check
from paco._base.errors import as_item_error
from paco._base.item import Slots
from paco._engine.sinks import AsCompleted, InOrder
from paco._engine.source import Calls
from paco.events import _listeners
from paco.events._kinds import WAITING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable

    from paco._base.item import Ran, Worker
    from paco._engine.reader import Reader
    from paco._engine.run import Scheduler
    from paco._engine.sinks import Sink
    from paco._engine.workers import Admitting
    from paco.events._listeners import Subscription
    from paco.limits import Limiter

_LIMIT, _RATE, _INPUT, _OUTPUT, _ORDER, _LOOP, _TAIL = range(len(WAITING))
_new: Final[Any] = vars(tuple)["__new__"]  # takes half the time of a named tuple's constructor


class Watch:
    """Sends the events of one run to its listeners.

    Args:
        limit: The maximum number of items in flight, 0 for no limit; or the limit object.
        feeds: Whether the results, if they are a stream, go one by one to the user or the next stage.
        subscriptions: The listeners; ``None`` for those of the current context.
        slots: The slots of the items, if several runs share them.
    """

    _admission: Admitting | None
    _clock: Callable[[], float]
    _last: float  # the time of the last event
    _reader: Reader | None
    _reason: int  # what has kept the next item from starting since the last event

    def __init__(
        self,
        name: str,
        fn: Any,
        source: Any,
        sink: Sink,
        limit: int | Limiter,
        *,
        feeds: bool = False,
        subscriptions: tuple[Subscription, ...] | None = None,
        slots: Slots | None = None,
    ) -> None:
        #: The current maximum number of items in flight.
        self._top = (limit or sys.maxsize) if isinstance(limit, int) else limit.most
        # Such a limit can change during the run. One that does not count items at first never does.
        self._counting = None if isinstance(limit, int) or self._top == sys.maxsize else limit
        #: The reason why no item starts although there is a slot, room and an item.
        self._held_back_by = _LOOP if isinstance(limit, int) else _RATE
        self._waits = [0.0] * len(WAITING)
        function = "" if isinstance(source, Calls) else check.title(fn)
        #: The run as listeners see it.
        self.view: events.Run = events.Run(name, function, self._shown(), length(source), self._waits)
        here = (*_listeners.installed, *_listeners.listeners.get())
        self._subscriptions = here if subscriptions is None else subscriptions
        self._on_start = self._subscribed(events.ItemStarted)
        #: The listeners of retries.
        self.on_retry: tuple[Subscription, ...] = self._subscribed(events.ItemRetried)
        self.view.subscriptions = self._subscriptions
        self._on_end = self._subscribed(events.ItemEnded)
        self._stream = sink if isinstance(sink, InOrder) else None  # other sinks always have room
        self._slots = Slots() if slots is None else slots
        self._feeds = feeds and self._stream is not None
        self._running = 0
        self._run: Any = None
        #: The error that ends the run.
        self.error: BaseException | None = None

    def _shown(self) -> int:
        return 0 if self._top == sys.maxsize else self._top

    def _subscribed(self, kind: type[events.Event]) -> tuple[Subscription, ...]:
        return tuple(subscription for subscription in self._subscriptions if kind in subscription.kinds)

    def runs_elsewhere(self, workers: dict[str, Worker], limit: int | None) -> None:
        """Record that items run on workers, and the workers' limit if it differs."""
        self.view.workers = workers
        if limit is not None:
            self.view.limit = limit

    def grows(self) -> None:
        """Record that the source has one more item."""
        total = self.view.total
        self.view.total = None if total is None else total + 1

    def resized(self, limit: int) -> None:
        """Record that the maximum number of items in flight has changed; 0 for no limit."""
        self._top = limit or sys.maxsize
        self.view.limit = limit

    @contextmanager
    def starting(self, run: Scheduler) -> Generator[None]:
        """Return a block in which a run starts. Runs that its items start become its children."""
        self._run, self._admission = run, run.admission
        view, reading = self.view, _listeners.reading.get()
        view.parent = _listeners.current.get()
        if reading is not None and self._feeds:
            view.feeds, reading.fed = reading, True
        self._clock = events.clock()
        view.date, view.start = time.time(), self._clock()
        self._last = view.start
        self._reader, self._reason = None, self._held_back_by
        # The items inherit this context, and so do the runs that they start.
        inside, outside = _listeners.current.set(view), _listeners.reading.set(None)
        try:
            yield
        except BaseException:
            self._run = self._admission = None  # break the reference cycle
            raise
        finally:
            _listeners.current.reset(inside)
            _listeners.reading.reset(outside)
        if run.reader is not None:
            self._reader, self._reason = run.reader, _INPUT
        _publish(self._subscribed(events.RunStarted), events.RunStarted(view, view.start))

    def reads(self) -> None:
        """Let this task read the source. Runs that it starts are siblings of this one, not its children."""
        _listeners.current.set(self.view.parent)
        _listeners.reading.set(self.view)

    # ---- items

    def around(self, fn: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """Return the function over the items, wrapped to send an event when an item starts and when it ends."""
        view, on_start, free, new = self.view, self._on_start, self._slots.free, self._slots.new
        count, ends, kind = self._count, self._item_ends, events.ItemStarted

        async def watched(item: Any) -> Any:
            position = view.started
            view.started = position + 1
            slot = heappop(free) if free else new()
            self._running += 1
            count(start := self._clock())
            if on_start:
                event: events.ItemStarted = _new(kind, (view, position, slot, item, start))
                for one in on_start:  # as `_publish` does, without a call
                    try:
                        one.call(event)
                    except (Exception, CancelledError) as error:
                        one.fail(error)
            try:
                result = await fn(item)
            except StopIteration as error:  # Python would turn it into a RuntimeError when it leaves this coroutine
                ends(position, slot, item, start, error)
                raise as_item_error(error) from error
            except CancelledError as error:
                raised = error if self._run.is_ending else as_item_error(error)
                try:
                    ends(position, slot, item, start, raised)
                    raise raised
                finally:
                    del raised  # it refers to this frame
            except BaseException as error:
                ends(position, slot, item, start, error)
                raise
            ends(position, slot, item, start)
            return result

        watched.__name__ = self.view.function or check.title(fn)
        watched.__qualname__ = getattr(check.innermost(fn), "__qualname__", None) or check.shorten(
            fn
        )  # error messages contain it
        return watched

    def _item_ends(  # noqa: C901 - a call costs for each item
        self, position: int, slot: int, item: Any, start: float, error: BaseException | None = None
    ) -> None:
        view, now, run = self.view, self._clock(), self._run
        attempts, end, where, skipped = 1, now, None, False
        if run.noted:
            error, attempts, start, end, where, skipped = self._noted(error, start, now)
        outcome: events.Outcome = "ok" if error is None else "failed"
        if skipped:
            view.skipped += 1
        elif error is None:
            view.ok += 1
        elif isinstance(error, GeneratorExit) and current_task(run.loop) is None:
            return  # the loop is gone, and this coroutine is being garbage-collected
        elif isinstance(error, CancelledError) and run.is_ending:
            outcome = "cancelled"
            view.cancelled += 1
        else:
            view.failed += 1
        heappush(self._slots.free, slot)
        self._running -= 1
        self._count(now, position + run.offset)
        if self._on_end:
            what = view, position, slot, item, start, end, attempts, outcome, error, where, skipped
            event: events.ItemEnded = _new(events.ItemEnded, what)
            for one in self._on_end:
                try:
                    one.call(event)
                except (Exception, CancelledError) as raised:
                    one.fail(raised)

    def _noted(
        self, error: BaseException | None, start: float, end: float
    ) -> tuple[BaseException | None, int, float, float, str | None, bool]:
        """Return the error, attempts, start, end and worker of an item, completed from its record if there is one.

        The last value is whether it was skipped.
        """
        worker: Any = current_task()
        record, worker.item = worker.item, None  # so that the record is not taken for that of the next item
        if record is None:
            return error, 1, start, end, None, False
        error = record.error if error is None else error
        ran, attempts = record.ran, record.attempts
        self.view.retried += attempts > 1
        if ran is None:
            return error, attempts, start, end, None, record.skipped
        return error, attempts, ran.start, ran.end, ran.worker, record.skipped

    def ran(self, position: int, item: Any, ran: Ran | None, error: BaseException | None) -> None:
        """Send the events of an item that ran elsewhere. If its times are unknown, both are the current time."""
        view = self.view
        worker, slot, start, end, attempts, failed = ran or ("", 0, now := self._clock(), now, 1, True)
        failed = failed or error is not None  # a result that cannot be sent, for example
        if failed:
            view.failed += 1
        else:
            view.ok += 1
        view.retried += attempts > 1
        if self._on_start:
            _publish(self._on_start, events.ItemStarted(view, position, slot, item, start))
        if self._on_end:
            outcome: events.Outcome = "failed" if failed else "ok"
            what = view, position, slot, item, start, end, attempts, outcome, error, worker or None
            _publish(self._on_end, events.ItemEnded(*what))

    def retried(self, item: Any, attempt: int, error: BaseException | None, pause: float) -> None:
        """Send the event of a retry elsewhere."""
        _publish(self.on_retry, events.ItemRetried(self.view, item, attempt, error, pause))

    def elsewhere(self, in_flight: int) -> None:
        """Record the number of items that are in flight elsewhere."""
        self._running = in_flight
        self.view.started = self.view.done + in_flight
        self._count(self._clock())

    # ---- what keeps items from starting

    def _count(self, now: float, ended: int = -1) -> None:
        """Add the time since the last event to the current waiting reason, and determine the reason from now on.

        The reason does not change between two events: if an obstacle disappears, an item starts at once. Two further
        changes count as events here: an item that waits for its permit, and the end of the source.
        """
        run, reader, reason = self._run, self._reader, self._reason
        if self._counting is not None:
            self._top = self._counting.most
            self.view.limit = self._shown()
        if reason == self._held_back_by and (run.exhausted or (reader is not None and reader.over())):
            reason = _TAIL
        self._waits[reason] += now - self._last
        self._last = now
        if self._running >= self._top:
            self._reason = _LIMIT
            return
        stream = self._stream
        if self._admission is not None and self._admission.held:
            self._reason = self._held_back_by
        elif stream is not None and stream.room(run.started) <= run.started:
            self._reason = _OUTPUT if stream.ready() or _is_next(stream, ended) else _ORDER
        else:
            self._reason = self._held_back_by if reader is None or reader.ready() else _INPUT

    def source_changed(self) -> None:
        """Update the waiting reason: the source has ended or has no item yet, or an item waits for its permit."""
        self._count(self._clock())

    # ---- ending

    @contextmanager
    def ending(self) -> Generator[None]:
        """Return a block in which the run ends; send `RunEnded` after it."""
        now, stopped = self._clock(), self._run.stopped
        self._count(now)
        try:
            yield
        finally:
            self._run = self._admission = self._reader = None  # break reference cycles
            error, self.error = self.error, None
            outcome: events.Outcome = "failed" if error is not None else "cancelled" if stopped else "ok"
            _publish(self._subscribed(events.RunEnded), events.RunEnded(self.view, now, outcome, error))


def _is_next(stream: InOrder, index: int) -> bool:
    """Return whether the consumer can take the result of the item that is just ending, which is not stored yet."""
    return index >= 0 and (isinstance(stream, AsCompleted) or index == stream.taken)


def length(source: Any) -> int | None:
    """Return the length hint of a source, which may be wrong; ``None`` if it has none, or more than `sys.maxsize`."""
    try:
        hint = length_hint(source, -1)
    except Exception:
        return None
    return None if hint < 0 else hint


def _publish(subscriptions: Iterable[Subscription], event: events.Event) -> None:
    """Do `Subscription.tell` for each of them."""
    for subscription in subscriptions:
        try:
            subscription.call(event)
        except (Exception, CancelledError) as error:
            subscription.fail(error)
