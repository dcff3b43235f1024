"""Calls whose outcomes are set on futures that the user holds; shared by `wait` and the executor."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast

from paco import events
from paco._base import check
from paco._base.errors import as_item_error, trim
from paco._engine.failure import Failure
from paco._engine.source import Calls

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextvars import Context

    from paco._engine.run import Scheduler

_WHEN: Final = (asyncio.ALL_COMPLETED, asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION)


class _Default(str):
    """A default that is distinguishable from the same text passed by the caller."""

    __slots__ = ()


#: The default of ``return_when``.
ALL_COMPLETED: Final[str] = _Default(asyncio.ALL_COMPLETED)


def calls(name: str, given: tuple[Any, ...], parameter: str = "coros_or_futures") -> Calls:
    """Check coroutine objects, coroutine functions and futures, passed one by one or as one iterable; return them."""
    many: Iterable[Any] = given
    if len(given) == 1 and _is_many(given[0]):
        many = given[0]
        check.iterable(name, many, parameter)
    found = Calls()
    try:
        found.extend(many)
    except BaseException:
        found.discard()
        raise
    for one in found:
        if not (callable(one) or check.is_awaitable(one)):
            found.discard()
            raise TypeError(check.refusal(name, parameter, "coroutine objects, coroutine functions or futures", one))
    return found


def _is_many(one: object) -> bool:
    return isinstance(one, Iterable) and not isinstance(one, Awaitable)


def return_when(name: str, value: str) -> str:
    """Check that ``value`` is one of asyncio's three constants, and return it."""
    if value not in _WHEN:
        raise ValueError(f"paco.{name}: return_when must be one of {', '.join(_WHEN)}, got {check.shorten(value)}")
    return value


def begun(name: str, one: Any, *args: Any, **kw: Any) -> Awaitable[Any]:
    """Return a coroutine object or a future, or what a coroutine function returns."""
    return one if check.is_awaitable(one) else check.awaitable(name, one, one(*args, **kw))


async def call(name: str, one: Any, *args: Any, **kw: Any) -> Any:
    """Await what `begun` returns."""
    return await begun(name, one, *args, **kw)


def caller(name: str, calls: Calls) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a function that awaits one of the calls as `call` does. An awaitable that was passed twice runs once."""
    counts = Counter(id(one) for one in calls if check.is_awaitable(one) and not asyncio.isfuture(one))
    repeated = {key for key, count in counts.items() if count > 1}
    outcomes = dict[int, asyncio.Future[Any]]()

    async def once(one: Any, *args: Any, **kw: Any) -> Any:
        if id(one) not in repeated:
            return await call(name, one, *args, **kw)
        if id(one) in outcomes:
            return await asyncio.shield(outcomes[id(one)])
        outcome = outcomes[id(one)] = asyncio.get_running_loop().create_future()
        try:
            result = await one
        except Exception as error:
            outcome.set_exception(error)
            outcome.exception()  # it is raised here, too
            raise
        else:
            outcome.set_result(result)
            return result
        finally:
            outcome.cancel()  # if it has no outcome, the call was cancelled

    return once if repeated else partial(call, name)


class _RunningLoop:
    """The loop of a future made while no loop is running. Forwards to the loop that runs when a callback is due."""

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        return asyncio.get_running_loop().call_soon(callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        with closing(asyncio.new_event_loop()) as loop:
            loop.call_exception_handler(context)


class CallFuture(asyncio.Future[Any]):
    """The future of a call. It belongs to the running loop or, if none is running, to the loop that runs later.

    Like a task, it is done when the call has ended, not when it is cancelled: the coroutine may still clean up.
    """

    #: The task that is running the call.
    task: asyncio.Task[Any] | None = None
    #: Whether this future has cancelled the task.
    cancelled_task: bool = False

    def __init__(self) -> None:
        loop = asyncio._get_running_loop()  # returns None instead of raising when no loop runs
        super().__init__(loop=cast("asyncio.AbstractEventLoop", _RunningLoop()) if loop is None else loop)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().get_loop()
        return asyncio.get_running_loop() if isinstance(loop, _RunningLoop) else loop

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the call: immediately if it is not running, otherwise through its task, once."""
        if self.task is None:
            return super().cancel(msg)
        if not self.cancelled_task:
            self.cancelled_task = True
            self.task.cancel(msg)
        return True


