"""What happens in a run, told to whoever listens: records of the run and of each item.

A *listener* is a plain function that is called with an event. It hears of every run that starts inside its ``with``
block, those of nested calls, of pipelines and of tasks included: who listens is a context variable. A run that starts
while nobody listens pays nothing at all, its function is not even wrapped.

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
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, get_args, overload
from weakref import WeakKeyDictionary

from paco._base import check
from paco._base.clock import own_clock
from paco._base.worker_info import Mention
from paco._base.worker_info import Worker as Worker  # noqa: PLC0414 - said in the way that type checkers ask for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Token

#: How an item or a run ended. ``cancelled`` is what ended early because its run did: it has not failed.
Outcome: TypeAlias = Literal["ok", "failed", "cancelled"]
#: What keeps the next item from starting: all slots are busy; a limit object has not let it start yet, as a rate; an
#: async source has none; finished results wait for the consumer, or for an earlier item, whose turn is first; nothing
#: does, so the event loop is busy; there is none left.
Waiting: TypeAlias = Literal["limit", "rate", "input", "output", "order", "loop", "tail"]

WAITING: Final[tuple[Waiting, ...]] = get_args(Waiting)

_ids = itertools.count(1)


class Run:
    """A run, as a listener sees it: what it is, and how it goes at this moment. It is for reading only.

    Attributes:
        id: Another number for each run of the process.
        name: The operation: ``map``.
        function: The name of the function over the items; empty where each item is a call itself, as for ``gather``.
        limit: Items in flight at most, by the limit as it is now; 0 for no limit.
        total: How many items there are, if the source can tell.
        parent: The run that has an item which started this one, or ``None``.
        feeds: The run that reads the results of this one, the next stage of a pipeline, or ``None``.
        fed: Whether this one reads the results of another.
        date: When it started: seconds since 1970.
        start: The same on the clock by which items are timed, in seconds. That is the loop's, where the loop has one of
            its own as `paco.testing.VirtualLoop` does, else ``time.perf_counter``, since uvloop's counts milliseconds.
        started: Items that have been started.
        ok: Items that went well.
        failed: Items that raised.
        cancelled: Items that were cancelled because the run was ending.
        retried: Of those that have ended, the items that took more than one attempt.
        workers: Those that have had items of it, by their names; empty where it runs in this process.
    """

    __slots__ = (
        "_waits",
        "cancelled",
        "date",
        "failed",
        "fed",
        "feeds",
        "function",
        "id",
        "limit",
        "mentions",
        "name",
        "ok",
        "parent",
        "retried",
        "start",
        "started",
        "total",
        "workers",
    )

    def __init__(
        self, name: str, function: str, limit: int, total: int | None, waits: list[float], *, fed: bool
    ) -> None:
        self.id: int = next(_ids)
        self.name: str = name
        self.function: str = function
        self.limit: int = limit
        self.total: int | None = total
        self.fed: bool = fed
        self.parent: Run | None = None
        self.feeds: Run | None = None
        self.date: float = 0.0
        self.start: float = 0.0
        self.started: int = 0
        self.ok: int = 0
        self.failed: int = 0
        self.cancelled: int = 0
        self.retried: int = 0
        self.workers: dict[str, Worker] = {}
        self._waits: list[float] = waits
        #: What `retried` and `failed` were called for, by the tasks of the items.
        self.mentions: WeakKeyDictionary[asyncio.Task[Any], Mention] | None = None

    def __repr__(self) -> str:
        of = "" if self.total is None else f" of {self.total:,}"
        return f"<run {self.id}: {self.title}, {self.done:,}{of} done, {self.failed:,} failed>"

    @property
    def title(self) -> str:
        """What to call it: ``map fetch``."""
        return f"{self.name} {self.function}".rstrip()

    @property
    def order(self) -> tuple[int, int]:
        """What to sort runs by: their start, but the stages of a pipeline from its source on."""
        last, stages = self, 0
        while last.feeds is not None:
            last, stages = last.feeds, stages + 1
        return last.id, -stages

    @property
    def done(self) -> int:
        """Items that went well or failed."""
        return self.ok + self.failed

    @property
    def in_flight(self) -> int:
        """Items that run at this moment; where that is elsewhere, at most."""
        count = self.started - self.ok - self.failed - self.cancelled
        return min(count, self.limit) if self.workers and self.limit else count

    @property
    def waited(self) -> dict[Waiting, float]:
        """For how many seconds which `Waiting` kept the next item from starting, up to the last event."""
        return dict(zip(WAITING, self._waits, strict=True))


# Tuples, not frozen dataclasses: as unchangeable, without a dict too, and made in 0.2 us instead of 1.2.
class RunStarted(NamedTuple):
    """A run has started, and none of its items has.

    Attributes:
        run: The run.
        time: When, in seconds, on the clock of `Run.start`.
    """

    run: Run
    time: float


class ItemStarted(NamedTuple):
    """The function is about to be called with an item.

    Attributes:
        run: The run.
        position: The number of the item in order of start, which is that of the source: from 0.
        slot: The lowest number from 0 that no other item in flight has: items of one slot never overlap. Where items
            run elsewhere (`Stream.on`), that no other one of its worker has.
        item: The item.
        start: When, in seconds, on the clock of `Run.start`.
    """

    run: Run
    position: int
    slot: int
    item: Any
    start: float


class ItemEnded(NamedTuple):
    """The function has ended for an item.

    Attributes:
        run: As of `ItemStarted`, like ``position``, ``slot``, ``item`` and ``start``.
        end: When it ended, in seconds.
        attempts: 1 and one more for each time `retried` was called in the item.
        outcome: ``ok``, ``failed``, or ``cancelled`` because the run was ending.
        error: What was raised; ``None`` for ``ok``.
        worker: The name of the `Worker` in which it ran, by whose clock it is timed; ``None`` for this process.
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

    @property
    def elapsed(self) -> float:
        """How long it took, in seconds."""
        return self.end - self.start


