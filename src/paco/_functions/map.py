"""An async function over items, for its results or its effects: map each flat_map repeat."""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
)
from typing import TYPE_CHECKING, Any, Concatenate, Literal, cast, overload

from paco._base import check
from paco._base.item_function import bound
from paco._base.types import MISSING, Loop, Missing, P, R, Source, T
from paco._engine.plan import Plan
from paco._functions.flatten import AsyncLeaves, leaves
from paco._stream.coroutine import Answer
from paco._stream.stage import Stage, over
from paco._stream.stream import Stream

if TYPE_CHECKING:
    from paco.limits import AnyLimit, Limiter

Nothing = Coroutine[Any, Any, None]


@overload
def map(
    coro: Callable[Concatenate[T, P], Awaitable[R]],
    iterable: Source[T],
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
    *args: P.args,
    **kw: P.kwargs,
) -> Stream[R]: ...
@overload
def map(
    coro: Callable[Concatenate[T, P], Awaitable[R]],
    iterable: Source[T],
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: bool = ...,
    *args: P.args,
    **kw: P.kwargs,
) -> Stream[R | Exception]: ...
@overload
def map(
    coro: Callable[Concatenate[T, P], Awaitable[R]],
    iterable: Missing = MISSING,
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
    *args: P.args,
    **kw: P.kwargs,
) -> Stage[T, Stream[R]]: ...
@overload
def map(
    coro: Callable[Concatenate[T, P], Awaitable[R]],
    iterable: Missing = MISSING,
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: bool = ...,
    *args: P.args,
    **kw: P.kwargs,
) -> Stage[T, Stream[R | Exception]]: ...
def map(
    coro: Any,
    iterable: Any = MISSING,
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: bool = False,
    *args: Any,
    **kw: Any,
) -> Any:
    """Run an async function over items, at most ``limit`` at once, and give its results in the order of the items.

    Args:
        coro: Called with each item and then ``args`` and ``kw``; its result is awaited.
        iterable: Any iterable, async iterable, or awaitable of one, pulled as slots get free. Left out: a stage for
            ``|``, such as ``urls | paco.map(fetch, limit=50)``.
        limit: Items in flight at most; 0 for no limit.
        loop: ``None`` or the running loop.
        timeout: Seconds for the whole call; ``None`` for no limit.
        return_exceptions: Give an item's ``Exception`` as its result instead of ending the call with it.
        *args: Further arguments for ``coro``.
        **kw: Further keyword arguments for ``coro``.

    Returns:
        A `Stream`: ``await`` it for the list, or iterate it in constant memory.

    Raises:
        TypeError: Not a function, not an iterable; at the call.
        ValueError: A limit or timeout out of range; at the call.
        TimeoutError: The timeout has passed, and all that was started has been cancelled and has finished.

    The first error of an item is raised as it came, with a note that names the item, after its siblings have been
    cancelled and have finished. To await the list costs about 0.2 us of CPU per item more than to await each item in
    a plain loop, a stream 0.5 to 1 us; ``./dev bench`` measures it.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> async def main():
        ...     return await paco.map(double, [1, 2, 3, 4, 5], limit=3)
        >>> paco.run(main())
        [2, 4, 6, 8, 10]
    """

    def build(source: Any, limit: int | Limiter, timeout: float | None) -> Stream[Any]:
        return Stream(Plan("map", bound(coro, args, kw), source, limit, timeout, return_exceptions))

    return over("map", coro, iterable, build, limit=limit, timeout=timeout, loop=loop)


