"""Figures of a run: quantiles, items in flight over time, the histogram of latencies; and ticks of axes."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from paco._pictures.record import CANCELLED, FAILED
from paco._pictures.rows import is_elsewhere
from paco._view.meter import latency

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paco._pictures.record import ItemTable

#: Bars of the histogram per factor of ten.
_PER_DECADE: Final = 10
#: The least latency in seconds; shorter ones count as this, because clocks are not finer and zero has no logarithm.
_LEAST: Final = 1e-7
#: Distances between ticks on a time axis, in seconds, minutes or hours.
_STEPS: Final = (1, 2, 5, 10, 15, 30)
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_TICKS: Final = 5


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that is not exceeded by at least this share of the values (nearest rank)."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def latencies(record: ItemTable) -> list[float]:
    """Return the sorted latencies of the items in seconds, without cancelled items, which would have taken longer."""
    columns = zip(record.starts, record.ends, record.states, strict=True)
    return sorted(end - start for start, end, state in columns if state != CANCELLED)


class Curve(NamedTuple):
    """Items in flight in columns of equal time: the mean and the maximum of each."""

    start: float
    width: float
    mean: list[float]
    most: list[int]

    def points(self) -> Iterator[tuple[float, int]]:
        """Yield the time and value at each change of the maximum, and a 0 at the end."""
        before = -1
        for column, count in enumerate(self.most):
            if count != before:
                yield self.start + column * self.width, count
            before = count
        yield self.start + len(self.most) * self.width, 0


def in_flight(record: ItemTable, columns: int) -> Curve:
    """Return the items in flight from the start of the run to its end."""
    start = record.run.start
    width = (record.end() - start) / columns or 1.0
    area, most = [0.0] * columns, [0] * columns
    for begin, end, count in _steps(record):
        first, last = (min(int((time - start) / width), columns - 1) for time in (begin, end))
        for column in range(first, last + 1):
            left = start + column * width
            inside = min(end, left + width) - max(begin, left)
            if inside > 0 or column == first:
                area[column] += max(inside, 0) * count
                most[column] = max(most[column], count)
    return Curve(start, width, [one / width for one in area], most)


def peak_of(record: ItemTable) -> int:
    """Return the largest number of items in flight, at most the limit: clocks of workers differ by milliseconds."""
    if not is_elsewhere(record):
        return max(record.slots, default=-1) + 1
    peak = max((count for _, _, count in _steps(record)), default=1)
    return min(peak, record.run.limit or peak)


def _steps(record: ItemTable) -> Iterator[tuple[float, float, int]]:
    """Yield each interval with its number of items in flight, without the intervals with none."""
    starts, ends = sorted(record.starts), sorted(record.ends)
    started = 0
    for ended, (last, end) in enumerate(pairwise([-math.inf, *ends])):
        begin = last
        while started < len(starts) and starts[started] < end:  # only starts lie between two ends
            if started > ended and begin < starts[started]:
                yield begin, starts[started], started - ended
            begin = max(begin, starts[started])
            started += 1
        if started > ended:
            yield begin, end, started - ended


class HistogramBar(NamedTuple):
    """A bar of the histogram: latencies from ``low`` to ``high`` seconds."""

    low: float
    high: float
    ok: int
    failed: int


def histogram(record: ItemTable) -> list[HistogramBar]:
    """Return the histogram of the latencies, with bars of equal width on a logarithmic axis; empty without items."""
    counts: dict[tuple[int, bool], int] = {}
    for start, end, state in zip(record.starts, record.ends, record.states, strict=True):
        if state != CANCELLED:
            place = math.floor(math.log10(max(end - start, _LEAST)) * _PER_DECADE), state == FAILED
            counts[place] = counts.get(place, 0) + 1
    if not counts:
        return []
    bins = [number for number, _ in counts]
    spare = max(_PER_DECADE - (max(bins) - min(bins)), 2)  # if all latencies are similar, half a decade on each side
    first, last = min(bins) - spare // 2, max(bins) + spare // 2
    return [
        HistogramBar(_edge(one), _edge(one + 1), counts.get((one, False), 0), counts.get((one, True), 0))
        for one in range(first, last + 1)
    ]


def _edge(number: int) -> float:
    return math.pow(10, number / _PER_DECADE)


class Tick(NamedTuple):
    """A tick of an axis: its place as a share of the length, and its label."""

    share: float
    label: str


def time_ticks(seconds: float) -> list[Tick]:
    """Return at most five ticks for an axis from zero to ``seconds``, and one at zero."""
    if seconds <= 0:
        return [Tick(0.0, "0s")]
    step = _step(seconds / _TICKS)
    count = math.floor(seconds / step + 1e-9)
    return [Tick(number * step / seconds, latency(number * step)) for number in range(count + 1)]


def _step(least: float) -> float:
    """Return the smallest round number of seconds that is at least ``least``."""
    for unit, most in ((1, _MINUTE), (_MINUTE, _HOUR), (_HOUR, _DAY)):
        if unit <= least * 2 and least <= most / 2:
            return next(step * unit for step in _STEPS if step * unit >= least)
    return round_up(least)


def round_up(value: float) -> float:
    """Return the smallest 1, 2 or 5 times a power of ten that is at least ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def log_ticks(bars: Sequence[HistogramBar]) -> list[Tick]:
    """Return the ticks of a histogram: the powers of ten, and 2 and 5 times these if there are few."""
    low, high = bars[0].low, bars[-1].high
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high <= 101 * low else (1,)  # seven ticks fit on a phone
    values = (math.pow(10, power) * factor for power in powers for factor in factors)
    inside = (value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9))
    return [Tick(log_share(bars, value), latency(value)) for value in inside]


def log_share(bars: Sequence[HistogramBar], seconds: float) -> float:
    """Return the place of a latency on the axis of a histogram, as a share of the length."""
    low, high = math.log10(bars[0].low), math.log10(bars[-1].high)
    return (math.log10(max(seconds, _LEAST)) - low) / (high - low)
