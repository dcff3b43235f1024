"""A fixed limit on the number of items in flight."""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from paco._base import check
from paco._base.deadline import call_home, nowhere
from paco._base.item import Item, inside
from paco.limits._base import Limiter
from paco.limits._deadlock import stuck

if TYPE_CHECKING:
    from collections.abc import Callable

#: The number of looks for a deadlock in successive turns, and of all; the pauses of the others double from 1 s on.
_SOON: Final = 5
_LOOKS: Final = 15


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

    def now(self) -> float:
        """Return the time of the loop in which it was acquired."""
        return (asyncio.get_running_loop() if self.task is None else self.task.get_loop()).time()


class Limit(Limiter):
    """Allow at most ``limit`` items in flight, over all calls that share the limit; first come, first served.

    You can set `limit` while it is in use, from any thread. A higher limit lets waiting items start at once; after a
    lower one, nothing starts until enough items have ended.

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

    __slots__ = ("_admitted", "_home", "_limit", "_looking", "_permits", "_waiting")

    _order = (1, 0)

    def __init__(self, limit: int) -> None:
        self._limit = check.integer("Limit", "limit", limit, 1)
        self._permits: set[Permit] = set()
        self._waiting: OrderedDict[Permit, None] = OrderedDict()
        self._home: Callable[[], asyncio.AbstractEventLoop | None] = nowhere  # where callers wait
        self._admitted: set[Permit] = set()  # callers that hold their permits, but have not resumed yet
        self._looking: dict[Permit, asyncio.Handle] = {}  # callers that wait, with their next look for a deadlock

    def __repr__(self) -> str:
        return f"<paco.{type(self).__name__} {self._limit}, {len(self._permits)} in flight>"

    @property
    def limit(self) -> int:
        """The number of items that may be in flight."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = check.integer(type(self).__name__, "limit", limit, 1)
        if (home := self._home()) is not None:  # a caller has waited
            call_home(home, self._admit)

    @property
    def in_flight(self) -> int:
        """The number of permits held."""
        return len(self._permits)

    @property
    def waiting(self) -> int:
        """The number of callers that wait for a permit."""
        return len(self._waiting)

    @property
    def _renews_in_place(self) -> bool:
        return True

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
        self._home = weakref.ref(loop)
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
            if waiter in self._looking:
                self._looking.pop(waiter).cancel()
        return waiter

    def release(self, permit: Permit, error: BaseException | None = None) -> None:
        if permit not in self._permits:
            raise RuntimeError(
                f"paco.{type(self).__name__}: permit must be held when it is released, got one that is not; "
                "release each permit once"
            )
        self._permits.remove(permit)
        self._admit()

    def waits_only_for(self, tasks: set[Any]) -> bool:
        return len(self._permits) >= self._limit and all(permit.task in tasks for permit in self._permits)

    def renews(self, permit: Permit, own: Item | None) -> bool:
        if self._admitted or len(self._permits) > self._limit:
            return False
        waiting = self._waiting
        return not waiting or (own is not None and len(waiting) == 1 and next(iter(waiting)).holder is own)

    def renew(self, permit: Permit) -> Permit | None:
        if len(self._permits) > self._limit:
            return None
        if self._looking:
            for waiter, look in self._looking.items():
                # It still waits, but now for the end of another item: look for a deadlock as often as before.
                look.cancel()
                self._looking[waiter] = waiter.future.get_loop().call_soon(self._refuse_deadlock, waiter)
        return permit

    def _admit(self) -> None:
        """Grant permits to the first callers; skip cancelled ones, and those whose loop is closed.

        They resume in the order of their admission, in the next turn of the event loop.
        """
        while self._waiting and len(self._permits) < self._limit:
            waiter, _ = self._waiting.popitem(last=False)
            if waiter.future.get_loop().is_closed():
                self._looking.pop(waiter, None)
            elif not waiter.future.done():
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
        if self.waits_only_for(stuck(waiting)):
            newcomer.future.set_exception(
                RuntimeError(
                    f"paco.{type(self).__name__}: deadlock: every item in flight under this limit ({self.in_flight}) "
                    "waits for another permit of it; give the inner call a limit of its own"
                )
            )
        elif looks < _LOOKS:
            pause = 0 if looks < _SOON else 2 ** (looks - _SOON)
            loop = newcomer.future.get_loop()
            self._looking[newcomer] = loop.call_later(pause, self._refuse_deadlock, newcomer, looks + 1)
