"""A limit object in a run with a journal: recorded items neither wait for it nor count towards it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.item import item_here
from paco.limits._base import Limiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paco._base.item import Item
    from paco._records.lines import Record

#: The permit of an item that needs none.
_FREE: Final = object()


class Unrecorded(Limiter):
    """A limit that applies only to items without a record. It looks each item up before it asks the limit of the run.

    Args:
        limit: The limit of the run.
        look_up: Called once for each item, in their order; returns a pair whose second part is the record or ``None``.
    """

    __slots__ = ("_limit", "_look_up")

    def __init__(self, limit: Limiter, look_up: Callable[[Any], tuple[str, Record | None]]) -> None:
        self._limit = limit
        self._look_up = look_up

    @property
    def most(self) -> int:
        return self._limit.most

    @property
    def free(self) -> int:
        return max(self._limit.free, 1)

    @property
    def lookahead(self) -> int:
        return max(self._limit.lookahead, 1)

    def try_acquire(self, item: Any = None) -> Any:
        here = cast("Item", item_here())
        if here.known is None:  # otherwise this is a further attempt
            here.known = self._look_up(item)
        return self._limit.try_acquire(item) if here.known[1] is None else _FREE

    async def acquire(self, item: Any = None) -> Any:
        return await self._limit.acquire(item)

    def release(self, permit: Any, error: BaseException | None = None) -> Awaitable[None] | None:
        return None if permit is _FREE else self._limit.release(permit, error)

    def found(self, _: Any) -> tuple[str, Record | None]:
        """Return what ``look_up`` returned for the item that the calling worker runs."""
        known: tuple[str, Record | None] = cast("Item", item_here()).known
        return known
