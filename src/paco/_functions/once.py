"""The state of `paco.once` and `paco.times`: the number of calls left, and a call that several callers share."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, cast

from paco._base import check
from paco._base.deadline import detached, detaching
from paco._base.decorator import keep
from paco._base.errors import ItemCancelled, add_note
from paco._base.types import P, T
from paco._engine.nursery import background
from paco._functions.futures import call
from paco._functions.timeout import limiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import TracebackType


class SharedCall(Generic[T]):
    """A call in its own task that any number of callers wait for; it is cancelled with the last of them.

    A `deadline` of a caller ends only its own wait. Afterwards only the outcome of the call is kept: the task would
    keep its event loop and context alive. ``make`` makes the call. ``void`` is called if it ends without a result or
    an error that counts.
    """

    def __init__(self, name: str, coro: Any, make: Callable[[], Awaitable[T]], void: Callable[[], None]) -> None:
        context = detached()
        awaitable = check.awaitable(name, coro, context.run(make))
        self._name, self._title = name, check.title(coro)
        self._void = void
        self._waiting = 0
        self._abandoned = False
        self._counts = True
        self._value: T | None = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._task: asyncio.Task[T] | None = background(call(name, awaitable), f"paco.{name} {self._title}", context)
        # Added first, so that it runs before the callers are woken.
        self._task.add_done_callback(self._settle)

    def _settle(self, task: asyncio.Task[T]) -> None:
        self._task = None
        if task.cancelled():
            self._error = ItemCancelled(f"paco.{self._name}: the call ended cancelled by itself")
        elif (error := task.exception()) is None:
            self._value = task.result()
            return
        else:
            self._error, self._traceback = error, error.__traceback__
        # A cancellation or an exit ended the call from outside. Later calls must not raise it again.
        self._counts = not (self._abandoned or task.cancelled()) and isinstance(self._error, Exception)
        if not self._counts:
            self._void()

    def is_lost(self) -> bool:
        """Return whether the call will never end, because its event loop stopped before it ended.

        Raises:
            RuntimeError: That loop is running, in another thread.
        """
        if self._task is None:
            return False
        loop = self._task.get_loop()
        if loop is asyncio.get_running_loop():
            return False
        if loop.is_running():
            elsewhere = "a call is running in the event loop of another thread"
            raise RuntimeError(f"paco.{self._name}: {elsewhere}; wrap the function once per thread")
        self._void = lambda: None  # the call that replaces it is counted in its place
        return True

    async def join(self) -> bool:
        """Wait until the call has ended. Return false if it was cancelled meanwhile and has to be repeated."""
        task = self._task
        if task is not None:
            if task is asyncio.current_task():
                deadlock = "the function calls itself, which would deadlock; call the unwrapped function instead"
                raise RuntimeError(f"paco.{self._name}: {deadlock}")
            with limiting(f"{self._name}: the wait for {self._title}", None):
                await self._wait(task)
        return self._counts or not self._abandoned

    async def _wait(self, task: asyncio.Task[T]) -> None:
        self._waiting += 1
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as cancelled:
            if self._waiting == 1 and not task.done():
                await self._abandon(task, cancelled)
            raise
        finally:
            self._waiting -= 1

    async def _abandon(self, task: asyncio.Task[T], cancelled: asyncio.CancelledError) -> None:
        """Cancel the call and wait until it has ended, even if the caller is cancelled again."""
        self._abandoned = True
        task.cancel()
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if self._error is not None and not isinstance(self._error, ItemCancelled):
            add_note(cancelled, f"paco.{self._name}: the call failed during cleanup: {check.shorten(self._error)}")

    def result(self) -> T:
        """Return the result of the call, or raise its error with the traceback that it had when the call ended."""
        if self._error is not None:
            raise self._error.with_traceback(self._traceback)
        return cast("T", self._value)


class CountedCalls(Generic[P, T]):
    """The number of calls of a function that are left, and its last call. A call that ends cancelled does not count."""

    def __init__(self, name: str, coro: Callable[P, Awaitable[T]], limit: int) -> None:
        self.left = limit
        self._name = name
        self._coro = coro
        self._title = check.title(coro)
        self._last: SharedCall[T] | None = None

    async def direct(self, *args: P.args, **kw: P.kwargs) -> T:
        """Make a call in the caller's task. Its outcome is not shared.

        A `deadline` of the caller cancels the call, so that it does not count, instead of making it fail inside.
        """
        with limiting(f"{self._name}: {self._title}", None) as bounded, detaching() if bounded else nullcontext():
            awaitable = check.awaitable(self._name, self._coro, self._coro(*args, **kw))
            self.left -= 1
            try:
                return await awaitable
            except BaseException as error:
                if not isinstance(error, Exception):
                    self._give_back()
                raise

    async def shared(self, *args: P.args, **kw: P.kwargs) -> T:
        """Make a call or, if none is left, wait for the last call and return or raise its outcome."""
        while True:
            if self.left > 1:
                return await self.direct(*args, **kw)
            last = self._last
            if self.left or last is None or last.is_lost():
                # Called before it is counted: an error in the arguments concerns this caller only.
                make = partial(self._coro, *args, **kw)
                last = self._last = SharedCall(self._name, self._coro, make, self._give_back)
                self.left = 0
            if await last.join():
                return last.result()

    def _give_back(self) -> None:
        self.left += 1


def counted(
    name: str, coro: Callable[..., Awaitable[Any]], limit: int, raise_exception: bool, return_value: Any
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a function that runs ``coro`` at most ``limit`` times: `paco.times`, and with a limit of 1 `paco.once`."""
    check.function(name, coro)
    check.flag(name, "raise_exception", raise_exception)
    calls = CountedCalls(name, coro, check.integer(name, "limit", limit, 1))
    share = not raise_exception and return_value is None

    async def wrapper(*args: Any, **kw: Any) -> Any:
        if share:
            return await calls.shared(*args, **kw)
        if calls.left:
            return await calls.direct(*args, **kw)
        if raise_exception:
            allowed = f"{limit} time" + "s" * (limit > 1)
            raise RuntimeError(f"paco.{name}: {check.called(coro)} may be called only {allowed}")
        return return_value

    return keep(wrapper, coro)
