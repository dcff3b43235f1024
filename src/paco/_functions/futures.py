"""Calls whose outcomes are futures that the user holds: what `wait` and the executor share."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast

from paco import events
from paco._base import check
from paco._base.errors import Failure, as_item_error, trim
from paco._engine.source import Calls

if TYPE_CHECKING:
    from contextvars import Context

    from paco._engine.run import Run

_WHEN: Final = (asyncio.ALL_COMPLETED, asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION)


class _Default(str):
    """A default that can be told from the same text given by the caller."""

    __slots__ = ()


#: The ``return_when`` of a call that names none.
ALL_COMPLETED: Final[str] = _Default(asyncio.ALL_COMPLETED)


def calls(name: str, given: tuple[Any, ...], parameter: str = "coros_or_futures") -> Calls:
    """Check coroutine objects, coroutine functions and futures, given one by one or as one iterable of them."""
    if len(given) == 1 and _is_many(given[0]):
        check.iterable(name, given[0], parameter)
        given = _read(given[0])
    with check.discarding(*given):
        for one in given:
            if not (callable(one) or inspect.isawaitable(one)):
                expected = "coroutine objects, coroutine functions or futures"
                raise TypeError(f"paco.{name}: {parameter} must be {expected}, got {check.shorten(one)}")
    return Calls(given)


def _read(many: Iterable[Any]) -> tuple[Any, ...]:
    """Read an iterable of calls; when it fails, the coroutine objects that it has made are closed."""
    read: list[Any] = []
    try:
        read.extend(many)
    except BaseException:
        check.discard(*read)
        raise
    return tuple(read)


def _is_many(one: object) -> bool:
    return isinstance(one, Iterable) and not isinstance(one, Awaitable)


def return_when(name: str, value: str) -> str:
    """Check one of asyncio's three constants."""
    if value not in _WHEN:
        raise ValueError(f"paco.{name}: return_when must be one of {', '.join(_WHEN)}, got {check.shorten(value)}")
    return value


async def call(name: str, one: Any, *args: Any, **kw: Any) -> Any:
    """Await a coroutine object or a future, or what a coroutine function returns."""
    return await (one if inspect.isawaitable(one) else check.awaitable(name, one, one(*args, **kw)))


