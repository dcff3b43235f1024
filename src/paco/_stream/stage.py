"""Pipelines: the `Stage` behind ``|``, and the argument checks that all functions over items share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from paco import limits
from paco._base import check
from paco._base.types import MISSING, Loop, R, T_contra

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.types import Source
    from paco._stream.stream import Stream
    from paco.limits import AnyLimit, Limiter

Out_co = TypeVar("Out_co", covariant=True)
Out = TypeVar("Out")
X = TypeVar("X")


class Stage(Generic[T_contra, Out_co]):
    """A function over items that waits for its items. Write ``items | stage``, or ``stage | stage`` to join two.

    A stage is immutable and reusable: each use starts a new run. All stages of a pipeline run at the same time, each
    under its own limit, with backpressure from the consumer to the source. If one stage fails, all end at once.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> quadruple = paco.map(double, limit=10) | paco.map(double, limit=5)
        >>> async def main():
        ...     return await ([1, 2, 3] | quadruple)
        >>> paco.run(main())
        [4, 8, 12]
    """

    __slots__ = ("_apply", "_name")
    __array_ufunc__ = None  # makes numpy leave `|` to this class, instead of applying it to each element

    def __init__(self, name: str, apply: Callable[[Any], Out_co]) -> None:
        self._name = name
        self._apply = apply

    def __repr__(self) -> str:
        return f"<paco stage {self._name}>"

    def __call__(self, source: Source[T_contra]) -> Out_co:
        """Apply the stage to items: ``stage(items)`` is ``items | stage``."""
        return self.__ror__(source)

    def __ror__(self, source: Source[T_contra]) -> Out_co:
        with check.discarding(source):
            check.iterable(self._name, source, "the left side of |")
        return self._apply(source)

    def __or__(self: Stage[T_contra, Stream[R]], other: Stage[R, X]) -> Stage[T_contra, X]:
        if not isinstance(cast("object", other), Stage):
            return NotImplemented
        first, second = self._apply, other._apply
        return Stage(f"{self._name} | {other._name}", lambda source: second(first(source)))


def build_or_stage(
    name: str,
    coro: Any,
    iterable: Any,
    build: Callable[[Any, int | Limiter, float | None], Out],
    *,
    limit: AnyLimit = 0,
    timeout: float | None = None,
    loop: Loop = None,
    check_more: Callable[[], None] = lambda: None,
) -> Out | Stage[Any, Out]:
    """Check the arguments that functions over items share, then return what ``build`` makes of them.

    Without an ``iterable``, return a `Stage` that calls ``build`` when it gets one. ``check_more`` checks the arguments
    that only one function has.
    """
    with check.discarding(iterable):
        check.function(name, coro)
        found = limits.checked(name, limit)
        timeout = check.timeout(name, timeout)
        check.loop(name, loop)
        check_more()
        if iterable is MISSING:
            return Stage(name, lambda source: build(source, found, timeout))
        check.iterable(name, iterable)
    return build(iterable, found, timeout)
