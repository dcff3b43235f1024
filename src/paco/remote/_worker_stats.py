"""The workers that have had chunks of a run: what each has done, and when, by the clock of the run."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

from paco import events
from paco._base.worker_info import Ran, Worker

if TYPE_CHECKING:
    from paco.remote._messages import Report


_new: Final[Any] = vars(tuple)["__new__"]  # a quarter of what the constructor of a named tuple takes


class Roster:
    """What is known of the workers. It belongs to the loop in which it is made.

    All processes of a machine read one clock. Those of two machines may have nothing to do with each other. That a
    report is here after it was made bounds the difference from one side: the report that was quickest, of those so far,
    is what the times of a worker are moved by. So they are never too early, never in the future, and late by what the
    quickest report took.

    Args:
        workers: Where they are to be found, by their names.
        here: Whether they are processes of this machine.
    """

    def __init__(self, workers: dict[str, Worker], *, here: bool = False) -> None:
        self._workers = workers
        self._clock = events.clock()
        self._one_clock = here and self._clock is time.perf_counter  # and not that of a loop in virtual time
        self._ahead: dict[str, float] = {}  # of the clock here, by the names

    def _worker(self, name: str) -> Worker:
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = Worker(name)
        return worker

    def sent(self, name: str, items: int) -> None:
        """Hear that a worker has a chunk that runs so many items at once, or, below zero, has it no longer.

        Args:
            name: Empty where the engine does not tell which.
            items: So many.
        """
        if name:
            worker = self._worker(name)
            worker.in_flight = (worker.in_flight or 0) + items

    def lost(self, name: str) -> None:
        """Hear that a worker is gone which had a chunk."""
        if name:
            self._worker(name).lost = True

    def back(self, report: Report, done: int) -> dict[int, Ran]:
        """Count what a worker has done, and return when it did, by the numbers of the items; empty if nobody asked.

        Args:
            report: What came back.
            done: Of how many items.
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
