"""Time limits of blocks and calls: cancel after a timeout."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import weakref
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final, overload

from paco._base import check
from paco._base.deadline import current_end, within
from paco._base.decorator import Decorator, decorator, keep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Self

    from paco._base.types import AnyCoroutineFunction, Loop, P, T

_UNLIMITED: Final = nullcontext()
#: The resolution of a timer, in seconds.
_TIMER: Final = 0.001


def requested(task: asyncio.Task[Any]) -> int:
    """Return how often a task was asked to cancel before what it does next.

    A cancellation that was requested but not delivered arrives inside that. Count it as requested there, so that it is
    not mistaken for another one (asyncio.timeout(0) swallows it: gh-134471).
    """
    return task.cancelling() - bool(getattr(task, "_must_cancel", False))


class TimeoutLimit:
    """Cancel a block after ``timeout`` seconds, and raise ``TimeoutError`` when the block has ended.

    Use it in ``with`` or ``async with``. The cleanup of the block finishes before the error is raised. With 0, the
    block is cancelled at its first suspension. A nearer `deadline` ends the block, too. A cancellation from elsewhere
    remains a ``CancelledError``, whether it comes before or after the timeout, and the task's ``cancelling()`` stays
    correct. A block that suppresses the cancellation, or raises an error of its own, ends as it would without a
    timeout; `expired` tells whether the timeout had passed.

    As with `asyncio.timeout`, `when` returns the end of the block, and `reschedule` moves it. The object can be used
    again after its block, from when on it has its first ``timeout`` again, but not inside it.

    Args:
        timeout: Seconds, 0 or more; ``None`` for no limit.
        loop: ``None`` or the running loop. Accepted for compatibility; has no effect.

    Raises:
        RuntimeError: On entering, if no task is running, or this object is already around a running block.
        TimeoutError: On leaving, if the timeout has passed.

    Examples:
        >>> async def main():
        ...     with paco.TimeoutLimit(0.01):
        ...         await asyncio.sleep(60)
        >>> paco.run(main())
        Traceback (most recent call last):
        TimeoutError: paco.TimeoutLimit: the block did not finish within 0.01 s
    """

    def __init__(self, timeout: float | None, loop: Loop = None) -> None:
        self._timeout = check.timeout("TimeoutLimit", timeout)
        check.loop("TimeoutLimit", loop)
        self._loop = loop
        self._what = "TimeoutLimit: the block"
        self._end = ""
        self._task: asyncio.Task[Any] | None = None
        self._handle: asyncio.Handle | None = None
        self._requests = 0
        self._start = 0.0  # when the block was entered, on the loop's clock
        self._when: float | None = None
        self._deadline: Any = None  # that was in effect then
        #: Whether the timeout passed before the last block ended.
        self.expired: bool = False

    def __enter__(self) -> Self:
        loop = asyncio._get_running_loop()  # returns None instead of raising when no loop runs
        task = None if loop is None else asyncio.current_task(loop)
        if loop is None or task is None:
            raise RuntimeError("paco.TimeoutLimit: must be used inside a task, got none; enter it in an `async def`")
        if self._task is not None:
            raise RuntimeError("paco.TimeoutLimit: this TimeoutLimit is already in use; create one for each block")
        check.loop("TimeoutLimit", self._loop)
        self._requests = requested(task)
        self._task = task
        self.expired = False
        self._start = now = loop.time()
        self._deadline = current_end.get()
        seconds, end = within(self._timeout)
        self._end = end or f"{self._timeout} s"
        self._arm(loop, task, None if seconds is None else now + seconds, now)
        return self

    def _arm(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], when: float | None, now: float) -> None:
        self._when = when
        if when is None:
            self._handle = None
        elif when <= now:
            self._handle = loop.call_soon(self._expire, task)  # before what the first suspension schedules
        else:
            self._handle = loop.call_at(when, self._expire, task)

    def when(self) -> float | None:
        """Return the time at which the block is cancelled, on the event loop's clock, or ``None`` for no limit.

        It includes a nearer `deadline`. Before the first block it is ``None``; after a block it is that of the block.
        """
        return self._when

    def reschedule(self, at: float | None) -> None:
        """Cancel the block at another time than before; a nearer `deadline` still ends it.

        Use it to give more time to a block that makes progress: ``limit.reschedule(loop.time() + 10)``. May be called
        in any task of the same event loop.

        Args:
            at: The time on the event loop's clock; one that has passed cancels the block at its next suspension, and
                ``None`` means no limit.

        Raises:
            RuntimeError: The block is not running, or the timeout has passed.
        """
        expected = "a time of the event loop's clock (a number of 0 or more)"
        checked = check.seconds("TimeoutLimit.reschedule", "at", at, expected=expected)
        task, handle = self._task, self._handle
        if task is None or self.expired:
            why = "the timeout has passed" if self.expired else "its block is not running"
            raise RuntimeError(f"paco.TimeoutLimit.reschedule: {why}; reschedule inside the block, before its end")
        loop = task.get_loop()
        now, when, end = loop.time(), None if checked == math.inf else checked, ""
        if self._deadline is not None:
            left, end = self._deadline.within(None if when is None else when - now)
            when = now + left if end else when
        self._end = end or f"{max((when or 0) - self._start, 0):g} s"
        if handle is not None:
            handle.cancel()
        self._arm(loop, task, when, now)

    def _expire(self, task: asyncio.Task[Any]) -> None:
        self.expired = True
        task.cancel()

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        task, self._task = self._task, None
        handle, self._handle = self._handle, None
        self._deadline = None
        if handle is not None:
            handle.cancel()
        if not self.expired or task is None:
            return
        others = task.uncancel() > self._requests
        del task  # it may hold the error below, whose frames would refer to it: avoid a cycle
        if isinstance(exc, asyncio.CancelledError) and not others:
            raise TimeoutError(f"paco.{self._what} did not finish within {self._end}") from exc

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        self.__exit__(exc_type, exc, traceback)


@overload
def timeout(
    coro: Callable[P, Awaitable[T]], timeout: float | None = None, loop: Loop = None
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def timeout(coro: Awaitable[T], timeout: float | None = None, loop: Loop = None) -> Coroutine[Any, Any, T]: ...
@overload
def timeout(timeout: float | None = None, loop: Loop = None) -> Decorator: ...
@decorator
def timeout(coro: AnyCoroutineFunction | Awaitable[Any], timeout: float | None = None, loop: Loop = None) -> Any:
    """Limit the time of each call of a coroutine function, or of one coroutine object.

    After ``timeout`` seconds, the call is cancelled. When its cleanup has finished, ``TimeoutError`` is raised. All
    other rules, ``timeout`` and ``loop`` are those of `TimeoutLimit`: for example, if the call suppresses the
    cancellation and returns, its result is returned. The call runs in the caller's task.

    Also works as a decorator: ``@paco.timeout(10)``, ``@paco.timeout(timeout=10)``.

    Args:
        coro: The function to wrap. Or a coroutine object, or another awaitable that cannot be called; it starts when
            the returned coroutine object is awaited.

    Examples:
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
        checked = check.timeout("timeout", timeout)
        check.loop("timeout", loop)
    if not callable(coro) and inspect.isawaitable(coro):
        return _limited(coro, timeout, loop)
    check.function("timeout", coro)
    fn, what = coro, f"timeout: {check.called(coro)}"
    calls: _TimedCalls | None = None
    seconds = None if loop is not None else checked or None  # 0 is for `limiting`, too

    async def wrapper(*args: Any, **kw: Any) -> Any:
        nonlocal calls
        running = asyncio._get_running_loop()  # returns None instead of raising when no loop runs
        task = None if running is None or seconds is None else asyncio.current_task(running)
        if running is None or seconds is None or task is None or current_end.get() is not None:
            with limiting(what, timeout, loop):
                return await check.awaitable("timeout", fn, fn(*args, **kw))
        here = calls  # read once: another thread may replace it
        if here is None or here.loop() is not running:
            calls = here = _TimedCalls(running, seconds)
        call = here.enter(running, task)
        try:
            result = await check.awaitable("timeout", fn, fn(*args, **kw))
        except BaseException as error:
            if here.leave(call) and isinstance(error, asyncio.CancelledError):
                raise TimeoutError(f"paco.{what} did not finish within {timeout} s") from error
            raise
        else:
            here.leave(call)
            return result
        finally:
            del task, running, here, call, args, kw  # a kept error refers to this frame

    return keep(wrapper, fn)


