"""Where items run: slots, workers, and details of an item that are reported while it runs."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple


class Slots:
    """Assigns each item in flight the lowest free number, its slot. Items in one slot never overlap."""

    __slots__ = ("_made", "free")

    def __init__(self) -> None:
        #: The free slots, as a heap.
        self.free: list[int] = []
        self._made = 0

    def take(self) -> int:
        """Take the lowest free slot and return its number."""
        if self.free:
            return heappop(self.free)
        self._made += 1
        return self._made - 1

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
