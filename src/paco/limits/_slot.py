"""A block that holds a permit, for code that paco does not run."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from paco._base.item import Item, inside

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

    from paco.limits._base import Limiter


class Slot:
    """An ``async with`` block that holds a permit."""

    __slots__ = ("_item", "_limit", "_permit", "_token")

    def __init__(self, limit: Limiter, item: Any) -> None:
        self._limit = limit
        self._item = item

    async def __aenter__(self) -> None:
        self._token: Token[Item | None] = inside.set(Item(self._item, parent=inside.get()))
        try:
            self._permit: Any = self._limit.try_acquire(self._item)
            if self._permit is None:
                self._permit = await self._limit.acquire(self._item)
        except BaseException:
            self._leave()
            raise

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        released = self._limit.release(self._permit, exc)
        if released is not None:
            await released

    def _leave(self) -> None:
        with suppress(ValueError):  # an abandoned coroutine is closed in another context, where the token is invalid
            inside.reset(self._token)
