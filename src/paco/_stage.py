"""Pipelines: the `Stage` behind ``|``, and what every function over items does with its arguments."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from paco import _check, limits
from paco._types import MISSING, Loop, R, T_contra

if TYPE_CHECKING:
    from paco._stream import Stream
    from paco._types import Source
    from paco.limits import AnyLimit, Limiter

Out_co = TypeVar("Out_co", covariant=True)
Out = TypeVar("Out")
X = TypeVar("X")
ItemFunction = Callable[[Any], Awaitable[Any]]


class Stage(Generic[T_contra, Out_co]):
    """A function over items that waits for them: ``items | stage``, or ``stage | stage`` for a longer one.

    Immutable and reusable: each use makes a run of its own. All stages of a pipeline run at the same time, each under
    its own limit, with backpressure from the consumer to the source; the failure of one ends them all at once.

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
    __array_ufunc__ = None  # so that a numpy array leaves `|` to us instead of applying it to each element

    def __init__(self, name: str, apply: Callable[[Any], Out_co]) -> None:
        self._name = name
        self._apply = apply

    def __repr__(self) -> str:
        return f"<paco stage {self._name}>"

    def __call__(self, source: Source[T_contra]) -> Out_co:
        """Be applied to items: ``stage(items)`` is ``items | stage``."""
        return self.__ror__(source)

    def __ror__(self, source: Source[T_contra]) -> Out_co:
        with _check.discarding(source):
            _check.iterable(self._name, source, "the left side of |")
        return self._apply(source)

    def __or__(self: Stage[T_contra, Stream[R]], other: Stage[R, X]) -> Stage[T_contra, X]:
        if not isinstance(cast("object", other), Stage):
            return NotImplemented
        first, second = self._apply, other._apply
        return Stage(f"{self._name} | {other._name}", lambda source: second(first(source)))


def over(
    name: str,
    coro: Any,
    iterable: Any,
    build: Callable[[Any, int | Limiter, float | None], Out],
    *,
    limit: AnyLimit = 0,
    timeout: float | None = None,
    loop: Loop = None,
    also: Callable[[], None] = lambda: None,
) -> Out | Stage[Any, Out]:
    """Check what these functions have in common, then build: now, or as a stage that waits for its items."""
    with _check.discarding(iterable):
        _check.function(name, coro)
        found = limits.checked(name, limit)
        timeout = _check.timeout(name, timeout)
        _check.loop(name, loop)
        also()
        if iterable is MISSING:
            return Stage(name, lambda source: build(source, found, timeout))
        _check.iterable(name, iterable)
    return build(iterable, found, timeout)


def bound(coro: Any, args: tuple[Any, ...], kw: dict[str, Any]) -> ItemFunction:
    """Bind what follows the item."""
    if not args and not kw:
        return cast("ItemFunction", coro)
    return named_as(coro, lambda item: coro(item, *args, **kw))


def instead_of(coro: Any, call: ItemFunction) -> ItemFunction:
    """Return a function that stands for the user's, and calls another one."""
    return named_as(coro, lambda item: call(item))  # noqa: PLW0108 - named after the user's, which `call` is not


def given(fn: Any) -> Any:
    """Return the user's function, which `bound` and `instead_of` may have made another of."""
    while getattr(fn, "__globals__", None) is globals():
        fn = fn.__wrapped__
    return fn


def named_as(coro: Any, fn: ItemFunction) -> ItemFunction:
    """Let ``fn`` go under the name of the user's function, for messages."""
    if hasattr(coro, "__qualname__"):
        return functools.update_wrapper(fn, coro)
    vars(fn)["__wrapped__"] = coro  # whoever looks for the user's function finds it, under whatever name
    return fn
