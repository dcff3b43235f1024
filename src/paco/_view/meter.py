"""Measures a run in progress: its rate, its latencies, what it waits for, and the time left."""

from __future__ import annotations

import copy
import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paco.events import Run, Waiting, Worker

#: The durations that are counted in one batch. That takes half the time of counting each one at once.
_TIMES: Final = 256
#: The rate, in items per second, from which no decimals are shown.
_MANY = 100


def per_second(rate: float) -> str:
    """Return a rate such as ``497/s`` or ``2.5/s``."""
    return f"{rate:,.0f}/s" if rate >= _MANY or not rate else f"{rate:.3g}/s"


def clock(seconds: float) -> str:
    """Return a remaining time such as ``1:18`` or ``2:03:20``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """Return the duration of a run, such as ``9.4s``, ``3m 22s`` or ``1h 05m``."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{seconds:.1f}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"


def latency(seconds: float) -> str:
    """Return the duration of an item, such as ``85us``, ``181ms``, ``1.2s`` or ``3m 22s``."""
    if seconds >= 99.5:  # noqa: PLR2004 - it would round to three digits of seconds
        return duration(seconds)
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds / 1e-6:.2g}us" if seconds else "0s"


def share(part: float, whole: float) -> str:
    """Return a share such as ``61%``, or below 1% such as ``0.4%`` or ``<0.1%``; ``0%`` if the whole is 0."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.05:  # noqa: PLR2004 - it would round to 0.0%
        return "<0.1%"
    return f"{percent:.1f}%" if 0 < percent < 0.95 else f"{percent:.0f}%"  # noqa: PLR2004 - from there it rounds to 1%


def compact(count: float) -> str:
    """Return a count for an axis, such as ``500``, ``2.5k`` or ``10M``."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:g}{unit}"
    return f"{count:g}"


class Sketch:
    """Quantiles of durations, in constant memory. Each is at least the exact quantile, and at most 1% larger.

    Durations are counted in buckets whose bounds grow by 1%, as in DDSketch (https://arxiv.org/abs/1908.10693).
    """

    _LOG = math.log(1.01)
    _SHORTEST = 1e-9  # shorter durations count as this one
    _LEAST = math.ceil(math.log(_SHORTEST) / _LOG)

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._total = 0
        self._longest = 0.0
        self._times: list[float] = []  # not counted yet

    def add(self, seconds: float) -> None:
        """Add a duration, in seconds."""
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
        """Return the longest duration; 0 if there are none."""
        self._count()
        return self._longest

    def quantile(self, share: float) -> float:
        """Return the duration that this share of all durations does not exceed; 0 if there are none."""
        self._count()
        rank, bucket = share * self._total, self._LEAST
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                break
        return min(math.exp(bucket * self._LOG), self._longest) if bucket > self._LEAST else 0.0


def most_waited(waited: Mapping[Waiting, float]) -> tuple[Waiting, float] | None:
    """Return what kept the next item from starting for the longest time, and its share; ``None`` if nothing waited."""
    most = max(waited, key=waited.__getitem__, default=None)
    return None if most is None or waited[most] <= 0 else (most, waited[most] / sum(waited.values()))


#: The seconds over which rates are measured. A short window lets the rate and the eta follow changes.
_WINDOW: Final = 10.0
#: If fewer items than this have ended in them, rates are measured since this many readings in which some had ended,
#: unless nothing has ended for ten times as long.
_FEW, _STALLED = 5, 10
#: The fewest readings that are kept: a rate needs two.
_PAIR: Final = 2


class Reading(NamedTuple):
    """The counts of a run at one moment."""

    time: float  # in seconds on the clock of the run
    ok: int
    failed: int
    cancelled: int  # because the run was ending
    retried: int  # items that took more than one attempt; in the command, the number of further attempts
    in_flight: int
    limit: int  # the most items that may be in flight; 0 for no limit
    total: int | None  # None if unknown
    waited: Mapping[Waiting, float]  # for each reason, the seconds for which it has kept the next item from starting
    workers: Mapping[str, Worker]  # a copy of each, by its name
    skipped: int = 0  # items that an earlier run has finished
    fed: bool = False  # whether the run reads the results of another run
    stopping: bool = False  # whether the run was asked to take nothing more from its source

    @property
    def done(self) -> int:
        """Items that succeeded or failed."""
        return self.ok + self.failed

    @property
    def left(self) -> int | None:
        """Items that are neither done nor skipped, if the total is known."""
        return None if self.total is None else max(self.total - self.done - self.skipped, 0)


