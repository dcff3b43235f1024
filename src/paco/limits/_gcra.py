"""The arithmetic of rates: the generic cell rate algorithm (GCRA) in whole numbers."""

from __future__ import annotations

import math
from typing import Final

#: Ticks per second. Every float from 2**-12 s up is a whole number of ticks, and so is every time of a real clock.
_TICKS: Final = 1 << 64


class Bucket:
    """A leaky bucket that says when a start is allowed: a start adds its cost, ``n`` tokens leak in ``per`` seconds.

    This is the generic cell rate algorithm of ITU-T I.371, annex A, in its second form, the continuous-state leaky
    bucket. It makes the same decisions as the first form, virtual scheduling, but stores tokens instead of a time, and
    tokens stay valid when the rate changes. (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm)

    A start is allowed when its cost fits in the bucket below ``burst``. A cost above ``burst`` needs an empty bucket
    and delays later starts accordingly. So the starts within ``per`` seconds together cost less than ``n + burst``, or
    ``n`` plus the last cost if that is above ``burst``.

    A start can be booked first and made later. Booked tokens do not leak, so the start fits however late it is made.

    All numbers are whole: a token is divided into units so that a whole number of units leaks in a tick. Only a time
    that no float represents exactly is rounded, and that to a later time. (`fractions` would take ten times as long.)
    """

    __slots__ = ("_booked", "_burst", "_costs", "_last", "_leak", "_level", "_token")

    def __init__(self, n: float, per: float, burst: int) -> None:
        self._burst = burst
        self._token = 1  # in units
        self.empty()
        self.change(n, per)

    def empty(self) -> None:
        """Forget all starts."""
        self._level = 0  # in units, at the time of the last start
        self._costs: list[float] = []  # of what is booked
        self._booked = 0  # their sum, in units
        self._last = 0  # in ticks

    def change(self, n: float, per: float) -> None:
        """Set the leak to ``n`` tokens in ``per`` seconds, counted from the last start."""
        old, (self._leak, scale) = self._token, n.as_integer_ratio()
        self._token = scale * _whole(per, _TICKS)
        self._level = -(-self._level * self._token // old)
        self._booked = sum(map(self._units, self._costs))

    def earliest(self, cost: float) -> float:
        """Return the earliest time for a start of this cost; infinity while booked starts take the room it needs."""
        room = self._burst * self._token - self._units(cost)
        if self._booked > max(room, 0):
            return math.inf
        excess = self._level - max(room - self._booked, 0)
        return _seconds(self._last - (-excess // self._leak)) if excess > 0 else -math.inf

    def book(self, cost: float) -> None:
        """Reserve the room for a start."""
        self._costs.append(cost)
        self._booked += self._units(cost)

    def unbook(self, cost: float) -> None:
        """Free the room of a booked start."""
        self._costs.remove(cost)
        self._booked -= self._units(cost)

    def start(self, cost: float, now: float) -> None:
        """Make a booked start at the time ``now``."""
        self.unbook(cost)
        ticks = _whole(now, _TICKS)
        left = max(self._level - (ticks - self._last) * self._leak, 0)
        self._level = left + self._units(cost)
        self._last = ticks

    def _units(self, cost: float) -> int:
        return _whole(cost, self._token)


def _whole(number: float, scale: int) -> int:
    """Return ``number * scale`` without loss of precision, rounded up to a whole number."""
    numerator, denominator = number.as_integer_ratio()
    return -(-numerator * scale // denominator)


def _seconds(ticks: int) -> float:
    """Return the first float, in seconds, that is not before ``ticks``."""
    try:
        seconds = ticks / _TICKS
    except OverflowError:
        return math.inf
    return seconds if _whole(seconds, _TICKS) >= ticks else math.nextafter(seconds, math.inf)
