"""A limit on the number of starts per period, and its arithmetic: the generic cell rate algorithm (GCRA)."""

from __future__ import annotations

import asyncio
import math
import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil, ldexp, nextafter
from typing import TYPE_CHECKING, Any, Final

from paco._base import check
from paco._base.deadline import Clock
from paco.limits._base import Limiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.item import Item

#: Ticks per second. Every float from 2**-12 s up is a whole number of ticks, and so is every time of a real clock.
_EXPONENT: Final = 64
_TICKS: Final = 1 << _EXPONENT
#: The resolution of a timer, in seconds.
_TIMER: Final = 0.001


@dataclass(slots=True, eq=False)
class Booking:
    """A caller that waits for its start, and then the room that is booked for it."""

    cost: float
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
        self._empty_at = -math.inf  # in seconds: not before the bucket is empty; infinity if that was not worked out
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

    def start_now(self, now: float) -> bool:
        """Make a start of cost 1 that was not booked, if it is allowed now; `earliest` and `start` in one step."""
        if now >= self._empty_at and not self._taken:
            self._alone = now
            self._empty_at = nextafter(now + self._leaks_in, math.inf)
            return True
        self._settle()
        ticks = ceil(ldexp(now, _EXPONENT))
        level = max(self._level - (ticks - self._last) * self._leak, 0)
        if level + self._taken > self._room:
            return False
        self._level, self._last = level + self._token, ticks
        self._empty_at = nextafter(now + self._level / self._token * self._leaks_in, math.inf)
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