def copies(workers: Mapping[str, Worker]) -> dict[str, Worker]:
    """Return copies of the workers as they are now."""
    return {name: copy.copy(worker) for name, worker in workers.items()}


def reading_of(run: Run, clock: Callable[[], float], total: int | None = None) -> Reading:
    """Return the present counts of a run, whose clock is given.

    The given ``total`` counts if the run does not know its own, and does not read the results of another run.
    """
    total = total if run.total is None and not run.fed else run.total
    counts = run.ok, run.failed, run.cancelled, run.retried, run.in_flight, run.limit
    return Reading(clock(), *counts, total, run.waited, copies(run.workers), run.skipped, run.fed, run.stopping)


class Meter:
    """Measures a run from readings of its counts. Call `look` regularly, and add the durations of items to `latencies`.

    ``cap`` is the maximum rate as the user wrote it.
    """

    def __init__(self, title: str, read: Callable[[], Reading], latencies: Sketch, *, cap: str = "") -> None:
        self.title = title
        self.latencies = latencies
        #: The number of failures of each type.
        self.kinds: Counter[str] = Counter()
        self.cap = cap
        #: A word to show before the title if the run goes on in another way, such as ``draining``.
        self.state = ""
        self._read = read
        self._start = read()
        self._readings: deque[Reading] = deque([self._start])
        #: The time and the number of done items whenever that was found to have changed.
        self._changes = deque([(self._start.time, self._start.done)], _FEW)

    def look(self) -> None:
        """Take a reading. All figures are computed from the last one."""
        readings = self._readings
        readings.append(now := self._read())
        if now.done != self._changes[-1][1]:
            self._changes.append((now.time, now.done))
        if now.stopping and not self.state:
            self.state = "stopping"
        while len(readings) > _PAIR and readings[1].time <= readings[-1].time - _WINDOW:
            readings.popleft()

    @property
    def now(self) -> Reading:
        """The last reading."""
        return self._readings[-1]

    @property
    def before(self) -> Reading:
        """The reading from about ten seconds before the last one."""
        return self._readings[0]

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return self.now.time - self._start.time

    def rate(self) -> float:
        """Return the items done per second over the last ten seconds, or over more time if items are slow."""
        now, items = self.now, self.now.done - self.before.done
        (since, done), (last, _) = self._changes[0], self._changes[-1]
        if items < _FEW and since < self.before.time and now.time - last <= _STALLED * (last - since):
            return (now.done - done) / (now.time - since)
        return self._per_second(items)

    def rate_of(self, worker: Worker) -> float:
        """Return the items that a worker has done per second over the last ten seconds."""
        before = self.before.workers.get(worker.name)
        return self._per_second(worker.done - (0 if before is None else before.done))

    def _per_second(self, items: int) -> float:
        seconds = self.now.time - self.before.time
        return items / seconds if seconds > 0 else 0.0

    def eta(self) -> float | None:
        """Return the seconds until all items are done at the present rate; ``None`` if that is unknown or not so."""
        left, rate = self.now.left, self.rate()
        return left / rate if left is not None and rate and not self.state else None

    def part(self) -> float | None:
        """Return the fraction of all items that are done or skipped; ``None`` if the total is unknown."""
        now = self.now
        return min((now.done + now.skipped) / now.total, 1.0) if now.total else None

    def waiting(self) -> tuple[Waiting, float] | None:
        """Return what the run mostly waited for in the last ten seconds, as `most_waited` does.

        A run that is paused, or stopping, waits for nothing.
        """
        if self.state:
            return None
        before, waited = self.before.waited, self.now.waited.items()
        return most_waited({reason: seconds - before.get(reason, 0.0) for reason, seconds in waited})
