"""The arithmetic of rates: the generic cell rate algorithm, in whole numbers."""

from __future__ import annotations

import math
from typing import Final

#: Ticks of a second. From 2**-12 s on every float is a whole number of them, and so is every time of a real clock.
_TICKS: Final = 1 << 64


class Bucket:
    """A bucket that leaks ``n`` tokens in ``per`` seconds, and into which a start pours its cost: GCRA.

    This is the generic cell rate algorithm of ITU-T I.371, annex A, in its second form, the continuous-state leaky
    bucket. It decides the same as the first one, virtual scheduling, but keeps tokens where that keeps a time: tokens
    stay what they are when the rate changes. (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm)

    A start has to find the bucket so empty that its cost fits below ``burst``. A cost above ``burst`` has to find it
    empty, and makes those after it wait the longer. So all that starts within ``per`` seconds costs less than ``n``
    and ``burst`` (or the last cost, if that is more) together.

    A start can be booked first and made later. What is booked does not leak, so that however late the start is, it
    still fits.

    All numbers are whole: a token is so many units that a whole number of them leaks in a tick. Nothing is rounded but
    the few results that are no float, and those towards later. (With `fractions` the same takes ten times as long.)
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
        """Leak ``n`` tokens in ``per`` seconds, from the last start on."""
        old, (self._leak, scale) = self._token, n.as_integer_ratio()
        self._token = scale * _whole(per, _TICKS)
        self._level = -(-self._level * self._token // old)
        self._booked = sum(map(self._units, self._costs))

    def earliest(self, cost: float) -> float:
        """Return the time from which on a start of this cost fits; infinity if one that is booked is in its way."""
        room = self._burst * self._token - self._units(cost)
        if self._booked > max(room, 0):
            return math.inf
        excess = self._level - max(room - self._booked, 0)
        return _seconds(self._last - (-excess // self._leak)) if excess > 0 else -math.inf

    def book(self, cost: float) -> None:
        """Keep the room for a start."""
        self._costs.append(cost)
        self._booked += self._units(cost)

    def unbook(self, cost: float) -> None:
        """Give the room for a start up."""
        self._costs.remove(cost)
        self._booked -= self._units(cost)

    def start(self, cost: float, now: float) -> None:
        """Start what was booked."""
        self.unbook(cost)
        ticks = _whole(now, _TICKS)
        left = max(self._level - (ticks - self._last) * self._leak, 0)
        self._level = left + self._units(cost)
        self._last = ticks

    def _units(self, cost: float) -> int:
        return _whole(cost, self._token)


def _whole(number: float, scale: int) -> int:
    """Return ``number * scale``, rounded up to a whole number and not otherwise."""
    numerator, denominator = number.as_integer_ratio()
    return -(-numerator * scale // denominator)


def _seconds(ticks: int) -> float:
    """Return the first float that is not before ``ticks``."""
    try:
        seconds = ticks / _TICKS
    except OverflowError:
        return math.inf
    return seconds if _whole(seconds, _TICKS) >= ticks else math.nextafter(seconds, math.inf)
