"""Limits on the number of items in flight: a fixed one, and one that measures items and lets a controller decide."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from paco._base import check
from paco._base.item import Item, inside
from paco.limits._base import Limiter
from paco.limits._controller import Controller, Decision
from paco.limits._deadlock import all_stuck

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

DropOn: TypeAlias = "type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], object]"

#: The number of looks for a deadlock in successive turns, and of all; the pauses of the others double from 1 s on.
_SOON: Final = 5
_LOOKS: Final = 15
#: Seconds without use after which the learned limit is outdated.
_STALE: Final = 60.0


def current_task() -> asyncio.Task[Any] | None:
    """Return the current task; ``None`` if there is none, or no loop runs."""
    return None if asyncio._get_running_loop() is None else asyncio.current_task()


@dataclass(slots=True, eq=False, repr=False)
class Permit:
    """A permit, and the item and the task in which it was acquired.

    A caller that waits holds it once its future is done.
    """

    holder: Item | None = field(init=False, default_factory=inside.get)
    task: asyncio.Task[Any] | None = field(init=False, default_factory=current_task)
    future: asyncio.Future[None] = field(init=False)
    timer: asyncio.Handle | None = field(init=False, default=None)


class Limit(Limiter):
    """Allow at most ``limit`` items in flight, over all calls that share the limit; first come, first served.

    You can set `limit` while it is in use. A higher limit lets waiting items start at once; after a lower one, nothing
    starts until enough items have ended.

    A call inside an item that needs another permit of the limit which the item already holds can deadlock: if every
    item in flight waits like that, none can go on. paco raises ``RuntimeError`` instead, once it is certain: each item
    in flight waits, directly or through a run, ``gather``, a task group or a task, for a call that waits for a permit.
    A task that an item starts and does not await just waits for its turn.

    Args:
        limit: How many items, at least 1.

    Examples:
        >>> database = paco.Limit(2)
        >>> async def query(number):
        ...     return 2 * number
        >>> async def main():
        ...     first = paco.map(query, [1, 2, 3], limit=database)
        ...     second = paco.map(query, [4, 5, 6], limit=database)
        ...     return await paco.gather(first, second)
        >>> paco.run(main())
        [[2, 4, 6], [8, 10, 12]]
    """

    __slots__ = ("_admitted", "_limit", "_permits", "_waiting")

    _order = (1, 0)
    _renews_in_place = True

    def __init__(self, limit: int) -> None:
        self._limit = check.integer("Limit", "limit", limit, 1)
        self._permits: set[Permit] = set()
        self._waiting: OrderedDict[Permit, None] = OrderedDict()
        self._admitted: set[Permit] = set()  # callers that hold their permits, but have not resumed yet

    def __repr__(self) -> str:
        return f"<paco.{type(self).__name__} {self._limit}, {len(self._permits)} in flight>"

    @property
    def limit(self) -> int:
        """The number of items that may be in flight."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = check.integer(type(self).__name__, "limit", limit, 1)
        self._admit()

    @property
    def in_flight(self) -> int:
        """The number of permits held."""
        return len(self._permits)

    @property
    def waiting(self) -> int:
        """The number of callers that wait for a permit."""
        return len(self._waiting)

    @property
    def most(self) -> int:
        return self._limit

    @property
    def free(self) -> int:
        return max(self._limit - len(self._permits), 1)

    def idle(self) -> bool:
        return not (self._permits or self._waiting or self._admitted)

    def try_acquire(self, item: Any = None) -> Permit | None:
        if len(self._permits) >= self._limit or self._waiting or self._admitted:
            return None  # no newcomer overtakes those that wait
        permit = Permit()
        self._permits.add(permit)
        return permit

    async def acquire(self, item: Any = None) -> Permit:
        permit = self.try_acquire(item)
        if permit is not None:
            return permit
        waiter, loop = Permit(), asyncio.get_running_loop()
        self._check_loop(loop)
        waiter.future = loop.create_future()
        self._waiting[waiter] = None
        if len(self._permits) >= self._limit and self._is_nested(waiter):
            self._refuse_deadlock(waiter)
        self._admit()
        try:
            if waiter.future.done():
                await asyncio.sleep(0)  # callers that were admitted earlier resume first
            await waiter.future
        except BaseException:
            if waiter in self._admitted:
                self.release(waiter)
            self._waiting.pop(waiter, None)
            raise
        finally:
            self._admitted.discard(waiter)
            if waiter.timer is not None:
                waiter.timer.cancel()
        return waiter

    def release(self, permit: Permit, error: BaseException | None = None) -> None:
        if permit not in self._permits:
            raise RuntimeError(
                f"paco.{type(self).__name__}: permit must be held when it is released, got one that is not; "
                "release each permit once"
            )
        self._permits.remove(permit)
        self._admit()

    def renews(self, permit: Permit, own: Item | None) -> bool:
        if self._admitted or len(self._permits) > self._limit:
            return False
        waiting = self._waiting
        return not waiting or (own is not None and len(waiting) == 1 and next(iter(waiting)).holder is own)

    def renew(self, permit: Permit) -> Permit | None:
        if len(self._permits) > self._limit:
            return None
        for waiter in self._waiting:
            # The same caller still waits, but now for the end of another item: look for a deadlock as often as before.
            if waiter.timer is not None:
                waiter.timer.cancel()
                waiter.timer = waiter.future.get_loop().call_soon(self._refuse_deadlock, waiter)
        return permit

    def _admit(self) -> None:
        """Grant permits to the first callers; skip cancelled ones, and those whose loop is closed.

        They resume in the order of their admission, in the next turn of the event loop.
        """
        while self._waiting and len(self._permits) < self._limit:
            waiter, _ = self._waiting.popitem(last=False)
            if not (waiter.future.done() or waiter.future.get_loop().is_closed()):
                waiter.future.set_result(None)
                self._admitted.add(waiter)
                self._permits.add(waiter)

    def _check_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raise ``RuntimeError`` if the loop of another thread has a permit: it could wake no waiter of this one."""
        task = next((permit.task for permit in self._permits), None)
        if task is not None and task.get_loop() is not loop and task.get_loop().is_running():
            raise RuntimeError(
                f"paco.{type(self).__name__}: must be used in one event loop at a time, but callers in another loop "
                "have permits of it; make one for each loop, or give it to the run: limit="
            )

    def _is_nested(self, newcomer: Permit) -> bool:
        """Return whether a caller is inside an item that holds a permit; otherwise it cannot complete a deadlock."""
        if newcomer.holder is None:
            return False
        holders = {permit.holder for permit in self._permits}
        return any(one in holders for one in (newcomer.holder, *newcomer.holder.around()))

    def _refuse_deadlock(self, newcomer: Permit, looks: int = 0) -> None:
        """Fail the wait of a caller if every holder of a permit waits for a caller; otherwise look again later.

        A holder may begin to wait later, and nothing tells. A caller that is being cancelled does not count as waiting.
        """
        if newcomer.future.done():
            return
        waiting = {waiter.task for waiter in self._waiting if not waiter.future.done()}
        if all_stuck([permit.task for permit in self._permits], waiting):
            newcomer.future.set_exception(
                RuntimeError(
                    f"paco.{type(self).__name__}: deadlock: every item in flight under this limit ({self.in_flight}) "
                    "waits for another permit of it; give the inner call a limit of its own"
                )
            )
        elif looks < _LOOKS:
            pause = 0 if looks < _SOON else 2 ** (looks - _SOON)
            newcomer.timer = newcomer.future.get_loop().call_later(pause, self._refuse_deadlock, newcomer, looks + 1)


_new: Final[Any] = vars(tuple)["__new__"]  # takes half the time of a named tuple's constructor
Limiter._of_number = Limit  # noqa: SLF001 - a base class cannot import its own subclass


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
    limit was in flight. A limit sees the errors that leave the function: put `settle` around `limited`, not the other
    way round. `retry` reports each attempt to the limit.

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

    def idle(self) -> bool:
        loop = asyncio._get_running_loop()  # returns None, instead of raising, if no loop runs
        return loop is not None and self._count.idle() and not 0 <= loop.time() - self._used_at < _STALE

    def try_reserve(self, item: Any = None) -> Permit | None:
        return self._count.try_acquire(item)

    async def reserve(self, item: Any = None) -> Permit:
        return await self._count.acquire(item)

    def begin(self, permit: Permit) -> None:
        self._begin(permit, asyncio.get_running_loop().time())

    def _begin(self, permit: Permit, now: float) -> None:
        if now < self._cut_at:  # another event loop, with another clock
            self._cut_at = -math.inf
        self._used_at = now
        self._flights[permit] = _new(_Flight, (now, len(self._flights) + 1, self._succeeded))

    def release(self, permit: Permit, error: BaseException | None = None) -> None:
        try:
            flight = self._flights.get(permit)
            if flight is not None:
                self._learn_from(flight, error, asyncio.get_running_loop().time())
        finally:
            self._flights.pop(permit, None)
            self._count.release(permit)

    def renews(self, permit: Permit, own: Item | None) -> bool:
        return self._count.renews(permit, own)

    def renew(self, permit: Permit) -> Permit | None:
        now = asyncio.get_running_loop().time()
        self._learn_from(self._flights[permit], None, now)
        del self._flights[permit]
        renewed = self._count.renew(permit)
        if renewed is not None:
            self._begin(renewed, now)
        return renewed

    def _learn_from(self, flight: _Flight, error: BaseException | None, now: float) -> None:
        """Learn from how an item has ended, while it still counts as in flight."""
        dropped = isinstance(error, Exception) and self._drop_on(error)
        if error is not None and not dropped:
            return
        self._used_at = now
        in_flight = len(self._flights)
        if not dropped:
            self._succeeded += 1
            self._proven = self._proven or flight.began >= self._cut_at
            self._controller.succeeded(now - flight.began, max(flight.beside, in_flight), in_flight, now)
        elif self._controller.drop() and self._calls_for_cut(flight, now):
            self._controller.cut(self._carried(flight), in_flight, now)
            self._cut_at, self._proven = now, False
        if self._controller.limit != self._count.limit:
            self._count.limit = self._controller.limit

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
