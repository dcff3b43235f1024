"""How `Adaptive` finds its limit: down when latency or errors say that there are too many, else up.

By Little's law a server that works on K items at a time, each of which takes S seconds, does K / S of them in a second
and never more. With fewer than K in flight it idles; with more, they stand in line, or are refused. The aim is K.

**Rounds.** It decides once in as many ends as the limit allows in flight. By Little's law again, that is a round trip.

**Latency** is the signal of the Gradient2 limit of Netflix (https://github.com/Netflix/concurrency-limits): a short and
a long average of the round trip time, and a tolerance of 1.5 between them. Gradient2 lets the long one learn all the
time, also from the line that it has caused itself, and multiplies the limit by their quotient. Here the long average
learns only where there is no line, and a suspicion is verified: the limit goes *lower* for two rounds, to where the
line must be gone. If items are as slow there, slow is what they are now; the limit goes back, and the long average has
learned. If they are faster, the quotient of the two latencies, measured one after the other, tells how many of those in
flight were not in line. If they are faster than the long average ever was, that had learned in a line itself, and the
limit goes lower again.

The reason is measured (`./dev bench --only busy`): at a server whose times are exponential and that lets wait what is
too much, Gradient2 as published comes to two thirds of the throughput of the best fixed limit, since single slow items
count as a line there. This one mostly comes to more than 90 %.

**Drops** are errors that say "too many". The limit then goes to 0.95 of what the server carried: of those that were in
flight when the refused item began, and were not refused before it; at most half way down at a time. One in ten is
tolerated.

**Growth** is additive, and the step becomes larger with the rounds that go well: 0, 1, 1, 2, 2, 3, … So it is careful
after a cut, and yet comes from 20 to 200 in 27 rounds. Before anything has spoken against it, the limit doubles.
Together with the cuts this is AIMD (Chiu and Jain, 1989), the way of TCP.

A round trip is an average in which one item counts for five times the average at most: one that hangs says nothing of
the others.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

#: How many times the long average the short one may be before that is taken for a line. As in Gradient2.
_TOLERANCE: Final = 1.5
#: Half way, as factors go, between that and none: what tells which of the two it is.
_HALF: Final = math.sqrt(_TOLERANCE)
#: The share of what was carried to which a drop cuts the limit.
_CUT: Final = 0.95
#: One drop in so many ends is tolerated.
_TOLERATED: Final = 10
#: The short average is over the last round, or over so many if that has fewer; the long one over ten times as many.
_FEW: Final = 30
_LONG: Final = 10
#: Samples by which a lower limit is judged, at least.
_ENOUGH: Final = 10
#: How many times the average an item counts at most.
_OUTLIER: Final = 5
#: Decisions that are remembered.
_HISTORY: Final = 1000

Why: TypeAlias = Literal["grow", "lower", "found", "drop"]


@dataclass(frozen=True, slots=True)
class Decision:
    """A change of an `Adaptive` limit, and what it was made of.

    Attributes:
        when: Seconds, by the clock of the event loop.
        limit: The limit from then on.
        why: ``"grow"``: it was used, and nothing spoke against more. ``"lower"``: items were slow, or nothing was known
            yet, to see whether fewer are faster. ``"found"``: what that has shown. ``"drop"``: the server refused.
        short: Seconds; the latency of late.
        long: Seconds; the latency where nothing stood in line; 0 before that is known.
        in_flight: How many items there were.
    """

    when: float
    limit: int
    why: Why
    short: float
    long: float
    in_flight: int


class _Average:
    """A plain average over its first values and an exponential one after."""

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.count = 0

    def add(self, value: float, span: int) -> None:
        self.count += 1
        self.value += (value - self.value) / min(self.count, span)


class _Before(NamedTuple):
    """What was before the limit went lower to see whether items are faster there."""

    limit: int
    latency: float
    expected: float  # the latency without a line, as far as was known


class Course:
    """The limit, and what is known of the server. It asks no clock and starts nothing.

    Args:
        start: The limit to begin with.
        least: The limit at least.
        most: The limit at most.
    """

    __slots__ = (
        "_before",
        "_calm",
        "_doubling",
        "_dropped",
        "_keep",
        "_least",
        "_left",
        "_long",
        "_most",
        "_short",
        "_skip",
        "_sure",
        "history",
        "limit",
    )

    def __init__(self, start: int, least: int, most: int) -> None:
        self.limit = start
        self.history: deque[Decision] = deque(maxlen=_HISTORY)
        self._least = least
        self._most = most
        self._short = _Average()
        self._long = _Average()
        self._sure = 0  # up to this limit nothing stands in line
        self._before: _Before | None = None  # while the limit is lower, to see
        self._doubling = True
        self._calm = 0  # rounds that went well, one after the other
        self._settle(start, start)

    @property
    def round_trip(self) -> float:
        """The latency of late, in seconds; infinity before that is known."""
        return self._short.value if self._short.count else math.inf

    # ---- what the ends of items tell

    def succeeded(self, latency: float, beside: int, in_flight: int, now: float) -> None:
        """Hear that an item took so many seconds.

        Args:
            latency: Seconds.
            beside: How many were in flight when it began or when it ended, whichever is more; those that end together
                are few in the end.
            in_flight: How many were in flight when it ended, itself included.
            now: The time, for the history.
        """
        if 2 * beside < self.limit:
            return  # it is not this limit that has made it slow, or fast
        short, span = self._short, max(self.limit, _FEW)
        latency = min(latency, _OUTLIER * short.value or math.inf)
        short.add(latency, span)
        if in_flight > self.limit:
            return  # the limit is new, and there are more still
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
        """Hear that an item was refused: true if that is more than is tolerated."""
        self._dropped += 1
        return self._dropped * _TOLERATED > self.limit

    def cut(self, carried: int, in_flight: int, now: float) -> None:
        """Cut the limit, because the server has carried so many and no more."""
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
        """Say whether items may stand in line. Not where some are refused: then nothing is known of the others."""
        return not self._dropped and (not self._long.count or self._short.value > _TOLERANCE * self._long.value)

    def _grow(self, in_flight: int, now: float) -> None:
        before = self.limit
        self._calm += 1
        self._move(2 * before if self._doubling else before + self._calm // 2, "grow", in_flight, now)
        if self._doubling and self.limit > before:
            # What ends next began before there were more. And a few samples are not enough to tell a line.
            self._settle(before, self.limit - before, keep=max(_FEW - self.limit, 0))
        else:
            self._settle(0, self.limit)

    def _go_lower(self, in_flight: int, now: float) -> None:
        """See whether items are faster with fewer of them: so few that none can stand in line."""
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
        """Decide by what the lower limit has shown. Between two answers, the nearer one is taken."""
        self._before = None
        self._learn()
        low = self._short.value
        if low * _HALF < before.expected and self.limit > self._least:
            self._doubt()
            self._go_lower(in_flight, now)  # even there items stood in line
            return
        share = _share(low, before.latency)
        if share * _HALF > 1:
            share = 1.0  # they did not before
        else:
            self._doubt()
        self._move(round(share * before.limit), "found", in_flight, now)
        self._sure = self.limit
        self._settle(self.limit, self.limit)

    # ---- what decisions are made of

    def _doubt(self) -> None:
        """Grow with care from now on."""
        self._doubling = False
        self._calm = 0

    def _learn(self) -> None:
        """Take the latency of late for the one without a line."""
        self._long.value, self._long.count = self._short.value, self._short.count

    def _move(self, limit: int, why: Why, in_flight: int, now: float) -> None:
        limit = max(self._least, min(limit, self._most))
        if limit != self.limit:
            self.limit = limit
            self.history.append(Decision(now, limit, why, self._short.value, self._long.value, in_flight))

    def _settle(self, skip: int, samples: int, keep: int = 0) -> None:
        """Begin a round.

        Args:
            skip: Ends to leave out first, since what ends there began before.
            samples: Ends that count.
            keep: How many samples the short average shall be worth that were before, if any are left out.
        """
        self._skip = skip
        self._left = samples
        self._keep = keep
        self._dropped = 0


def _share(part: float, whole: float) -> float:
    return min(part / whole, 1.0) if whole else 1.0
