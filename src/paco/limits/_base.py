"""What a limit is: it says when one more item may start, and hears how each has ended."""

from __future__ import annotations

import sys
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from contextvars import Token
    from types import TracebackType

    from paco.limits._combine import AnyLimit


class Holder:
    """Something that runs while it holds permits: an item, a call. What runs inside of it has it as its parent."""

    __slots__ = ("parent",)

    def __init__(self, parent: Holder | None) -> None:
        self.parent: Holder | None = parent

    def around(self) -> Iterator[Holder]:
        """Yield those that cannot end before this one has."""
        one = self.parent
        while one is not None:
            yield one
            one = one.parent


#: What runs here. A count limit tells by it whether a permit can never come: see `paco.limits.Limit`.
holder: Final[ContextVar[Holder | None]] = ContextVar("paco.limits.holder", default=None)


class Limiter:
    """The base of the limits, and of your own: implement `acquire` and, if it matters how items end, `release`.

    A limit is a value. The same object given to several calls is one limit for all of them; ``a & b`` demands both. It
    belongs to one event loop at a time.

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

    #: When the limits of ``a & b`` are asked: what looks at the item, what counts, what is not ours, what is in time.
    _rank: ClassVar[int] = 2

    @property
    def most(self) -> int:
        """How many items can be in flight at once; ``sys.maxsize`` where nobody counts."""
        return sys.maxsize

    @property
    def free(self) -> int:
        """How many permits can be had at once, as far as that is known; 1 where it is not."""
        return 1

    @property
    def lookahead(self) -> int:
        """How many items a run may hold that wait for this limit; 0 for one that does not look at the item.

        With 0 it holds one: to know that there is one, before it asks for a permit.
        """
        return 0

    @property
    def _order(self) -> tuple[int, float]:
        """When this one is asked; it never changes, so that two who want the same limits never wait for each other."""
        return self._rank, 0

    async def acquire(self, item: Any = None) -> Any:
        """Wait until one more may start, and return a permit, which `release` will get. Cancelled, nothing is taken.

        What gets it is to start at once.

        Args:
            item: What is to start.
        """
        raise NotImplementedError

    async def reserve(self, item: Any = None) -> Any:
        """Acquire for a start that may come later: `begin` tells of it. Released before that, nothing was used.

        A limit for which it does not matter when the start is has no need of its own `reserve` and `begin`.
        """
        return await self.acquire(item)

    def begin(self, permit: Any) -> None:
        """Hear that what has reserved this permit starts now."""

    def paused(self, permit: Any) -> float:
        """Return for how many seconds from now on what has reserved this permit must not begin; mostly 0."""
        return 0

    def release(self, permit: Any, error: BaseException | None = None) -> Awaitable[None] | None:
        """Hear that what had the permit has ended, with an error or without.

        Returns:
            ``None``, or what is to be awaited until that is done.
        """

    def idle(self) -> bool:
        """Tell whether a new one in its place would behave the same, so that it can be forgotten: `PerKey` asks this.

        It is false where nobody can tell, unless you know better: nothing is held, nobody waits, and nothing that has
        been keeps anybody back.
        """
        return False

    def slot(self, item: Any = None) -> Slot:
        """Return the limit as an ``async with`` block, for code that is not run by paco."""
        return Slot(self, item)

    def __and__(self, other: AnyLimit) -> Limiter:
        from paco.limits._combine import both  # which is made of these

        return both(self, other)

    __rand__ = __and__


class Slot:
    """A permit for as long as a block runs."""

    __slots__ = ("_item", "_limit", "_permit", "_token")

    def __init__(self, limit: Limiter, item: Any) -> None:
        self._limit = limit
        self._item = item

    async def __aenter__(self) -> None:
        self._token: Token[Holder | None] = holder.set(Holder(holder.get()))
        try:
            self._permit: Any = await self._limit.acquire(self._item)
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
        with suppress(ValueError):  # a coroutine that is left over is closed in another context, where nothing is set
            holder.reset(self._token)
