"""Functions over the leaves of nested items, and over numbers: flat_map repeat."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, Literal, cast, overload

from paco._base import check
from paco._base.types import MISSING, Loop, Missing, P, R, Source
from paco._engine.source import Upstream, close, heeds, opened, upstream_of
from paco._functions.map import item_function
from paco._stream.plan import Plan, Stage, build_or_stage
from paco._stream.stream import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    from paco._base.types import OneItem
    from paco._engine.nursery import Nursery
    from paco.limits import AnyLimit


@overload
def flat_map(
    coro: Callable[Concatenate[Any, P], Awaitable[R]],
    iterable: Missing = MISSING,
    limit: AnyLimit | None = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
    initializer: Iterable[Any] | None = None,
    *args: P.args,
    **kw: P.kwargs,
) -> Stage[Any, Stream[R]]: ...
@overload
def flat_map(
    coro: Callable[Concatenate[Any, P], Awaitable[R]],
    iterable: Missing = MISSING,
    limit: AnyLimit | None = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: bool = ...,
    initializer: Iterable[Any] | None = None,
    *args: P.args,
    **kw: P.kwargs,
) -> Stage[Any, Stream[R | Exception]]: ...
@overload
def flat_map(
    coro: OneItem[Any, R],
    *,
    limit: AnyLimit | None = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
    initializer: Iterable[Any] | None = None,
) -> Stage[Any, Stream[R]]: ...
@overload
def flat_map(
    coro: OneItem[Any, R],
    *,
    limit: AnyLimit | None = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: bool,
    initializer: Iterable[Any] | None = None,
) -> Stage[Any, Stream[R | Exception]]: ...
@overload
def flat_map(
    coro: Callable[Concatenate[Any, P], Awaitable[R]],
    iterable: Source[Any],
    limit: AnyLimit | None = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
    initializer: Iterable[Any] | None = None,
    *args: P.args,
    **kw: P.kwargs,
) -> Stream[R]: ...
@overload
def flat_map(
    coro: Callable[Concatenate[Any, P], Awaitable[R]],
    iterable: Source[Any],
    limit: AnyLimit | None = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: bool = ...,
    initializer: Iterable[Any] | None = None,
    *args: P.args,
    **kw: P.kwargs,
) -> Stream[R | Exception]: ...
@overload
def flat_map(
    coro: OneItem[Any, R],
    iterable: Source[Any],
    limit: AnyLimit | None = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
    initializer: Iterable[Any] | None = None,
) -> Stream[R]: ...
@overload
def flat_map(
    coro: OneItem[Any, R],
    iterable: Source[Any],
    limit: AnyLimit | None = 0,
    loop: Loop = None,
    timeout: float | None = None,
    *,
    return_exceptions: bool,
    initializer: Iterable[Any] | None = None,
) -> Stream[R | Exception]: ...
def flat_map(
    coro: Any,
    iterable: Any = MISSING,
    limit: AnyLimit | None = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: bool = False,
    initializer: Iterable[Any] | None = None,
    *args: Any,
    **kw: Any,
) -> Any:
    """Run an async function over the leaves of nested iterables, which are flattened lazily and depth first.

    Text (``str``, ``bytes`` and ``bytearray``) is a leaf. Every other iterable is flattened, a mapping into its keys.
    So for pages of rows that are dicts or tuples, use `map` over an async generator that yields the rows. Only the
    outermost iterable may be async. The arguments that are not described here are those of `map`, for leaves instead of
    items.

    Args:
        iterable: Items and iterables of items, nested to any depth. If omitted, a `Stage` for ``|`` is returned.
        initializer: Results to return before those of the leaves.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> paco.run(paco.flat_map(double, [1, [2, [3, (4,)]], 5], limit=3))
        [2, 4, 6, 8, 10]
    """
    head: tuple[Any, ...] = ()
    if initializer is not None:
        with check.discarding(coro, iterable):
            check.plain_iterable("flat_map", initializer, "initializer")
            head = tuple(initializer)

    def build(plan: Plan) -> Stream[Any]:
        nested = plan.source
        flat = _AsyncLeaves(nested) if isinstance(nested, AsyncIterable | Awaitable) else _leaves(nested)
        return Stream(replace(plan, source=flat, head=head))

    fn = item_function("flat_map", coro, iterable, args, kw, "initializer")
    return build_or_stage("flat_map", coro, iterable, build, limit, loop, timeout, fn=fn, catch=return_exceptions)


def _leaves(nested: Iterable[Any]) -> Generator[Any]:
    """Yield the leaves of nested iterables, depth first. Text is a leaf. Close generators that are left early."""
    stack: list[Iterator[Any]] = [iter(nested)]
    try:
        while stack:
            for element in stack[-1]:
                if isinstance(element, Iterable) and not isinstance(element, str | bytes | bytearray):
                    stack.append(iter(cast("Iterable[object]", element)))
                    break
                yield element
            else:
                stack.pop()
    finally:
        for iterator in reversed(stack):
            close(iterator)


class _AsyncLeaves(AsyncIterator[Any], Upstream):
    """The leaves of an async source. If the source has an `Upstream`, calls are passed on to it."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._leaves = self._walk()
        self._upstream = upstream_of(source)
        self.heeds: bool = heeds(source)

    async def _walk(self) -> AsyncGenerator[Any]:
        async with opened(self._source) as items:
            async for item in items:
                for leaf in _leaves((item,)):
                    yield leaf

    async def __anext__(self) -> Any:
        return await anext(self._leaves)

    async def aclose(self) -> None:
        await self._leaves.aclose()

    def feeds(self, run: Nursery) -> None:
        if self._upstream is not None:
            self._upstream.feeds(run)

    def starves(self) -> None:
        cast("Upstream", self._upstream).starves()  # which nobody calls unless the source heeds it

    def end_source(self) -> bool:
        return self._upstream is not None and self._upstream.end_source()

    def abandon(self) -> None:
        close(self._source)


def repeat(
    coro: Callable[[int], Awaitable[R]], times: int = 1, step: int = 1, limit: AnyLimit | None = 1, loop: Loop = None
) -> Stream[R]:
    """Call an async function with the numbers from 1 to ``times``, and return its results in that order.

    ``limit`` and ``loop`` are those of `map`.

    Args:
        coro: Called with each number; its result is awaited.
        times: The last number, 1 or more.
        step: The step from one number to the next, 1 or more.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> paco.run(paco.repeat(double, 5, limit=2))
        [2, 4, 6, 8, 10]
    """
    times = check.integer("repeat", "times", times, 1)
    numbers = range(1, times + 1, check.integer("repeat", "step", step, 1))
    return cast("Stream[R]", build_or_stage("repeat", coro, numbers, Stream, limit, loop))
