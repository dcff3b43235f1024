"""What a run knows of one item: its record; and where items run: slots and workers."""

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


class Slots:
    """Assigns each item in flight the lowest free number, its slot. Items in one slot never overlap."""

    __slots__ = ("free", "new")

    def __init__(self) -> None:
        #: The free slots, as a heap.
        self.free: list[int] = []
        #: Returns the number of a slot that was never taken.
        self.new: Callable[[], int] = count().__next__


class Worker:
    """A process that runs items of a run, on this or another machine, as a listener sees it.

    Listeners only read it. ``in_flight`` changes when a chunk of items is sent or comes back, the other counts when one
    comes back.

    Attributes:
        name: The name, such as ``process 4242 on host``.
        in_flight: The most items that may be running there; ``None`` if the engine does not say which worker has them.
        ok: Items that succeeded there.
        failed: Items that raised there.
        lost: Whether the process died while it had items. Other workers ran those items again.
    """

    __slots__ = ("failed", "in_flight", "lost", "name", "ok")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.in_flight: int | None = None
        self.ok: int = 0
        self.failed: int = 0
        self.lost: bool = False

    def __repr__(self) -> str:
        return f"<{self.name}: {self.done:,} done{', lost' if self.lost else ''}>"

    @property
    def done(self) -> int:
        """Items that succeeded or failed."""
        return self.ok + self.failed


class Ran(NamedTuple):
    """Where and when an item ran, in seconds on the clock of the local run.

    Attributes:
        worker: The name of the worker.
        slot: The slot of the item in that worker.
        start: When the item started.
        end: When it ended.
        attempts: How many attempts it took.
        failed: Whether it raised.
    """

    worker: str
    slot: int
    start: float
    end: float
    attempts: int
    failed: bool


class Item:
    """The record of one item, or of a call that holds permits or counts attempts.

    A run under a limit object creates one for each item. Other runs create one only when there is something to record,
    such as a second attempt. Retries, limits, listeners and the journal share the same record.

    Args:
        value: The item itself.
        index: Its number in the run.
        parent: The item or call that this one is part of, and that ends after it.
    """

    # Slots that are all set: Python does not specialize access to an attribute that its class has, too.
    __slots__ = (
        "attempts",
        "bound",
        "error",
        "index",
        "known",
        "limit",
        "parent",
        "permit",
        "permitted",
        "ran",
        "refusal",
        "settles",
        "skipped",
        "value",
    )

    def __init__(self, value: Any = None, index: int = -1, parent: Item | None = None) -> None:
        self.value: Any = value
        self.index: int = index
        self.parent: Item | None = parent
        #: The permit from the limit, while `permitted` is true.
        self.permit: Any = None
        #: Whether it holds its permit.
        self.permitted: bool = False
        #: The part of the limit that grants the permit.
        self.limit: Any = None
        #: Whether only the worker that has taken it may run it, because the source has set a context variable for it.
        self.bound: bool = False
        #: The number of attempts so far.
        self.attempts: int = 1
        #: Its error, if its function returns errors or runs on a worker.
        self.error: BaseException | None = None
        #: The error with which its limit has refused it.
        self.refusal: Exception | None = None
        #: Where and when it ran, if it ran on a worker.
        self.ran: Ran | None = None
        #: What the journal knows of it: the beginning of its new record, and its earlier record if there is one.
        self.known: tuple[Any, Any] | None = None
        #: Whether its function did not run, because what it did is recorded.
        self.skipped: bool = False
        #: Whether `settle` reads its number of attempts.
        self.settles: bool = False

    def becomes(self, value: Any, index: int, known: tuple[Any, Any] | None = None) -> None:
        """Make this the record of the item that the same worker runs next, with the same parent."""
        self.value, self.index, self.known = value, index, known
        self.attempts, self.error, self.ran, self.skipped = 1, None, None, False

    def is_recorded(self) -> bool:
        """Return whether it has an earlier record, so that its function does not run."""
        return self.known is not None and self.known[1] is not None

    def is_out_of_budget(self) -> bool:
        """Return whether a budget in its limit, or in that of an item around it, is spent."""
        limits = [one.limit for one in (self, *self.around()) if one.limit is not None]
        return any(limit._is_spent for limit in limits)  # noqa: SLF001 - a subclass may use a public name

    def around(self) -> Iterator[Item]:
        """Yield the items and calls that this one is part of, innermost first."""
        one = self.parent
        while one is not None:
            yield one
            one = one.parent


#: The innermost item or call that holds permits or counts attempts here, and in the tasks that it has started.
inside: Final[ContextVar[Item | None]] = ContextVar("paco.item", default=None)


class WorkerTask(asyncio.Task[None]):
    """A task that knows the run it works for, and the record of the item it runs, if there is one."""

    __slots__ = ("item", "nursery")

    item: Item | None
    nursery: Any


def settling(value: Any) -> Item:
    """Return a new record for a call of a settled function, which reports its number of attempts."""
    call = Item(value, parent=inside.get())
    call.settles = True
    return call


def worker_here() -> WorkerTask | None:
    """Return the current task if it is one of a run."""
    loop = asyncio._get_running_loop()  # returns None, instead of raising, if no loop runs
    task = None if loop is None else asyncio.current_task(loop)
    return task if isinstance(task, WorkerTask) else None


def item_here() -> Item | None:
    """Return the record of the item that the current task runs; ``None`` if the task is no worker."""
    task = worker_here()
    if task is None:
        return None
    item = task.item
    if item is None:
        item = task.item = Item()
        task.nursery.noted = True
    return item


#: The functions that run items or take them from a source, and how to read `place` from a frame of each. The keys are
#: the identities of their code objects, whose hashes would take 0.5 µs each.
places: Final[dict[int, Callable[[FrameType], tuple[int, Any] | None]]] = {}


def place() -> tuple[int, Any] | None:
    """Return the index and the value of the item that the current task runs; ``None`` if it runs none.

    They are read from the frames of the callers. To note them in the task would cost each item 0.2 µs.
    """
    if worker_here() is None:
        return None
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as logging does
    while frame is not None and id(frame.f_code) not in places:
        frame = frame.f_back
    return None if frame is None else places[id(frame.f_code)](frame)


def tried() -> None:
    """Count one more attempt of the item that the current task runs, and of the settled call around it."""
    here, call = place(), inside.get()
    item = None if here is None else item_here()
    if here is not None and item is not None:
        if item.index not in {-1, here[0]}:  # the record of an earlier item of the same worker
            item.becomes(None, -1)
        item.index = here[0]
        item.attempts, item.error = item.attempts + 1, None
    while call is not None and not call.settles:
        call = call.parent
    if call is not None:
        call.attempts += 1
