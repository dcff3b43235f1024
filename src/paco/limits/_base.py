"""The base of every limit: it grants an item the permit to start, and takes the permit back when the item ends."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from paco._base.item import Item, inside

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextvars import Token
    from types import TracebackType

    from paco.limits._combine import AnyLimit


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

    #: The order in which ``a & b`` asks its parts: limits that look at the item (0), counts (1), limits of other
    #: libraries and your own (2), rates (3).
    _rank: ClassVar[int] = 2

    def __init_subclass__(cls, **options: Any) -> None:
        """Have a class with its own `acquire`, `reserve` or `release`, and no `try_acquire`, always wait in its own."""
        super().__init_subclass__(**options)
        own = vars(cls).keys()
        if own & {"acquire", "reserve", "release"} and not own & {"try_acquire", "try_reserve"}:
            cls.try_acquire, cls.try_reserve = Limiter.try_acquire, Limiter.try_reserve  # type: ignore[method-assign]

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
    def _order(self) -> tuple[int, float]:
        """The position at which ``a & b`` asks this limit. It never changes, so that two callers cannot deadlock."""
        return self._rank, 0

    def try_acquire(self, item: Any = None) -> Any:
        """Return a permit if there is one at once, without waiting, or else ``None``: then `acquire` is awaited.

        The caller starts the item at once. A limit without its own `try_acquire` always has `acquire` awaited.

        Args:
            item: The item that is to start.
        """

    async def acquire(self, item: Any = None) -> Any:
        """Wait until one more item may start, and return a permit that is later passed to `release`.

        The caller starts the item at once. If the wait is cancelled, no permit is taken.

        Args:
            item: The item that is to start.
        """
        raise NotImplementedError

    def try_reserve(self, item: Any = None) -> Any:
        """Return a permit for an item that may start later, or ``None``: as `reserve`, without waiting."""
        return self.try_acquire(item)

    async def reserve(self, item: Any = None) -> Any:
        """Wait for a permit for an item that may start later; `begin` marks its start.

        A permit that is released before `begin` counts as unused. Override `reserve` and `begin` only if your limit
        depends on when an item starts, as a rate does.
        """
        return await self.acquire(item)

    def begin(self, permit: Any) -> None:
        """Record that the item that reserved this permit starts now."""

    def paused(self, permit: Any) -> float:
        """Return the seconds that the item that reserved this permit must still wait before it begins; usually 0."""
        return 0

    def release(self, permit: Any, error: BaseException | None = None) -> Awaitable[None] | None:
        """Take back the permit of an item that has ended.

        Args:
            permit: What `acquire` returned.
            error: The exception with which the item ended; ``None`` if it succeeded.

        Returns:
            ``None``, or an awaitable that completes the release.
        """

    def idle(self) -> bool:
        """Return whether a new limit would behave the same, so that `PerKey` may discard this one.

        That is so if no permit is held, nothing waits, and no earlier item delays a later one. The default is
        ``False``, which is always safe.
        """
        return False

    def slot(self, item: Any = None) -> Slot:
        """Return an ``async with`` block that holds a permit, for code that paco does not run."""
        return Slot(self, item)

    def __and__(self, other: AnyLimit) -> Limiter:
        from paco.limits._combine import both  # a circular import: it needs this class

        return both(self, other)

    __rand__ = __and__


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
