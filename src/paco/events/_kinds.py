"""What listeners see: a run, and the kinds of events."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, get_args

from paco._base.item import Worker

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
        stopping: Whether the run was asked to take nothing more from its source (`Stream.stop`, `Gate.close`).
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
    stopping: bool = field(init=False, default=False)
    date: float = field(init=False, default=0.0)
    start: float = field(init=False, default=0.0)
    started: int = field(init=False, default=0)
    ok: int = field(init=False, default=0)
    failed: int = field(init=False, default=0)
    cancelled: int = field(init=False, default=0)
    skipped: int = field(init=False, default=0)
    retried: int = field(init=False, default=0)
    workers: dict[str, Worker] = field(init=False, default_factory=dict[str, Worker])
    subscriptions: tuple[Any, ...] = field(init=False, default=())

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
    """The function is about to be called with an item, or the limit has refused the item, which then ends at once.

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


class ItemRetried(NamedTuple):
    """An attempt has failed, and another one follows after a pause. `paco.retry` and `retried` send it.

    If items run elsewhere (`Stream.on`), this event comes when the chunk of the item is back, shortly before
    `ItemEnded`.

    Attributes:
        run: The run; ``None`` outside a run that has listeners.
        item: The item; ``None`` outside an item, and in a task that the item has started.
        attempt: The number of the attempt that has failed, from 1, in this call of the function that retries.
        error: What the attempt raised; ``None`` if unknown.
        pause: The seconds until the next attempt.
    """

    run: Run | None
    item: Any
    attempt: int
    error: BaseException | None
    pause: float


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


Event: TypeAlias = RunStarted | ItemStarted | ItemRetried | ItemEnded | RunEnded
"""The type of what a listener receives: one of the five kinds of events. A later version may add kinds."""
EVENTS: Final = get_args(Event)
E = TypeVar("E", bound=Event)
