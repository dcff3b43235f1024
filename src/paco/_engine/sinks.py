"""Sinks for results: a list, nothing, or a stream that delivers in input order or as items complete.

A worker stores a result with ``sink.store[index] = result``. It is not a method because a list and a dict take one
bytecode for it. ``sink.room(started)`` returns the index below which items may start; that number is the backpressure.
"""

from __future__ import annotations

import asyncio
import operator
import sys
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from paco._engine.run import Scheduler


class _Skip:
    """The type of `SKIP`. It is pickled by name, so that `SKIP` is the same object in every process."""

    def __reduce__(self) -> str:
        return "SKIP"


#: The result of an item that is left out of the results, such as one that ``filter`` drops.
SKIP: Final = _Skip()
#: What the sink of a stream returns if the next result is not available yet.
NOTHING: Final = object()

#: A list grows by this many places at a time. Results fill them in any order.
_PLACES: Final = [None] * 64


class Store(Protocol):
    """Stores the result of the item with an index."""

    def __setitem__(self, index: int, result: Any, /) -> None: ...


class Sink(Protocol):
    """Receives the results of a run."""

    store: Store

    def room(self, started: int) -> int:
        """Return the index below which items may start, given the number that have started."""
        ...

    def freeze(self) -> None:
        """Ignore further results: the run is ending early."""
        ...

    def left(self) -> Iterable[Any]:
        """Return the results that are not delivered if the run ends now, in input order; may include placeholders."""
        ...


class Late(Protocol):
    """Brings results to a sink later than they are stored, and then calls `Scheduler.release`."""

    def window(self) -> int:
        """Return the window of the sink, widened by the results that are on their way; 0 if no item may start."""
        ...

    def freeze(self) -> None:
        """Ignore what is stored from now on: the run is ending early."""
        ...


class Collector(Protocol):
    """Receives the errors of a run with the error policy ``collect``."""

    def failed(self, index: int, error: BaseException, /) -> bool:
        """Store the error of an item, and return whether the other items continue."""
        ...


class Keep:
    """Collects all results in one list, in input order; with ``gaps`` if some results may be `SKIP`."""

    def __init__(self, head: tuple[Any, ...] = (), *, gaps: bool = False) -> None:
        self._results: list[Any] = list(head)
        self.store: Store = self._results
        self._gaps = gaps

    def room(self, started: int) -> int:
        """Extend the list for the next items, and return its length: a list always has room."""
        if started >= len(self._results):
            self._results.extend(_PLACES)
        return len(self._results)

    def freeze(self) -> None:
        """Do nothing: a run that ends early returns no list."""

    def left(self) -> Iterable[Any]:
        return self._results

    def results(self, started: int) -> list[Any]:
        """Return the results of a run that has ended after ``started`` items."""
        del self._results[started:]
        return [result for result in self._results if result is not SKIP] if self._gaps else self._results


class _Forget:
    #: Gets the index and the result, and does nothing. A method would be called through C, for 3% of a plain run.
    __setitem__: Any = operator.is_


class Drop:
    """Discards all results, for a run with side effects only, in constant memory."""

    store: Store = _Forget()
    late: Late | None = None  # what holds items back

    def room(self, started: int) -> int:
        return sys.maxsize if self.late is None or self.late.window() > 0 else started

    def freeze(self) -> None:
        """Do nothing: no results are kept."""

    def left(self) -> Iterable[Any]:
        return ()


class InOrder:
    """Delivers results to one consumer, in input order.

    Args:
        window: The maximum number of items that have started but whose results have not been taken.
        most: The approximate maximum of waiting results: no item starts while that many wait.
        head: Results that precede those of the items.
    """

    #: Whether it wakes the consumer itself. Otherwise workers do, each after its item.
    wakes: bool = False

    def __init__(self, window: int, most: int, head: tuple[Any, ...] = ()) -> None:
        self.results: dict[int, Any] = dict(enumerate(head))
        self.store: Store = self.results
        self.taken: int = 0
        self.window: int = window
        self.most: int = most
        #: What brings results here, if they come later than they are stored.
        self.late: Late | None = None

    def room(self, started: int) -> int:
        window = self.window if self.late is None else self.late.window()
        return started if len(self.results) >= self.most else self.taken + window

    def freeze(self) -> None:
        """Keep the present results; from now on workers write to a dict that nothing reads."""
        self.results = self.results.copy()
        if self.late is not None:
            self.late.freeze()

    def left(self) -> Iterable[Any]:
        """Return the results behind the first missing one; the consumer will still take those before it."""
        missing = self.taken
        while missing in self.results:
            missing += 1
        return [result for index, result in sorted(self.results.items()) if index > missing]

    def add(self, results: Iterable[tuple[int, Any]]) -> None:
        """Store several results."""
        self.results.update(results)

    def holds_back(self, started: int) -> bool:
        """Return whether there are results that the consumer has not taken. Nothing else is in flight."""
        return self.taken < started

    def ready(self) -> bool:
        """Return whether the next result is available."""
        return self.taken in self.results

    def take(self) -> Any:
        """Remove and return the next result, or return `NOTHING` if it is not available yet."""
        result = self.results.pop(self.taken, NOTHING)
        if result is not NOTHING:
            self.taken += 1
        return result


class AsCompleted(InOrder):
    """Delivers results to one consumer, in the order in which items complete.

    A dict keeps insertion order, but removing its first entry repeatedly takes quadratic time. Therefore all results
    move to a deque at once whenever the deque is empty.
    """

    def __init__(self, window: int, most: int, head: tuple[Any, ...] = ()) -> None:
        super().__init__(window, most, head)
        self._batch: deque[Any] = deque()

    def room(self, started: int) -> int:
        window = self.window if self.late is None else self.late.window()
        return started if len(self.results) + len(self._batch) >= self.most else self.taken + window

    def left(self) -> Iterable[Any]:
        return ()  # the consumer will take every result

    def ready(self) -> bool:
        return bool(self._batch or self.results)

    def take(self) -> Any:
        batch = self._batch
        if not batch:
            if not self.results:
                return NOTHING
            batch.extend(self.results.values())
            self.results.clear()
        self.taken += 1
        return batch.popleft()


