"""A limit on the number of items in flight."""

from __future__ import annotations

from typing import Any, ClassVar

from paco._base import check
from paco.limits._base import Limiter
from paco.limits._queue import Permit, Queue, Waiter


class Limit(Limiter):
    """Allow at most ``limit`` items in flight, over all calls that share the limit; first come, first served.

    You can set `limit` while it is in use. A higher limit lets waiting items start at once; after a lower one, nothing
    starts until enough items have ended.

    A call inside an item that needs another permit of the limit which the item already holds can deadlock: if every
    item in flight waits like that, none can go on. paco raises ``RuntimeError`` instead. A task that an item starts
    counts as inside the item, whether or not the item awaits it. Start an independent task in an empty
    ``contextvars.Context``.

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

    __slots__ = ("_limit", "_permits", "_queue")

    _rank: ClassVar[int] = 1

    def __init__(self, limit: int) -> None:
        self._limit = check.integer("Limit", "limit", limit, 1)
        self._permits: set[Permit] = set()
        self._queue = Queue()

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
        return sum(1 for _ in self._queue)

    @property
    def most(self) -> int:
        return self._limit

    @property
    def free(self) -> int:
        return max(self._limit - len(self._permits), 1)

    def idle(self) -> bool:
        return not self._permits and not self._queue

    def try_acquire(self, item: Any = None) -> Permit | None:
        if len(self._permits) >= self._limit or self._queue:
            return None
        permit = Permit()
        self._permits.add(permit)
        return permit

    async def acquire(self, item: Any = None) -> Permit:
        permit = self.try_acquire(item)
        if permit is not None:
            return permit
        waiter = Waiter()
        if len(self._permits) >= self._limit:
            self._refuse_deadlock(waiter)
        self._queue.join(waiter)
        self._admit()
        await self._queue.wait(waiter, self.release)
        return waiter

    def release(self, permit: Permit, error: BaseException | None = None) -> None:
        if permit not in self._permits:
            raise RuntimeError(
                f"paco.{type(self).__name__}: permit must be held when it is released, got one that is not; "
                "release each permit once"
            )
        self._permits.remove(permit)
        self._admit()

    def _admit(self) -> None:
        while len(self._permits) < self._limit and (waiter := self._queue.admit()):
            self._permits.add(waiter)

    def _refuse_deadlock(self, newcomer: Waiter) -> None:
        """Raise ``RuntimeError`` if, with this caller, every holder of a permit waits for another one.

        Only a caller inside a holder can complete a deadlock, so the last caller to wait detects it. A caller that is
        being cancelled does not count as waiting.
        """
        if newcomer.holder is None or newcomer.holder.parent is None:
            return
        holders = {permit.holder for permit in self._permits}
        if not any(one in holders for one in newcomer.holder.around()):
            return
        blocked = {
            one
            for waiter in (*self._queue, newcomer)
            if waiter.holder and not waiter.future.done()
            for one in waiter.holder.around()
        }
        if blocked >= holders:
            raise RuntimeError(
                f"paco.{type(self).__name__}: deadlock: every item in flight under this limit ({self.in_flight}) waits "
                "for another permit of it; give the inner call a limit of its own"
            )
