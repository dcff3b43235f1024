"""The record of one item, to which the worker that runs it leads; and where items run: slots, workers, details."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Slots:
    """Assigns each item in flight the lowest free number, its slot. Items in one slot never overlap."""

    __slots__ = ("free", "new")

    def __init__(self) -> None:
        #: The free slots, as a heap.
        self.free: list[int] = []
        #: Returns the number of a slot that was never taken.
        self.new: Callable[[], int] = count().__next__

    def take(self) -> int:
        """Take the lowest free slot and return its number."""
        return heappop(self.free) if self.free else self.new()

    def give(self, slot: int) -> None:
        """Free a slot."""
        heappush(self.free, slot)


class Worker:
    """A process that runs items of a run, on this or another machine, as a listener sees it.

    Listeners only read it. Its counts change when a chunk of items comes back from the process.

    Attributes:
        name: The name, such as ``process 4242 on host``.
        in_flight: An upper bound of the items running there; ``None`` if the engine does not say which worker has them.
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
    """The record of one item; of a call, where that has permits or counts its attempts itself.

    The hot loop for a number makes none: a limit object does, and otherwise whatever has something to note, such as a
    further attempt. Retries, limits, listeners and the journal read and write the same one.

    Args:
        value: The item itself.
        index: Its number in the run.
        parent: The item, or the call, that cannot end before this one has.
    """

    # No slots: a record is made for each item, and what is not set on it costs nothing.
    #: What the limit has given for it, as long as it is `permitted`.
    permit: Any = None
    #: Whether it has its permit.
    permitted: bool = False
    #: How often it has been tried.
    attempts: int = 1
    #: How it has failed, where its function returns or runs elsewhere.
    error: BaseException | None = None
    #: Where and when it ran, if that was elsewhere.
    ran: Ran | None = None
    #: What a journal knows of it.
    known: Any = None
    #: Whether its attempts are counted for the outcome of a settled call.
    settles: bool = False

    def __init__(self, value: Any = None, index: int = -1, parent: Item | None = None) -> None:
        self.value: Any = value
        self.index: int = index
        self.parent: Item | None = parent

    def around(self) -> Iterator[Item]:
        """Yield those that cannot end before this one has."""
        one = self.parent
        while one is not None:
            yield one
            one = one.parent


#: The innermost item, or call, that holds permits or counts attempts here: also in the tasks that it has started.
inside: Final[ContextVar[Item | None]] = ContextVar("paco.item", default=None)


class WorkerTask(asyncio.Task[None]):
    """A task that leads to the run that it works for, and to the record of the item that it runs, if there is one."""

    __slots__ = ("item", "nursery")

    item: Item | None
    nursery: Any


def settling(value: Any) -> Item:
    """Return the record of a call whose outcome tells its attempts."""
    call = Item(value, parent=inside.get())
    call.settles = True
    return call


def item_here() -> Item | None:
    """Return the record of the item that the present task runs, if it is a worker; it is made on demand."""
    loop = asyncio._get_running_loop()  # the form that answers None where none runs
    task = None if loop is None else asyncio.current_task(loop)
    if not isinstance(task, WorkerTask):
        return None
    item = task.item
    if item is None:
        item = task.item = Item()
        task.nursery.noted = True
    return item


def tried() -> None:
    """Count one more attempt at the item that the present task runs, and at the call that is being settled here."""
    item, call = item_here(), inside.get()
    if item is not None:
        item.attempts += 1
    while call is not None and not call.settles:
        call = call.parent
    if call is not None:
        call.attempts += 1