class Rate(Limiter):
    """Allow at most ``n`` starts in ``per`` seconds, over all calls that share the limit; first come, first served.

    No window of ``per`` seconds, wherever it begins, contains more than ``n + burst - 1`` starts. That is exact, by the
    clock of the event loop. With a ``burst`` of 1 the starts are at least ``per / n`` seconds apart. A larger burst
    lets unused starts accumulate and be made at once. The algorithm is GCRA, the generic cell rate algorithm of ITU-T
    I.371.

    Real timers fire about 1 ms late. Without a burst this time is lost, and with it a tenth of the starts at 100 starts
    a second, and a third at 1,000. A small burst makes up for it: ``Rate(996, burst=5)`` allows no more starts in any
    second than ``Rate(1000)``, and comes near that rate.

    You can set `n` and `per` while the limit is in use. The change applies at once, also to items that already wait. A
    window with a change in it sees no more starts than the highest of its rates allows. `pause` stops all starts for a
    time.

    Args:
        n: Starts per window, an int or a float above 0: 0.5 is one start every ``2 * per`` seconds.
        per: The length of the window in seconds, above 0.
        burst: How many items may start at once after a time without starts, at least 1.
        cost: A plain function that returns the weight of an item, a finite number of 0 or more. Without it each item
            weighs 1. With it a run takes one item ahead, to weigh it, and the items that start within ``per`` seconds
            together weigh less than ``n + burst``. An item heavier than ``burst`` waits until all earlier starts are
            paid off, and delays later items accordingly; with such items the bound is ``n`` plus the heaviest. An
            exception raised by the function is an error of the item.

    Examples:
        >>> api = paco.Rate(300, per=60, burst=10)
        >>> async def double(number):
        ...     return 2 * number
        >>> paco.run(paco.map(double, [1, 2, 3], limit=api & paco.Limit(2)))
        [2, 4, 6]
        >>> tokens = paco.Rate(90_000, per=60, burst=50, cost=len)
        >>> async def ask(prompt):
        ...     tokens.charge(len("answer"))  # as the API has counted
        ...     return prompt.upper()
        >>> paco.run(paco.map(ask, ["one", "two"], limit=tokens))
        ['ONE', 'TWO']
    """

    __slots__ = ("_bucket", "_burst", "_clock", "_cost", "_held_until", "_line", "_n", "_order", "_per", "_timer")

    def __init__(self, n: float, per: float = 1.0, burst: int = 1, cost: Callable[[Any], float] | None = None) -> None:
        self._n = check.positive("Rate", "n", n)
        self._per = check.positive("Rate", "per", per, "seconds (a number above 0)")
        self._burst = check.integer("Rate", "burst", burst, 1)
        if cost is not None:
            check.plain_function("Rate", cost, "cost")
        self._cost = cost
        # Of two rates the slower one is asked first, so that its booking is held only while the faster one is awaited.
        self._order = (3, -per / n)
        self._bucket = Bucket(n, per, burst)
        self._clock = Clock()
        self._held_until = -math.inf
        self._line: OrderedDict[Booking, None] = OrderedDict()  # waiting for their start
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<paco.Rate {self._n} per {self._per} s, {self.waiting} waiting>"

    @property
    def n(self) -> float:
        """The number of starts allowed in ``per`` seconds."""
        return self._n

    @n.setter
    def n(self, n: float) -> None:
        self._n = check.positive("Rate", "n", n)
        self._change()

    @property
    def per(self) -> float:
        """The length of the window in seconds."""
        return self._per

    @per.setter
    def per(self, per: float) -> None:
        self._per = check.positive("Rate", "per", per, "seconds (a number above 0)")
        self._change()

    @property
    def burst(self) -> int:
        """The number of items that may start at once after a time without starts."""
        return self._burst

    @property
    def waiting(self) -> int:
        """The number of callers that wait for their start."""
        return len(self._line)

    @property
    def most(self) -> int:
        return sys.maxsize

    @property
    def lookahead(self) -> int:
        return 0 if self._cost is None else 1

    def pause(self, seconds: float) -> None:
        """Stop all starts for ``seconds``, as a server asks for with Retry-After.

        A pause that ends before an earlier one does changes nothing. After a pause a burst may start. Call it from
        code that runs in the event loop.

        Args:
            seconds: 0 or more.
        """
        seconds = check.seconds("Rate.pause", "seconds", seconds, optional=False) or 0
        loop = check.running_loop("Rate.pause")
        self._follow(loop)
        self._held_until = max(self._held_until, loop.time() + seconds)
        self._arm()

    def charge(self, weight: float) -> None:
        """Correct the weight of an item that has started, as when an API reports how many tokens it has counted.

        Later starts wait longer, or shorter. At most what is still owed is given back. Call it in the event loop.

        Args:
            weight: The actual weight less the ``cost`` of the item, a finite number. A negative one gives back.
        """
        weight = check.finite("Rate.charge", "weight", weight)
        loop = check.running_loop("Rate.charge")
        self._follow(loop)
        self._bucket.charge(weight, loop.time())
        self._arm()

    def try_reserve(self, item: Any = None) -> Booking | None:
        loop = asyncio.get_running_loop()
        self._follow(loop)
        if self._cost is not None or self._line:  # `reserve` calls `cost`, which must be called once per item
            return None
        booking = Booking(1)
        if loop.time() < self._earliest(booking):
            return None
        self._bucket.book(booking)
        return booking

    async def reserve(self, item: Any = None) -> Booking:
        booking = Booking(1 if self._cost is None else check.weight("Rate", self._cost, self._cost(item)))
        loop = asyncio.get_running_loop()
        self._follow(loop)
        if self._line or loop.time() < self._earliest(booking):
            await self._wait(booking, loop)
        else:
            self._bucket.book(booking)
        return booking

    def begin(self, permit: Booking) -> None:
        if permit in self._bucket.booked:
            self._bucket.start(permit, asyncio.get_running_loop().time())
            self._arm()

    def paused(self, permit: Booking) -> float:
        return max(self._held_until - asyncio.get_running_loop().time(), 0)

    def renews(self, permit: Booking, own: Item | None) -> bool:
        if self._line or self._cost is not None:
            return False  # and if an item of the run waits, another one must not be taken in vain
        return own is None or asyncio.get_running_loop().time() >= self._earliest(permit)

    def renew(self, permit: Booking) -> Booking | None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._line or now < self._held_until or self._clock.loop() is not loop:
            return None
        return permit if self._bucket.start_now(now) else None

    def release(self, permit: Booking, error: BaseException | None = None) -> None:
        """Free the room of a booking that was not used. The end of an item changes nothing: a rate counts starts."""
        if permit in self._bucket.booked:
            self._bucket.unbook(permit)
            self._arm()

    def idle(self) -> bool:
        loop = asyncio._get_running_loop()  # returns None, instead of raising, if no loop runs
        now = loop.time() if loop is not None and self._clock.loop() is loop else -math.inf
        return not self._line and max(self._bucket.earliest(self._burst), self._held_until) <= now

    # ---- the line

    async def _wait(self, booking: Booking, loop: asyncio.AbstractEventLoop) -> None:
        """Wait to be first in line, then for the time of the start, and book it.

        Only the first caller is woken, and it checks the clock itself. So a caller that is cancelled has nothing to
        give back, and a start counts from the time at which it is made, however late that is.
        """
        self._line[booking] = None
        try:
            while self._first() is not booking or loop.time() < self._earliest(booking):
                booking.future = loop.create_future()
                if self._first() is booking:
                    self._arm()
                await booking.future
            self._bucket.book(booking)
        finally:
            self._line.pop(booking, None)
            self._arm()

    def _first(self) -> Booking | None:
        return next(iter(self._line), None)

    def _arm(self, pause: float = 0.0) -> None:
        """Wake the first caller if its time has come; otherwise set the timer, at least ``pause`` seconds from now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        first = self._first()
        if first is None or first.future.done():
            return
        loop = first.future.get_loop()
        earliest = self._earliest(first)
        if loop.is_closed():
            return
        if earliest <= loop.time():
            first.future.set_result(None)
        else:
            # A timer may fire early: by the resolution of the clock, or by half a millisecond on uvloop, which counts
            # whole ones. It is then set again, with a pause so that it does not fire in each turn of the loop.
            self._timer = loop.call_at(max(earliest, loop.time() + pause), self._arm, _TIMER)

    # ---- the rate

    def _earliest(self, booking: Booking) -> float:
        return max(self._bucket.earliest(booking.cost), self._held_until)

    def _change(self) -> None:
        self._bucket.change(self._n, self._per)
        self._arm()

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Switch to this event loop if it is a new one; forget past starts if its clock is another."""
        if self._clock.loop() is loop:
            return
        for booking in self._line:
            if not booking.future.get_loop().is_closed():
                raise RuntimeError(
                    "paco.Rate: must be used in one event loop at a time, but callers in another loop wait for it; "
                    "make one Rate for each loop"
                )
        self._line = OrderedDict()
        for booking in tuple(self._bucket.booked):
            self._bucket.unbook(booking)
        if not self._clock.follow(loop):
            self._bucket.empty()
            self._held_until = -math.inf