class _TimedCall:
    """A call with a time limit.

    Attributes:
        when: The time of the loop at which it is cancelled.
        requests: How often its task had been asked to cancel before.
        expired: Whether the time limit has cancelled it.
    """

    __slots__ = ("expired", "requests", "task", "when")

    def __init__(self, when: float, task: asyncio.Task[Any]) -> None:
        self.when = when
        self.task: Any = task
        self.requests: int = requested(task)
        self.expired = False


class _TimedCalls:
    """The calls of a function in a loop. All have the same time limit, so one timer, for the oldest call, is enough."""

    __slots__ = ("_calls", "_context", "_seconds", "_timer", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.loop = weakref.ref(loop)
        self._seconds = seconds
        self._calls: dict[_TimedCall, None] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._context = contextvars.Context()  # so that the timer keeps no context of a caller alive

    def enter(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> _TimedCall:
        call = _TimedCall(loop.time() + self._seconds, task)
        self._calls[call] = None
        if self._timer is None:
            self._timer = loop.call_at(call.when, self._expire, loop, context=self._context)
        return call

    def leave(self, call: _TimedCall) -> bool:
        """End a call, and return whether its time limit alone has cancelled it."""
        task, call.task = call.task, None  # which may hold an error whose frames refer to the call
        if call.expired:
            return bool(task.uncancel() <= call.requests)
        self._calls.pop(call, None)
        if not self._calls and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return False

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel the calls whose time is up, and set the timer for the oldest of the others."""
        self._timer, now = None, loop.time()
        due = deque[_TimedCall]()
        for call in self._calls:
            if call.when > now:
                # A timer may fire early, by the resolution of the clock. It must not fire in each turn until the time.
                when = call.when if due else max(call.when, now + _TIMER)
                self._timer = loop.call_at(when, self._expire, loop, context=self._context)
                break
            due.append(call)
        for call in due:
            del self._calls[call]
        self._cancel(loop, due)

    def _cancel(self, loop: asyncio.AbstractEventLoop, due: deque[_TimedCall]) -> None:
        while due:
            call = due.popleft()
            if call.task is None:
                continue  # it has ended
            call.expired = True
            try:
                call.task.cancel()
            except BaseException:  # of a future that it awaits
                loop.call_soon(self._cancel, loop, due, context=self._context)
                raise


def limiting(what: str, timeout: float | None, loop: Loop = None) -> AbstractContextManager[object]:
    """Return a `TimeoutLimit` whose message says that ``what`` did not finish; a null context if there is no limit."""
    if loop is None and within(timeout)[0] is None:
        return _UNLIMITED
    limit = TimeoutLimit(timeout, loop)
    limit._what = what  # noqa: SLF001 - same module; no public parameter for the message
    return limit


def _limited(awaitable: Awaitable[T], timeout: float | None, loop: Loop) -> Coroutine[Any, Any, T]:
    what = f"timeout: {getattr(awaitable, '__name__', None) or 'the ' + type(awaitable).__name__}"

    async def wrapper() -> T:
        with limiting(what, timeout, loop):
            return await awaitable

    limited = wrapper()
    # If neither is awaited, Python warns once, of the coroutine that the user holds, and not also of the one inside.
    weakref.finalize(limited, check.discard, awaitable).atexit = False
    return limited
