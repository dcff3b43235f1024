"""A limit on the number of starts per period."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from paco._base import check
from paco._base.deadline import Clock, call_home, time_of
from paco.limits._base import Limiter, weighed
from paco.limits._bucket import Booking, Bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.item import Item

#: The resolution of a timer, in seconds.
_TIMER: Final = 0.001


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
    time. Any thread may set these and call `pause` and `charge`: the event loop that uses the rate applies the change.

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
        call_home(self._clock.loop(), self._change)

    @property
    def per(self) -> float:
        """The length of the window in seconds."""
        return self._per

    @per.setter
    def per(self, per: float) -> None:
        self._per = check.positive("Rate", "per", per, "seconds (a number above 0)")
        call_home(self._clock.loop(), self._change)

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

        A pause that ends before an earlier one does changes nothing. After a pause a burst may start. A pause cannot
        be ended early, and closing a gate does not spare taken items the wait for its end: bound the seconds.

        Args:
            seconds: 0 or more.
        """
        seconds = check.seconds("Rate.pause", "seconds", seconds, optional=False) or 0
        call_home(self._clock.loop(), self._pause, seconds)

    def charge(self, weight: float) -> None:
        """Correct the weight of an item that has started, as when an API reports how many tokens it has counted.

        Later starts wait longer, or shorter. At most what is still owed is given back.

        Args:
            weight: The actual weight less the ``cost`` of the item, a finite number. A negative one gives back.
        """
        weight = check.finite("Rate.charge", "weight", weight)
        call_home(self._clock.loop(), self._charge, weight)

    def try_reserve(self, item: Any = None) -> Booking | None:
        loop = asyncio.get_running_loop()
        self._follow(loop)
        if self._cost is not None or self._line:  # `reserve` calls `cost`, which must be called once per item
            return None
        booking = Booking(1, loop, time_of(loop))
        if loop.time() < self._earliest(booking):
            return None
        self._bucket.book(booking)
        return booking

    async def reserve(self, item: Any = None) -> Booking:
        loop = asyncio.get_running_loop()
        booking = Booking(1 if self._cost is None else weighed("Rate", self._cost, item), loop, time_of(loop))
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
        if own is None:
            return True
        now = permit.now()
        return now >= self._held_until and self._bucket.is_open(now)

    def renew(self, permit: Booking) -> Booking | None:
        now = permit.now()
        if self._line or now < self._held_until or self._clock.loop() is not permit.loop:
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

    def _pause(self, seconds: float) -> None:
        self._held_until = max(self._held_until, self._now() + seconds)
        self._arm()

    def _charge(self, weight: float) -> None:
        self._bucket.charge(weight, self._now())
        self._arm()

    def _change(self) -> None:
        self._bucket.change(self._n, self._per)
        self._arm()

    def _now(self) -> float:
        """Return the time of the event loop that runs here; if none does, of the last one that used this rate."""
        loop = asyncio._get_running_loop()  # returns None, instead of raising, if no loop runs
        if loop is None:
            loop = self._clock.loop()
        else:
            self._follow(loop)
        return time.monotonic() if loop is None else loop.time()

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