@overload
def each(
    coro: Callable[Concatenate[T, P], Awaitable[object]],
    iterable: Source[T],
    limit: AnyLimit = 0,
    loop: Loop = None,
    collect: Literal[False] = False,
    timeout: float | None = None,
    return_exceptions: bool = False,
    *args: P.args,
    **kw: P.kwargs,
) -> Nothing: ...
@overload
def each(
    coro: Callable[Concatenate[T, P], Awaitable[R]],
    iterable: Source[T],
    limit: AnyLimit = 0,
    loop: Loop = None,
    collect: bool = ...,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
    *args: P.args,
    **kw: P.kwargs,
) -> Coroutine[Any, Any, list[R]]: ...
@overload
def each(
    coro: Callable[Concatenate[T, P], Awaitable[R]],
    iterable: Source[T],
    limit: AnyLimit = 0,
    loop: Loop = None,
    collect: bool = ...,
    timeout: float | None = None,
    return_exceptions: bool = ...,
    *args: P.args,
    **kw: P.kwargs,
) -> Coroutine[Any, Any, list[R | Exception]]: ...
@overload
def each(
    coro: Callable[Concatenate[T, P], Awaitable[object]],
    iterable: Missing = MISSING,
    limit: AnyLimit = 0,
    loop: Loop = None,
    collect: Literal[False] = False,
    timeout: float | None = None,
    return_exceptions: bool = False,
    *args: P.args,
    **kw: P.kwargs,
) -> Stage[T, Nothing]: ...
@overload
def each(
    coro: Callable[Concatenate[T, P], Awaitable[R]],
    iterable: Missing = MISSING,
    limit: AnyLimit = 0,
    loop: Loop = None,
    collect: bool = ...,
    timeout: float | None = None,
    return_exceptions: Literal[False] = False,
    *args: P.args,
    **kw: P.kwargs,
) -> Stage[T, Coroutine[Any, Any, list[R]]]: ...
@overload
def each(
    coro: Callable[Concatenate[T, P], Awaitable[R]],
    iterable: Missing = MISSING,
    limit: AnyLimit = 0,
    loop: Loop = None,
    collect: bool = ...,
    timeout: float | None = None,
    return_exceptions: bool = ...,
    *args: P.args,
    **kw: P.kwargs,
) -> Stage[T, Coroutine[Any, Any, list[R | Exception]]]: ...
def each(
    coro: Any,
    iterable: Any = MISSING,
    limit: AnyLimit = 0,
    loop: Loop = None,
    collect: bool = False,
    timeout: float | None = None,
    return_exceptions: bool = False,
    *args: Any,
    **kw: Any,
) -> Any:
    """Run an async function over items for its effects: `map` in constant memory, without results.

    Args:
        coro: As of `map`, like the other parameters.
        iterable: Left out: a stage that ends a pipeline, ``urls | paco.map(fetch) | paco.each(save)``.
        limit: Items in flight at most; 0 for no limit.
        loop: ``None`` or the running loop.
        collect: Return the list of results after all.
        timeout: Seconds for the whole call; ``None`` for no limit.
        return_exceptions: An item's ``Exception`` does not end the call; it is forgotten unless ``collect``.
        *args: Further arguments for ``coro``.
        **kw: Further keyword arguments for ``coro``.

    Examples:
        >>> async def show(number):
        ...     print(number)
        >>> paco.run(paco.each(show, [1, 2, 3], limit=1))
        1
        2
        3
    """

    def build(source: Any, limit: int | Limiter, timeout: float | None) -> Coroutine[Any, Any, Any]:
        plan = Plan("each", bound(coro, args, kw), source, limit, timeout, return_exceptions)
        return Stream[Any](plan) if collect else Answer("each", plan.drain(), source)

    return over("each", coro, iterable, build, limit=limit, timeout=timeout, loop=loop)


@overload
def flat_map(
    coro: Callable[Concatenate[Any, P], Awaitable[R]],
    iterable: Source[Any],
    limit: AnyLimit = 0,
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
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: bool = ...,
    initializer: Iterable[Any] | None = None,
    *args: P.args,
    **kw: P.kwargs,
) -> Stream[R | Exception]: ...
@overload
def flat_map(
    coro: Callable[Concatenate[Any, P], Awaitable[R]],
    iterable: Missing = MISSING,
    limit: AnyLimit = 0,
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
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: bool = ...,
    initializer: Iterable[Any] | None = None,
    *args: P.args,
    **kw: P.kwargs,
) -> Stage[Any, Stream[R | Exception]]: ...
def flat_map(
    coro: Any,
    iterable: Any = MISSING,
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    return_exceptions: bool = False,
    initializer: Iterable[Any] | None = None,
    *args: Any,
    **kw: Any,
) -> Any:
    """Run an async function over the leaves of nested iterables, flattened depth first and lazily.

    Text (``str``, ``bytes``) is a leaf, every other iterable is walked, a mapping by its keys. An async iterable may be
    the outermost only.

    Args:
        coro: As of `map`, like the other parameters.
        iterable: Items and iterables of items, however deep. Left out: a stage for ``|``.
        limit: Leaves in flight at most; 0 for no limit.
        loop: ``None`` or the running loop.
        timeout: Seconds for the whole call; ``None`` for no limit.
        return_exceptions: Give a leaf's ``Exception`` as its result.
        initializer: Results that come before those of the leaves.
        *args: Further arguments for ``coro``.
        **kw: Further keyword arguments for ``coro``.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> paco.run(paco.flat_map(double, [1, [2, [3, (4,)]], 5], limit=3))
        [2, 4, 6, 8, 10]
    """
    head: tuple[Any, ...] = ()

    def also() -> None:
        nonlocal head
        if initializer is not None:
            check.plain_iterable("flat_map", initializer, "initializer")
            head = tuple(initializer)

    def build(source: Any, limit: int | Limiter, timeout: float | None) -> Stream[Any]:
        flat = AsyncLeaves(source) if isinstance(source, AsyncIterable | Awaitable) else leaves(source)
        return Stream(Plan("flat_map", bound(coro, args, kw), flat, limit, timeout, return_exceptions, head))

    return over("flat_map", coro, iterable, build, limit=limit, timeout=timeout, loop=loop, also=also)


def repeat(
    coro: Callable[[int], Awaitable[R]], times: int = 1, step: int = 1, limit: AnyLimit = 1, loop: Loop = None
) -> Stream[R]:
    """Call an async function with 1, 2, 3 … ``times``, and give its results in that order.

    Args:
        coro: Called with a number; its result is awaited.
        times: The last number; at least 1.
        step: From one number to the next; at least 1.
        limit: Calls in flight at most; 0 for no limit.
        loop: ``None`` or the running loop.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> paco.run(paco.repeat(double, 5, limit=2))
        [2, 4, 6, 8, 10]
    """
    times = check.integer("repeat", "times", times, 1)
    step = check.integer("repeat", "step", step, 1)

    def build(source: Any, limit: int | Limiter, _: float | None) -> Stream[R]:
        return Stream(Plan("repeat", coro, source, limit))

    return cast("Stream[R]", over("repeat", coro, range(1, times + 1, step), build, limit=limit, loop=loop))
