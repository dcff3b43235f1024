"""Limits and delays of calls: wait for a limit, drop calls above a rate, wait before each."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, overload

from paco._base import check
from paco._base.deadline import Clock
from paco._base.decorator import Decorator, DecoratorOr, decorator, keep
from paco._functions.timeout import limiting
from paco.limits import AnyLimit, Limit, Limiter
from paco.limits._base import checked
from paco.limits._slot import Slot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from paco._base.types import OrNone, P, T


def limited(fn: Callable[P, Awaitable[T]], limit: AnyLimit | None) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return a function whose calls wait for a limit, wherever they are made.

    Each call acquires the limit in the caller's task before it calls ``fn``. To drop calls instead of making them wait,
    use `throttle`. A `deadline` ends the wait.

    Args:
        fn: The function. Limits that depend on the item (`PerKey`, a `Rate` with ``cost``) get its first argument.
        limit: As for `map`: an ``int``, a limit of paco, or an async context manager; 0 or ``None`` for no limit.

    Raises:
        TimeoutError: From a call: a `deadline` has passed before the call got its permit.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> careful = paco.limited(double, paco.Limit(2))
        >>> async def main():
        ...     return await paco.gather(careful(1), careful(2), careful(3))
        >>> paco.run(main())
        [2, 4, 6]
    """
    check.function("limited", fn, "fn")
    found = checked("limited", limit)
    what = f"limited: the wait of {check.called(fn)} for its limit"
    limiter = found if isinstance(found, Limiter) else Limit(found) if found else None

    async def wrapper(*args: Any, **kw: Any) -> Any:
        if limiter is None:
            return await check.awaitable("limited", fn, fn(*args, **kw))
        async with _Slot(limiter, args[0] if args else None, what):
            return await check.awaitable("limited", fn, fn(*args, **kw))

    return keep(wrapper, fn)


class _Slot(Slot):
    """A slot that a call waits for until the deadline at most."""

    __slots__ = ("_what",)

    def __init__(self, limit: Limiter, item: Any, what: str) -> None:
        super().__init__(limit, item)
        self._what = what

    async def __aenter__(self) -> None:
        with limiting(self._what, None):
            await super().__aenter__()


@overload
def throttle(
    coro: Callable[P, Awaitable[T]], limit: int = 1, timeframe: float = 1, *, raise_exception: Literal[True]
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def throttle(
    coro: Callable[P, Awaitable[T]],
    limit: int = 1,
    timeframe: float = 1,
    return_value: OrNone | None = None,
    raise_exception: bool = False,
) -> Callable[P, Coroutine[Any, Any, T | OrNone]]: ...
@overload
def throttle(limit: int = 1, timeframe: float = 1, *, raise_exception: Literal[True]) -> Decorator: ...
@overload
def throttle(
    limit: int = 1, timeframe: float = 1, return_value: OrNone | None = None, raise_exception: bool = False
) -> DecoratorOr[OrNone]: ...
@decorator
def throttle(
    coro: Any, limit: int = 1, timeframe: float = 1, return_value: Any = None, raise_exception: bool = False
) -> Any:
    """Return a function that drops calls above a rate. A dropped call returns the last result.

    At most ``limit`` calls start in any ``timeframe`` seconds, a sliding window on the event loop's clock. A call may
    start when ``timeframe`` seconds have passed since the oldest of the last ``limit`` starts. Dropped calls do not
    wait; to make calls wait, use `limited` with a `Rate`. If a method is wrapped, all instances share one window.

    Also works as a decorator: ``@paco.throttle``, ``@paco.throttle(limit=2)``.

    Args:
        coro: The function to wrap.
        limit: The number of calls that may start in the window, 1 or more.
        timeframe: The length of the window in seconds, 0 or more.
        return_value: Return this value from dropped calls. By default, they return the result of the last call that
            has returned; ``None`` if there is none.
        raise_exception: Raise ``RuntimeError`` from dropped calls instead.

    Examples:
        >>> @paco.throttle(limit=2, timeframe=60)
        ... async def double(number):
        ...     return number * 2
        >>> async def main():
        ...     return [await double(number) for number in (1, 2, 3, 4)]
        >>> paco.run(main())
        [2, 4, 4, 4]
    """
    check.function("throttle", coro)
    check.integer("throttle", "limit", limit, 1)
    window = _Window(limit, check.seconds("throttle", "timeframe", timeframe, optional=False) or 0)
    check.flag("throttle", "raise_exception", raise_exception)
    last: Any = None

    async def wrapper(*args: Any, **kw: Any) -> Any:
        nonlocal last
        if window.admits():
            last = await check.awaitable("throttle", coro, coro(*args, **kw))
            return last
        if raise_exception:
            fn = check.called(coro)
            raise RuntimeError(f"paco.throttle: {fn} was called more than {limit} times in {timeframe} s")
        return last if return_value is None else return_value

    return keep(wrapper, coro)


class _Window:
    """A sliding window log: the start times of the last ``limit`` calls."""

    def __init__(self, limit: int, timeframe: float) -> None:
        self._limit = limit
        self._timeframe = timeframe
        self._starts: deque[float] = deque()
        self._clock = Clock()

    def admits(self) -> bool:
        """Return whether a call may start now. If so, count it."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._clock.loop() is not loop and not self._clock.follow(loop):
            self._starts.clear()
        starts = self._starts
        while starts and now >= starts[0] + self._timeframe:
            starts.popleft()
        if len(starts) >= self._limit:
            return False
        starts.append(now)
        return True


@overload
def defer(coro: Callable[P, Awaitable[T]], delay: float = 1) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def defer(delay: float = 1) -> Decorator: ...
@decorator
def defer(coro: Any, delay: float = 1) -> Any:
    """Return a function that waits ``delay`` seconds before it calls ``coro``.

    Also works as a decorator: ``@paco.defer``, ``@paco.defer(0.5)``, ``@paco.defer(delay=0.5)``.

    Args:
        coro: The function to wrap.
        delay: Seconds, 0 or more; 0 yields to the event loop once.

    Examples:
        >>> @paco.defer(delay=0.01)
        ... async def double(number):
        ...     return number * 2
        >>> paco.run(double(21))
        42
    """
    check.function("defer", coro)
    check.seconds("defer", "delay", delay, optional=False)

    async def wrapper(*args: Any, **kw: Any) -> Any:
        await asyncio.sleep(delay)
        return await check.awaitable("defer", coro, coro(*args, **kw))

    return keep(wrapper, coro)
