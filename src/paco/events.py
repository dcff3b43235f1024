"""Events of a run: its start and end, and those of each of its items.

A *listener* is a plain function that is called with each event. In a `listening` block, it is called for every run that
starts inside the block, including nested calls, pipelines and tasks, because such listeners are kept in a context
variable. With `install`, it is called for every run of the process. A run that starts without listeners pays nothing:
its function is not even wrapped.

Examples:
    >>> from paco.events import ItemEnded
    >>> async def half(number):
    ...     return 1 / number
    >>> def show(event):
    ...     print(event.run.name, event.item, event.outcome)
    >>> with paco.listening(show, ItemEnded):
    ...     paco.run(paco.map(half, [2, 0], return_exceptions=True))
    map 2 ok
    map 0 failed
    [0.5, ZeroDivisionError('division by zero')]
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, get_args, overload

from paco._base import check
from paco._base.deadline import clock as clock  # noqa: PLC0414 - type checkers require this form of a re-export
from paco._base.item import Worker as Worker  # noqa: PLC0414 - as above
from paco._base.item import item_here, tried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Token

    from paco._base.item import Item

#: How an item or a run ended. ``cancelled`` means that it was stopped early, not that it failed.
Outcome: TypeAlias = Literal["ok", "failed", "cancelled"]
#: What keeps the next item from starting. ``limit``: all slots are busy. ``rate``: a limit object, such as a rate, does
#: not admit it yet. ``input``: an async source has no item ready. ``output``: finished results wait for the consumer.
#: ``order``: finished results wait for an earlier item. ``loop``: the event loop is busy. ``tail``: no items are left.
Waiting: TypeAlias = Literal["limit", "rate", "input", "output", "order", "loop", "tail"]

WAITING: Final[tuple[Waiting, ...]] = get_args(Waiting)


@dataclass(slots=True, eq=False)
class Run:
    """A run, as a listener sees it: its description and its current counts. Listeners only read it.

    Attributes:
        id: A number that no other run in this process has.
        name: The operation, such as ``map``.
        function: The name of the function over the items; empty if the items are calls themselves, as for ``gather``.
        limit: The current maximum of items in flight; 0 for no limit.
        total: The number of items, or ``None`` if the source does not know it.
        parent: The run whose item started this run, or ``None``. A run that a source started has the parent of the run
            that reads the source.
        feeds: The run that reads the results of this run, as the next stage of a pipeline, or from an async generator
            that iterates this run; or ``None``.
        fed: Whether this run reads the results of another run, which starts after this one.
        date: When the run started, in seconds since 1970.
        start: When the run started, in seconds on the clock that times its items. That is the event loop's clock if the
            loop overrides asyncio's, as `paco.testing.VirtualLoop` does. Otherwise it is ``time.perf_counter``, because
            the clock of uvloop only counts milliseconds.
        started: Items that have started.
        ok: Items that succeeded, not counting skipped ones.
        failed: Items that raised, not counting skipped ones.
        cancelled: Items that were cancelled because the run was ending.
        skipped: Items that did not run, because an earlier run has recorded their results (`Stream.journal`).
        retried: Finished items that took more than one attempt.
        workers: The workers that have received items, by name; empty if the items run in this process.
    """

    name: str
    function: str
    limit: int
    total: int | None
    _waits: list[float]
    id: int = field(init=False, default_factory=itertools.count(1).__next__)
    parent: Run | None = field(init=False, default=None)
    feeds: Run | None = field(init=False, default=None)
    fed: bool = field(init=False, default=False)
    date: float = field(init=False, default=0.0)
    start: float = field(init=False, default=0.0)
    started: int = field(init=False, default=0)
    ok: int = field(init=False, default=0)
    failed: int = field(init=False, default=0)
    cancelled: int = field(init=False, default=0)
    skipped: int = field(init=False, default=0)
    retried: int = field(init=False, default=0)
    workers: dict[str, Worker] = field(init=False, default_factory=dict[str, Worker])

    def __repr__(self) -> str:
        of = "" if self.total is None else f" of {self.total:,}"
        skipped = f", {self.skipped:,} skipped" if self.skipped else ""
        return f"<run {self.id}: {self.title}, {self.done:,}{of} done, {self.failed:,} failed{skipped}>"

    @property
    def title(self) -> str:
        """The name to display, such as ``map fetch``."""
        return f"{self.name} {self.function}".rstrip()

    @property
    def order(self) -> tuple[int, int]:
        """A key that sorts runs by their start, and the stages of a pipeline from first to last."""
        last, stages = self, 0
        while last.feeds is not None:
            last, stages = last.feeds, stages + 1
        return last.id, -stages

    @property
    def done(self) -> int:
        """Items that succeeded or failed, in this run."""
        return self.ok + self.failed

    @property
    def in_flight(self) -> int:
        """Items that are running now; an upper bound if they run elsewhere."""
        count = self.started - self.ok - self.failed - self.cancelled - self.skipped
        return min(count, self.limit) if self.workers and self.limit else count

    @property
    def waited(self) -> dict[Waiting, float]:
        """The seconds for which each `Waiting` reason kept the next item from starting, up to the last event."""
        return dict(zip(WAITING, self._waits, strict=True))


# Named tuples, not frozen dataclasses: also immutable and without a dict, but made in 0.2 µs instead of 1.2 µs.
class RunStarted(NamedTuple):
    """A run has started, but none of its items has.

    Attributes:
        run: The run.
        time: When it started, in seconds on the clock of `Run.start`.
    """

    run: Run
    time: float


class ItemStarted(NamedTuple):
    """The function is about to be called with an item.

    Attributes:
        run: The run.
        position: The index of the item in the source, from 0. Items start in this order.
        slot: The lowest number, from 0, that no other item in flight has, so items in one slot never overlap. If items
            run elsewhere (`Stream.on`), each worker has its own slots.
        item: The item.
        start: When it started, in seconds on the clock of `Run.start`.
    """

    run: Run
    position: int
    slot: int
    item: Any
    start: float


class ItemEnded(NamedTuple):
    """The function has ended for an item.

    Attributes:
        run: The run. It, ``position``, ``slot``, ``item`` and ``start`` are those of `ItemStarted`.
        end: When it ended, in seconds on the clock of `Run.start`.
        attempts: 1, plus 1 for each call of `retried` in the item.
        outcome: ``ok``, ``failed``, or ``cancelled`` if the run was ending.
        error: What was raised; ``None`` for ``ok``.
        worker: The name of the `Worker` that ran it and measured its times; ``None`` for this process.
        skipped: Whether it did not run, because an earlier run has recorded its result or error (`Stream.journal`).
    """

    run: Run
    position: int
    slot: int
    item: Any
    start: float
    end: float
    attempts: int
    outcome: Outcome
    error: BaseException | None
    worker: str | None = None
    skipped: bool = False

    @property
    def elapsed(self) -> float:
        """The seconds from start to end."""
        return self.end - self.start


class RunEnded(NamedTuple):
    """A run and everything that it started have finished.

    Attributes:
        run: The run.
        time: When it ended, in seconds on the clock of `Run.start`.
        outcome: ``ok`` if every item ran; ``failed``; or ``cancelled`` if the run ended early because of a ``break``,
            a cancellation, or a result that the remaining items could not change.
        error: The error that ended it; ``None`` unless it failed.
    """

    run: Run
    time: float
    outcome: Outcome
    error: BaseException | None


Event: TypeAlias = RunStarted | ItemStarted | ItemEnded | RunEnded
EVENTS: Final = get_args(Event)
E = TypeVar("E", bound=Event)


def _ignore(_: Any) -> None:
    """Replace a listener that is no longer called."""


class Subscription:
    """A listener, as runs hold it. ``call`` calls the listener until its block ends or it raises."""

    def __init__(self, listener: Callable[[Any], object], kinds: Iterable[type]) -> None:
        self._listener = listener
        self.kinds: frozenset[type] = frozenset(kinds)
        self.call: Callable[[Any], object] = listener

    def close(self) -> None:
        """Stop calling the listener."""
        self.call = _ignore

    def fail(self, error: BaseException) -> None:
        """Report an error of the listener to the event loop, and stop calling the listener."""
        self.close()
        message = f"paco.listening: {check.called(self._listener)} raised, and will not be called again"
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})


#: The listeners for a run that starts here.
listeners: ContextVar[tuple[Subscription, ...]] = ContextVar("paco.listeners", default=())
#: The run whose item is executing.
current: ContextVar[Run | None] = ContextVar("paco.run", default=None)
#: The run whose async source is executing.
reading: ContextVar[Run | None] = ContextVar("paco.reading", default=None)


#: The listeners for every run that starts in this process.
_installed: Final[list[Subscription]] = []


def subscribed() -> tuple[Subscription, ...]:
    """Return the listeners for a run that starts here."""
    return (*_installed, *listeners.get()) if _installed else listeners.get()


def _check(name: str, listener: object, kinds: tuple[object, ...]) -> None:
    """Check a listener, and the types of the events that it is for."""
    if not callable(listener):
        raise TypeError(check.refusal(name, "listener", "a function of one event", listener))
    if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(type(listener).__call__):
        raise TypeError(
            f"paco.{name}: listener must be a plain function, got the coroutine function {check.called(listener)}, "
            "which paco does not await; pass a plain function that puts the events into a queue"
        )
    for kind in kinds:
        if kind not in EVENTS:
            names = ", ".join(one.__name__ for one in EVENTS)
            raise TypeError(check.refusal(name, "kind", f"one of {names}, or None", kind))


class listening:  # noqa: N801 - used as a function; a generator would check its arguments only when entered
    """Call a listener with the events of each run that starts inside the block.

    The listener runs in the event loop's thread and delays the run, so it should be fast and must not block. If it
    raises, the error goes to the loop's exception handler, the listener is not called again, and the run continues.

    A run calls the listeners that were active when it started. No listener is called after its block has ended.
    Listening costs about 2 µs per item, a third less for one kind of event, plus the time of the listener;
    ``./dev bench --only listeners`` measures it.

    Args:
        listener: Called with each event: a `RunStarted`, `ItemStarted`, `ItemEnded` or `RunEnded` of `paco.events`.
        kind: The type of events to listen to; ``None`` for all. Events without a listener are not created.

    Raises:
        TypeError: At the call, if ``listener`` is not a plain function or ``kind`` is not a type of event.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> def tell(event):
        ...     print(event.run.title, event.outcome, event.run.ok)
        >>> with paco.listening(tell, paco.events.RunEnded):
        ...     paco.run(paco.map(double, [1, 2, 3]))
        map double ok 3
        [2, 4, 6]
    """

    @overload
    def __init__(self, listener: Callable[[Event], object]) -> None: ...
    @overload
    def __init__(self, listener: Callable[[E], object], kind: type[E]) -> None: ...
    def __init__(self, listener: Callable[[Any], object], kind: type[Any] | None = None) -> None:
        _check("listening", listener, () if kind is None else (kind,))
        self._listener = listener
        self._kinds = EVENTS if kind is None else (kind,)
        self._entered: list[tuple[Subscription, Token[tuple[Subscription, ...]]]] = []

    def __enter__(self) -> None:
        subscription = Subscription(self._listener, self._kinds)
        self._entered.append((subscription, listeners.set((*listeners.get(), subscription))))

    def __exit__(self, *exc_info: object) -> None:
        subscription, token = self._entered.pop()
        subscription.close()
        try:
            listeners.reset(token)
        except ValueError:  # exited in another context than entered, as in a pytest fixture
            listeners.set(tuple(one for one in listeners.get() if one is not subscription))


@overload
def install(listener: Callable[[Event], object]) -> Callable[[], None]: ...
@overload
def install(listener: Callable[[E], object], *kinds: type[E]) -> Callable[[], None]: ...
def install(listener: Callable[[Any], object], *kinds: type[Any]) -> Callable[[], None]:
    """Call a listener with the events of every run that starts in this process from now on, in any thread and context.

    For programs whose runs start in tasks that do not inherit the context of a `listening` block, such as the requests
    of a web application whose metrics are set up in its lifespan. The listener is called in the thread of each run, as
    by `listening`.

    Args:
        listener: Called with each event.
        kinds: The types of events to listen to; all if none is given.

    Returns:
        A function that removes the listener. It is not called after that.

    Raises:
        TypeError: ``listener`` is not a plain function, or one of ``kinds`` is not a type of event.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> uninstall = paco.events.install(lambda event: print(event.run.title, event.outcome), paco.events.RunEnded)
        >>> paco.run(paco.map(double, [1, 2, 3]))
        map double ok
        [2, 4, 6]
        >>> uninstall()
    """
    _check("events.install", listener, kinds)
    subscription = Subscription(listener, kinds or EVENTS)
    _installed.append(subscription)

    def uninstall() -> None:
        subscription.close()
        with suppress(ValueError):  # it was called before
            _installed.remove(subscription)

    return uninstall


def retried() -> None:
    """Count one more attempt at the item that runs in this task.

    For wrappers that retry. Does nothing if the run has no listeners.

    Examples:
        >>> async def stubborn(number):
        ...     paco.events.retried()
        ...     return number
        >>> with paco.listening(lambda ended: print(ended.attempts), paco.events.ItemEnded):
        ...     paco.run(paco.map(stubborn, [5]))
        2
        [5]
    """
    tried()


def failed(error: BaseException) -> None:
    """Mark the item that runs in this task as failed, although its function will return.

    For wrappers that turn an error into a value. Does nothing if the run has no listeners.

    Examples:
        >>> async def settled(number):
        ...     paco.events.failed(ValueError(number))
        >>> with paco.listening(lambda ended: print(ended.outcome), paco.events.ItemEnded):
        ...     paco.run(paco.map(settled, [5]))
        failed
        [None]
    """
    item = _watched_item()
    if item is not None:
        item.error = error


def skipped() -> None:
    """Mark the item that runs in this task as skipped: its result, or its error, was made at an earlier time.

    For wrappers that look results up, such as a cache. Does nothing if the run has no listeners.

    Examples:
        >>> cache = {5: 25}
        >>> async def cached(number):
        ...     paco.events.skipped()
        ...     return cache[number]
        >>> with paco.listening(lambda ended: print(ended.outcome, ended.skipped), paco.events.ItemEnded):
        ...     paco.run(paco.map(cached, [5]))
        ok True
        [25]
    """
    item = _watched_item()
    if item is not None:
        item.skipped = True


def _watched_item() -> Item | None:
    """Return the record of the item that runs in this task, if its run has listeners."""
    return None if current.get() is None else item_here()
