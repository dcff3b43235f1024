"""What the reports of chunks tell a run: how large its next chunks should be, and where and when its items ran.

Sizes adapt so that each chunk takes about a quarter of a second.

The invariant: the limits of all chunks in flight add up to at most the limit of the run. A chunk holds its share of the
limit from its start to its end, although its last items use only part of it. Two shapes keep this waste small. If items
are fast or keep the CPU busy, there are as many chunks as processes, each with many more items than its limit. If items
are slow, there are as many chunks as the engine accepts, each with a small limit, down to 1, which wastes nothing.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from paco import events
from paco._base.item import Ran, Worker

if TYPE_CHECKING:
    from paco.remote._engines import Engine
    from paco.remote._messages import Report

#: The target duration of a chunk, in seconds.
SECONDS: Final = 0.25
#: Items are fast if this many fit into `SECONDS`, one after another.
_FAST: Final = 16
#: The minimum number of rounds in a chunk that cannot have a limit of 1: see `Sizes._rounds`.
_ROUNDS: Final = 4
#: At the end of a run, a chunk shrinks to no less than 1/8 of its normal size, because each chunk has a cost.
_LEAST_PART: Final = 8
#: A chunk is at most this many times as large as the largest one so far.
_GROWTH: Final = 16
#: The approximate maximum of chunks per second if each item must start at once.
_PER_SECOND: Final = 1000
#: The approximate maximum size of a chunk, and of its results, in bytes.
_BYTES: Final = 1_000_000
#: The fraction of busy time of a loop above which a larger limit does not increase throughput.
_BUSY: Final = 0.7
#: The fraction of its time that a chunk may wait for its last items. Above it, some items take much longer than others,
#: and from then on all items are sent like slow ones.
_WASTE: Final = 0.5

_new: Final[Any] = vars(tuple)["__new__"]  # a quarter of what the constructor of a named tuple takes


class Shape(NamedTuple):
    """The shape of a chunk."""

    items: int  # the number of items
    limit: int  # the maximum number of items in flight
    seconds: float  # after these, no further item starts


class Sizes:
    """Measures the items of a run, and sets the shapes of its chunks.

    Args:
        engine: The engine, whose capacity can change during the run.
        limit: The limit of the run.
        lead: The approximate maximum of items that wait at the workers, in addition to those in flight.
        paced: Whether each item must start as soon as it is available. Available items are then sent in as many chunks
            as possible, so that few items wait for another one to come back, and every worker gets its share.
    """

    def __init__(self, engine: Engine, limit: int, lead: int, *, paced: bool = False) -> None:
        self._engine = engine
        self._paced = paced
        self._limit = limit
        self._lead = lead
        self._count = 0  # started items of the largest chunk so far
        self._each = 0.0  # seconds of a chunk per item
        self._latency = 0.0  # seconds from the start of an item to its end
        self._busy = False
        self._bytes = 0.0  # the size of an item or of its result, whichever is larger
        self._waste = 0.0  # the fraction of its time that a chunk only waited for its last items

    def next(self, chunks: int, used: int, left: float) -> Shape | None:
        """Return the shape of the next chunk; ``None`` if there is no room for it.

        Chunks that wait for their last items do not delay others: more chunks may be in flight than there should be.
        But then a new chunk must get at least half a regular share, so that the limit is not split into ever smaller
        parts.

        Args:
            chunks: The number of chunks in flight.
            used: The part of the limit that they use.
            left: The number of items left; infinity if unknown.
        """
        target, free = self._target(), self._limit - used
        if not free or chunks >= self._engine.slots or (chunks >= target and 2 * free < self._limit // target):
            return None
        shape = self._shape(target, free)
        return shape._replace(items=self._share(shape, left, max(target - chunks, 1), used))

    def wanted(self, used: int) -> int:
        """Return the number of items of the next chunk, if that many are left."""
        return self._shape(self._target(), max(self._limit - used, 1)).items

    def ahead(self) -> int:
        """Return how many items may wait for the consumer, in addition to the limit: those of a few chunks."""
        target = self._target()
        return min(max(self._limit, 2 * target * self._most(target)), self._lead)

    def _target(self) -> int:
        """Return the number of chunks that should be in flight."""
        slots = min(self._engine.slots, self._limit)
        fast = self._busy or (self._latency * _FAST <= SECONDS and self._waste < _WASTE)
        return max(min(self._engine.processes, slots) if fast and self._count and not self._paced else slots, 1)

    def _shape(self, target: int, free: int) -> Shape:
        limit = min(-(-self._limit // target), free)
        if self._paced:
            return Shape(self._most(target), limit, math.inf)
        if not self._count:
            return Shape(min(limit, 1 + self._lead // target), limit, 2 * SECONDS)
        rounds = self._rounds(target)
        count = SECONDS / self._each if self._busy and self._each else limit * rounds
        most = min(self._most(target), _GROWTH * self._count)
        return Shape(max(int(min(count, most)), 1), limit, max(2 * SECONDS, rounds * self._latency))

    def _rounds(self, target: int) -> float:
        """Return the number of rounds of a chunk: how many items run one after another in each slot."""
        if not self._latency:
            return self._lead
        least = _ROUNDS if target < self._limit and not self._busy else 1
        return max(SECONDS / self._latency, least)

    def _most(self, target: int) -> int:
        most = 1 + self._lead // target
        return max(min(most, int(_BYTES / self._bytes)), 1) if self._bytes else most

    def _share(self, shape: Shape, left: float, chunks: int, used: int) -> int:
        """Return the number of items for a chunk of this shape: its share of the items left.

        So the last chunks are small, and end at about the same time. This is guided self-scheduling (Polychronopoulos
        and Kuck, 1987), with the limits of the chunks in place of processors. Items that must start at once are divided
        evenly among the chunks that can be sent now, but into at most about a thousand chunks per second.
        """
        if self._paced:
            # How many items end per second: none before a chunk is back.
            flow = (used + left) / self._latency if self._latency else math.inf if self._count else 0
            part = max(left / chunks, flow / _PER_SECOND, 1)
        else:
            part = max(left * shape.limit / self._limit, shape.limit, shape.items / _LEAST_PART)
        return math.ceil(min(part, shape.items))

    def learn(self, report: Report, limit: int, size: int) -> None:
        """Adapt to the report of a chunk that is back, given its limit and the size of its items in bytes."""
        started, seconds = max(report.started, 1), report.seconds
        each = seconds / started
        share = started / (started + self._limit) if self._count else 1  # a moving average over about `limit` items
        self._each += share * (each - self._each)
        self._latency += share * (each * min(limit, started) - self._latency)
        self._bytes = max(size / started, self._bytes * 0.9)
        self._busy = report.busy > _BUSY * seconds and seconds > SECONDS / 100
        if started > limit > 1 and seconds:
            self._waste = (self._waste + report.tail / seconds) / 2
        self._count = max(self._count, started)


class WorkerStats:
    """Keeps the statistics of the workers of a run, by name. Use it in the loop in which it was created.

    All processes of a machine share one clock; the clocks of two machines can differ by any amount. A report arrives
    after it was made, which bounds the difference from one side. The times of a worker are shifted by the smallest
    difference seen so far. So they are never too early, never in the future, and late by the travel time of the fastest
    report. If the workers are ``here``, on this machine, there is no difference.
    """

    def __init__(self, workers: dict[str, Worker], *, here: bool = False) -> None:
        self._workers = workers
        self._clock = events.clock()
        self._one_clock = here and self._clock is time.perf_counter  # false for a loop in virtual time
        self._ahead: dict[str, float] = {}  # the seconds to add to the times of each worker, by name

    def worker(self, name: str) -> Worker:
        """Return the worker of a name, which is added if it is new."""
        return self._workers.setdefault(name, Worker(name))

    def ran(self, report: Report, done: int) -> dict[int, Ran]:
        """Count the ``done`` items of a report, and return where and when each ran, by its number in the chunk.

        The dict is empty if the order did not request times.
        """
        worker, where, spans = self.worker(report.where), report.where, report.spans or ()
        failed = sum(span[-1] for span in spans) if spans else len(report.errors or ())
        worker.failed += failed
        worker.ok += done - failed
        if not spans:
            return {}
        ahead = 0.0
        if not self._one_clock:
            self._ahead[where] = ahead = min(self._clock() - report.now, self._ahead.get(where, math.inf))
        return {
            number: _new(Ran, (where, slot, start + ahead, end + ahead, attempts, failed))
            for number, slot, start, end, attempts, failed in spans
        }
