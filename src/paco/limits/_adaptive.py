"""A limit on the number of items in flight that measures items and lets a controller decide."""

from __future__ import annotations

import asyncio
import math
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from paco._base import check
from paco.limits._base import Limiter
from paco.limits._controller import Controller, Decision
from paco.limits._count import Limit, Permit

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from paco._base.item import Item

DropOn: TypeAlias = "type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], object]"

#: Seconds without use after which the learned limit is outdated.
_STALE: Final = 60.0
_new: Final[Any] = vars(tuple)["__new__"]  # takes half the time of a named tuple's constructor


class _Flight(NamedTuple):
    """When an item began, how many were in flight then, itself included, and how many had succeeded before."""

    began: float
    beside: int
    succeeded: int


class Adaptive(Limiter):
    """Find the best number of items in flight, and follow it as the capacity of the server changes.

    The limit measures how long items take and, if you name the errors that mean "too many", counts refusals. It grows
    while it is used and nothing shows overload. It shrinks when items become slow because too many are in flight, and
    when items are refused. `history` lists its decisions. The page "Choosing a limit" explains the algorithm: the
    latency signal of Netflix's Gradient2 limit, with additive increase and multiplicative decrease on drops.

    Latency is the time from the start of an item to its end. It counts if the item succeeds and at least half of the
    limit was in flight. The limit of a run sees the errors of items, settled or not, and `retry` reports each attempt
    to it. A `limited` function shows its limit what it raises: put `settle` around `limited`, not the other way round.

    An adaptive limit cannot learn a rate. If a server allows a number of requests per second, it learns from refusals
    how many are in flight at that rate. If you know the rate, state it: ``paco.Rate(50) & paco.Adaptive()``.

    Args:
        start: The initial limit.
        min: The lowest limit, 1 or more.
        max: The highest limit.
        drop_on: The errors that mean "too many": an ``Exception`` class, a tuple of them, or a plain function that
            takes an error and returns whether it means that. ``None`` for no error.
        cooldown: Seconds after a cut for which further drops count as part of the same overload. A shorter round trip
            ends that time earlier, once an item that began after the cut has succeeded.

    Attributes:
        history: The last 1,000 changes, each a `paco.limits.Decision`, oldest first.

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
        >>> lengths = run(main)  # on virtual time, so that the result is the same each time
        >>> polite.limit > 2
        True
        >>> polite.history[-1].why
        'grow'
    """

    _order = (1, 1)

    def __init__(
        self, start: int = 10, min: int = 1, max: int = 1000, drop_on: DropOn | None = None, *, cooldown: float = 1.0
    ) -> None:
        for parameter, value in (("start", start), ("min", min), ("max", max)):
            check.integer("Adaptive", parameter, value, 1)
        if not min <= start <= max:
            raise ValueError(f"paco.Adaptive: start must be from min to max, got {start} for {min} to {max}")
        self._drop_on = _drops(drop_on)
        self._cooldown = check.seconds("Adaptive", "cooldown", cooldown, optional=False) or 0.0
        self._controller = Controller(start, min, max)
        self._count = Limit(start)
        self._flights: dict[Permit, _Flight] = {}  # what runs, in order of its start
        self._succeeded = 0
        self._used_at = -math.inf
        self._cut_at = -math.inf
        self._proven = True  # whether an item that began after the last cut has succeeded
        self.history: deque[Decision] = self._controller.history

    def __repr__(self) -> str:
        return f"<paco.Adaptive {self.limit}, {self.in_flight} in flight>"

    @property
    def limit(self) -> int:
        """The current limit."""
        return self._count.limit

    @property
    def in_flight(self) -> int:
        """The number of permits held."""
        return self._count.in_flight

    @property
    def waiting(self) -> int:
        """The number of callers that wait for a permit."""
        return self._count.waiting

    @property
    def most(self) -> int:
        return self._count.most

    @property
    def free(self) -> int:
        return self._count.free

    def waits_only_for(self, tasks: set[Any]) -> bool:
        return self._count.waits_only_for(tasks)

    def idle(self) -> bool:
        loop = asyncio._get_running_loop()  # returns None, instead of raising, if no loop runs
        return loop is not None and self._count.idle() and not 0 <= loop.time() - self._used_at < _STALE

    def try_reserve(self, item: Any = None) -> Permit | None:
        return self._count.try_acquire(item)

    async def reserve(self, item: Any = None) -> Permit:
        return await self._count.acquire(item)

    def begin(self, permit: Permit) -> None:
        now = permit.now()
        if now < self._cut_at:  # another event loop, with another clock
            self._cut_at = -math.inf
        self._used_at = now
        self._flights[permit] = _new(_Flight, (now, len(self._flights) + 1, self._succeeded))

    def release(self, permit: Permit, error: BaseException | None = None) -> None:
        try:
            self._ended(permit, error)
        finally:
            self._count.release(permit)

    def renews(self, permit: Permit, own: Item | None) -> bool:
        """Learn from the item, which may lower the limit: then the run must not take another item in vain."""
        self._ended(permit)
        return self._count.renews(permit, own)

    def renew(self, permit: Permit) -> Permit | None:
        renewed = self._count.renew(permit)
        if renewed is not None:
            self.begin(renewed)
        return renewed

    def _ended(self, permit: Permit, error: BaseException | None = None) -> None:
        """Learn from an item, unless that is done or it has not begun. It still counts as in flight."""
        flight = self._flights.get(permit)
        if flight is None:
            return
        try:
            if error is None or (isinstance(error, Exception) and self._drop_on(error)):
                self._learn_from(flight, permit.now(), dropped=error is not None)
        finally:
            del self._flights[permit]

    def _learn_from(self, flight: _Flight, now: float, *, dropped: bool) -> None:
        self._used_at, in_flight, controller = now, len(self._flights), self._controller
        if not dropped:
            self._succeeded += 1
            self._proven = self._proven or flight.began >= self._cut_at
            controller.succeeded(now - flight.began, max(flight.beside, in_flight), in_flight, now)
        elif controller.drop() and self._calls_for_cut(flight, now):
            controller.cut(self._carried(flight), in_flight, now)
            self._cut_at, self._proven = now, False
        if controller.limit != self._count.limit:
            self._count.limit = controller.limit

    def _calls_for_cut(self, dropped: _Flight, now: float) -> bool:
        """Return whether a drop shows an overload that the last cut has not answered.

        Drops of the same moment count once. Another cut requires that the dropped item began at least a round trip
        after the last cut, and that some item that began after that cut has succeeded. So a server that refuses
        everything for a while because its rate is used up is not mistaken for one without capacity. The cool-down
        bounds both waits.
        """
        later = dropped.began >= self._cut_at + min(self._cooldown, self._controller.round_trip)
        return later and (self._proven or now >= self._cut_at + self._cooldown)

    def _carried(self, dropped: _Flight) -> int:
        """Return how many items the server carried: those in flight when this one began, without dropped ones."""
        older = sum(1 for _ in takewhile(lambda one: one is not dropped, self._flights.values()))
        return older + self._succeeded - dropped.succeeded


def _drops(drop_on: DropOn | None) -> Callable[[Exception], object]:
    given: Any = () if drop_on is None else drop_on
    kinds = cast("tuple[object, ...]", given if isinstance(given, tuple) else (given,))
    if all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return lambda error: isinstance(error, given)
    if isinstance(drop_on, type | tuple):
        raise TypeError(
            "paco.Adaptive: drop_on must be an Exception class, a tuple of them, or a plain function that takes the "
            f"error, got {check.shorten(kinds)}"
        )
    check.plain_function("Adaptive", drop_on, "drop_on")
    return cast("Callable[[Exception], object]", drop_on)
