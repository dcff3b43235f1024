"""The state behind `paco.once` and `paco.times`: calls that are counted, and a call that several callers share."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, cast

from paco._base import check
from paco._base.decorator import keep
from paco._base.errors import ItemCancelled, add_note
from paco._base.types import P, T
from paco._engine.nursery import background

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import TracebackType


class SharedCall(Generic[T]):
    """A call in a task of its own that any number of callers wait for.

    It goes on while one of them waits. When the last of them is cancelled the call is cancelled and has finished before
    that cancellation goes on, so nothing is left running. It sees the context variables of whoever started it. Its
    outcome is kept without the task, which would keep alive a loop and that context.

    Args:
        name: The operation, for messages: ``once``.
        title: What is called, for the name of the task.
        awaitable: What to await.
        void: Called when the call has ended with neither a result nor an error that counts.
    """

    def __init__(self, name: str, title: str, awaitable: Awaitable[T], void: Callable[[], None]) -> None:
        self._name = name
        self._void = void
        self._waiting = 0
        self._abandoned = False
        self._counts = True
        self._value: T | None = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._task: asyncio.Task[T] | None = background(_await(awaitable), f"paco.{name} {title}")
        # The first callback of the task: it has run when those who wait are woken.
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
        # What ends a call from outside is not its outcome, and is not to be raised again for ever.
        self._counts = not (self._abandoned or task.cancelled()) and isinstance(self._error, Exception)
        if not self._counts:
            self._void()

    def is_lost(self) -> bool:
        """Whether the call belongs to another event loop, which stopped in the middle of it; then it is written off.

        Raises:
            RuntimeError: That loop is running, in another thread.
        """
        if self._task is None:
            return False
        loop = self._task.get_loop()
        if loop is asyncio.get_running_loop():
            return False
        if loop.is_running():
            raise RuntimeError(f"paco.{self._name}: is waiting for a call in the event loop of another thread")
        self._void = _ignore  # its place is taken by the call that is made instead
        return True

    async def join(self) -> bool:
        """Wait until the call has ended; false when it was given up meanwhile, and is to be made again."""
        task = self._task
        if task is not None:
            if task is asyncio.current_task():
                raise RuntimeError(f"paco.{self._name}: the function calls itself, and would wait for itself for ever")
            self._waiting += 1
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as cancelled:
                if self._waiting == 1 and not task.done():
                    await self._abandon(task, cancelled)
                raise
            finally:
                self._waiting -= 1
        return self._counts or not self._abandoned

    async def _abandon(self, task: asyncio.Task[T], cancelled: asyncio.CancelledError) -> None:
        """Cancel the call and wait for its end, through repeated cancellation too."""
        self._abandoned = True
        task.cancel()
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if self._error is not None and not isinstance(self._error, ItemCancelled):
            add_note(cancelled, f"paco.{self._name}: the call failed in its cleanup: {check.shorten(self._error)}")

    def result(self) -> T:
        """Return the result of the call, or raise its error, as it was when the call ended."""
        if self._error is not None:
            raise self._error.with_traceback(self._traceback)
        return cast("T", self._value)


def _ignore() -> None:
    pass


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


class Calls(Generic[P, T]):
    """The calls of a function that are still allowed, and the last one.

    Args:
        name: The operation, for messages: ``once``.
        coro: The function.
        limit: How many calls are allowed. One that ends cancelled does not count.
    """

    def __init__(self, name: str, coro: Callable[P, Awaitable[T]], limit: int) -> None:
        self.left = limit
        self._name = name
        self._coro = coro
        self._last: SharedCall[T] | None = None

    async def direct(self, *args: P.args, **kw: P.kwargs) -> T:
        """Make a call that nobody will ask about later, in the caller's task."""
        awaitable = check.awaitable(self._name, self._coro, self._coro(*args, **kw))
        self.left -= 1
        try:
            return await awaitable
        except BaseException as error:
            if not isinstance(error, Exception):
                self._give_back()
            raise

    async def shared(self, *args: P.args, **kw: P.kwargs) -> T:
        """Make a call; when none is left, share the outcome of the last, and wait for it if it is still running."""
        while True:
            if self.left > 1:
                return await self.direct(*args, **kw)
            last = self._last
            if self.left or last is None or last.is_lost():
                # Called before it is counted: wrong arguments are the mistake of this caller alone.
                awaitable = check.awaitable(self._name, self._coro, self._coro(*args, **kw))
                last = self._last = SharedCall(self._name, check.title(self._coro), awaitable, self._give_back)
                self.left = 0
            if await last.join():
                return last.result()

    def _give_back(self) -> None:
        self.left += 1


def counted(
    name: str,
    coro: Callable[..., Awaitable[Any]],
    limit: int,
    raise_exception: bool,
    return_value: Any,
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Wrap a function so that ``limit`` calls of it run: the whole of `paco.times`, and of `paco.once` with 1."""
    check.function(name, coro)
    check.flag(name, "raise_exception", raise_exception)
    calls = Calls(name, coro, check.integer(name, "limit", limit, 1))
    share = not raise_exception and return_value is None

    async def wrapper(*args: Any, **kw: Any) -> Any:
        if share:
            return await calls.shared(*args, **kw)
        if calls.left:
            return await calls.direct(*args, **kw)
        if raise_exception:
            allowed = f"{limit} time" + "s" * (limit > 1)
            raise RuntimeError(f"paco.{name}: {check.called(coro)} may be called {allowed}, and has been")
        return return_value

    return keep(wrapper, coro)
