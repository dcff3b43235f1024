"""A limit that finds its value by itself. How, is told in `paco.limits._controller`; here it hears how items end."""

from __future__ import annotations

import asyncio
import math
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, cast

from paco._base import check
from paco.limits._base import Limiter
from paco.limits._controller import Course
from paco.limits._count import Limit

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from paco.limits._base import Holder
    from paco.limits._controller import Decision

DropOn: TypeAlias = "type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], object]"

#: Seconds out of use after which what was learned is worth nothing.
_STALE: Final = 60.0


class _Flight:
    """A permit: who has it; when the item began, beside how many, and how many had succeeded by then."""

    __slots__ = ("began", "beside", "holder", "succeeded")

    def __init__(self, holder: Holder | None) -> None:
        self.holder: Holder | None = holder
        self.began: float = math.nan
        self.beside: int = 0
        self.succeeded: int = 0


class Adaptive(Limiter):
    """As many at once as turn out to be good: a limit that finds its value by itself, and follows when that changes.

    It watches how long items take and, if you say which errors mean "too many", which fail so. It grows while it is
    used and nothing speaks against it. It shrinks when items become slow because too many are in flight, and when they
    are refused. `history` tells what it has decided, and the page "Choosing a limit" how: in short, the latency signal
    of Netflix's Gradient2 limit, and additive increase, multiplicative decrease on drops.

    An item counts by the time from its start to its end, when at least half of the limit was in flight. One that fails
    in another way, or is cancelled, is no sample. A limit sees what leaves the function: put `settle` around `limited`,
    not the other way round; `retry` tells it of each attempt.

    It cannot know a rate: of a server that allows so many requests in a second it learns, by refusals, how many are in
    flight at that rate. Where you know the rate, say it: ``paco.Rate(50) & paco.Adaptive()``.

    Args:
        start: The limit to begin with.
        min: The limit at least, 1 or more.
        max: The limit at most.
        drop_on: Which errors mean that there were too many: a kind of ``Exception``, a tuple of them, or a plain
            function that is called with each error and returns whether it does; ``None`` for none.
        cooldown: Seconds after a cut in which drops are taken for those of the same moment, at most. It is less when a
            round trip is less, and what has begun since has succeeded.

    Attributes:
        history: The last 1000 changes, each a `paco.limits.Decision`, oldest first.

    Examples:
        >>> class Busy(Exception):
        ...     pass
        >>> polite = paco.Adaptive(start=2, drop_on=Busy)
        >>> async def fetch(url):
        ...     await asyncio.sleep(0.1)
        ...     return len(url)
        >>> async def main():
        ...     return await paco.map(fetch, ["https://a.org/"] * 50, limit=polite)
        >>> from paco.testing import run
        >>> lengths = run(main)  # on virtual time, so that it is the same each time
        >>> polite.limit > 2
        True
        >>> polite.history[-1].why
        'grow'
    """

    __slots__ = (
        "_cooldown",
        "_count",
        "_course",
        "_cut_at",
        "_drop_on",
        "_flights",
        "_proven",
        "_succeeded",
        "_used_at",
        "history",
    )

    _rank: ClassVar[int] = 1

    def __init__(
        self,
        start: int = 10,
        min: int = 1,
        max: int = 1000,
        drop_on: DropOn | None = None,
        *,
        cooldown: float = 1.0,
    ) -> None:
        for parameter, value in (("start", start), ("min", min), ("max", max)):
            check.integer("Adaptive", parameter, value, 1)
        if not min <= start <= max:
            raise ValueError(f"paco.Adaptive: start must be from min to max, got {start} for {min} to {max}")
        self._drop_on = _drops(drop_on)
        self._cooldown = check.seconds("Adaptive", "cooldown", cooldown, optional=False) or 0.0
        self._course = Course(start, min, max)
        self._count = Limit(start)
        self._flights: dict[_Flight, None] = {}  # what runs, in the order in which it began
        self._succeeded = 0
        self._used_at = -math.inf
        self._cut_at = -math.inf
        self._proven = True  # whether something that began after the last cut has succeeded
        self.history: deque[Decision] = self._course.history

    def __repr__(self) -> str:
        return f"<paco.Adaptive {self.limit}, {self.in_flight} in flight>"

    @property
    def limit(self) -> int:
        """How many may be in flight at once, as of now."""
        return self._count.limit

    @property
    def in_flight(self) -> int:
        """How many hold a permit."""
        return self._count.in_flight

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return self._count.waiting

    @property
    def most(self) -> int:
        return self._count.most

    @property
    def free(self) -> int:
        return self._count.free

    def idle(self) -> bool:
        loop = asyncio._get_running_loop()  # the form that answers None where none runs
        return loop is not None and self._count.idle() and not 0 <= loop.time() - self._used_at < _STALE

    async def acquire(self, item: Any = None) -> _Flight:
        flight = await self.reserve(item)
        self.begin(flight)
        return flight

    async def reserve(self, item: Any = None) -> _Flight:
        return _Flight(await self._count.acquire(item))

    def begin(self, permit: _Flight) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._cut_at:  # it is another loop, whose clock is another
            self._cut_at = -math.inf
        permit.began = self._used_at = now
        permit.succeeded = self._succeeded
        self._flights[permit] = None
        permit.beside = len(self._flights)

    def release(self, permit: _Flight, error: BaseException | None = None) -> None:
        try:
            if permit in self._flights:
                self._hear(permit, error)
        finally:
            self._flights.pop(permit, None)
            self._count.release(permit.holder)

    def _hear(self, flight: _Flight, error: BaseException | None) -> None:
        """Learn from how an item has ended, while it still counts as in flight."""
        if error is None:
            self._used_at = now = asyncio.get_running_loop().time()
            self._succeeded += 1
            self._proven = self._proven or flight.began >= self._cut_at
            in_flight = len(self._flights)
            self._course.succeeded(now - flight.began, max(flight.beside, in_flight), in_flight, now)
        elif isinstance(error, Exception) and self._drop_on(error):
            self._used_at = now = asyncio.get_running_loop().time()
            if self._course.drop() and self._is_news(flight, now):
                self._course.cut(self._carried(flight), len(self._flights), now)
                self._cut_at, self._proven = now, False
        if self._course.limit != self._count.limit:
            self._count.limit = self._course.limit

    def _is_news(self, dropped: _Flight, now: float) -> bool:
        """Say whether a drop tells more than the last cut has dealt with.

        Drops of the same moment count once: what is to cause another cut began a round trip after the last, or later,
        and something that began after it has succeeded. So a server that refuses everything for a while, since its rate
        is used up, is not taken for one that can do nothing. The cool-down bounds both waits.
        """
        later = dropped.began >= self._cut_at + min(self._cooldown, self._course.round_trip)
        return later and (self._proven or now >= self._cut_at + self._cooldown)

    def _carried(self, dropped: _Flight) -> int:
        """Return how many were in flight when this one began, and were not dropped before it."""
        older = sum(1 for _ in takewhile(lambda one: one is not dropped, self._flights))
        return older + self._succeeded - dropped.succeeded


def _drops(drop_on: DropOn | None) -> Callable[[Exception], object]:
    given: Any = () if drop_on is None else drop_on
    kinds = cast("tuple[object, ...]", given if isinstance(given, tuple) else (given,))
    if all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return lambda error: isinstance(error, given)
    if isinstance(drop_on, type | tuple):
        raise TypeError(
            "paco.Adaptive: drop_on must be a kind of Exception, a tuple of them, or a plain function that is called "
            f"with the error, got {check.shorten(kinds)}"
        )
    check.plain_function("Adaptive", drop_on, "drop_on")
    return cast("Callable[[Exception], object]", drop_on)
