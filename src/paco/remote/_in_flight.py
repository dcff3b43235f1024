"""The chunks in flight and their shares of the limit, and the statistics of the workers that have them."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

from paco import events
from paco._base.item import Ran, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paco._base.types import Future
    from paco.remote._messages import Report
    from paco.remote._sizes import Shape

_new: Final[Any] = vars(tuple)["__new__"]  # a quarter of what the constructor of a named tuple takes


class Roster:
    """Keeps the statistics of the workers of a run. Use it in the loop in which it was created.

    All processes of a machine share one clock; the clocks of two machines can differ by any amount. A report arrives
    after it was made, which bounds the difference from one side. The times of a worker are shifted by the smallest
    difference seen so far. So they are never too early, never in the future, and late by the travel time of the fastest
    report.

    Args:
        workers: The workers by name; it adds new ones.
        one_clock: Whether the workers are processes of this machine.
    """

    def __init__(self, workers: dict[str, Worker], *, one_clock: bool = False) -> None:
        self._workers = workers
        self._clock = events.clock()
        self._one_clock = one_clock and self._clock is time.perf_counter  # false for a loop in virtual time
        self._ahead: dict[str, float] = {}  # the seconds to add to the times of each worker, by name

    def _worker(self, name: str) -> Worker:
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = Worker(name)
        return worker

    def sent(self, name: str, items: int) -> None:
        """Add to the number of items in flight on a worker.

        Args:
            name: The worker; empty if unknown.
            items: The maximum in flight of a chunk that was sent; negative if the chunk is back.
        """
        if name:
            worker = self._worker(name)
            worker.in_flight = (worker.in_flight or 0) + items

    def lost(self, name: str) -> None:
        """Record that a worker was lost.

        Args:
            name: The worker; empty if unknown.
        """
        if name:
            self._worker(name).lost = True

    def back(self, report: Report, done: int) -> dict[int, Ran]:
        """Count the finished items of a report, and return where and when each ran, by its number in the chunk.

        Args:
            report: The report of a chunk.
            done: The number of items that finished.

        Returns:
            An empty dict if the order did not request times.
        """
        worker = self._worker(report.where)
        spans = report.spans or ()
        failed = sum(span[-1] for span in spans) if spans else len(report.errors or ())
        worker.failed += failed
        worker.ok += done - failed
        if not spans:
            return {}
        where, ahead = report.where, 0.0
        if not self._one_clock:
            self._ahead[where] = ahead = min(self._clock() - report.now, self._ahead.get(where, math.inf))
        return {
            number: _new(Ran, (where, slot, start + ahead, end + ahead, attempts, failed))
            for number, slot, start, end, attempts, failed in spans
        }


class Flight:
    """A chunk that a worker has.

    Args:
        entries: Its items.
        shape: Its shape.
        size: The pickled size of the items in bytes.
        alone: Whether it was sent so that no other chunk is in its process.
    """

    __slots__ = (
        "alone",
        "entries",
        "future",
        "ran",
        "shape",
        "single",
        "size",
        "worker",
    )

    def __init__(self, entries: list[tuple[Any, Any]], shape: Shape, size: int, *, alone: bool) -> None:
        self.entries = entries
        self.shape = shape
        self.size = size
        self.alone = alone
        self.single = False  # whether it was the only chunk in flight all the time
        self.future: Future | None = None
        self.worker = ""  # the name of its worker, if known
        self.ran: dict[int, Ran] = {}  # where and when its items ran, if requested


class Flights:
    """The chunks in flight of one run.

    Args:
        limit: The limit of the run.
        roster: The statistics of its workers.
    """

    def __init__(self, limit: int, roster: Roster) -> None:
        self._limit = limit
        self._roster = roster
        self._all: dict[Flight, None] = {}  # in the order in which they were sent
        #: The used part of the limit.
        self.used: int = 0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._all)

    @property
    def free(self) -> int:
        """The unused part of the limit."""
        return self._limit - self.used

    def add(self, flight: Flight, future: Future) -> None:
        """Add a chunk that was sent, with its future report."""
        flight.future = future
        flight.worker = getattr(future, "worker", "")
        flight.single = not self._all
        for other in self._all:
            other.single = False
        self._all[flight] = None
        self.used += flight.shape.limit
        self._roster.sent(flight.worker, flight.shape.limit)

    def remove(self, flight: Flight) -> None:
        """Remove a chunk that is back."""
        del self._all[flight]
        flight.future = None  # it is in a reference cycle, and a cluster keeps the result as long as it exists
        self.used -= flight.shape.limit
        self._roster.sent(flight.worker, -flight.shape.limit)