class RunEnded(NamedTuple):
    """All that a run started has finished.

    Attributes:
        run: The run.
        time: When, in seconds, on the clock of `Run.start`.
        outcome: ``ok`` where every item was run; ``failed``; ``cancelled`` where the run was left early: by a
            ``break``, by a cancellation, or because the answer was known.
        error: What ended it; ``None`` unless it failed.
    """

    run: Run
    time: float
    outcome: Outcome
    error: BaseException | None


Event: TypeAlias = RunStarted | ItemStarted | ItemEnded | RunEnded
EVENTS: Final = get_args(Event)
E = TypeVar("E", bound=Event)


def _deaf(_: Any) -> None:
    """Be told nothing, in the place of a listener that has gone."""


class Ear:
    """A listener, as runs hold it: ``tell`` calls it, until its block is left or it has raised."""

    __slots__ = ("_listener", "kinds", "tell")

    def __init__(self, listener: Callable[[Any], object], kinds: Iterable[type]) -> None:
        self._listener = listener
        self.kinds: frozenset[type] = frozenset(kinds)
        self.tell: Callable[[Any], object] = listener

    def close(self) -> None:
        """Be told nothing more."""
        self.tell = _deaf

    def fail(self, error: BaseException) -> None:
        """Report the first error of the listener to the event loop, which is the last."""
        self.close()
        message = f"paco.listening: {check.called(self._listener)} raised, and is told nothing more"
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})


_ears: ContextVar[tuple[Ear, ...]] = ContextVar("paco.listeners", default=())
#: The run whose item, or whose source, the code belongs to.
current: ContextVar[Run | None] = ContextVar("paco.run", default=None)


def ears() -> tuple[Ear, ...]:
    """Return who listens to a run that starts here."""
    return _ears.get()


