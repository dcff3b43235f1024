"""Calls whose outcomes are futures that the user holds: what `wait` and the executor share."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, cast

from paco import _check
from paco._errors import as_item_error
from paco._source import Calls

if TYPE_CHECKING:
    from contextvars import Context

    from paco._nursery import Nursery

_WHEN: Final = (asyncio.ALL_COMPLETED, asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION)


class _Default(str):
    """A default that can be told from the same text given by the caller."""

    __slots__ = ()


#: The ``return_when`` of a call that names none.
ALL_COMPLETED: Final[str] = _Default(asyncio.ALL_COMPLETED)


def calls(name: str, given: tuple[Any, ...], parameter: str = "coros_or_futures") -> Calls:
    """Check coroutine objects, coroutine functions and futures, given one by one or as one iterable of them."""
    if len(given) == 1 and _is_many(given[0]):
        _check.iterable(name, given[0], parameter)
        given = tuple(given[0])
    with _check.discarding(*given):
        for one in given:
            if not (callable(one) or inspect.isawaitable(one)):
                expected = "coroutine objects, coroutine functions or futures"
                raise TypeError(f"paco.{name}: {parameter} must be {expected}, got {_check.shorten(one)}")
    return Calls(given)


def _is_many(one: object) -> bool:
    return isinstance(one, Iterable) and not isinstance(one, Awaitable)


def return_when(name: str, value: str) -> str:
    """Check one of asyncio's three constants."""
    if value not in _WHEN:
        raise ValueError(f"paco.{name}: return_when must be one of {', '.join(_WHEN)}, got {_check.shorten(value)}")
    return value


async def call(name: str, one: Any, *args: Any, **kw: Any) -> Any:
    """Await a coroutine object or a future, or what a coroutine function returns."""
    return await (one if inspect.isawaitable(one) else _check.awaitable(name, one, one(*args, **kw)))


class _RunningLoop:
    """Stands for the loop that runs when a callback is due, for a future that is made before any loop runs."""

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        return asyncio.get_running_loop().call_soon(callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        with closing(asyncio.new_event_loop()) as loop:
            loop.call_exception_handler(context)


class _LateFuture(asyncio.Future[Any]):
    """A future of whichever loop runs when it is awaited."""

    def __init__(self) -> None:
        super().__init__(loop=cast("asyncio.AbstractEventLoop", _RunningLoop()))

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


def new_future() -> asyncio.Future[Any]:
    """Return a future of the running loop, or one that is bound later when none runs."""
    loop = asyncio._get_running_loop()  # the form that answers None where none runs
    return _LateFuture() if loop is None else loop.create_future()


class Job:
    """A call, and the future that its outcome goes to. To cancel the future is to cancel the call."""

    __slots__ = ("_args", "_call", "_cancelled", "_kw", "_task", "future")

    def __init__(self, one: Any, *args: Any, **kw: Any) -> None:
        self._call = one
        self._args = args
        self._kw = kw
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False
        self.future: asyncio.Future[Any] = one if asyncio.isfuture(one) else new_future()

    def __repr__(self) -> str:
        return f"<paco job {_check.shorten(self._call)}>"

    async def run(self, name: str) -> Any:
        """Await the call and settle the future with a result; an error is raised, for the caller to `fail` with."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        if self.future.done() and (self._call is not self.future or self.future.cancelled()):
            self.discard()
            return None
        self._task = task
        self.future.add_done_callback(self._cancel)
        try:
            result = await call(name, self._call, *self._args, **self._kw)
        except asyncio.CancelledError as error:
            if self._cancelled:
                task.uncancel()  # it was meant for the call, and has ended that
                return None
            if self._call is self.future and self.future.cancelled() and not task.cancelling():
                return None
            self.future.cancel()
            if task.cancelling():
                raise
            raise as_item_error(error) from error
        finally:
            self._task = None
            self.future.remove_done_callback(self._cancel)
        if not self.future.done():
            self.future.set_result(result)
        return result

    def fail(self, error: BaseException, *, catch: bool, heard: bool) -> None:
        """Settle the future with an error: as its result when ``catch``, and as one that is known when ``heard``."""
        if not self.future.done():
            error = as_item_error(error)
            if catch:
                self.future.set_result(error)
            else:
                self.future.set_exception(error)
        if heard and not self.future.cancelled():
            self.future.exception()

    def _cancel(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled() and self._task is not None and self._call is not future:
            self._cancelled = True
            self._task.cancel()

    def discard(self) -> None:
        """Give up a call that was not started."""
        _check.discard(self._call)
        if self._call is not self.future:
            self.future.cancel()


class Jobs(Calls):
    """The jobs of a run."""

    def discard(self) -> None:
        """Give up those that the run has not come to."""
        for job in cast("list[Job]", self):
            if not job.future.done():
                job.discard()

    def futures(self) -> tuple[set[asyncio.Future[Any]], set[asyncio.Future[Any]]]:
        """Return the futures that are done, and the others."""
        futures = {job.future for job in cast("list[Job]", self)}
        done = {future for future in futures if future.done()}
        return done, futures - done


def _resolve(future: asyncio.Future[None]) -> bool:
    if future.done():
        return False
    future.set_result(None)
    return True


async def until(run: Nursery, jobs: Jobs, *, timeout: float | None, when: str) -> bool:
    """Wait for a run until ``when`` holds or ``timeout`` has passed, which it returns; the run may then go on.

    A cancellation meanwhile ends the run, and is raised when everything has ended.
    """
    decided = run.watch()
    late = False

    def decide(future: asyncio.Future[Any]) -> None:
        if when == asyncio.FIRST_COMPLETED or (not future.cancelled() and future.exception() is not None):
            _resolve(decided)

    def expire() -> None:
        nonlocal late
        late = late or _resolve(decided)

    timer = None if timeout is None else asyncio.get_running_loop().call_later(timeout, expire)
    watched = [job.future for job in jobs] if when != asyncio.ALL_COMPLETED else []
    for future in watched:
        future.add_done_callback(decide)
    try:
        await decided
    except asyncio.CancelledError as error:
        run.stop()
        await run.join(error)
    finally:
        if timer is not None:
            timer.cancel()
        for future in watched:
            future.remove_done_callback(decide)
    return late
