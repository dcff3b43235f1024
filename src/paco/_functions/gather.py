"""Functions over coroutines instead of items: gather series race wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Generator, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, overload

from paco._base import check
from paco._base.deadline import within
from paco._base.keywords import check_keywords
from paco._base.types import Loop, T, T_co
from paco._engine.sinks import Drop
from paco._engine.source import Calls
from paco._functions import futures
from paco._stream.coroutine import Answer
from paco._stream.plan import Plan, build_or_stage
from paco._stream.stream import Stream
from paco.limits._base import checked

if TYPE_CHECKING:
    from paco.limits import AnyLimit, Limiter

#: A coroutine object, a future, or a coroutine function that takes no arguments.
Call: TypeAlias = Awaitable[T] | Callable[[], Awaitable[T]]
#: One of several calls, or one iterable of all calls.
OneOrAll: TypeAlias = Call[T] | Iterable[Call[T]]
Futures: TypeAlias = set[asyncio.Future[T]]
DoneAndPending: TypeAlias = Coroutine[Any, Any, tuple[Futures[T], Futures[T]]]


if TYPE_CHECKING:
    from typing import TypedDict, TypeVar, Unpack

    A = TypeVar("A")
    B = TypeVar("B")
    C = TypeVar("C")
    D = TypeVar("D")
    E = TypeVar("E")
    Tuple_co = TypeVar("Tuple_co", covariant=True)

    class _Tuple(Coroutine[Any, Any, Tuple_co]):
        """A first base, whose result counts where a coroutine is expected."""

    class Gathered(_Tuple[Tuple_co], Stream[T_co], Generic[T_co, Tuple_co]):  # pyright: ignore[reportGeneralTypeIssues]
        """The stream of a few calls. Type checkers take its list for a tuple, as that of `asyncio.gather`."""

        def __await__(self) -> Generator[Any, Any, Tuple_co]: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]

    class _How(TypedDict, total=False):
        limit: AnyLimit | None
        loop: Loop
        timeout: float | None
        preserve_order: bool


@overload
def gather(
    one: Call[A], /, *, return_exceptions: Literal[False] = False, **how: Unpack[_How]
) -> Gathered[A, tuple[A]]: ...
@overload
def gather(
    one: Call[A], two: Call[B], /, *, return_exceptions: Literal[False] = False, **how: Unpack[_How]
) -> Gathered[A | B, tuple[A, B]]: ...
@overload
def gather(
    one: Call[A], two: Call[B], three: Call[C], /, *, return_exceptions: Literal[False] = False, **how: Unpack[_How]
) -> Gathered[A | B | C, tuple[A, B, C]]: ...
@overload
def gather(
    one: Call[A],
    two: Call[B],
    three: Call[C],
    four: Call[D],
    /,
    *,
    return_exceptions: Literal[False] = False,
    **how: Unpack[_How],
) -> Gathered[A | B | C | D, tuple[A, B, C, D]]: ...
@overload
def gather(
    one: Call[A],
    two: Call[B],
    three: Call[C],
    four: Call[D],
    five: Call[E],
    /,
    *,
    return_exceptions: Literal[False] = False,
    **how: Unpack[_How],
) -> Gathered[A | B | C | D | E, tuple[A, B, C, D, E]]: ...
@overload
def gather(
    one: Call[A], /, *, return_exceptions: bool, **how: Unpack[_How]
) -> Gathered[A | Exception, tuple[A | Exception]]: ...
@overload
def gather(
    one: Call[A], two: Call[B], /, *, return_exceptions: bool, **how: Unpack[_How]
) -> Gathered[A | B | Exception, tuple[A | Exception, B | Exception]]: ...
@overload
def gather(
    one: Call[A], two: Call[B], three: Call[C], /, *, return_exceptions: bool, **how: Unpack[_How]
) -> Gathered[A | B | C | Exception, tuple[A | Exception, B | Exception, C | Exception]]: ...
@overload
def gather(
    one: Call[A], two: Call[B], three: Call[C], four: Call[D], /, *, return_exceptions: bool, **how: Unpack[_How]
) -> Gathered[A | B | C | D | Exception, tuple[A | Exception, B | Exception, C | Exception, D | Exception]]: ...
@overload
def gather(
    one: Call[A],
    two: Call[B],
    three: Call[C],
    four: Call[D],
    five: Call[E],
    /,
    *,
    return_exceptions: bool,
    **how: Unpack[_How],
) -> Gathered[
    A | B | C | D | E | Exception, tuple[A | Exception, B | Exception, C | Exception, D | Exception, E | Exception]
]: ...
@overload
def gather(
    *coros_or_futures: OneOrAll[T],
    limit: AnyLimit | None = 0,
    loop: Loop = None,
    timeout: float | None = None,
    preserve_order: bool = False,
    return_exceptions: Literal[False] = False,
) -> Stream[T]: ...
@overload
def gather(
    *coros_or_futures: OneOrAll[T],
    limit: AnyLimit | None = 0,
    loop: Loop = None,
    timeout: float | None = None,
    preserve_order: bool = False,
    return_exceptions: bool,
) -> Stream[T | Exception]: ...
def gather(
    *coros_or_futures: Any,
    limit: AnyLimit | None = 0,
    loop: Loop = None,
    timeout: float | None = None,
    preserve_order: bool = False,
    return_exceptions: bool = False,
) -> Any:
    """Run coroutines, at most ``limit`` at once, and return their results in the order of the arguments.

    Unlike in ``asyncio.gather``, the first error cancels the other coroutines and is raised when they have finished.
    Coroutines that have not started by then are closed. A coroutine object that is passed twice runs once. The
    arguments that are not described here are those of `map`, for coroutines instead of items.

    Args:
        *coros_or_futures: Coroutine objects, coroutine functions and futures, or one iterable of them.
        preserve_order: Without effect: results always keep their order.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> async def main():
        ...     return await paco.gather(double(1), double(2), double(3), limit=2)
        >>> paco.run(main())
        [2, 4, 6]
    """
    calls = futures.calls("gather", coros_or_futures)
    with check.discarding(*calls):
        check.flag("gather", "preserve_order", preserve_order)  # results always keep their order
    return _run_through("gather", calls, limit, loop, timeout, return_exceptions)


@overload
def series(
    *coros_or_futures: OneOrAll[T],
    timeout: float | None = None,
    loop: Loop = None,
    return_exceptions: Literal[False] = False,
) -> Stream[T]: ...
@overload
def series(
    *coros_or_futures: OneOrAll[T], timeout: float | None = None, loop: Loop = None, return_exceptions: bool
) -> Stream[T | Exception]: ...
def series(
    *coros_or_futures: Any, timeout: float | None = None, loop: Loop = None, return_exceptions: bool = False
) -> Any:
    """Run coroutines one after another, and return their results in that order. After an error, no more start.

    ``timeout`` and ``loop`` are those of `map`.

    Args:
        *coros_or_futures: As for `gather`, but at least one.
        return_exceptions: Return an ``Exception`` as a result and continue.

    Raises:
        ValueError: No coroutines are given.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> async def main():
        ...     return await paco.series(double(1), double(2), double(3))
        >>> paco.run(main())
        [2, 4, 6]
    """
    calls = _at_least_one("series", futures.calls("series", coros_or_futures))
    return _run_through("series", calls, 1, loop, timeout, return_exceptions)


def _run_through(
    name: str, calls: Calls, limit: AnyLimit | None, loop: Loop, timeout: float | None, catch: bool
) -> Any:
    with check.discarding(*calls):
        return build_or_stage(name, futures.caller(name, calls), calls, Stream, limit, loop, timeout, catch=catch)


def _at_least_one(name: str, calls: Calls) -> Calls:
    if not calls:
        raise ValueError(f"paco.{name}: give at least one coroutine object, coroutine function or future, got none")
    return calls


@overload
def race(
    iterable: Iterable[Awaitable[T] | Callable[..., Awaitable[T]]],
    loop: Loop = None,
    timeout: float | None = None,
    *args: Any,
    **kw: Any,
) -> Coroutine[Any, Any, T]: ...
@overload  # for mypy: a list of functions and coroutines is one of objects, unless it knows their type before
def race(
    iterable: Iterable[Awaitable[Any] | Callable[..., Awaitable[Any]]],
    loop: Loop = None,
    timeout: float | None = None,
    *args: Any,
    **kw: Any,
) -> Coroutine[Any, Any, Any]: ...
def race(
    iterable: Iterable[Any], loop: Loop = None, timeout: float | None = None, *args: Any, **kw: Any
) -> Coroutine[Any, Any, Any]:
    """Run coroutines concurrently, and return the value or raise the exception of the first one to complete.

    The others are cancelled, and have finished when the call returns. ``timeout`` and ``loop`` are those of `map`.

    Args:
        iterable: Coroutine objects, and coroutine functions to call with ``args`` and ``kw``; at least one.

    Raises:
        ValueError: No coroutines are given.
        TimeoutError: No coroutine has completed in time.

    Examples:
        >>> async def fast():
        ...     return "hare"
        >>> async def slow():
        ...     await asyncio.sleep(3600)
        >>> paco.run(paco.race([slow, fast]))
        'hare'
    """
    check.iterable("race", iterable)
    source: Any = iterable
    if not isinstance(iterable, AsyncIterable | Awaitable):
        source = _at_least_one("race", futures.calls("race", (iterable,), "iterable"))
    contenders = source if isinstance(source, Calls) else (source,)
    with check.discarding(*contenders):
        several = check.is_awaitable(loop)
        check.loop("race", loop, "; pass the coroutines in a list: paco.race([a, b])" if several else "")
        timeout = check.timeout("race", timeout)
        for one in contenders:
            if callable(one):
                check_keywords("race", one, kw, "iterable", "loop", "timeout")

    call = futures.caller("race", source if isinstance(source, Calls) else Calls())

    async def contender(one: Any) -> Any:
        return await call(one, *args, **kw)

    return Answer("race", _first(Plan("race", contender, source, timeout=timeout, ordered=False, feeds=False)), source)


async def _first(plan: Plan) -> Any:
    async with Stream[Any](plan) as results:
        async for result in results:
            return result
    return _at_least_one(plan.name, Calls())


@overload
def wait(
    *coros_or_futures: OneOrAll[T],
    limit: AnyLimit | None = 0,
    timeout: float | None = None,
    loop: Loop = None,
    return_exceptions: Literal[False] = False,
    return_when: str = futures.ALL_COMPLETED,
) -> DoneAndPending[T]: ...
@overload
def wait(
    *coros_or_futures: OneOrAll[T],
    limit: AnyLimit | None = 0,
    timeout: float | None = None,
    loop: Loop = None,
    return_exceptions: bool,
    return_when: str = futures.ALL_COMPLETED,
) -> DoneAndPending[T | Exception]: ...
def wait(
    *coros_or_futures: Any,
    limit: AnyLimit | None = 0,
    timeout: float | None = None,
    loop: Loop = None,
    return_exceptions: bool = False,
    return_when: str = futures.ALL_COMPLETED,
) -> DoneAndPending[Any]:
    """Run coroutines, at most ``limit`` at once, and wait for them as ``asyncio.wait`` does.

    ``limit`` and ``loop`` are those of `gather`.

    Args:
        *coros_or_futures: As for `gather`, but at least one.
        timeout: Seconds to wait; ``None`` for no limit. After that time, or at a `deadline`, the call returns; it does
            not raise.
        return_exceptions: Set an ``Exception`` as the *result* of its future.
        return_when: ``"ALL_COMPLETED"``, ``"FIRST_COMPLETED"`` or ``"FIRST_EXCEPTION"``.

    Returns:
        Two sets of futures: done and pending. Pending coroutines continue under the limit, and belong to the caller.
        Cancelling a future cancels its coroutine; the future is done when the coroutine has ended.

    Raises:
        ValueError: No coroutines are given.
        Exception: The first error, if neither ``return_exceptions`` nor ``return_when`` was passed. The other
            coroutines have been cancelled and have finished.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> async def main():
        ...     done, pending = await paco.wait(double(1), double(2), limit=1)
        ...     return sorted(future.result() for future in done), pending
        >>> paco.run(main())
        ([2, 4], set())
    """
    calls = _at_least_one("wait", futures.calls("wait", coros_or_futures))
    with check.discarding(*calls):
        found = checked("wait", limit)
        timeout = check.timeout("wait", timeout)
        check.loop("wait", loop)
        check.flag("wait", "return_exceptions", return_exceptions)
        futures.return_when("wait", return_when)
    once = list({id(one): one for one in calls}.values())  # by identity, since a callable object may be unhashable
    fail_fast = return_when is futures.ALL_COMPLETED and not return_exceptions
    waiting = _wait(once, found, timeout, return_when, catch=return_exceptions, fail_fast=fail_fast)
    return Answer("wait", waiting, calls)


async def _wait(
    calls: list[Any], limit: int | Limiter, timeout: float | None, when: str, *, catch: bool, fail_fast: bool
) -> tuple[Futures[Any], Futures[Any]]:
    raises = fail_fast

    async def attempt(job: futures.Job) -> None:
        _, error = await job.run(run, "wait", catch=catch)
        try:
            if raises and error is not None:
                job.mark_retrieved()
                raise error
        finally:
            del job, error  # a kept error refers to this frame: avoid a cycle

    jobs = futures.Jobs(futures.Job(one) for one in calls)
    run = Plan("wait", attempt, jobs, limit).run(Drop())
    run.heeds_deadline = False  # pending coroutines continue after it: they belong to the caller
    run.start()
    try:
        async with futures.owned(run):
            await futures.until(run, jobs, when=when, timeout=within(timeout)[0])
    except (Exception, asyncio.CancelledError) as error:
        if not fail_fast:
            jobs.raise_instead("wait", error)
        raise
    raises = False  # from now on errors only go to the futures, which the caller holds
    return jobs.divide()
