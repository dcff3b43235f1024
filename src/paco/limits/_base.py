"""What ``limit=`` accepts: the base of all limits, limits combined with ``&``, and those of other libraries."""

from __future__ import annotations

import asyncio
import math
import sys
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from paco._base import check
from paco.limits._slot import Slot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paco._base.item import Item
    from paco.limits._gate import Gate


class Limiter:
    """The base class of all limits. For your own, implement `acquire` and, if it matters how items end, `release`.

    A limit is a value: calls that receive the same object share one limit. ``a & b`` is a limit that requires a permit
    of both. A limit belongs to one event loop at a time.

    Examples:
        >>> import asyncio
        >>> class Daytime(paco.Limiter):
        ...     async def acquire(self, item=None):
        ...         await asyncio.sleep(0)  # until it is day
        >>> async def double(number):
        ...     return 2 * number
        >>> paco.run(paco.map(double, [1, 2, 3], limit=Daytime() & paco.Limit(2)))
        [2, 4, 6]
    """

    __slots__ = ("__weakref__",)

    #: Decides when ``a & b`` asks this limit: limits that look at the item (0), counts (1), limits of other libraries
    #: and your own (2), rates (3), of these the slowest first. It never changes, so that two callers cannot deadlock.
    _order: tuple[int, float] = (2, 0)
    #: Whether `renew` changes nothing if it returns ``None``, and nothing that matters otherwise.
    _renews_in_place: ClassVar[bool] = False
    #: Makes a limit of the number in ``a & 5``; set by `Limit`, which is derived from this class.
    _of_number: ClassVar[Callable[[int], Limiter]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Make a subclass use only its own methods, and no shortcut of its base that would leave them out."""
        super().__init_subclass__(**options)
        first = cls._first_with
        if min(map(first, ("acquire", "reserve", "release"))) < min(map(first, ("try_acquire", "try_reserve"))):
            cls.try_acquire, cls.try_reserve = Limiter.try_acquire, Limiter.try_reserve  # type: ignore[method-assign]
        if min(map(first, ("acquire", "reserve", "try_acquire", "try_reserve", "begin", "release"))) < first("renews"):
            cls.renews = Limiter.renews  # type: ignore[method-assign]

    @classmethod
    def _first_with(cls, name: str) -> int:
        """Return which class in the order of method resolution defines a method."""
        return next(place for place, one in enumerate(cls.__mro__) if name in vars(one))

    @property
    def most(self) -> int:
        """The largest number of items in flight; ``sys.maxsize`` if the limit does not count items."""
        return sys.maxsize

    @property
    def free(self) -> int:
        """How many permits a run should ask for at once: those that are free, or 1 if that is unknown."""
        return 1

    @property
    def lookahead(self) -> int:
        """How many items a run may take from its source while they wait for this limit; 0 if it ignores the item.

        With 0 the run takes one item before it asks for a permit, so that it never holds a permit without an item.
        """
        return 0

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates in this limit: a run under it takes nothing more once one of them is closed. See `Gate`."""
        return ()

    def try_acquire(self, item: Any = None) -> Any:
        """Return a permit if one is free now, or ``None``; the caller then awaits `acquire`.

        The caller starts the item at once. By default, `try_reserve` and `begin`; if your limit overrides neither,
        ``None``, so that `acquire` is always awaited.

        Args:
            item: The item that is to start.
        """
        permit = self.try_reserve(item)
        if permit is not None:
            self.begin(permit)
        return permit

    async def acquire(self, item: Any = None) -> Any:
        """Wait until one more item may start, and return a permit that is later passed to `release`.

        The caller starts the item at once. If the wait is cancelled, no permit is taken. By default, `reserve` and
        `begin`.

        Args:
            item: The item that is to start.
        """
        permit = await self.reserve(item)
        self.begin(permit)
        return permit

    def try_reserve(self, item: Any = None) -> Any:
        """Return a permit if one is free now, or ``None``. The item may start later; see `reserve`."""
        return None if type(self).try_acquire is Limiter.try_acquire else self.try_acquire(item)

    async def reserve(self, item: Any = None) -> Any:
        """Wait for a permit for an item that may start later; `begin` marks its start.

        A permit that is released before `begin` counts as unused. Override `reserve` and `begin`, instead of `acquire`,
        only if your limit depends on when an item starts, as a rate does.
        """
        if type(self).acquire is Limiter.acquire:
            raise NotImplementedError(f"{type(self).__name__} must override acquire")
        return await self.acquire(item)

    def begin(self, permit: Any) -> None:
        """Record that the item that reserved this permit starts now."""

    def paused(self, permit: Any) -> float:
        """Return the seconds that the item that reserved this permit must still wait before it begins; usually 0.

        Infinity means until further notice: the permit is released, and another one reserved.
        """
        return 0

    def release(self, permit: Any, error: BaseException | None = None) -> Awaitable[None] | None:
        """Take back the permit of an item that has ended.

        Args:
            permit: What `acquire` returned.
            error: The exception with which the item ended; ``None`` if it succeeded.

        Returns:
            ``None``, or an awaitable that completes the release.
        """

    def renews(self, permit: Any, own: Item | None) -> bool:
        """Return whether the permit of an item that has just succeeded may go to the next item of its run.

        The run then takes that item and calls `renew`. By default ``False``, which is always safe: the run calls
        `release`, and asks for another permit.

        Args:
            permit: What `acquire` returned.
            own: The record of an item of the same run that waits; any other caller that waits comes first.
        """
        return False

    def renew(self, permit: Any) -> Any:
        """Do `release` and `try_acquire` in one step; return the new permit, or ``None`` if none is free now.

        After ``None`` the caller calls `release`.
        """
        return None

    def idle(self) -> bool:
        """Return whether a new limit would behave the same, so that `PerKey` may discard this one.

        That is so if no permit is held, nothing waits, and no earlier item delays a later one. The default is
        ``False``, which is always safe.
        """
        return False

    def slot(self, item: Any = None) -> Slot:
        """Return an ``async with`` block that holds a permit, for code that paco does not run."""
        return Slot(self, item)

    def __and__(self, other: AnyLimit) -> Both:
        parts: list[Limiter] = []
        for side in (self, checked("limits", other, "each side of &")):
            if isinstance(side, Both):
                parts += side.parts
            elif isinstance(side, Limiter):
                parts.append(side)
            elif side:  # 0 is no limit
                parts.append(Limiter._of_number(side))
        return Both(parts)

    __rand__ = __and__


#: What ``limit=`` accepts: a number (0 means no limit), a `Limiter`, or any async context manager that can be entered
#: many times, such as ``asyncio.Semaphore(20)``.
AnyLimit: TypeAlias = int | Limiter | AbstractAsyncContextManager[object, bool | None]


class Foreign(Limiter):
    """A limit made of any async context manager: entered before an item starts, exited when the item has ended."""

    def __init__(self, manager: Any) -> None:
        self._manager: Any = manager

    def __repr__(self) -> str:
        return f"<paco limit by {self._manager!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Foreign) and self._manager is other._manager

    def __hash__(self) -> int:
        return id(self._manager)

    async def acquire(self, item: Any = None) -> None:
        await self._manager.__aenter__()

    def release(self, permit: None, error: BaseException | None = None) -> Awaitable[None]:
        about = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        left: Awaitable[None] = self._manager.__aexit__(*about)
        return left


class Both(Limiter):
    """Several limits that must all grant a permit. They are asked in a fixed order, so that callers cannot deadlock."""

    def __init__(self, parts: list[Limiter]) -> None:
        #: The combined limits, in the order in which they are asked.
        self.parts: tuple[Limiter, ...] = tuple(
            sorted(dict.fromkeys(parts), key=lambda part: (*part._order, id(part)))  # noqa: SLF001 - of its own base class
        )
        # A limit from elsewhere may return an awaitable from `release`, which `try_reserve` cannot await.
        self._releases_at_once = all(type(part).__module__.startswith("paco.limits.") for part in self.parts)
        # Only the last part may change when it is renewed: if it cannot be, nothing must be undone.
        self._renews = all(part._renews_in_place for part in self.parts[:-1])  # noqa: SLF001 - of its own base class

    def __repr__(self) -> str:
        return " & ".join(map(repr, self.parts))

    @property
    def most(self) -> int:
        return min(part.most for part in self.parts)

    @property
    def free(self) -> int:
        return min(part.free for part in self.parts)

    @property
    def lookahead(self) -> int:
        return max(part.lookahead for part in self.parts)

    @property
    def gates(self) -> tuple[Gate, ...]:
        return tuple(gate for part in self.parts for gate in part.gates)

    def pause(self, seconds: float) -> None:
        """Stop all starts for ``seconds``: pause each part that can be paused for a time, as a `Rate` can.

        Args:
            seconds: 0 or more.

        Raises:
            TypeError: No part can be paused for a time.
        """
        pausing: list[Any] = [part for part in self.parts if hasattr(part, "pause") and not part.gates]
        if not pausing:
            raise TypeError(f"paco: no part of {self!r} can be paused for a time; add a paco.Rate")
        for part in pausing:
            part.pause(seconds)

    def idle(self) -> bool:
        return all(part.idle() for part in self.parts)

    def try_reserve(self, item: Any = None) -> list[Any] | None:
        permits: list[Any] = []
        if not self._releases_at_once:
            return None
        for part in self.parts:
            permit = part.try_reserve(item)
            if permit is None:
                break
            permits.append(permit)
        if len(permits) == len(self.parts) and self.paused(permits) <= 0:
            return permits
        self.release(permits)
        return None

    async def reserve(self, item: Any = None) -> list[Any]:
        permits: list[Any] = []
        try:
            while True:
                for part in self.parts[len(permits) :]:
                    permits.append(await part.reserve(item))  # noqa: PERF401 - those reserved so far are released below
                seconds = self.paused(permits)  # a limit may have been paused after it granted its permit
                if seconds <= 0:
                    break
                if seconds < math.inf:
                    await asyncio.sleep(seconds)
                elif (released := self._back_off(permits)) is not None:
                    await released
        except BaseException as error:
            if (released := self.release(permits, error)) is not None:
                await released
            raise
        return permits

    def _back_off(self, permits: list[Any]) -> Awaitable[None] | None:
        """Release the permit of a part that is paused until further notice, and those of all parts after it.

        Whoever waits for such a part must hold nothing that others need. What is before it stays: the limits of keys,
        so that items with the same key keep their order.
        """
        paused = (place for place, permit in enumerate(permits) if self.parts[place].paused(permit) == math.inf)
        first = next(paused, len(permits))  # if another thread has ended the pause
        released = _release(self.parts[first:], permits[first:])
        del permits[first:]
        return released

    def renews(self, permit: list[Any], own: Item | None) -> bool:
        if not self._renews:
            return False
        for place, part in enumerate(self.parts):  # noqa: SIM110 - all() takes twice as long
            if not part.renews(permit[place], own):
                return False
        return True

    def renew(self, permit: list[Any]) -> list[Any] | None:
        for place, part in enumerate(self.parts):
            renewed = part.renew(permit[place])
            if renewed is None:
                return None
            permit[place] = renewed
        return permit

    def paused(self, permit: list[Any]) -> float:
        return max(part.paused(one) for part, one in zip(self.parts, permit, strict=True))

    def begin(self, permit: list[Any]) -> None:
        for part, one in zip(self.parts, permit, strict=True):
            part.begin(one)

    def release(self, permit: list[Any], error: BaseException | None = None) -> Awaitable[None] | None:
        return _release(self.parts, permit, error)


def _release(
    parts: tuple[Limiter, ...], permits: list[Any], error: BaseException | None = None
) -> Awaitable[None] | None:
    """Release the permits of the first parts, even after one of them has failed, then raise the first failure."""
    waits: list[Awaitable[None]] = []
    failed: BaseException | None = None
    for part, one in zip(parts, permits, strict=False):  # the last parts may not have granted a permit
        try:
            released = part.release(one, error)
        except BaseException as raised:
            failed = failed or raised
        else:
            waits += [] if released is None else [released]
    try:
        if failed is not None and not waits:
            raise failed  # at once, since `try_reserve` does not await
        return _all(waits, failed) if waits else None
    finally:
        del failed  # its traceback refers to this frame: a reference cycle


async def _all(waits: list[Awaitable[None]], failed: BaseException | None) -> None:
    """Await each, even after one has failed, then raise the first failure."""
    for one in waits:
        try:
            await one
        except BaseException as error:
            failed = failed or error
    try:
        if failed is not None:
            raise failed
    finally:
        del failed  # its traceback refers to this frame: a reference cycle


def checked(name: str, value: Any, parameter: str = "limit") -> int | Limiter:
    """Return ``value`` if it is a limit: an ``int`` of 0 (no limit) or more, a `Limiter`, an async context manager.

    An async context manager is returned as a `Limiter`; anything else raises ``TypeError`` or ``ValueError``.
    """
    if isinstance(value, Limiter):
        return value
    if isinstance(value, AbstractAsyncContextManager):
        return Foreign(value)
    return check.limit(name, value, parameter)