class _RunningLoop:
    """Stands for the loop that runs when a callback is due, for a future that is made before any loop runs."""

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        return asyncio.get_running_loop().call_soon(callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        with closing(asyncio.new_event_loop()) as loop:
            loop.call_exception_handler(context)


class CallFuture(asyncio.Future[Any]):
    """The future of a call, of the running loop, or of whichever loop runs later when none does yet.

    Like that of a task it is done when the call has ended, not when it is asked to: its coroutine may still clean up.
    """

    #: The task that runs the call, while it does.
    task: asyncio.Task[Any] | None = None
    #: Whether the task was cancelled by way of this future.
    asked: bool = False

    def __init__(self) -> None:
        loop = asyncio._get_running_loop()  # the form that answers None where none runs
        super().__init__(loop=cast("asyncio.AbstractEventLoop", _RunningLoop()) if loop is None else loop)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().get_loop()
        return asyncio.get_running_loop() if isinstance(loop, _RunningLoop) else loop

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the call, once; at once, if it does not run."""
        if self.task is None:
            return super().cancel(msg)
        if not self.asked:
            self.asked = True
            self.task.cancel(msg)
        return True


class Job:
    """A call, and the future that its outcome goes to. To cancel the future is to cancel the call."""

    __slots__ = ("_args", "_call", "_kw", "_own", "future")

    def __init__(self, one: Any, *args: Any, **kw: Any) -> None:
        self._call = one
        self._args = args
        self._kw = kw
        self._own = None if asyncio.isfuture(one) else CallFuture()
        self.future: asyncio.Future[Any] = one if self._own is None else self._own

    def __repr__(self) -> str:
        return f"<paco job {check.shorten(self._call)}>"

    def over(self) -> bool:
        """Say whether there is nothing to run; the outcome of a future that was given is still to be heard."""
        return self.future.cancelled() if self._own is None else self._own.done()

    async def run(self, run: Run, name: str, *, catch: bool) -> tuple[Any, Exception | None]:
        """Await the call, settle the future, and return the result and the error; with neither it was cancelled.

        With ``catch`` an error is the result of the future. A call that ends cancelled by itself has failed.
        """
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        result, failed = None, None
        try:
            if not self.over():
                result = await self._outcome(name, task)
        except asyncio.CancelledError as error:
            expected = self.future.cancelled() if self._own is None else self._own.asked
            if expected and self._own is not None:
                task.uncancel()  # it was meant for the call, and has ended that
            if run.ending() or (run.was_let_go() and task.cancelling()):
                self.future.cancel()
                raise
            failed = None if expected else as_item_error(error)
            if expected or not catch:
                self.future.cancel()
        except Exception as error:
            trim(error)
            failed = as_item_error(error)
        if failed is not None:
            events.failed(failed)
        self._settle(result, failed, catch=catch)
        try:
            return result, cast("Exception | None", failed)
        finally:
            del self, failed  # the frames of an error that is kept lead back here: it would be part of a cycle

    async def _outcome(self, name: str, task: asyncio.Task[Any]) -> Any:
        """Await the call; meanwhile to cancel its future is to cancel the task."""
        if self._own is None:
            return await self._call
        self._own.task = task
        try:
            return await call(name, self._call, *self._args, **self._kw)
        finally:
            self._own.task = None
            del self

    def _settle(self, result: Any, failed: BaseException | None, *, catch: bool) -> None:
        if self.future.done():
            self.discard()
        elif failed is None or catch:
            self.future.set_result(result if failed is None else failed)
        else:
            self.future.set_exception(failed)

    async def calm(self) -> None:
        """Take the cancellation of a call that has awaited nothing since, so that it does not hit what comes next."""
        if cast("asyncio.Task[Any]", asyncio.current_task()).cancelling():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    def heard(self) -> None:
        """Keep the loop from reporting an exception of the future that somebody has been told."""
        if not self.future.cancelled():
            self.future.exception()

    def discard(self) -> None:
        """Give up a call, if it was not started."""
        check.discard(self._call)
        if self._own is not None and not self._own.done():  # cancel() of a failed one would count as its retrieval
            self._own.cancel()


class Jobs(Calls):
    """The jobs of a run."""

    def discard(self) -> None:
        """Give up those that the run has not come to."""
        for job in cast("list[Job]", self):
            if job.future.cancelled() or not job.future.done():
                job.discard()

    def lost(self, name: str, error: BaseException) -> None:
        """Tell of the errors in futures that nobody gets, in a note of what is raised instead, and raise that."""
        failure = Failure(name)
        failure.first(error, "")
        for number, job in enumerate(cast("list[Job]", self)):
            if job.future.done() and not job.future.cancelled():
                failure.late(job.future.exception(), f"item {number}")
        failure.throw(asyncio.get_running_loop())

    def futures(self) -> set[asyncio.Future[Any]]:
        """Return what the outcomes go to."""
        return {job.future for job in cast("list[Job]", self)}

    def divide(self) -> tuple[set[asyncio.Future[Any]], set[asyncio.Future[Any]]]:
        """Return the futures that are done, and the others."""
        futures = self.futures()
        done = {future for future in futures if future.done()}
        return done, futures - done


@asynccontextmanager
async def owned(run: Run) -> AsyncGenerator[None]:
    """Let no error out of the block, and no cancellation, before the run has ended."""
    try:
        yield
    except GeneratorExit:
        run.abandon_soon()  # the coroutine that waits is closed by hand
        raise
    except BaseException as error:
        run.stop()
        await run.join(error if isinstance(error, asyncio.CancelledError) else None)
        raise


async def until(run: Run, jobs: Jobs, *, when: str, timeout: float | None = None) -> None:
    """Wait until a run has ended; or, from when on it is let go, until ``when`` holds or ``timeout`` has passed."""
    decided = run.watch()

    def decide() -> None:
        if not decided.done():
            decided.set_result(None)

    def look(future: asyncio.Future[Any]) -> None:
        if when == asyncio.FIRST_COMPLETED or (not future.cancelled() and future.exception() is not None):
            decide()

    with ExitStack() as callbacks:
        if timeout is not None and timeout != inf:
            callbacks.callback(asyncio.get_running_loop().call_later(timeout, decide).cancel)
        for future in jobs.futures() if when != asyncio.ALL_COMPLETED else ():
            future.add_done_callback(look)
            callbacks.callback(future.remove_done_callback, look)
        await decided
    if run.ending():
        await run.join()
    else:
        run.let_go()
