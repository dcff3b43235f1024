"""What is measured of a run while it goes on, and the words that tell it."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple

from paco._view.console import fit, safe
from paco._view.units import WAITED_FOR, clock, duration, latency, per_second, share
from paco.events import WAITING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from paco.events import Run, Worker

    Part = tuple[str, str]  # words, and how they are shown

#: Seconds that the shown rate is taken over, so that it and the eta follow a change.
_WINDOW: Final = 10.0
#: Runs that are shown at once.
_SHOWN: Final = 4
_BAR: Final = 30
_QUANTILES: Final = (50, 95)
#: Times that are counted at once: one after the other they take half of what each takes amid something else.
_TIMES: Final = 256


class Sketch:
    """Quantiles of times in constant memory: never below, and at most 1 % above.

    Times are counted in buckets whose bounds grow by 1 %, as by DDSketch (https://arxiv.org/abs/1908.10693).
    """

    __slots__ = ("_counts", "_times", "_total")

    _LOG = math.log(1.01)
    _SHORTEST = 1e-9  # what takes less counts as this
    _LEAST = math.ceil(math.log(_SHORTEST) / _LOG)

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._total = 0
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
        self._times.clear()

    def quantile(self, share: float) -> float:
        """Return a time that so large a share of them does not exceed; 0 where none was counted."""
        self._count()
        rank, bucket = share * self._total, self._LEAST
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                break
        return math.exp(bucket * self._LOG) if bucket > self._LEAST else 0.0


class Sample(NamedTuple):
    """How far a run was at a time."""

    time: float
    done: int
    waited: tuple[float, ...]


class Meter:
    """What is measured of a run while it goes on."""

    def __init__(self, run: Run, now: Callable[[], float], total: int | None) -> None:
        self.run = run
        self.total = total if run.total is None and not run.fed else run.total
        self.latencies = Sketch()
        self._now = now
        self._samples: deque[Sample] = deque([self._sample()])

    def _sample(self) -> Sample:
        return Sample(self._now(), self.run.done, tuple(self.run.waited.values()))

    def look(self) -> None:
        """Note how far it is, for the rate of the next seconds."""
        self._samples.append(self._sample())
        while len(self._samples) > 2 and self._samples[1].time <= self._samples[-1].time - _WINDOW:  # noqa: PLR2004
            self._samples.popleft()

    def rate(self) -> float:
        """Return the items per second that were done lately."""
        first, last = self._samples[0], self._samples[-1]
        return (last.done - first.done) / (last.time - first.time) if last.time > first.time else 0.0

    def waited(self) -> str:
        """Return what most of the time lately was waited for."""
        spent = [now - before for before, now in zip(self._samples[0].waited, self._samples[-1].waited, strict=True)]
        most = max(spent)
        if most <= 0:
            return ""
        return f"waiting for {WAITED_FOR[WAITING[spent.index(most)]]} {share(most, sum(spent))}"

    def elapsed(self) -> float:
        """Return for how many seconds it has run."""
        return self._now() - self.run.start

    def part(self) -> float | None:
        """Return the share of its items that is done, if that is known."""
        return min(self.run.done / self.total, 1.0) if self.total else None


# ---- words


def progress_of(meter: Meter) -> list[Part]:
    """Return how far a run is."""
    run, total, rate = meter.run, meter.total, meter.rate()
    part = meter.part()
    counted = f"{run.done:,} done" if total is None else f"{run.done:,}/{total:,}"
    left = "" if total is None or not rate else f"eta {clock(max(total - run.done, 0) / rate)}"
    return _said((f"{part:.0%}" if part is not None else "", "bold"), (counted, ""), (left, ""))


def state_of(meter: Meter) -> list[Part]:
    """Return how it goes with it."""
    run = meter.run
    flight = f"{run.in_flight:,}/{run.limit:,}" if run.limit else f"{run.in_flight:,}"
    return _said(
        (per_second(meter.rate()), ""),
        (f"{flight} in flight", ""),
        *_outcomes(meter),
        (count_of_workers(run.workers), ""),
        (meter.waited(), "dim"),
    )


def count_of_workers(workers: Mapping[str, Worker]) -> str:
    """Return ``2 workers, 1 lost``; nothing where there are none."""
    lost = sum(worker.lost for worker in workers.values())
    count = len(workers) - lost
    words = f"{count:,} worker{'' if count == 1 else 's'}"
    return (f"{words}, {lost:,} lost" if lost else words) if workers else ""


def summary_of(meter: Meter) -> list[Part]:
    """Return how it went."""
    run, seconds = meter.run, meter.elapsed()
    counted = f"{run.done:,}" if meter.total in {None, run.done} else f"{run.done:,} of {meter.total:,}"
    items = "item" if counted == "1" else "items"
    took = duration(seconds) if seconds >= 1 else latency(seconds)
    rate = per_second(run.done / seconds) if seconds > 0 else ""
    return _said((safe(run.title), "bold"), (f"{counted} {items} in {took}", ""), (rate, ""), *_outcomes(meter))


def _outcomes(meter: Meter) -> Iterable[Part]:
    run = meter.run
    yield (f"{run.failed:,} failed ({share(run.failed, run.done)})", "red") if run.failed else ("0 failed", "")
    if run.done:
        for percent in _QUANTILES:
            yield f"p{percent} {latency(meter.latencies.quantile(percent / 100))}", ""
    yield f"{run.retried:,} retried" if run.retried else "", ""
    yield f"{run.cancelled:,} cancelled" if run.cancelled else "", ""


def _said(*parts: Part) -> list[Part]:
    return [part for part in parts if part[0]]


def fitting(parts: Sequence[Part], width: int) -> list[Part]:
    """Return the first parts, as many as there is room for with two spaces between."""
    kept: list[Part] = []
    for words, style in parts:
        width -= len(words) + 2 * bool(kept)
        if width < 0:
            break
        kept.append((words, style))
    return kept


def lines(meters: Sequence[Meter], width: int) -> list[list[Part]]:
    """Return the live lines: two for each run, as many runs as are shown."""
    shown: list[list[Part]] = []
    for meter in meters[:_SHOWN]:
        title = fit(meter.run.title, max(width // 3, 1))
        words = fitting([(title, "bold"), *progress_of(meter)], width)
        room = width - sum(len(text) + 2 for text, _ in words)
        part = meter.part()
        if part is not None and room >= _BAR + 2:
            full = round(part * _BAR)
            words[1:1] = [("━" * full + "─" * (_BAR - full), "green")]
        shown += [words, [("", ""), *fitting(state_of(meter), width - 2)]]
    if len(meters) > _SHOWN:
        shown.append([(f"and {len(meters) - _SHOWN} more runs", "dim")])
    return shown
