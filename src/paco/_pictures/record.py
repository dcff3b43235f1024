"""The items of a run, as columns of numbers."""

from __future__ import annotations

import heapq
from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from paco._base.check import shorten
from paco._view.console import message

if TYPE_CHECKING:
    from paco.events import ItemEnded, Run, RunEnded

#: The states of an item as stored in a column, and their names.
OK, RETRIED, FAILED, CANCELLED = range(4)
STATES: Final = ("ok", "retried", "failed", "cancelled")

#: The largest numbers of failed items and of slow items whose texts are kept.
_MOST_TOLD: Final = 1_000
SLOWEST: Final = 20
#: The largest number of kinds of failures that are grouped by message; further failures are grouped by type.
_MOST_KINDS: Final = 100
_LONGEST: Final = 200


class Detail(NamedTuple):
    """The texts of a failed or slow item. They come from the user, and are not escaped."""

    elapsed: float
    position: int
    item: str
    attempts: int
    error: str


class Kind:
    """The failures with the same error: their number, and the first of them."""

    __slots__ = ("count", "first")

    def __init__(self, first: Detail) -> None:
        self.count: int = 0
        self.first: Detail = first


class ItemTable:
    """The items of a run in the order in which they ended, with 29 bytes for each."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.starts = array("d")  # seconds on the run's clock
        self.ends = array("d")
        self.positions = array("I")
        self.slots = array("I")
        self.states = array("B")
        self.workers = array("I")  # numbers in `names`
        self.names: dict[str | None, int] = {}  # None for this process
        self.failures: dict[int, Detail] = {}  # by position
        self.kinds: dict[str, Kind] = {}
        self.ended: RunEnded | None = None
        self._slowest: list[Detail] = []  # a heap
        self._quick = -1.0  # items that take no longer are not among the slowest

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, event: ItemEnded) -> None:
        """Add an item that has ended."""
        _, position, slot, _, start, end, attempts, _, error, worker = event
        self.starts.append(start)
        self.ends.append(end)
        self.positions.append(position)
        self.slots.append(slot)
        self.workers.append(self.names.setdefault(worker, len(self.names)))
        self.states.append(OK if error is None and attempts == 1 else self._judge(event))
        if end - start > self._quick:
            self._keep_slow(event)

    def _judge(self, event: ItemEnded) -> int:
        if event.outcome == "ok":
            return RETRIED
        if event.outcome == "cancelled":
            return CANCELLED
        detail = _detail(event)
        kind = self.kinds.get(detail.error)
        if kind is None:
            name = detail.error if len(self.kinds) < _MOST_KINDS else type(event.error).__name__
            kind = self.kinds.setdefault(name, Kind(detail))
        kind.count += 1
        if len(self.failures) < _MOST_TOLD:
            self.failures[event.position] = detail
        return FAILED

    def _keep_slow(self, event: ItemEnded) -> None:
        if event.outcome == "cancelled":
            return
        heapq.heappush(self._slowest, _detail(event))
        if len(self._slowest) > SLOWEST:
            heapq.heappop(self._slowest)
        if len(self._slowest) == SLOWEST:
            self._quick = self._slowest[0].elapsed

    def slowest(self) -> list[Detail]:
        """Return the slowest items, the longest first."""
        return sorted(self._slowest, reverse=True)

    def end(self) -> float:
        """Return when the run ended, or else when its last item so far ended, in seconds of its clock."""
        if self.ended is not None:
            return self.ended.time
        return max(self.ends, default=self.run.start)


def _detail(event: ItemEnded) -> Detail:
    error = event.error
    text = "" if error is None else f"{type(error).__name__}: {message(error)}".removesuffix(": ")[:_LONGEST]
    return Detail(event.elapsed, event.position, shorten(event.item), event.attempts, text)
