"""How `Adaptive` finds its limit: it lowers the limit when latency or errors show overload, and raises it otherwise.

By Little's law a server that works on K items at a time, each of which takes S seconds, completes at most K / S items a
second. With fewer than K items in flight it has idle capacity; with more, items queue or are refused. The goal is K.

**Rounds.** The controller decides once per round. A round is as many ended items as the limit allows in flight, which
is a round trip, again by Little's law.

**Latency.** The signal is that of Netflix's Gradient2 limit (https://github.com/Netflix/concurrency-limits): a short
and a long average of the round-trip time, with a tolerance of 1.5 between them. Gradient2 always updates the long
average, even from a queue that the limit itself has caused, and multiplies the limit by the ratio of the two. Here the
long average is updated only while nothing queues, and a suspected queue is tested: the limit is lowered for two rounds,
so far that a queue must be gone.

- If items are just as slow, the server itself has become slow. The limit returns to where it was, and the long average
  takes the new latency.
- If items are faster, there was a queue. The ratio of the two latencies, measured one after the other, is the share of
  the items in flight that were not queued.
- If items are faster than the long average, the long average itself includes a queue. The limit is lowered again.

The reason is a measurement (`./dev bench --only busy`). Against a server that queues excess requests and has
exponentially distributed service times, Gradient2 as published reaches two thirds of the throughput of the best fixed
limit, because it takes single slow items for a queue. This controller reaches more than 90% in most runs.

**Drops** are errors that mean "too many". The limit becomes 0.95 of what the server carried: of the items that were in
flight when the refused item began and were not refused before it. One cut halves the limit at most.

**Growth** is additive, with a step that grows with each good round: 0, 1, 1, 2, 2, 3, … So growth is slow after a cut,
and still takes only 27 rounds from 20 to 200. Until the first sign of overload the limit doubles. Together with the
cuts this is AIMD, additive increase and multiplicative decrease (Chiu and Jain, 1989), as in TCP.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

#: The ratio of the short average to the long one above which a queue is suspected. As in Gradient2.
_TOLERANCE: Final = 1.5
#: The geometric mean of that ratio and 1: a measured ratio is closer to the one or to the other.
_HALF: Final = math.sqrt(_TOLERANCE)
#: A drop cuts the limit to this share of what the server carried.
_CUT: Final = 0.95
#: One drop in this many ended items is tolerated.
_TOLERATED: Final = 10
#: The short average spans the last round, but at least this many samples; the long average spans ten times as many.
_FEW: Final = 30
_LONG: Final = 10
#: The least number of samples in a round that tests a lower limit.
_ENOUGH: Final = 10
#: The most that one item counts for, as a multiple of the short average: one that hangs says nothing about the others.
_OUTLIER: Final = 5
#: The number of decisions kept.
_HISTORY: Final = 1000

Why: TypeAlias = Literal["grow", "lower", "found", "drop"]


@dataclass(frozen=True, slots=True)
class Decision:
    """A change of an `Adaptive` limit, and the measurements behind it.

    Attributes:
        when: The time in seconds, by the clock of the event loop.
        limit: The new limit.
        why: ``"grow"``: the limit was used and nothing showed overload. ``"lower"``: items were slow, or no latency was
            known yet; a test whether items are faster with fewer in flight. ``"found"``: the result of that test.
            ``"drop"``: the server refused items.
        short: The recent latency in seconds.
        long: The latency in seconds without a queue; 0 until it is known.
        in_flight: The number of items in flight.
    """

    when: float
    limit: int
    why: Why
    short: float
    long: float
    in_flight: int


class _Average:
    """The mean of the first ``span`` values, and an exponential average of that span afterwards."""

    def __init__(self) -> None:
        self.value = 0.0
        self.count = 0

    def add(self, value: float, span: int) -> None:
        self.count = count = self.count + 1
        self.value += (value - self.value) / (count if count < span else span)  # noqa: FURB136 - `min` takes longer


class _Before(NamedTuple):
    """The state before the limit was lowered for a test."""

    limit: int
    latency: float
    expected: float  # the latency without a queue, as far as it was known


class Controller:
    """The limit, and what is known about the server. It reads no clock and starts no task."""

    def __init__(self, start: int, least: int, most: int) -> None:
        self.limit = start
        self.history: deque[Decision] = deque(maxlen=_HISTORY)
        self._least = least
        self._most = most
        self._short = _Average()
        self._long = _Average()
        self._sure = 0  # nothing queues up to this limit
        self._before: _Before | None = None  # set while a lower limit is tested
        self._doubling = True
        self._calm = 0  # consecutive rounds without overload
        self._settle(start, start)

    @property
    def round_trip(self) -> float:
        """The recent latency in seconds; infinity until it is known."""
        return self._short.value if self._short.count else math.inf

    # ---- measurements

    def succeeded(self, latency: float, beside: int, in_flight: int, now: float) -> None:
        """Record that an item has succeeded.

        Args:
            latency: The seconds that it took.
            beside: The number of items in flight when it began or when it ended, whichever is more. Of items that end
                together, the last ones see few others.
            in_flight: The number of items in flight when it ended, itself included.
            now: The time, for the history.
        """
        if 2 * beside < self.limit:
            return  # the limit was not in effect, so this latency says nothing about it
        short, span = self._short, max(self.limit, _FEW)
        if latency > (most := _OUTLIER * short.value) and most:
            latency = most
        short.add(latency, span)
        if in_flight > self.limit:
            return  # the limit was lowered, and the items in flight are still above it
        if self._skip:
            self._skip -= 1
            if not self._skip:
                short.count = self._keep
            return
        if self._before is None and self.limit <= self._sure:
            self._long.add(latency, _LONG * span)
        self._left -= 1
        if self._left <= 0:
            self._end_round(in_flight, now)

    def drop(self) -> bool:
        """Record that an item was refused, and return whether that is more than is tolerated."""
        self._dropped += 1
        return self._dropped * _TOLERATED > self.limit

    def cut(self, carried: int, in_flight: int, now: float) -> None:
        """Cut the limit, because the server carried ``carried`` items and refused more."""
        before = self.limit if self._before is None else self._before.limit
        self._before = None
        self._doubt()
        self._move(max(before // 2, int(_CUT * min(carried, before))), "drop", in_flight, now)
        self._settle(0 if self._long.count else self.limit, self.limit)

    # ---- decisions

    def _end_round(self, in_flight: int, now: float) -> None:
        if self._before is not None:
            self._judge(self._before, in_flight, now)
        elif self._is_slow():
            self._go_lower(in_flight, now)
        else:
            self._grow(in_flight, now)

    def _is_slow(self) -> bool:
        """Return whether items may be queued. In a round with drops it is unknown, and counts as ``False``."""
        return not self._dropped and (not self._long.count or self._short.value > _TOLERANCE * self._long.value)

    def _grow(self, in_flight: int, now: float) -> None:
        before = self.limit
        self._calm += 1
        self._move(2 * before if self._doubling else before + self._calm // 2, "grow", in_flight, now)
        if self._doubling and self.limit > before:
            # The next items to end began under the old limit; and a few samples are not enough to detect a queue.
            self._settle(before, self.limit - before, keep=max(_FEW - self.limit, 0))
        else:
            self._settle(0, self.limit)

    def _go_lower(self, in_flight: int, now: float) -> None:
        """Lower the limit so far that nothing can queue, to test whether items are faster then."""
        short = self._short.value
        expected = min(self._long.value, short) if self._long.count else short
        lower = max(int(self.limit * _share(expected, short) / _TOLERANCE), self._least)
        if lower < self.limit:
            self._before = _Before(self.limit, short, expected)
            self._move(lower, "lower", in_flight, now)
            self._settle(lower, max(lower, _ENOUGH))
        else:
            self._learn()
            self._grow(in_flight, now)

    def _judge(self, before: _Before, in_flight: int, now: float) -> None:
        """End the test of a lower limit: set the limit by the latency that was measured."""
        self._before = None
        self._learn()
        low = self._short.value
        if low * _HALF < before.expected and self.limit > self._least:
            self._doubt()
            self._go_lower(in_flight, now)  # items queued even at the lower limit
            return
        share = _share(low, before.latency)
        if share * _HALF > 1:
            share = 1.0  # nothing queued before the test either
        else:
            self._doubt()
        self._move(round(share * before.limit), "found", in_flight, now)
        self._sure = self.limit
        self._settle(self.limit, self.limit)

    # ---- steps of decisions

    def _doubt(self) -> None:
        """End the doubling, and grow in small steps again."""
        self._doubling = False
        self._calm = 0

    def _learn(self) -> None:
        """Take the recent latency as the latency without a queue."""
        self._long.value, self._long.count = self._short.value, self._short.count

    def _move(self, limit: int, why: Why, in_flight: int, now: float) -> None:
        limit = max(self._least, min(limit, self._most))
        if limit != self.limit:
            self.limit = limit
            self.history.append(Decision(now, limit, why, self._short.value, self._long.value, in_flight))

    def _settle(self, skip: int, samples: int, keep: int = 0) -> None:
        """Begin a round.

        Args:
            skip: How many ended items to leave out first, because they began in an earlier round.
            samples: How many ended items to count after that.
            keep: The weight, in samples, that the short average keeps from before, if any items are left out.
        """
        self._skip = skip
        self._left = samples
        self._keep = keep
        self._dropped = 0


def _share(part: float, whole: float) -> float:
    return min(part / whole, 1.0) if whole else 1.0