def tell(ears: Iterable[Ear], event: Event) -> None:
    """Tell listeners; one that raises does not disturb the run, and is told nothing more."""
    for ear in ears:
        try:
            ear.tell(event)
        except (Exception, asyncio.CancelledError) as error:
            ear.fail(error)


def clock() -> Callable[[], float]:
    """Return the clock by which the running loop's items are timed: see `Run`."""
    loop = asyncio.get_running_loop()
    return loop.time if own_clock(loop) else time.perf_counter


class listening:  # noqa: N801 - used as a function; as a generator it would check its arguments only when entered
    """Call a listener with what happens in the runs that start inside the block.

    It is called in the middle of the work, in the thread of the event loop: it should be quick, and must not wait. One
    that raises is reported once to the exception handler of the loop and told nothing more; the run goes on.

    A run tells those who listened when it started. It goes on to tell them as long as the block lasts; a listener hears
    nothing after its block. Listening costs about 2 us an item, a third less for one kind of event, and what the
    listener does; ``./dev bench --only listeners`` measures it.

    Args:
        listener: Called with each event: `RunStarted`, `ItemStarted`, `ItemEnded`, `RunEnded` of `paco.events`.
        kind: The type of the events to be called with; ``None`` for all. What nobody hears is not made.

    Raises:
        TypeError: Not a plain function, or not the type of an event; at the call.

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
        _demand_listener(listener)
        if kind is not None and kind not in EVENTS:
            names = ", ".join(one.__name__ for one in EVENTS)
            raise TypeError(f"paco.listening: kind must be one of {names}, or None, got {check.shorten(kind)}")
        self._listener = listener
        self._kinds = EVENTS if kind is None else (kind,)
        self._entered: list[tuple[Ear, Token[tuple[Ear, ...]]]] = []

    def __enter__(self) -> None:
        ear = Ear(self._listener, self._kinds)
        self._entered.append((ear, _ears.set((*_ears.get(), ear))))

    def __exit__(self, *exc_info: object) -> None:
        ear, token = self._entered.pop()
        ear.close()
        try:
            _ears.reset(token)
        except ValueError:  # left in another context than entered, as by a fixture of a test
            _ears.set(tuple(one for one in _ears.get() if one is not ear))


def _demand_listener(listener: object) -> None:
    if not callable(listener):
        check.discard(listener)
        raise TypeError(f"paco.listening: listener must be a function of one event, got {check.shorten(listener)}")
    if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(type(listener).__call__):
        raise TypeError(
            f"paco.listening: listener must be a plain function, got the coroutine function "
            f"{check.called(listener)}, which nobody would await; let a plain one put the events into a queue"
        )


def mention() -> Mention:
    """Return where to note something about the item which runs in this task."""
    run, loop = current.get(), asyncio._get_running_loop()  # the form that answers None where none runs
    task = None if loop is None else asyncio.current_task(loop)
    if run is None or task is None:
        return Mention()  # that nobody asks for
    if run.mentions is None:
        run.mentions = WeakKeyDictionary()
    return run.mentions.setdefault(task, Mention())


def retried() -> None:
    """Mention that the item which runs in this task is tried once more: it counts as an attempt.

    For wrappers that retry; does nothing where no run is listened to.

    Examples:
        >>> async def stubborn(number):
        ...     paco.events.retried()
        ...     return number
        >>> with paco.listening(lambda ended: print(ended.attempts), paco.events.ItemEnded):
        ...     paco.run(paco.map(stubborn, [5]))
        2
        [5]
    """
    mention().retries += 1


def failed(error: BaseException) -> None:
    """Mention that the item which runs in this task has failed, though its function is going to return.

    For wrappers that make a value of an error; does nothing where no run is listened to.

    Examples:
        >>> async def settled(number):
        ...     paco.events.failed(ValueError(number))
        >>> with paco.listening(lambda ended: print(ended.outcome), paco.events.ItemEnded):
        ...     paco.run(paco.map(settled, [5]))
        failed
        [None]
    """
    mention().error = error
