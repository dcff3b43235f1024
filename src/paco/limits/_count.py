"""A limit that counts: so many at once."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from paco._base import check
from paco.limits._base import Holder, Limiter, holder
from paco.limits._queue import Queue, Waiter


class Limit(Limiter):
    """At most so many at once, over all the calls that share it; first come, first served.

    `limit` can be set while it is in use and holds from then on: more start at once, or nothing starts until enough
    have ended. A call inside an item that waits for the limit which that item holds, and can never get it because
    nobody else holds it, raises ``RuntimeError`` instead of waiting for ever. A task that an item starts counts as
    inside of it, whether it is waited for or not; one that is not belongs in an empty ``contextvars.Context``.

    Args:
        limit: How many, at least 1.

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

    __slots__ = ("_held", "_holders", "_limit", "_queue")

    _rank: ClassVar[int] = 1

    def __init__(self, limit: int) -> None:
        self._limit = check.integer("Limit", "limit", limit, 1)
        self._held = 0
        self._holders: Counter[Holder | None] = Counter()
        self._queue = Queue()

    def __repr__(self) -> str:
        return f"<paco.{type(self).__name__} {self._limit}, {self._held} in flight>"

    @property
    def limit(self) -> int:
        """How many may be in flight at once."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = check.integer(type(self).__name__, "limit", limit, 1)
        self._admit()

    @property
    def in_flight(self) -> int:
        """How many hold a permit."""
        return self._held

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return sum(1 for _ in self._queue)

    @property
    def most(self) -> int:
        return self._limit

    @property
    def free(self) -> int:
        return max(self._limit - self._held, 1)

    def idle(self) -> bool:
        return not self._held and not self._queue

    async def acquire(self, item: Any = None) -> Holder | None:
        if self._held < self._limit and not self._queue:
            one = holder.get()
            self._take(one)
            return one
        waiter = Waiter()
        if self._held >= self._limit:
            self._demand_progress(waiter)
        self._queue.join(waiter)
        self._admit()
        await self._queue.wait(waiter, self._give_back)
        return waiter.holder

    def release(self, permit: Holder | None, error: BaseException | None = None) -> None:
        if permit not in self._holders:
            raise RuntimeError(f"paco.{type(self).__name__}: a permit was released that is not held")
        self._held -= 1
        self._holders[permit] -= 1
        if not self._holders[permit]:
            del self._holders[permit]
        self._admit()

    def _take(self, one: Holder | None) -> None:
        self._held += 1
        self._holders[one] += 1

    def _give_back(self, waiter: Waiter) -> None:
        self.release(waiter.holder)

    def _admit(self) -> None:
        while self._held < self._limit and (waiter := self._queue.admit()):
            self._take(waiter.holder)

    def _demand_progress(self, newcomer: Waiter) -> None:
        """Refuse to wait where nobody could ever go on: everyone who holds a permit waits for one inside.

        That can only come true by one who waits inside of a holder, and is found out when the last of them comes. Those
        who are being cancelled do not wait.
        """
        if newcomer.holder is None or not any(one in self._holders for one in newcomer.holder.around()):
            return
        blocked = {
            one
            for waiter in (*self._queue, newcomer)
            if waiter.holder and not waiter.future.done()
            for one in waiter.holder.around()
        }
        if blocked >= self._holders.keys():
            raise RuntimeError(
                f"paco.{type(self).__name__}: waits for ever: all {self._held} in flight under this limit wait for it "
                f"inside of what they do; give the inner call another limit"
            )
