"""What is measured of a run while it goes on: its rate, its latencies, what it waits for, when it will have ended."""

from __future__ import annotations

import copy
import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paco.events import Run, Waiting, Worker

#: Seconds that rates are taken over, so that they and the eta follow a change.
_WINDOW: Final = 10.0
#: Samples that make a rate.
_PAIR: Final = 2
#: Times that are counted at once: one after the other they take half of what each takes amid something else.
_TIMES: Final = 256


class Sketch:
    """Quantiles of times in constant memory: never below the exact one, and at most 1 % above.

    Times are counted in buckets whose bounds grow by 1 %, as by DDSketch (https://arxiv.org/abs/1908.10693).
    """

    __slots__ = ("_counts", "_longest", "_times", "_total")

    _LOG = math.log(1.01)
    _SHORTEST = 1e-9  # what takes less counts as this
    _LEAST = math.ceil(math.log(_SHORTEST) / _LOG)

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._total = 0
        self._longest = 0.0
        self._times: list[float] = []  # that are still to be counted

    def add(self, seconds: float) -> None:
        """Count a time."""
        self._times.append(seconds)
        if len(self._times) == _TIMES:
            self._count()

    def _count(self) -> None:
        ceil, log, width, shortest = math.ceil, math.log, self._LOG, self._SHORTEST
        self._counts.update([ceil(log(max(one, shortest)) / width) for one in self._times])
        self._total += len(self._times)
        self._longest = max(self._longest, *self._times) if self._times else self._longest
        self._times.clear()

    def longest(self) -> float:
        """Return the longest time; 0 if there is none."""
        self._count()
        return self._longest

    def quantile(self, share: float) -> float:
        """Return a time that this share of them does not exceed; 0 if there is none."""
        self._count()
        rank, bucket = share * self._total, self._LEAST
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                break
        return min(math.exp(bucket * self._LOG), self._longest) if bucket > self._LEAST else 0.0


class Reading(NamedTuple):
    """The counts of a run at one moment, as `paco.events.Run` has them.

    Attributes:
        time: When, in seconds.
        ok: Items that went well.
        failed: Items that failed.
        cancelled: Items that were cancelled because the run was ending.
        retried: Items that took more than one attempt, or the further attempts.
        in_flight: Items that run.
        limit: Items in flight at most; 0 for no limit.
        total: How many items there are, if that is known.
        waited: For how many seconds what has kept the next item from starting.
        workers: A copy of each worker, by its name.
        skipped: Items that an earlier run has done.
    """

    time: float
    ok: int
    failed: int
    cancelled: int
    retried: int
    in_flight: int
    limit: int
    total: int | None
    waited: Mapping[Waiting, float]
    workers: Mapping[str, Worker]
    skipped: int = 0

    @property
    def done(self) -> int:
        """Items that went well or failed."""
        return self.ok + self.failed

    @property
    def left(self) -> int | None:
        """Items that are not done yet, if the total is known."""
        return None if self.total is None else max(self.total - self.done - self.skipped, 0)


def copies(workers: Mapping[str, Worker]) -> dict[str, Worker]:
    """Return the workers as they are now."""
    return {name: copy.copy(worker) for name, worker in workers.items()}


def reading_of(run: Run, now: float, total: int | None = None) -> Reading:
    """Return the counts of a run now.

    Args:
        run: The run.
        now: The time.
        total: How many items there are, if the run itself does not know and does not read another's results.
    """
    return Reading(
        now,
        run.ok,
        run.failed,
        run.cancelled,
        run.retried,
        run.in_flight,
        run.limit,
        total if run.total is None and not run.fed else run.total,
        run.waited,
        copies(run.workers),
    )


class Meter:
    """Measures a run by reading its counts now and then.

    Args:
        title: What to call the run.
        read: Returns the counts of the run now.
        latencies: How long the items took; whoever runs them adds to it.
        cap: The highest rate, as the user said it.
        fed: Whether the run reads the results of another one.
    """

    def __init__(
        self, title: str, read: Callable[[], Reading], latencies: Sketch, *, cap: str = "", fed: bool = False
    ) -> None:
        self.title = title
        self.latencies = latencies
        self.cap = cap
        self.fed = fed
        #: A word about what goes on, such as ``draining``.
        self.state = ""
        self._read = read
        self._start = read()
        self._readings: deque[Reading] = deque([self._start])

    def look(self) -> None:
        """Read the counts: all that is told is as of the last reading."""
        readings = self._readings
        readings.append(self._read())
        while len(readings) > _PAIR and readings[1].time <= readings[-1].time - _WINDOW:
            readings.popleft()

    @property
    def now(self) -> Reading:
        """The last reading."""
        return self._readings[-1]

    @property
    def before(self) -> Reading:
        """The reading that the last one is compared with: about ten seconds before it."""
        return self._readings[0]

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return self.now.time - self._start.time

    def rate(self) -> float:
        """Return the items per second that were done lately."""
        return self._per_second(self.now.done - self.before.done)

    def rate_of(self, worker: Worker) -> float:
        """Return the items per second that a worker of the last reading did lately."""
        before = self.before.workers.get(worker.name)
        return self._per_second(worker.done - (0 if before is None else before.done))

    def _per_second(self, items: int) -> float:
        seconds = self.now.time - self.before.time
        return items / seconds if seconds > 0 else 0.0

    def eta(self) -> float | None:
        """Return the seconds until all items are done at the rate of late, if that can be told."""
        left, rate = self.now.left, self.rate()
        return left / rate if left is not None and rate else None

    def part(self) -> float | None:
        """Return the share of the items that is done, if the total is known."""
        now = self.now
        return min((now.done + now.skipped) / now.total, 1.0) if now.total else None

    def waiting(self) -> tuple[Waiting, float] | None:
        """Return what kept the next item from starting for most of the time lately, and the share of that time."""
        before = self.before.waited
        waited = self.now.waited.items()
        spent: dict[Waiting, float] = {reason: seconds - before.get(reason, 0.0) for reason, seconds in waited}
        most = max(spent, key=spent.__getitem__, default=None)
        return None if most is None or spent[most] <= 0 else (most, spent[most] / sum(spent.values()))
