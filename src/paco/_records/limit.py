"""A limit object under a journal: what is recorded neither waits for it nor counts for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from paco.limits._base import Limiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paco._records.lines import Record

#: The permit of an item that needs none.
_FREE: Final = object()


class Unrecorded(Limiter):
    """A limit for those items that are not recorded: each is looked up before the limit that was given is asked.

    Args:
        limit: The limit that was given.
        look_up: Called once with each item, in their order; the second of what it returns is the record, or ``None``.
    """

    __slots__ = ("_found", "_limit", "_look_up")

    def __init__(self, limit: Limiter, look_up: Callable[[Any], tuple[str, Record | None]]) -> None:
        self._limit = limit
        self._look_up = look_up
        self._found: dict[asyncio.Task[Any] | None, tuple[str, Record | None]] = {}  # by the worker of the item

    @property
    def most(self) -> int:
        return self._limit.most

    @property
    def free(self) -> int:
        return max(self._limit.free, 1)

    @property
    def lookahead(self) -> int:
        return max(self._limit.lookahead, 1)

    async def acquire(self, item: Any = None) -> Any:
        worker = asyncio.current_task()
        if worker in self._found:  # it makes another attempt
            return await self._limit.acquire(item)
        self._found[worker] = found = self._look_up(item)
        if found[1] is not None:
            return _FREE
        try:
            return await self._limit.acquire(item)
        except BaseException:
            del self._found[worker]
            raise

    def release(self, permit: Any, error: BaseException | None = None) -> Awaitable[None] | None:
        return None if permit is _FREE else self._limit.release(permit, error)

    def found(self, _: Any) -> tuple[str, Record | None]:
        """Return what was found for the item of the worker that asks."""
        return self._found[asyncio.current_task()]

    def around(self, fn: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """Make of the function over the items one that ends with its item for this limit, too."""

        async def inside(item: Any) -> Any:
            try:
                return await fn(item)
            finally:
                self._found.pop(asyncio.current_task(), None)

        return inside
