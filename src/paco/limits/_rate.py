"""A limit in time: so many starts in so many seconds."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar, Final

from paco._base import check
from paco._base.clock import Clock
from paco.limits._base import Limiter
from paco.limits._gcra import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that a timer can count.
_TIMER: Final = 0.001


class Booking:
    """One that waits for its start, and then has the room for it."""

    __slots__ = ("cost", "future")

    future: asyncio.Future[None]

    def __init__(self, cost: float) -> None:
        self.cost: float = cost


class Rate(Limiter):
    """At most so many starts in so many seconds, over all the calls that share it; first come, first served.

    No ``per`` seconds, wherever they begin, see more than ``n + burst - 1`` starts: exactly, by the clock of the event
    loop. With a ``burst`` of 1 the starts are at least ``per / n`` seconds apart; with more, as many can be made up for
    at once when there was nothing to start. That is the generic cell rate algorithm, GCRA, of ITU-T I.371.

    Real timers are late by 1 ms or so. Without a burst that time is lost, and with it a tenth of 100 starts a second, a
    third of 1,000. A small burst makes up for it: ``Rate(996, burst=5)`` allows no more in any second than
    ``Rate(1000)``, and comes near it.

    `n` and `per` can be set while it is in use and hold from then on, for those who wait as well. A window in which
    they were changed sees no more than the highest of its rates allows. `pause` holds everyone.

    Args:
        n: How many, an int or a float above 0: 0.5 is one in each ``2 * per`` seconds.
        per: The length of the window in seconds, above 0.
        burst: How many may start at once when there was nothing to start before, at least 1.
        cost: A plain function that tells what an item weighs, a finite number of 0 or more; without it each weighs 1.
            Then a run takes one item ahead, to ask. All that starts within ``per`` seconds weighs less than ``n`` and
            ``burst`` together. An item that weighs more than ``burst`` starts when nothing is owed any more, and what
            comes after it waits the longer: with such items it is ``n`` and the heaviest of them. What the function
            raises is an error of the item.

    Examples:
        >>> api = paco.Rate(300, per=60, burst=10)
        >>> async def double(number):
        ...     return 2 * number
        >>> paco.run(paco.map(double, [1, 2, 3], limit=api & paco.Limit(2)))
        [2, 4, 6]
        >>> tokens = paco.Rate(90_000, per=60, cost=len)
        >>> async def ask(prompt):
        ...     return prompt.upper()
        >>> paco.run(paco.map(ask, ["one", "two"], limit=tokens))
        ['ONE', 'TWO']
    """

    __slots__ = (
        "_booked",
        "_bucket",
        "_burst",
        "_clock",
        "_cost",
        "_gap",
        "_held_until",
        "_line",
        "_n",
        "_per",
        "_timer",
    )

    _rank: ClassVar[int] = 3

    def __init__(self, n: float, per: float = 1.0, burst: int = 1, cost: Callable[[Any], float] | None = None) -> None:
        self._n = check.positive("Rate", "n", n)
        self._per = check.positive("Rate", "per", per, "seconds (a number above 0)")
        self._burst = check.integer("Rate", "burst", burst, 1)
        if cost is not None:
            check.plain_function("Rate", cost, "cost")
        self._cost = cost
        self._gap = per / n
        self._bucket = Bucket(n, per, burst)
        self._clock = Clock()
        self._held_until = -math.inf
        self._line: OrderedDict[Booking, None] = OrderedDict()  # those who wait
        self._booked: set[Booking] = set()  # those who can start
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<paco.Rate {self._n} per {self._per} s, {self.waiting} waiting>"

    @property
    def n(self) -> float:
        """How many may start in ``per`` seconds."""
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
        """How many may start at once."""
        return self._burst

    @property
    def waiting(self) -> int:
        """How many wait for their start."""
        return len(self._line)

    @property
    def lookahead(self) -> int:
        return 0 if self._cost is None else 1

    @property
    def _order(self) -> tuple[int, float]:
        # Of two rates the slow one is asked first: then it is the fast one that is waited for with a booking in hand.
        return self._rank, -self._gap

    def pause(self, seconds: float) -> None:
        """Let nobody start for so many seconds: what a server asks for with Retry-After.

        A pause that is shorter than what is left of an earlier one changes nothing. After it a burst may start. It is
        to be called where the event loop runs.

        Args:
            seconds: 0 or more.
        """
        seconds = check.seconds("Rate.pause", "seconds", seconds, optional=False) or 0
        loop = asyncio.get_running_loop()
        self._follow(loop)
        self._held_until = max(self._held_until, loop.time() + seconds)
        self._arm()

    async def acquire(self, item: Any = None) -> Booking:
        booking = await self.reserve(item)
        self.begin(booking)
        return booking

    async def reserve(self, item: Any = None) -> Booking:
        booking = Booking(self._weigh(item))
        loop = asyncio.get_running_loop()
        self._follow(loop)
        if self._line or loop.time() < self._earliest(booking):
            await self._wait(booking, loop)
        else:
            self._book(booking)
        return booking

    def begin(self, permit: Booking) -> None:
        if permit in self._booked:
            self._booked.remove(permit)
            self._bucket.start(permit.cost, asyncio.get_running_loop().time())
            self._arm()

    def paused(self, permit: Booking) -> float:
        return max(self._held_until - asyncio.get_running_loop().time(), 0)

    def release(self, permit: Booking, error: BaseException | None = None) -> None:
        """Give a permit back with which nothing has started; that something has ended changes nothing."""
        if permit in self._booked:
            self._booked.remove(permit)
            self._bucket.unbook(permit.cost)
            self._arm()

    def idle(self) -> bool:
        loop = asyncio._get_running_loop()  # the form that answers None where none runs
        now = loop.time() if loop is not None and self._clock.is_of(loop) else -math.inf
        return not self._line and max(self._bucket.earliest(self._burst), self._held_until) <= now

    # ---- the line

    async def _wait(self, booking: Booking, loop: asyncio.AbstractEventLoop) -> None:
        """Wait to be the first in line, and then for the time.

        Each looks at the clock for itself when it is woken, and one is woken at a time. So who is cancelled on the way
        has nothing to give back, and a start is counted at the time at which it is made, however late that is.
        """
        self._line[booking] = None
        try:
            while self._first() is not booking or loop.time() < self._earliest(booking):
                booking.future = loop.create_future()
                if self._first() is booking:
                    self._arm()
                await booking.future
            self._book(booking)
        finally:
            self._line.pop(booking, None)
            self._arm()

    def _first(self) -> Booking | None:
        return next(iter(self._line), None)

    def _arm(self, pause: float = 0.0) -> None:
        """Wake the first in line if its time has come, or set the one timer for it, not before ``pause`` has passed."""
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
            # A timer may fire early: by the resolution of the clock, or by half of one of uvloop's whole milliseconds.
            # Then it is set again, and not for so soon that it would fire in each turn of the loop.
            self._timer = loop.call_at(max(earliest, loop.time() + pause), self._arm, _TIMER)

    # ---- the rate

    def _weigh(self, item: Any) -> float:
        if self._cost is None:
            return 1
        return check.weight("Rate", self._cost, self._cost(item))

    def _earliest(self, booking: Booking) -> float:
        return max(self._bucket.earliest(booking.cost), self._held_until)

    def _book(self, booking: Booking) -> None:
        self._booked.add(booking)
        self._bucket.book(booking.cost)

    def _change(self) -> None:
        self._bucket.change(self._n, self._per)
        self._arm()

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start anew in another loop, as far as its clock is another."""
        if self._clock.is_of(loop):
            return
        if any(not booking.future.get_loop().is_closed() for booking in self._line):
            raise RuntimeError("paco.Rate: is waited for in another event loop; make one for each loop")
        self._line = OrderedDict()
        for booking in self._booked:
            self._bucket.unbook(booking.cost)
        self._booked.clear()
        if not self._clock.follow(loop):
            self._bucket.empty()
            self._held_until = -math.inf
