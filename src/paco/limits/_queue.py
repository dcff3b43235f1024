"""Those who wait for a permit, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque
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
    """A line. `join` waits in it; `admit` takes the first out of it, who has the permit from then on."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: deque[Waiter] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters)

    async def join(self, waiter: Waiter, give_back: Callable[[Waiter], object]) -> None:
        """Wait to be admitted.

        Args:
            waiter: Made by the caller.
            give_back: Called when a cancellation came together with the permit, which is then for the next.
        """
        self._waiters.append(waiter)
        try:
            await waiter.future
        except BaseException:
            if waiter.future.done() and not waiter.future.cancelled():
                give_back(waiter)
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def admit(self) -> Waiter | None:
        """Take out the first who can go on; those who are being cancelled, or whose loop is gone, cannot."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not (waiter.future.done() or waiter.future.get_loop().is_closed()):
                waiter.future.set_result(None)
                return waiter
        return None