class Job:
    """A call, and the future of its outcome. Cancelling the future cancels the call."""

    __slots__ = ("_args", "_kw", "_own", "call", "future", "is_awaitable")

    def __init__(self, one: Any, *args: Any, **kw: Any) -> None:
        self.call: Any = one
        #: Whether the call is known to be an awaitable, not a function.
        self.is_awaitable: bool = False
        self._args = args
        self._kw = kw
        self._own = None if asyncio.isfuture(one) else CallFuture()
        self.future: asyncio.Future[Any] = one if self._own is None else self._own

    def __repr__(self) -> str:
        return f"<paco job {check.shorten(self.call)}>"

    def over(self) -> bool:
        """Return whether there is nothing to run. A future that was passed in and is done still has to be awaited."""
        return self.future.cancelled() if self._own is None else self._own.done()

    async def run(self, run: Scheduler, name: str, *, catch: bool) -> tuple[Any, Exception | None]:
        """Await the call, set its outcome on the future, and return the result and the error, if any.

        With ``catch``, an error is set as the result of the future. A call whose future was cancelled has no error; a
        call that ends cancelled for another reason has failed.
        """
        task, own = cast("asyncio.Task[Any]", asyncio.current_task()), self._own
        result, failed = None, None
        try:
            if own is None:
                result = None if self.future.cancelled() else await self.call
            elif not own.done():
                own.task = task  # meanwhile, cancelling the future cancels the task
                try:
                    result = await begun(name, self.call, *self._args, **self._kw)
                finally:
                    own.task = None
        except asyncio.CancelledError as error:
            expected = self._was_cancelled(task)
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
            del self, own, failed  # a kept error refers to this frame: avoid a cycle

    def _was_cancelled(self, task: asyncio.Task[Any]) -> bool:
        """Return whether the future was cancelled, and with it the call, which has ended."""
        if self._own is None:
            return self.future.cancelled()
        if self._own.cancelled_task:
            task.uncancel()  # the cancellation was for the call
        return self._own.cancelled_task

    def _settle(self, result: Any, failed: BaseException | None, *, catch: bool) -> None:
        if self.future.done():
            self.discard()
        elif failed is None or catch:
            self.future.set_result(result if failed is None else failed)
        else:
            self.future.set_exception(failed)

    def mark_retrieved(self) -> None:
        """Keep the event loop from reporting an exception of the future that the user has received in another way."""
        if not self.future.cancelled():
            self.future.exception()

    def discard(self) -> None:
        """Cancel the call if it has not started."""
        check.discard(self.call)
        if self._own is not None and not self._own.done():  # cancelling a failed one marks its exception as retrieved
            self._own.cancel()


class Jobs(Calls):
    """The jobs of a run."""

    _look: Callable[[asyncio.Future[Any]], object] | None = None

    def add(self, job: Job) -> None:
        """Add a job during the run."""
        self.append(job)
        if self._look is not None:
            job.future.add_done_callback(self._look)

    @contextmanager
    def looking(self, look: Callable[[asyncio.Future[Any]], object]) -> Generator[None]:
        """Return a block in which ``look`` is called with the future of each job that is done."""
        self._look = look
        for future in self.futures():
            future.add_done_callback(look)
        try:
            yield
        finally:
            self._look = None
            for future in self.futures():
                future.remove_done_callback(look)

    def discard(self) -> None:
        """Cancel the jobs that the run has not started."""
        for job in cast("list[Job]", self):
            if job.future.cancelled() or not job.future.done():
                job.discard()

    def raise_instead(self, name: str, error: BaseException) -> None:
        """Raise ``error``, with a note of the errors in futures that the user will not get because of it."""
        failure = Failure(name)
        failure.first(error, "")
        for number, job in enumerate(cast("list[Job]", self)):
            if job.future.done() and not job.future.cancelled():
                failure.late(job.future.exception(), f"item {number}")
        failure.throw(asyncio.get_running_loop())

    def futures(self) -> set[asyncio.Future[Any]]:
        """Return the futures of all jobs."""
        return {job.future for job in cast("list[Job]", self)}

    def divide(self) -> tuple[set[asyncio.Future[Any]], set[asyncio.Future[Any]]]:
        """Return the futures that are done and those that are pending."""
        futures = self.futures()
        done = {future for future in futures if future.done()}
        return done, futures - done


@asynccontextmanager
async def owned(run: Scheduler) -> AsyncGenerator[None]:
    """If the block raises or is cancelled, stop the run and wait until it has ended before raising."""
    try:
        yield
    except GeneratorExit:
        run.abandon_soon()  # the waiting coroutine was closed, so it cannot await
        raise
    except BaseException as error:
        run.stop()
        await run.join(error if isinstance(error, asyncio.CancelledError) else None)
        raise


async def until(run: Scheduler, jobs: Jobs, *, when: str, timeout: float | None = None) -> None:
    """Wait until the run has ended, ``when`` holds, or ``timeout`` seconds have passed.

    A run that has not ended by then continues without a caller: see `Nursery.let_go`.
    """
    decided = run.until_done()

    def decide() -> None:
        if not decided.done():
            decided.set_result(None)

    def look(future: asyncio.Future[Any]) -> None:
        if when == asyncio.FIRST_COMPLETED or (not future.cancelled() and future.exception() is not None):
            decide()

    with ExitStack() as callbacks:
        if timeout is not None and timeout != inf:
            callbacks.callback(asyncio.get_running_loop().call_later(timeout, decide).cancel)
        if when != asyncio.ALL_COMPLETED:
            callbacks.enter_context(jobs.looking(look))
        await decided
    if run.ending():
        await run.join()
    else:
        run.let_go()
