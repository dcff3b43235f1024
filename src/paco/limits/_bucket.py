"""The arithmetic of a rate: the generic cell rate algorithm (GCRA), in whole numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from math import ceil, ldexp, nextafter
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Ticks per second. Every float from 2**-12 s up is a whole number of ticks, and so is every time of a real clock.
_EXPONENT: Final = 64
_TICKS: Final = 1 << _EXPONENT


@dataclass(slots=True, eq=False)
class Booking:
    """A caller that waits for its start, and then the room that is booked for it."""

    cost: float
    #: The loop in which the caller runs, and its clock.
    loop: Any = field(default=None, repr=False)
    now: Callable[[], float] = field(default=monotonic, repr=False)
    future: asyncio.Future[None] = field(init=False, repr=False)


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

    def __init__(self, n: float, per: float, burst: int) -> None:
        self._burst = burst
        self._token = 1  # in units
        self.empty()
        self.change(n, per)

    def empty(self) -> None:
        """Forget all starts."""
        self._level = 0  # in units, at the time of the last start
        self._last = 0  # in ticks
        self._empty_at = -math.inf  # in seconds: the bucket is empty after it; infinity if that was not worked out
        self._alone: float | None = None  # the time of a start into the empty bucket, if level and last are older
        #: The starts that are booked.
        self.booked: set[Booking] = set()
        self._taken = 0  # what they take, in units

    def change(self, n: float, per: float) -> None:
        """Set the leak to ``n`` tokens in ``per`` seconds, counted from the last start."""
        self._settle()
        old, (self._leak, scale) = self._token, n.as_integer_ratio()
        self._token = scale * _whole(per, _TICKS)
        self._level = -(-self._level * self._token // old)
        self._room = (self._burst - 1) * self._token  # for a start of cost 1
        try:
            self._leaks_in = self._token / (self._leak << _EXPONENT) * (1 + 2**-50)  # seconds for a token, rounded up
        except OverflowError:
            self._leaks_in = math.inf
        self._empty_at = math.inf
        self._taken = sum(self._units(booking.cost) for booking in self.booked)

    def earliest(self, cost: float) -> float:
        """Return the earliest time for a start of this cost; infinity while booked starts take the room it needs."""
        self._settle()
        room = self._burst * self._token - self._units(cost)
        if self._taken > max(room, 0):
            return math.inf
        excess = self._level - max(room - self._taken, 0)
        return _seconds(self._last - (-excess // self._leak)) if excess > 0 else -math.inf

    def book(self, booking: Booking) -> None:
        """Reserve the room for a start."""
        self.booked.add(booking)
        self._taken += self._units(booking.cost)

    def unbook(self, booking: Booking) -> None:
        """Free the room of a booked start."""
        self.booked.remove(booking)
        self._taken -= self._units(booking.cost)

    def start(self, booking: Booking, now: float) -> None:
        """Make a booked start at the time ``now``."""
        self.unbook(booking)
        self.charge(booking.cost, now)

    def charge(self, weight: float, now: float) -> None:
        """Add to what has been started, at the time ``now``; take from it if the weight is negative."""
        self._settle()
        self._empty_at = math.inf
        ticks = _whole(now, _TICKS)
        left = max(self._level - (ticks - self._last) * self._leak, 0)
        self._level, self._last = max(left + self._units(weight), 0), ticks

    def is_open(self, now: float) -> bool:
        """Return whether a start of cost 1 is allowed now."""
        return (now > self._empty_at and not self._taken) or now >= self.earliest(1)

    def start_now(self, now: float) -> bool:
        """Make a start of cost 1 that was not booked, if it is allowed now; `earliest` and `start` in one step."""
        if now > self._empty_at and not self._taken:
            self._alone = now
            self._empty_at = now + self._leaks_in
            return True
        self._settle()
        ticks = ceil(ldexp(now, _EXPONENT))
        level = max(self._level - (ticks - self._last) * self._leak, 0)
        if level + self._taken > self._room:
            return False
        self._level, self._last = level + self._token, ticks
        self._empty_at = now + self._level / self._token * self._leaks_in
        return True

    def _settle(self) -> None:
        """Bring level and last up to date."""
        if self._alone is not None:
            self._level, self._last, self._alone = self._token, _whole(self._alone, _TICKS), None

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
    return seconds if _whole(seconds, _TICKS) >= ticks else nextafter(seconds, math.inf)
