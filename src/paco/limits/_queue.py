"""A queue of callers that wait for a permit, first come, first served."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from paco._base.item import Item, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Permit:
    """A permit, and what it was acquired inside."""

    __slots__ = ("holder",)

    def __init__(self) -> None:
        self.holder: Item | None = inside.get()


class Waiter(Permit):
    """A caller that waits, and has the permit when its future is resolved."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.holder = inside.get()
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Queue:
    """A queue for permits: a caller calls `join`, then `wait`; `admit` grants the permit to the first in the queue.

    Admitted callers resume in the order of their admission, in the next turn of the event loop. Until then the queue
    is not empty, so that no newcomer overtakes them.
    """

    __slots__ = ("_admitted", "_waiters")

    def __init__(self) -> None:
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()
        self._admitted: set[Waiter] = set()  # admitted, but not resumed yet

    def __bool__(self) -> bool:
        return bool(self._waiters or self._admitted)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters)

    def join(self, waiter: Waiter) -> None:
        """Add a caller at the end."""
        self._waiters[waiter] = None

    async def wait(self, waiter: Waiter, give_back: Callable[[Waiter], object]) -> None:
        """Wait to be admitted.

        Args:
            waiter: A caller that has joined.
            give_back: Called when the caller was cancelled after it was admitted; it must pass the permit on.
        """
        try:
            if waiter.future.done():
                await asyncio.sleep(0)  # callers that were admitted earlier resume first
            await waiter.future
        except BaseException:
            if waiter in self._admitted:
                give_back(waiter)
            self._waiters.pop(waiter, None)
            raise
        finally:
            self._admitted.discard(waiter)

    def admit(self) -> Waiter | None:
        """Admit and return the first caller that can resume; skip cancelled callers and those whose loop is closed."""
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not (waiter.future.done() or waiter.future.get_loop().is_closed()):
                waiter.future.set_result(None)
                self._admitted.add(waiter)
                return waiter
        return None
