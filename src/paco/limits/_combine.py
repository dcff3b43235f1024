"""Several limits that must all grant a permit: ``a & b``."""

from __future__ import annotations

import asyncio
import math
import operator
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from paco.limits._base import Limiter
from paco.limits._count import Limit

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from paco._base.item import Item
    from paco.limits._gate import Gate


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
        self._combined: WeakValueDictionary[tuple[Limiter, ...], Both] = WeakValueDictionary()

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
    def _is_spent(self) -> bool:
        return any(part._is_spent for part in self.parts)  # noqa: SLF001 - of its own base class

    @property
    def gates(self) -> tuple[Gate, ...]:
        return tuple(gate for part in self.parts for gate in part.gates)

    def pause(self, seconds: float) -> None:
        """Stop all starts for ``seconds``: pause each part that can be paused for a time, as a `Rate` can.

        The limits in a `PerKey` are not paused, because they are those of single keys: `PerKey.limit_of` returns one.

        Args:
            seconds: 0 or more.

        Raises:
            TypeError: No part can be paused for a time.
        """
        pausing: list[Any] = [part for part in self.parts if hasattr(part, "pause") and not part.gates]
        if not pausing:
            keyed = any(hasattr(part, "limit_of") for part in self.parts)
            remedy = "pause the limit of a key: keyed.limit_of(key).pause(seconds)" if keyed else "add a paco.Rate"
            raise TypeError(f"paco: no part of {self!r} can be paused for a time; {remedy}")
        for part in pausing:
            part.pause(seconds)

    def waits_only_for(self, tasks: set[Any]) -> bool:
        return any(part.waits_only_for(tasks) for part in self.parts)

    def idle(self) -> bool:
        return all(part.idle() for part in self.parts)

    def part_of(self, item: Any) -> Limiter:
        parts = tuple([part.part_of(item) for part in self.parts])
        different = sum(map(operator.is_not, parts, self.parts))
        if not different:
            return self
        if different > 1:  # items that differ in one of them must keep their order in the other: they share no part
            return Both(list(parts))
        combined = self._combined.get(parts)
        if combined is None:
            combined = self._combined[parts] = Both(list(parts))
        return combined

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


def _combine(*sides: int | Limiter) -> Both:
    parts: list[Limiter] = []
    for side in sides:
        if isinstance(side, Both):
            parts += side.parts
        elif isinstance(side, Limiter):
            parts.append(side)
        elif side:  # 0 is no limit
            parts.append(Limit(side))
    return Both(parts)


Limiter._combine = staticmethod(_combine)  # noqa: SLF001 - a base class cannot import its own subclass
