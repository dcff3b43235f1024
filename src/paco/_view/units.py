"""Numbers for people: quantiles of durations, and rates, durations and shares as text."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

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

    __slots__ = ("_counts", "_longest", "_times", "_total")

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
