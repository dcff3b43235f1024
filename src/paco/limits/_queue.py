"""Those who wait for a permit, first come first served."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from paco.limits._base import Holder, holder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Waiter:
    """One that waits, and what it runs in."""

    __slots__ = ("future", "holder")

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.holder: Holder | None = holder.get()


class Queue:
    """A line: `join`, then `wait` in it; `admit` takes the first out of it, who has the permit from then on.

    Those who are admitted go on in the order in which they were, in the next turn of the loop. Until then the queue is
    true, so that nobody who comes meanwhile passes them by.
    """

    __slots__ = ("_admitted", "_waiters")

    def __init__(self) -> None:
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()
        self._admitted: set[Waiter] = set()  # and not resumed yet

    def __bool__(self) -> bool:
        return bool(self._waiters or self._admitted)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters)

    def join(self, waiter: Waiter) -> None:
        """Stand at the end of the line."""
        self._waiters[waiter] = None

    async def wait(self, waiter: Waiter, give_back: Callable[[Waiter], object]) -> None:
        """Wait to be admitted.

        Args:
            waiter: One that has joined.
            give_back: Called when a cancellation came together with the permit, which is then for the next.
        """
        try:
            if waiter.future.done():
                await asyncio.sleep(0)  # those who were admitted before have not gone on yet
            await waiter.future
        except BaseException:
            if waiter in self._admitted:
                give_back(waiter)
            self._waiters.pop(waiter, None)
            raise
        finally:
            self._admitted.discard(waiter)

    def admit(self) -> Waiter | None:
        """Take out the first who can go on; those who are being cancelled, or whose loop is gone, cannot."""
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not (waiter.future.done() or waiter.future.get_loop().is_closed()):
                waiter.future.set_result(None)
                self._admitted.add(waiter)
                return waiter
        return None
