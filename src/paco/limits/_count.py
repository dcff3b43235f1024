"""A limit on the number of items in flight."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from paco._base import check
from paco._base.item import Item, inside
from paco.limits._base import Limiter


class Permit:
    """A permit, and the item inside which it was acquired. A caller that waits holds it once its future is done."""

    __slots__ = ("future", "holder")

    future: asyncio.Future[None]

    def __init__(self) -> None:
        self.holder: Item | None = inside.get()


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

    __slots__ = ("_admitted", "_limit", "_permits", "_waiting")

    _order = (1, 0)

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
        waiter = Permit()
        waiter.future = asyncio.get_running_loop().create_future()
        if len(self._permits) >= self._limit:
            self._refuse_deadlock(waiter)
        self._waiting[waiter] = None
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
        """Grant permits to the first callers; skip cancelled ones, and those whose loop is closed.

        They resume in the order of their admission, in the next turn of the event loop.
        """
        while self._waiting and len(self._permits) < self._limit:
            waiter, _ = self._waiting.popitem(last=False)
            if not (waiter.future.done() or waiter.future.get_loop().is_closed()):
                waiter.future.set_result(None)
                self._admitted.add(waiter)
                self._permits.add(waiter)

    def _refuse_deadlock(self, newcomer: Permit) -> None:
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
            for waiter in (*self._waiting, newcomer)
            if waiter.holder and not waiter.future.done()
            for one in waiter.holder.around()
        }
        if blocked >= holders:
            raise RuntimeError(
                f"paco.{type(self).__name__}: deadlock: every item in flight under this limit ({self.in_flight}) waits "
                "for another permit of it; give the inner call a limit of its own"
            )


Limiter._of_number = Limit  # noqa: SLF001 - a base class cannot import its own subclass
