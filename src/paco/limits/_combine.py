"""What ``limit=`` accepts: a number, a limit of paco, a limit of another library; and limits combined with ``&``."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeAlias

from paco._base import check
from paco.limits._base import Limiter
from paco.limits._count import Limit

if TYPE_CHECKING:
    from collections.abc import Awaitable

#: What ``limit=`` accepts: a number (0 means no limit), a `Limiter`, or any async context manager that can be entered
#: many times, such as ``asyncio.Semaphore(20)``.
AnyLimit: TypeAlias = int | Limiter | AbstractAsyncContextManager[object, bool | None]


class Foreign(Limiter):
    """A limit made of any async context manager: entered before an item starts, exited when the item has ended."""

    __slots__ = ("_manager",)

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
        if error is None:
            left: Awaitable[None] = self._manager.__aexit__(None, None, None)
        else:
            left = self._manager.__aexit__(type(error), error, error.__traceback__)
        return left


class Both(Limiter):
    """Several limits that must all grant a permit. They are asked in a fixed order, so that callers cannot deadlock."""

    __slots__ = ("_parts", "_takes_back")

    def __init__(self, parts: list[Limiter]) -> None:
        self._parts = tuple(sorted(dict.fromkeys(parts), key=_order))
        # What others have made may want something awaited when it is released.
        self._takes_back = all(type(part).__module__.startswith("paco.limits.") for part in self._parts)

    def __repr__(self) -> str:
        return " & ".join(map(repr, self._parts))

    @property
    def parts(self) -> tuple[Limiter, ...]:
        """The combined limits, in the order in which they are asked."""
        return self._parts

    @property
    def most(self) -> int:
        return min(part.most for part in self._parts)

    @property
    def free(self) -> int:
        return min(part.free for part in self._parts)

    @property
    def lookahead(self) -> int:
        return max(part.lookahead for part in self._parts)

    def idle(self) -> bool:
        return all(part.idle() for part in self._parts)

    def try_acquire(self, item: Any = None) -> list[Any] | None:
        permits = self.try_reserve(item)
        if permits is not None:
            self.begin(permits)
        return permits

    async def acquire(self, item: Any = None) -> list[Any]:
        permits = await self.reserve(item)
        self.begin(permits)
        return permits

    def try_reserve(self, item: Any = None) -> list[Any] | None:
        permits: list[Any] = []
        if self._takes_back:
            for part in self._parts:
                permit = part.try_reserve(item)
                if permit is None:
                    break
                permits.append(permit)
            else:
                if self.paused(permits) <= 0:
                    return permits
            self.release(permits)
        return None

    async def reserve(self, item: Any = None) -> list[Any]:
        permits: list[Any] = []
        try:
            for part in self._parts:
                permit = await part.reserve(item)
                permits.append(permit)
            seconds = self.paused(permits)  # a rate may have been paused after it granted its permit
            while seconds > 0:
                await asyncio.sleep(seconds)
                seconds = self.paused(permits)
        except BaseException as error:
            if (released := self.release(permits, error)) is not None:
                await released
            raise
        return permits

    def paused(self, permit: list[Any]) -> float:
        return max(part.paused(one) for part, one in zip(self._parts, permit, strict=True))

    def begin(self, permit: list[Any]) -> None:
        for part, one in zip(self._parts, permit, strict=True):
            part.begin(one)

    def release(self, permit: list[Any], error: BaseException | None = None) -> Awaitable[None] | None:
        waits: list[Awaitable[None]] = []
        failed: BaseException | None = None
        for part, one in zip(self._parts, permit, strict=False):  # the last parts may not have granted a permit
            try:
                released = part.release(one, error)
            except BaseException as raised:
                failed = failed or raised
            else:
                waits += [] if released is None else [released]
        return _all(waits, failed) if waits or failed else None


def _order(part: Limiter) -> tuple[int, float, int]:
    return *part._order, id(part)  # noqa: SLF001 - the base class of this module's own classes


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
    if _is_manager(value):
        return Foreign(value)
    return check.limit(name, value, parameter)


def _is_manager(value: object) -> bool:
    return hasattr(type(value), "__aenter__") and hasattr(type(value), "__aexit__")


def both(one: Limiter, other: Any) -> Limiter:
    """Return a limit that requires a permit of both."""
    parts: list[Limiter] = []
    for side in (one, checked("limits", other, "each side of &")):
        if isinstance(side, Both):
            parts += side.parts
        elif isinstance(side, Limiter):
            parts.append(side)
        elif side:  # 0 is no limit
            parts.append(Limit(side))
    return Both(parts)
