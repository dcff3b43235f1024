"""Call a coroutine function repeatedly: while a test passes, until it passes, or at a fixed interval."""

from __future__ import annotations

import asyncio
import inspect
import math
from time import perf_counter
from typing import TYPE_CHECKING, Any, overload

from paco._base import check
from paco._base.deadline import detached
from paco._base.decorator import decorator, keep
from paco._base.keywords import check_keywords
from paco._engine.nursery import background
from paco._engine.workers import MOST, SLICE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from paco._base.types import Loop, P, T


def whilst(
    coro: Callable[P, Awaitable[T]],
    coro_test: Callable[[], Awaitable[Any]],
    assert_coro: Callable[[Any], Any] | None = None,
    *args: P.args,
    **kw: P.kwargs,
) -> Coroutine[Any, Any, list[T]]:
    """Call ``coro`` repeatedly while ``coro_test`` passes, and return the list of its results.

    The test runs first, so ``coro`` may not be called at all. Calls run one after another. Even if none of them ever
    suspends, they yield to the event loop at the start, and then about every millisecond.

    Args:
        coro: Called with ``*args, **kw`` each time.
        coro_test: Called without arguments before each call of ``coro``.
        assert_coro: Called with what ``coro_test`` returned; the test passes if the result is true. May be sync or
            async. By default, the test passes if ``coro_test`` returned a true value.
        *args: Positional arguments for ``coro``.
        **kw: Keyword arguments for ``coro``.

    Raises:
        TypeError: At the call, if one of the functions is not callable.

    Examples:
        >>> calls = []
        >>> async def call():
        ...     calls.append("call")
        ...     return len(calls)
        >>> async def few():
        ...     return len(calls) < 3
        >>> paco.run(paco.whilst(call, few))
        [1, 2, 3]
    """
    return _repeat("whilst", coro, coro_test, assert_coro, args, kw, passes=True)


def until(
    coro: Callable[P, Awaitable[T]],
    coro_test: Callable[[], Awaitable[Any]],
    assert_coro: Callable[[Any], Any] | None = None,
    *args: P.args,
    **kw: P.kwargs,
) -> Coroutine[Any, Any, list[T]]:
    """Call ``coro`` repeatedly until ``coro_test`` passes, and return the list of its results.

    The arguments are those of `whilst`. The test runs before each call, and the calls end when it passes; so ``coro``
    may not be called at all.

    Examples:
        >>> calls = []
        >>> async def call(step):
        ...     calls.append(step)
        ...     return sum(calls)
        >>> async def total():
        ...     return sum(calls)
        >>> paco.run(paco.until(call, total, lambda total: total >= 6, 2))
        [2, 4, 6]
    """
    return _repeat("until", coro, coro_test, assert_coro, args, kw, passes=False)


def _repeat(
    name: str, coro: Any, coro_test: Any, assert_coro: Any, args: tuple[Any, ...], kw: dict[str, Any], *, passes: bool
) -> Coroutine[Any, Any, list[Any]]:
    """Check the functions, and return a coroutine that makes calls as long as the test passes, or does not pass."""
    with check.discarding(coro, coro_test, assert_coro):
        check.function(name, coro)
        check.function(name, coro_test, "coro_test")
        if assert_coro is not None:
            check.function(name, assert_coro, "assert_coro")
        check_keywords(name, coro, kw, "coro_test", "assert_coro")

    async def repeat() -> list[Any]:
        results: list[Any] = []
        yielded = 0.0
        while True:
            # Not the loop's clock: on a virtual clock, calls that do not suspend take no time.
            if not len(results) % MOST or perf_counter() - yielded > SLICE:
                await asyncio.sleep(0)
                yielded = perf_counter()
            verdict = await check.awaitable(name, coro_test, coro_test())
            if assert_coro is not None:
                verdict = assert_coro(verdict)
                if inspect.isawaitable(verdict):
                    verdict = await verdict
            if bool(verdict) is not passes:
                return results
            results.append(await check.awaitable(name, coro, coro(*args, **kw)))

    return repeat()


@overload
def interval(
    coro: Callable[P, Awaitable[Any]], interval: float = 1, times: int | None = None, loop: Loop = None
) -> Callable[P, asyncio.Task[None]]: ...
@overload
def interval(
    interval: float = 1, times: int | None = None, loop: Loop = None
) -> Callable[[Callable[P, Awaitable[Any]]], Callable[P, asyncio.Task[None]]]: ...
@decorator
def interval(coro: Any, interval: float = 1, times: int | None = None, loop: Loop = None) -> Any:
    """Return a function that starts a task, which calls ``coro`` every ``interval`` seconds.

    The first call starts at once. Calls start at multiples of ``interval`` after it, on the event loop's clock, so they
    do not drift. If a call takes longer than ``interval``, the starts that it missed are skipped; calls never overlap.
    The task ends with ``None`` after ``times`` calls, or with the exception of the first call that fails. Cancel it to
    stop earlier. The caller owns the task, but does not need to keep a reference to it. A `deadline` around the caller
    does not end it.

    Also works as a decorator: ``@paco.interval``, ``@paco.interval(10)``, ``@paco.interval(interval=10, times=3)``.

    Args:
        coro: The function to call, with the arguments of the returned function.
        interval: Seconds from the start of one call to the start of the next; 0 to start each after the last.
        times: The number of calls, 1 or more; ``None`` for no end.
        loop: ``None`` or the running loop. Accepted for compatibility; has no effect.

    Returns:
        A function with the parameters of ``coro`` that returns the task.

    Raises:
        RuntimeError: The returned function is called while no event loop is running.

    Examples:
        >>> @paco.interval(0.01, times=3)
        ... async def tick(text):
        ...     print(text)
        >>> async def main():
        ...     await tick("tick")
        >>> paco.run(main())
        tick
        tick
        tick
    """
    check.function("interval", coro)
    pause = check.seconds("interval", "interval", interval, optional=False) or 0
    count = math.inf if times is None else check.integer("interval", "times", times, 1)
    check.loop("interval", loop)

    def start(*args: Any, **kw: Any) -> asyncio.Task[None]:
        check.loop("interval", loop)
        if asyncio._get_running_loop() is None:
            fn = check.called(coro)
            raise RuntimeError(
                f"paco.interval: no event loop is running to start a task in; call {fn} in an `async def`"
            )
        return background(_tick(pause, count, coro, *args, **kw), f"paco.interval {check.title(coro)}", detached())

    return keep(start, coro)


async def _tick(
    pause: float, count: float, coro: Callable[P, Awaitable[Any]], /, *args: P.args, **kw: P.kwargs
) -> None:
    clock = asyncio.get_running_loop().time
    start = clock()
    tick = calls = 0
    while True:
        await check.awaitable("interval", coro, coro(*args, **kw))
        calls += 1
        if calls >= count:
            return
        if not pause:
            await asyncio.sleep(0)
            continue
        now = clock()
        # Multiples of the interval, never sums of it, which drift. The next one may be right now.
        passed = math.floor((now - start) / pause)
        tick = max(tick + 1, passed + (start + passed * pause < now))
        await _sleep_until(start + tick * pause)


async def _sleep_until(when: float) -> None:
    """Sleep until an exact time of the event loop's clock. A delay would add the rounding error of a subtraction."""
    due = asyncio.Event()
    handle = asyncio.get_running_loop().call_at(when, due.set)
    try:
        await due.wait()
    finally:
        handle.cancel()
