"""Wrappers that watch the clock: give up after a time, drop calls above a rate, wait before each call."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from paco._base import check
from paco._base.clock import Clock
from paco._base.deadline import within
from paco._base.decorator import Decorator, DecoratorOr, decorator, keep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import TracebackType
    from typing import Self

    from paco._base.types import P, R, T


_UNLIMITED: Final = nullcontext()


class TimeoutLimit:
    """Cancel the block when ``timeout`` seconds have passed, and raise ``TimeoutError`` once it has ended.

    For ``with`` and ``async with``; the block's own cleanup is finished before the error is raised. With 0 the block is
    cancelled at its first suspension, with ``None`` never; a `deadline` that is nearer ends it as well. A cancellation
    from elsewhere, before or after the time is up, stays a ``CancelledError``, and the task's ``cancelling()`` is right
    in each case. A block that suppresses the cancellation, or fails with an error of its own, ends as it does without a
    limit: look at `expired`.

    The object can be used again after the block, but not inside of it.

    Args:
        timeout: Seconds, 0 or more; ``None`` for no limit.
        loop: ``None`` or the running loop; no other effect.

    Raises:
        RuntimeError: On entering: outside of a task, or while another block of this object is running.
        TimeoutError: On leaving: the time was up.

    Examples:
        >>> import asyncio, paco
        >>> async def main():
        ...     with paco.TimeoutLimit(0.01):
        ...         await asyncio.sleep(60)
        >>> paco.run(main())
        Traceback (most recent call last):
        TimeoutError: paco.TimeoutLimit: the block did not finish within 0.01 s
    """

    def __init__(self, timeout: float | None, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._timeout = check.timeout("TimeoutLimit", timeout)
        check.loop("TimeoutLimit", loop)
        self._loop = loop
        self._what = "TimeoutLimit: the block"
        self._end = ""
        self._task: asyncio.Task[Any] | None = None
        self._handle: asyncio.Handle | None = None
        self._requests = 0
        self._expired = False

    @property
    def expired(self) -> bool:
        """Whether the time of the last block was up before it ended."""
        return self._expired

    def __enter__(self) -> Self:
        task = _current_task()
        if task is None:
            raise RuntimeError("paco.TimeoutLimit: must be used inside of a task, got none: enter it in an `async def`")
        if self._task is not None:
            raise RuntimeError("paco.TimeoutLimit: is limiting a block already; make one for each block")
        check.loop("TimeoutLimit", self._loop)
        # A cancellation that has been requested but not delivered will arrive inside of the block; counted as if it
        # had come there, it is not mistaken for ours (asyncio.timeout(0) swallows it: gh-134471).
        pending = bool(getattr(task, "_must_cancel", False))
        self._requests = task.cancelling() - pending
        self._task = task
        self._expired = False
        self._handle = self._start(task)
        return self

    def _start(self, task: asyncio.Task[Any]) -> asyncio.Handle | None:
        seconds, end = within(self._timeout)
        if seconds is None:
            return None
        self._end = end or f"{self._timeout} s"
        if seconds == 0:
            return task.get_loop().call_soon(self._expire, task)  # before what the first suspension schedules
        return task.get_loop().call_later(seconds, self._expire, task)

    def _expire(self, task: asyncio.Task[Any]) -> None:
        self._expired = True
        task.cancel()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()
        if not self._expired or task is None:
            return
        others = task.uncancel() > self._requests
        del task  # it may end with the error below, whose frames would hold it: a cycle
        if isinstance(exc, asyncio.CancelledError) and not others:
            raise TimeoutError(f"paco.{self._what} did not finish within {self._end}") from exc

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, traceback)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


@overload
def timeout(
    coro: Callable[P, Awaitable[T]], timeout: float | None = None, loop: asyncio.AbstractEventLoop | None = None
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def timeout(
    coro: Awaitable[T], timeout: float | None = None, loop: asyncio.AbstractEventLoop | None = None
) -> Coroutine[Any, Any, T]: ...
@overload
def timeout(timeout: float | None = None, loop: asyncio.AbstractEventLoop | None = None) -> Decorator: ...
@decorator
def timeout(
    coro: Callable[..., Awaitable[Any]] | Awaitable[Any],
    timeout: float | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Callable[..., Coroutine[Any, Any, Any]] | Coroutine[Any, Any, Any]:
    """Limit the time of each call of a coroutine function, or of one coroutine object.

    When ``timeout`` seconds have passed the call is cancelled and waited for: its cleanup is finished when
    ``TimeoutError`` is raised. Everything else is as for `TimeoutLimit`; so a call that suppresses the cancellation
    and returns has its result returned. The call runs in the caller's task.

    A decorator too: ``@paco.timeout(10)``, ``@paco.timeout(timeout=10)``.

    Args:
        coro: The function to wrap; or a coroutine object (any awaitable that cannot be called), which is not started
            before the result is awaited.
        timeout: Seconds, 0 or more; ``None`` for no limit.
        loop: ``None`` or the running loop; no other effect.

    Returns:
        A coroutine function with the signature of ``coro``, or a coroutine object for one.

    Examples:
        >>> import asyncio, paco
        >>> async def fetch(seconds):
        ...     await asyncio.sleep(seconds)
        ...     return "page"
        >>> quick = paco.timeout(fetch, 0.05)
        >>> paco.run(quick(0))
        'page'
        >>> paco.run(quick(60))
        Traceback (most recent call last):
        TimeoutError: paco.timeout: fetch did not finish within 0.05 s
        >>> paco.run(paco.timeout(fetch(0), timeout=0.05))
        'page'
    """
    with check.discarding(coro):
        check.timeout("timeout", timeout)
        check.loop("timeout", loop)
    if not callable(coro) and inspect.isawaitable(coro):
        return _limited(coro, timeout, loop)
    check.function("timeout", coro)
    fn, what = coro, f"timeout: {check.called(coro)}"

    async def wrapper(*args: Any, **kw: Any) -> Any:
        with limiting(what, timeout, loop):
            return await check.awaitable("timeout", fn, fn(*args, **kw))

    return keep(wrapper, fn)


def limiting(
    what: str, timeout: float | None, loop: asyncio.AbstractEventLoop | None = None
) -> AbstractContextManager[object]:
    """Make a `TimeoutLimit` whose message says ``what`` did not finish; nothing, where there is no limit."""
    if loop is None and within(timeout)[0] is None:
        return _UNLIMITED
    limit = TimeoutLimit(timeout, loop)
    limit._what = what  # noqa: SLF001 - the same module: no public parameter for a message
    return limit


def _limited(
    awaitable: Awaitable[T], timeout: float | None, loop: asyncio.AbstractEventLoop | None
) -> Coroutine[Any, Any, T]:
    what = f"timeout: {getattr(awaitable, '__name__', None) or 'the ' + type(awaitable).__name__}"

    async def wrapper() -> T:
        with limiting(what, timeout, loop):
            return await awaitable

    limited = wrapper()
    # One that is never awaited is told of once, for the coroutine that the user holds, not for the one inside as well.
    weakref.finalize(limited, check.discard, awaitable).atexit = False
    return limited


@overload
def throttle(
    coro: Callable[P, Awaitable[T]],
    limit: int = 1,
    timeframe: float = 1,
    return_value: object = None,
    *,
    raise_exception: Literal[True],
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def throttle(
    coro: Callable[P, Awaitable[T]],
    limit: int = 1,
    timeframe: float = 1,
    return_value: None = None,
    raise_exception: bool = False,
) -> Callable[P, Coroutine[Any, Any, T | None]]: ...
@overload
def throttle(
    coro: Callable[P, Awaitable[T]],
    limit: int = 1,
    timeframe: float = 1,
    return_value: R | None = None,
    raise_exception: bool = False,
) -> Callable[P, Coroutine[Any, Any, T | R]]: ...
@overload
def throttle(
    limit: int = 1, timeframe: float = 1, return_value: object = None, *, raise_exception: Literal[True]
) -> Decorator: ...
@overload
def throttle(
    limit: int = 1, timeframe: float = 1, return_value: None = None, raise_exception: bool = False
) -> DecoratorOr[None]: ...
@overload
def throttle(
    limit: int = 1, timeframe: float = 1, return_value: R | None = None, raise_exception: bool = False
) -> DecoratorOr[R]: ...
@decorator
def throttle(
    coro: Callable[..., Awaitable[Any]],
    limit: int = 1,
    timeframe: float = 1,
    return_value: Any = None,
    raise_exception: bool = False,
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Drop the calls of a coroutine function that come too fast: they get the last result instead.

    At most ``limit`` calls start in any ``timeframe`` seconds: the window slides with the event loop's monotonic clock,
    and a call that comes a whole ``timeframe`` after the oldest of the last ``limit`` may start. The rest does not wait
    (a rate limit, `paco.Rate`, makes calls wait). On a method the instances share one window.

    A decorator too: ``@paco.throttle``, ``@paco.throttle(limit=2)``.

    Args:
        coro: The function to wrap.
        limit: How many calls may start, 1 or more.
        timeframe: The length of the window in seconds, 0 or more.
        return_value: What a dropped call returns; ``None``: the result of the last call that has returned, which is
            ``None`` until the first one has.
        raise_exception: Whether a dropped call raises ``RuntimeError`` instead.

    Examples:
        >>> import paco
        >>> @paco.throttle(limit=2, timeframe=60)
        ... async def double(number):
        ...     return number * 2
        >>> async def main():
        ...     return [await double(number) for number in (1, 2, 3, 4)]
        >>> paco.run(main())
        [2, 4, 4, 4]
    """
    check.function("throttle", coro)
    window = _Window(
        check.integer("throttle", "limit", limit, 1),
        check.seconds("throttle", "timeframe", timeframe, optional=False) or 0,
    )
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
    """The start times of the last calls: a sliding window log. Holds at most ``limit`` of them."""

    def __init__(self, limit: int, timeframe: float) -> None:
        self._limit = limit
        self._timeframe = timeframe
        self._starts: deque[float] = deque()
        self._clock = Clock()

    def admits(self) -> bool:
        """Whether a call may start now; if so, it is counted."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self._clock.is_of(loop) and not self._clock.follow(loop):
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
def defer(coro: Callable[..., Awaitable[Any]], delay: float = 1) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Wait ``delay`` seconds before each call of a coroutine function.

    A decorator too: ``@paco.defer``, ``@paco.defer(0.5)``, ``@paco.defer(delay=0.5)``.

    Args:
        coro: The function to wrap.
        delay: Seconds, 0 or more; 0 lets the event loop go round once.

    Examples:
        >>> import paco
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