class _Arrivals(dict[int, Any]):
    """The results that wait for an earlier one. Those whose turn has come move on, each with the time.

    Args:
        size: The length of a list. The first result of one, and the last, may wake the consumer.
        ordered: Whether a result must wait for the earlier ones.
        now: The clock.
    """

    __slots__ = ("_notable", "_now", "_ordered", "ready", "run", "taken")

    def __init__(self, size: int, now: Callable[[], float], *, ordered: bool) -> None:
        super().__init__()
        self._now, self._ordered = now, ordered
        self._notable = 0, size - 1  # the numbers of results before the first of a list, and before the last
        #: Returns the run while it lasts.
        self.run: Callable[[], Scheduler | None] = lambda: None
        #: The results whose turn has come, without those left out, and when it came.
        self.ready: deque[tuple[float, Any]] = deque()
        #: How many results have moved on.
        self.taken: int = 0

    def __setitem__(self, index: int, result: Any, /) -> None:
        if self._ordered and index != self.taken:
            super().__setitem__(index, result)
            return
        now, ready = self._now(), self.ready
        before = len(ready)
        if result is not SKIP and not self:  # nothing waits for it
            self.taken += 1
            ready.append((now, result))
            if before in self._notable and (run := self.run()) is not None:
                run.notify()
            return
        alone = self.taken + 1, before + 1
        while result is not NOTHING:
            self.taken += 1
            if result is not SKIP:
                ready.append((now, result))
            result = self.pop(self.taken, NOTHING)
        if (run := self.run()) is not None:
            run.notify()
            if run.hungry and (self.taken, len(ready)) != alone:
                run.release()  # results that waited have moved on, or one is left out: more items may start

    def copy(self) -> _Arrivals:
        """Return a copy that later results do not reach."""
        copied = _Arrivals(self._notable[1] + 1, self._now, ordered=self._ordered)
        copied.update(self)  # not through `__setitem__`: they stay where they are
        copied.ready, copied.taken, copied.run = self.ready.copy(), self.taken, self.run
        return copied


class Batches(InOrder):
    """Delivers results to one consumer in lists.

    A list that is not full is delivered when its first result has waited long enough, and at the end of the run. Until
    the consumer takes it, it gets further results.

    Args:
        size: The length of a full list.
        within: The seconds after which the first result of a list does not wait for others; ``None`` for no such limit.
        window: The maximum number of items that have started and whose results are in no list yet.
        most: The approximate maximum of results that wait while a full list waits for the consumer.
        head: Results that precede those of the items.
        ordered: Whether results come in input order, and not as items complete.
    """

    wakes = True

    def __init__(
        self, size: int, within: float | None, window: int, most: int, head: tuple[Any, ...] = (), *, ordered: bool
    ) -> None:
        super().__init__(window, most)
        self._loop = asyncio.get_running_loop()
        now = self._loop.time if within is not None else float  # without a time, any number will do
        self.store = self.results = self._arrivals = _Arrivals(size, now, ordered=ordered)
        for index, result in enumerate(head):
            self._arrivals[index] = result
        self._size, self._within = size, within
        self._timer: asyncio.TimerHandle | None = None
        self._due = False  # whether the first result has waited long enough

    def serves(self, run: Scheduler) -> None:
        """Store the run, whose consumer is woken when a list is due. The reference is weak: the run refers to this."""
        self._arrivals.run = weakref.ref(run)

    def room(self, started: int) -> int:
        self.taken = self._arrivals.taken
        window = self.window if self.late is None else self.late.window()
        if window <= 0 or self.waiting() >= self.most:
            return started
        return self.taken - len(self._arrivals.ready) + self._size + window

    def waiting(self) -> int:
        """Return the number of results that wait for the consumer, without those of the next list."""
        return len(self._arrivals) + max(len(self._arrivals.ready) - self._size, 0)

    def freeze(self) -> None:
        super().freeze()
        self._arrivals = cast("_Arrivals", self.results)
        self._due = True
        self._stop_timer()

    def add(self, results: Iterable[tuple[int, Any]]) -> None:
        for index, result in results:
            self._arrivals[index] = result

    def holds_back(self, started: int) -> bool:
        if self._arrivals.taken == started:  # otherwise further results are on the way
            self._due = bool(self._arrivals.ready)  # what would complete the list may depend on its results
        return self._due or self._arrivals.taken < started

    def ready(self) -> bool:
        """Return whether a list is available. If one will be in time, have the consumer woken then."""
        found, run = self._arrivals.ready, self._arrivals.run()
        if not found or self._due or len(found) >= self._size or run is None or run.done:
            return bool(found)
        if self._within is not None and self._timer is None:
            end = found[0][0] + self._within
            if end <= self._loop.time():
                return True
            self._timer = self._loop.call_at(end, self._expire, context=run.base)
        return False

    def take(self) -> Any:
        """Remove and return the next list, or return `NOTHING` if it is not available yet."""
        if not self.ready():
            return NOTHING
        self._stop_timer()
        found, run = self._arrivals.ready, self._arrivals.run()
        self._due = run is None or run.is_ending
        return [found.popleft()[1] for _ in range(min(self._size, len(found)))]

    def _expire(self) -> None:
        self._timer, self._due, run = None, True, self._arrivals.run()
        if run is not None:
            run.notify()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
