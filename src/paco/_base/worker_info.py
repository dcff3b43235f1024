"""Where items are, and what is told of them beside their events: slots, workers, and what they tell by themselves."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple


class Slots:
    """Hands out the lowest free number, so that the items of one slot never overlap: a row of a timeline."""

    __slots__ = ("_free", "_made")

    def __init__(self) -> None:
        self._free: list[int] = []  # a heap
        self._made = 0

    def take(self) -> int:
        """Return the lowest free slot."""
        if self._free:
            return heappop(self._free)
        self._made += 1
        return self._made - 1

    def give(self, slot: int) -> None:
        """Make a slot free again."""
        heappush(self._free, slot)


class Worker:
    """A worker that has items of a run, as a listener sees it: a process, here or on another machine.

    It is for reading only. What it does is known when a chunk of items comes back from it.

    Attributes:
        name: Which one: ``process 4242 on host``.
        in_flight: Items that it runs at this moment, at most; ``None`` where the engine does not tell who has what.
        ok: Items that went well there.
        failed: Items that raised there.
        lost: Whether it is gone, and had items: those have been run again by others.
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
        """Items that went well or failed."""
        return self.ok + self.failed


class Ran(NamedTuple):
    """Where and when an item ran: the worker, on the clock of its run here.

    Attributes:
        worker: Its name.
        slot: That of the item, among those of the run in that worker.
        start: When the item began, in seconds.
        end: When it ended.
        attempts: How many it took.
        failed: Whether it has raised.
    """

    worker: str
    slot: int
    start: float
    end: float
    attempts: int
    failed: bool


class Mention:
    """What was mentioned about an item while it ran: further attempts, an error, and that it ran elsewhere."""

    __slots__ = ("error", "ran", "retries")

    def __init__(self) -> None:
        self.retries: int = 0
        self.error: BaseException | None = None
        self.ran: Ran | None = None
