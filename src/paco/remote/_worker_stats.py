"""Statistics of the workers of a run: what each has done and when, on the clock of the run."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

from paco import events
from paco._base.item import Ran, Worker

if TYPE_CHECKING:
    from paco.remote._messages import Report


_new: Final[Any] = vars(tuple)["__new__"]  # takes a quarter of the time of a named tuple's constructor


class Roster:
    """Keeps the statistics of the workers of a run. Use it in the loop in which it was created.

    All processes of a machine share one clock; the clocks of two machines can differ by any amount. A report arrives
    after it was made, which bounds the difference from one side. The times of a worker are shifted by the smallest
    difference seen so far. So they are never too early, never in the future, and late by the travel time of the fastest
    report.

    Args:
        workers: The workers by name; it adds new ones.
        here: Whether the workers are processes of this machine.
    """

    def __init__(self, workers: dict[str, Worker], *, here: bool = False) -> None:
        self._workers = workers
        self._clock = events.clock()
        self._one_clock = here and self._clock is time.perf_counter  # false for a loop in virtual time
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
