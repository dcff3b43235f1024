"""What ``limit=`` accepts: the base of all limits, and those of other libraries."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from paco._base import check
from paco._base.errors import add_note
from paco.limits._slot import Slot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paco._base.item import Item
    from paco.limits._combine import Both
    from paco.limits._gate import Gate


class Limiter:
    """The base class of all limits. For your own, implement `acquire` and, if it matters how items end, `release`.

    A limit is a value: calls that receive the same object share one limit. ``a & b`` is a limit that requires a permit
    of both. A limit belongs to one event loop at a time. Give attributes of your own none of the names of this class.

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
    #: Makes ``a & b``; set by the module of `Both`, which is derived from this class.
    _combine: ClassVar[Callable[[Limiter, int | Limiter], Both]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Make a subclass use only its own methods, and no shortcut of its base that would leave them out."""
        super().__init_subclass__(**options)
        first = cls._first_with
        if min(map(first, ("acquire", "reserve", "release"))) < min(map(first, ("try_acquire", "try_reserve"))):
            cls.try_acquire, cls.try_reserve = Limiter.try_acquire, Limiter.try_reserve  # type: ignore[method-assign]
        if min(map(first, ("acquire", "reserve", "try_acquire", "try_reserve", "begin", "release"))) < first("renews"):
            cls.renews = Limiter.renews  # type: ignore[method-assign]
        if min(map(first, ("acquire", "reserve", "begin", "release"))) < first("part_of"):
            cls.part_of = Limiter.part_of  # type: ignore[method-assign]

    @classmethod
    def _first_with(cls, name: str) -> int:
        """Return which class in the order of method resolution defines a method."""
        return next(place for place, one in enumerate(cls.__mro__) if name in vars(one))

    @property
    def _renews_in_place(self) -> bool:
        """Whether `renew` changes nothing if it returns ``None``, and nothing that matters otherwise."""
        return False

    @property
    def _is_spent(self) -> bool:
        """Whether a budget is spent, so that items that have started make no further attempts."""
        return False

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
        Items overtake each other only if `part_of` returns different limits for them. Override it as a property.
        """
        return 0

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates in this limit: a run under it takes nothing more once one of them is closed. See `Gate`."""
        return ()

    def part_of(self, item: Any) -> Limiter:
        """Return the limit that decides about this item: this one, if it does not depend on the item.

        Items with the same part wait for each other, in order. Only use it at once: it may be forgotten if no item
        waits for it or holds a permit of it.
        """
        return self

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
            error: The exception with which the item ended, also if `settle` returned it as an `Err`; ``None`` if it
                succeeded.

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

    def waits_only_for(self, tasks: set[Any]) -> bool:
        """Return whether nothing can start under this limit before one of these tasks returns its permit.

        With it, calls that would wait for each other forever are found. By default ``False``, which is always safe.

        Args:
            tasks: Tasks of asyncio, and whatever else stands for what waits.
        """
        return False

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
        return Limiter._combine(self, checked("limits", other, "each side of &"))

    __rand__ = __and__


AnyLimit: TypeAlias = int | Limiter | AbstractAsyncContextManager[object, bool | None]
"""The type of a value for ``limit=``: a number (0 means no limit), a `Limiter`, or an async context manager.

The manager must be one that can be entered many times, such as ``asyncio.Semaphore(20)``. Add ``| None`` to a parameter
that may be left out.
"""


def weighed(name: str, cost: Callable[[Any], float], item: Any) -> float:
    """Return what the ``cost`` function of a limit says of an item, checked. If it raises, a note says so."""
    try:
        weight = cost(item)
    except Exception as error:
        add_note(error, f"paco.{name}: raised by its cost function, {check.called(cost)}")
        raise
    return check.weight(name, cost, weight)


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


def checked(name: str, value: Any, parameter: str = "limit") -> int | Limiter:
    """Return ``value`` if it is a limit: an ``int`` of 0 (no limit) or more, a `Limiter`, an async context manager.

    An async context manager is returned as a `Limiter`; anything else raises ``TypeError`` or ``ValueError``.
    """
    if isinstance(value, Limiter):
        return value
    if isinstance(value, AbstractAsyncContextManager):
        return Foreign(value)
    return check.limit(name, value, parameter)
