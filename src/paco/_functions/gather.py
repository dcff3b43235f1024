"""Given coroutines rather than items: gather series race wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from paco import limits
from paco._base import check
from paco._base.deadline import within
from paco._base.types import Loop, T
from paco._engine.plan import Plan
from paco._engine.sinks import Drop
from paco._functions import futures
from paco._stream.coroutine import Answer
from paco._stream.stream import Stream

if TYPE_CHECKING:
    from paco.limits import AnyLimit, Limiter

#: A coroutine object, a future, or a coroutine function that takes no arguments.
Call: TypeAlias = Awaitable[T] | Callable[[], Awaitable[T]]
Futures: TypeAlias = set[asyncio.Future[T]]
DoneAndPending: TypeAlias = Coroutine[Any, Any, tuple[Futures[T], Futures[T]]]


@overload
def gather(
    *coros_or_futures: Call[T],
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    preserve_order: bool = False,
    return_exceptions: Literal[False] = False,
) -> Stream[T]: ...
@overload
def gather(
    *coros_or_futures: Call[T],
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    preserve_order: bool = False,
    return_exceptions: bool,
) -> Stream[T | Exception]: ...
@overload
def gather(
    coros_or_futures: Iterable[Call[T]],
    /,
    *,
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    preserve_order: bool = False,
    return_exceptions: Literal[False] = False,
) -> Stream[T]: ...
@overload
def gather(
    coros_or_futures: Iterable[Call[T]],
    /,
    *,
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    preserve_order: bool = False,
    return_exceptions: bool,
) -> Stream[T | Exception]: ...
def gather(
    *coros_or_futures: Any,
    limit: AnyLimit = 0,
    loop: Loop = None,
    timeout: float | None = None,
    preserve_order: bool = False,  # noqa: ARG001 - results always keep their order
    return_exceptions: bool = False,
) -> Any:
    """Run coroutines at most ``limit`` at once, and give their results in the order in which they were given.

    Unlike ``asyncio.gather`` the first error cancels the others and is raised when they have finished, and a coroutine
    that was not started by then is closed.

    Args:
        *coros_or_futures: Coroutine objects, coroutine functions and futures, or one iterable of them.
        limit: In flight at most; 0 for no limit.
        loop: ``None`` or the running loop.
        timeout: Seconds for the whole call; ``None`` for no limit.
        preserve_order: Changes nothing: the order is always kept.
        return_exceptions: Give an ``Exception`` as a result instead of ending the call with it.

    Returns:
        A `Stream`: ``await`` it for the list, or iterate it.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> async def main():
        ...     return await paco.gather(double(1), double(2), double(3), limit=2)
        >>> paco.run(main())
        [2, 4, 6]
    """
    return _run_through("gather", coros_or_futures, limit, loop, timeout, return_exceptions)


@overload
def series(
    *coros_or_futures: Call[T],
    timeout: float | None = None,
    loop: Loop = None,
    return_exceptions: Literal[False] = False,
) -> Stream[T]: ...
@overload
def series(
    *coros_or_futures: Call[T], timeout: float | None = None, loop: Loop = None, return_exceptions: bool
) -> Stream[T | Exception]: ...
@overload
def series(
    coros_or_futures: Iterable[Call[T]],
    /,
    *,
    timeout: float | None = None,
    loop: Loop = None,
    return_exceptions: Literal[False] = False,
) -> Stream[T]: ...
@overload
def series(
    coros_or_futures: Iterable[Call[T]],
    /,
    *,
    timeout: float | None = None,
    loop: Loop = None,
    return_exceptions: bool,
) -> Stream[T | Exception]: ...
def series(
    *coros_or_futures: Any, timeout: float | None = None, loop: Loop = None, return_exceptions: bool = False
) -> Any:
    """Run coroutines one after the other, and give their results in that order; after an error the rest is not started.

    Args:
        *coros_or_futures: As of `gather`; at least one.
        timeout: Seconds for the whole call; ``None`` for no limit.
        loop: ``None`` or the running loop.
        return_exceptions: Give an ``Exception`` as a result, and go on.

    Raises:
        ValueError: Nothing was given.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> async def main():
        ...     return await paco.series(double(1), double(2), double(3))
        >>> paco.run(main())
        [2, 4, 6]
    """
    return _run_through("series", coros_or_futures, 1, loop, timeout, return_exceptions, least=1)


def _run_through(
    name: str,
    given: tuple[Any, ...],
    limit: AnyLimit,
    loop: Loop,
    timeout: float | None,
    catch: bool,
    least: int = 0,
) -> Stream[Any]:
    calls = futures.calls(name, given)
    with check.discarding(*calls):
        found = limits.checked(name, limit)
        timeout = check.timeout(name, timeout)
        check.loop(name, loop)
        _at_least(name, calls, least)
    return Stream(Plan(name, partial(futures.call, name), calls, found, timeout, catch))


def _at_least(name: str, calls: list[Any], least: int) -> None:
    if len(calls) < least:
        raise ValueError(f"paco.{name}: give at least one coroutine object, coroutine function or future")


def race(
    iterable: Iterable[Awaitable[T] | Callable[..., Awaitable[T]]],
    loop: Loop = None,
    timeout: float | None = None,
    *args: Any,
    **kw: Any,
) -> Coroutine[Any, Any, T]:
    """Run coroutines against each other: the first to complete decides, with its value or its exception.

    The losers are cancelled, and have finished when the call returns.

    Args:
        iterable: Coroutine functions, called with ``args`` and ``kw``, and coroutine objects; at least one.
        loop: ``None`` or the running loop.
        timeout: Seconds for the whole call; ``None`` for no limit.
        *args: Arguments for the functions.
        **kw: Keyword arguments for the functions.

    Raises:
        ValueError: Nothing was given.
        TimeoutError: None has completed in time.

    Examples:
        >>> async def fast():
        ...     return "hare"
        >>> async def slow():
        ...     await asyncio.sleep(3600)
        >>> paco.run(paco.race([slow, fast]))
        'hare'
    """
    source: Any = iterable
    with check.discarding(iterable):
        check.loop("race", loop)
        timeout = check.timeout("race", timeout)
        check.iterable("race", iterable)
    if not isinstance(iterable, AsyncIterable | Awaitable):
        source = futures.calls("race", (iterable,), "iterable")
        _at_least("race", source, 1)

    async def contender(one: Any) -> Any:
        return await futures.call("race", one, *args, **kw)

    return Answer("race", _first(Plan("race", contender, source, timeout=timeout, ordered=False)), source)


async def _first(plan: Plan) -> Any:
    async with Stream[Any](plan) as results:
        async for result in results:
            return result
    return _at_least(plan.name, [], 1)


@overload
def wait(
    *coros_or_futures: Call[T],
    limit: AnyLimit = 0,
    timeout: float | None = None,
    loop: Loop = None,
    return_exceptions: Literal[False] = False,
    return_when: str = futures.ALL_COMPLETED,
) -> DoneAndPending[T]: ...
@overload
def wait(
    *coros_or_futures: Call[T],
    limit: AnyLimit = 0,
    timeout: float | None = None,
    loop: Loop = None,
    return_exceptions: bool,
    return_when: str = futures.ALL_COMPLETED,
) -> DoneAndPending[T | Exception]: ...
@overload
def wait(
    coros_or_futures: Iterable[Call[T]],
    /,
    *,
    limit: AnyLimit = 0,
    timeout: float | None = None,
    loop: Loop = None,
    return_exceptions: Literal[False] = False,
    return_when: str = futures.ALL_COMPLETED,
) -> DoneAndPending[T]: ...
@overload
def wait(
    coros_or_futures: Iterable[Call[T]],
    /,
    *,
    limit: AnyLimit = 0,
    timeout: float | None = None,
    loop: Loop = None,
    return_exceptions: bool,
    return_when: str = futures.ALL_COMPLETED,
) -> DoneAndPending[T | Exception]: ...
def wait(
    *coros_or_futures: Any,
    limit: AnyLimit = 0,
    timeout: float | None = None,
    loop: Loop = None,
    return_exceptions: bool = False,
    return_when: str = futures.ALL_COMPLETED,
) -> DoneAndPending[Any]:
    """Run coroutines at most ``limit`` at once, and wait for them as ``asyncio.wait`` does.

    Args:
        *coros_or_futures: As of `gather`; at least one.
        limit: In flight at most; 0 for no limit.
        timeout: Seconds to wait; when they have passed the call returns, it does not raise. Neither does it at a
            `deadline`.
        loop: ``None`` or the running loop.
        return_exceptions: An ``Exception`` becomes the *result* of its future.
        return_when: ``"ALL_COMPLETED"``, ``"FIRST_COMPLETED"`` or ``"FIRST_EXCEPTION"``.

    Returns:
        Two sets of futures, done and pending. Pending ones belong to the caller: they go on under the limit, and
        cancelling one cancels its coroutine; it is done when that has ended.

    Raises:
        ValueError: Nothing was given.
        Exception: When neither ``return_exceptions`` nor ``return_when`` was given, the first error, after the rest has
            been cancelled and has finished.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> async def main():
        ...     done, pending = await paco.wait(double(1), double(2), limit=1)
        ...     return sorted(future.result() for future in done), pending
        >>> paco.run(main())
        ([2, 4], set())
    """
    calls = futures.calls("wait", coros_or_futures)
    with check.discarding(*calls):
        found = limits.checked("wait", limit)
        timeout = check.timeout("wait", timeout)
        check.loop("wait", loop)
        futures.return_when("wait", return_when)
        _at_least("wait", calls, 1)
    once = list({id(one): one for one in calls}.values())  # by identity: a callable object need not be hashable
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
                job.heard()
                raise error
        finally:
            del job, error  # the frames of an error that is kept lead back here

    jobs = futures.Jobs(futures.Job(one) for one in calls)
    run = Plan("wait", attempt, jobs, limit).run(Drop())
    run.heeds_deadline = False  # what is pending then goes on: it belongs to the caller
    run.start()
    try:
        async with futures.owned(run):
            await futures.until(run, jobs, when=when, timeout=within(timeout)[0])
    except (Exception, asyncio.CancelledError) as error:
        if not fail_fast:
            jobs.lost("wait", error)
        raise
    raises = False  # what is pending belongs to the caller: its errors are its futures'
    return jobs.divide()
