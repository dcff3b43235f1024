"""`ConcurrentExecutor`: add coroutines, run them under a limit, and listen to events."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, overload

from paco import limits
from paco._base import check
from paco._base.keywords import check_keywords
from paco._engine.nursery import background
from paco._engine.sinks import Drop
from paco._engine.workers import absorb_cancellation
from paco._functions import futures
from paco._functions.feed import Feed
from paco._functions.room import Room
from paco._stream.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from typing import Self

    from paco._base.types import Loop, P, T
    from paco._engine.run import Scheduler
    from paco.limits import AnyLimit, Limiter

Futures: TypeAlias = set[asyncio.Future[Any]]
Listener: TypeAlias = Callable[..., object]

_NAME: Final = "ConcurrentExecutor"
#: The maximum number of coroutines that wait to start before `put` waits, whatever the limit.
_MOST_WAITING: Final = 100
_EVENTS: Final = ("start", "finish", "task.start", "task.finish", "task.error")


class ConcurrentExecutor:
    """Run coroutines that are added one by one, at most ``limit`` at once, and call listeners on events.

    A coroutine that is added during a run joins it, and starts when a slot is free. There are two ways to run:

    - `run` runs what has been added, and what is added meanwhile, and returns the futures.
    - An ``async with`` block is a live pool: everything starts as soon as a slot is free, and leaving the block waits
      for it. If the block raises, the executor cancels everything instead.

    A listener may be sync or async. If it raises, the run ends with its error. The events and their arguments are:

    - ``start (executor)`` and ``finish (executor)``, before and after a run; a block is one run;
    - ``task.start (task)``, then ``task.finish (task, result)`` or ``task.error (task, error)``, for each coroutine.

    If the run of a block fails, because of a listener, the limit or a `deadline`, everything in it is cancelled, `add`
    and `put` raise ``RuntimeError``, and leaving the block raises the error.

    An executor belongs to one event loop at a time, and is not thread-safe: from another thread, use
    ``loop.call_soon_threadsafe(executor.add, coro)``.

    Args:
        limit: The maximum number of coroutines in flight, or a limit such as `Rate`; 0 or ``None`` for no limit.
        loop: ``None`` or the running loop. Accepted for compatibility; has no effect.
        coros: Coroutine objects and functions to start with.
        ignore_empty: Return two empty sets from a run without coroutines, instead of raising ``ValueError``.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> async def main():
        ...     executor = paco.ConcurrentExecutor(limit=2)
        ...     future = executor.add(double, 21)
        ...     await executor.run()
        ...     return future.result()
        >>> paco.run(main())
        42
        >>> async def live():
        ...     async with paco.ConcurrentExecutor(limit=2) as pool:
        ...         first = await pool.put(double, 1)
        ...         second = pool.add(double, await first)
        ...     return second.result()
        >>> paco.run(live())
        4
    """

    def __init__(
        self,
        limit: AnyLimit | None = 10,
        loop: Loop = None,
        coros: Iterable[Any] | None = None,
        ignore_empty: bool = False,
    ) -> None:
        check.loop(_NAME, loop)
        self._limit: int | Limiter = limits.checked(_NAME, limit)
        check.flag(_NAME, "ignore_empty", ignore_empty)
        self.ignore_empty: bool = ignore_empty
        #: Coroutines that were added and that no run has taken.
        self.pool: deque[futures.Job] = deque()
        self._added: dict[int, futures.Job] = {}  # the jobs of awaitables in the pool, by id
        self._errors: list[Exception] = []
        self._failed: list[futures.Job] = []  # whose errors were not read
        self._listeners: dict[str, list[Listener]] = {}
        self._feed: Feed | None = None  # the jobs of the run in progress
        self._run: Scheduler | None = None  # the latest, once its `start` listeners have been called
        self._room = Room()  # the callers of `put` that wait
        self._paused: asyncio.Event | None = None  # set at the end of the pause
        self._block: contextvars.Context | None = None  # in which the run of an ``async with`` block runs
        self._driver: asyncio.Task[None] | None = None  # which runs what is added in the block
        self._claimed: object = None  # the pool for which `run` was called
        self._thread = 0  # that of the latest run or block
        self._cancelled = False  # whether `cancel` was called since the latest run began
        self._returned = asyncio.Event()  # set when the latest call of `run` has returned
        self._returned.set()
        if coros is not None:
            check.iterable(_NAME, coros, "coros")
            self.extend(*futures.calls(_NAME, (coros,), "coros"))

    @property
    def errors(self) -> list[Exception]:
        """The exceptions of coroutines in the latest run, in order of occurrence.

        The event loop does not report those that you have read as never retrieved.
        """
        while self._failed:
            self._failed.pop().mark_retrieved()
        return self._errors

    @property
    def limit(self) -> int | Limiter:
        """The maximum number of coroutines in flight, or the limit object.

        During a run, you can set it to another number. More start at once, or none until enough have ended. A limit
        object has settings of its own: see `Limit.limit`.

        Raises:
            RuntimeError: A limit object is set, or replaced, during a run.
        """
        return self._limit

    @limit.setter
    def limit(self, limit: AnyLimit | None) -> None:
        found, run = limits.checked(_NAME, limit), self._run
        if self.is_running() and found is not self._limit:
            if not (isinstance(found, int) and isinstance(self._limit, int)):
                raise RuntimeError(
                    f"paco.{_NAME}: limit can only change from a number to a number while it runs, got "
                    f"{check.shorten(limit)} for {check.shorten(self._limit)}; change a setting of the limit object"
                )
            if run is not None and not run.ending():
                run.resize(found)
        self._limit = found

    def __len__(self) -> int:
        return len(self.pool) + (0 if self._feed is None else len(self._feed.waiting))

    @overload
    def add(self, coro: Callable[P, Awaitable[T]], *args: P.args, **kw: P.kwargs) -> asyncio.Future[T]: ...
    @overload
    def add(self, coro: Awaitable[T]) -> asyncio.Future[T]: ...
    def add(self, coro: Any, *args: Any, **kw: Any) -> asyncio.Future[Any]:
        """Add a coroutine object, or a coroutine function with its arguments; it joins a run that is in progress.

        It does not wait for room: see `put`. It can be called inside a coroutine of the executor. What is added while a
        run is ending early, or calls its ``finish`` listeners, is for the next run.

        Returns:
            A future of the outcome, the same one for a coroutine object that is waiting already. Cancelling it cancels
            the coroutine; it is done when the coroutine has ended.

        Raises:
            TypeError: ``coro`` is neither a coroutine object nor a function, or does not take the keyword arguments.
            RuntimeError: The run of the block has failed, or this is another thread than that of the run.
        """
        job = self._job(coro, args, kw)
        self._admit(job)
        return job.future

    submit = add

    @overload
    async def put(self, coro: Callable[P, Awaitable[T]], *args: P.args, **kw: P.kwargs) -> asyncio.Future[T]: ...
    @overload
    async def put(self, coro: Awaitable[T]) -> asyncio.Future[T]: ...
    async def put(self, coro: Any, *args: Any, **kw: Any) -> asyncio.Future[Any]:
        """Add a coroutine as `add` does, when there is room for it.

        There is room as long as fewer coroutines wait to start than may run at once, 100 at most. So a fast producer
        keeps all slots busy, and uses memory for about twice the limit.

        Returns:
            The future of the outcome, as from `add`.

        Raises:
            TypeError: As from `add`.
            RuntimeError: Nothing runs, so there will be no room. Or it would wait forever, because all coroutines in
                flight wait for room; that is not noticed under a limit object. Or as from `add`.

        Examples:
            >>> async def main():
            ...     async with paco.ConcurrentExecutor(limit=10) as pool:
            ...         for number in range(1000):
            ...             await pool.put(asyncio.sleep, 0.001)
            ...             assert len(pool) <= 10
            >>> paco.run(main())
        """
        job = self._job(coro, args, kw)
        try:
            while not self._knows(job) and self._is_full():
                self._check_open(job)
                self._room.refuse_deadlock(self._run, _NAME, "use add()")
                await self._room.wait()
            if self._block is None and not self.is_running():
                raise RuntimeError(f"paco.{_NAME}: put() outside of a run; call it inside of `async with`, or use add()")
            self._admit(job)
        except BaseException:
            if not self._knows(job):
                job.discard()
            raise
        finally:
            if not self._is_full():
                self._room.make()
        return job.future

    def _is_full(self) -> bool:
        most = self._limit if isinstance(self._limit, int) else self._limit.most
        return len(self) >= min(most or _MOST_WAITING, _MOST_WAITING)

    def _knows(self, job: futures.Job) -> bool:
        return self._added.get(id(job.call)) is job

    def _job(self, coro: Any, args: tuple[Any, ...], kw: dict[str, Any]) -> futures.Job:
        """Return a new job, or the one of a coroutine object that is waiting already."""
        starts_by_call = not check.is_awaitable(coro)
        if starts_by_call and not callable(coro):
            raise TypeError(check.refusal(_NAME, "coro", "a coroutine object or function", coro))
        if (args or kw) and not starts_by_call:
            with check.discarding(coro):
                raise TypeError(f"paco.{_NAME}: a coroutine object takes no arguments; pass the function, not the call")
        if id(coro) in self._added:
            return self._added[id(coro)]
        check_keywords(_NAME, coro, kw)
        return futures.Job(coro, *args, **kw)

    def _admit(self, job: futures.Job) -> None:
        """Give a job to the run in progress, or else to the next one."""
        if self._knows(job):
            return
        self._check_open(job)
        feed = self._feed
        if check.is_awaitable(job.call):
            self._added[id(job.call)] = job
        if feed is not None and feed.takes():
            feed.add(job)
        else:
            self.pool.append(job)
            self._drive_soon()

    def _check_open(self, job: futures.Job) -> None:
        """Raise ``RuntimeError`` if no job can be added, and discard the job."""
        failure = _failure(self._driver)
        if failure is not None:
            job.discard()
            message = f"paco.{_NAME}: the run of this block has failed; leave the block, which raises its error"
            raise RuntimeError(message) from failure
        if threading.get_ident() != self._thread and (self._block is not None or self.is_running()):
            job.discard()
            remedy = "use loop.call_soon_threadsafe(executor.add, coro)"
            raise RuntimeError(f"paco.{_NAME}: it runs in another thread, and is not thread-safe; {remedy}")

    def extend(self, *coros: Any) -> None:
        """Add several coroutine objects and functions without arguments.

        Raises:
            TypeError: One of ``coros`` is neither; none of them is added.
        """
        for one in futures.calls(_NAME, (coros,), "coros"):
            self.add(one)

    # ---- events

    def on(self, event: str, fn: Listener) -> None:
        """Call ``fn``, which may be sync or async, on each ``event``."""
        self._check_event(event)
        if not callable(fn):
            raise TypeError(check.refusal(_NAME, "fn", "a function", fn))
        self._listeners.setdefault(event, []).append(fn)

    def off(self, event: str) -> None:
        """Remove all listeners of ``event``."""
        self._check_event(event)
        self._listeners.pop(event, None)

    def _check_event(self, event: object) -> None:
        if event not in _EVENTS:
            raise ValueError(f"paco.{_NAME}: event must be one of {', '.join(_EVENTS)}, got {check.shorten(event)}")

    async def _tell(self, event: str, *args: Any) -> None:
        for listener in tuple(self._listeners.get(event, ())):
            answer: object = listener(*args)
            if check.is_awaitable(answer):
                await answer

    # ---- running

    def is_running(self) -> bool:
        """Return whether a run is in progress, or coroutines that it left pending still run."""
        return not self._returned.is_set() or (self._run is not None and not self._run.done)

    def _refuse_while_running(self) -> None:
        if self.is_running():
            raise RuntimeError(f"paco.{_NAME}: the executor is running; wait for it, or cancel it")

    def run(
        self,
        timeout: float | None = None,
        return_exceptions: bool | None = None,
        return_when: str | None = None,
        ignore_empty: bool | None = None,
    ) -> Coroutine[Any, Any, tuple[Futures, Futures]]:
        """Run the coroutines that were added, and wait for them.

        An exception of a coroutine is set on its future, passed to ``task.error`` and appended to `errors`.

        Args:
            timeout: Seconds for the whole run; ``None`` for no limit.
            return_exceptions: Set an ``Exception`` as the *result* of its future.
            return_when: ``"ALL_COMPLETED"``, ``"FIRST_COMPLETED"`` or ``"FIRST_EXCEPTION"``. Coroutines that are
                pending when the call returns continue under the limit.
            ignore_empty: Override ``ignore_empty`` of the executor for this run.

        Returns:
            Two sets of futures: done and pending.

        Raises:
            ValueError: No coroutines were added.
            RuntimeError: The executor is running, or another run has taken the coroutines since the call.
            TimeoutError: The timeout has passed. Everything has been cancelled and has finished.
        """
        timeout = check.timeout(_NAME, timeout)
        check.flag(_NAME, "return_exceptions", return_exceptions, "return_when", optional=True)
        check.flag(_NAME, "ignore_empty", ignore_empty, optional=True)
        when = asyncio.ALL_COMPLETED if return_when is None else futures.return_when(_NAME, return_when)
        self._refuse_while_running()
        if not self.pool and not (self.ignore_empty if ignore_empty is None else ignore_empty):
            raise ValueError(f"paco.{_NAME}: nothing to run; add a coroutine first, or pass ignore_empty=True")
        self._claimed = self.pool
        return self._run_all(self.pool, timeout, when, catch=bool(return_exceptions))

    wait = run

    async def _run_all(
        self, pool: deque[futures.Job], timeout: float | None, when: str, *, catch: bool
    ) -> tuple[Futures, Futures]:
        self._refuse_while_running()
        if self.pool is not pool:
            raise RuntimeError(f"paco.{_NAME}: another run has taken the coroutines since this call; call run() again")
        self.pool, feed = deque(), Feed(pool, self._room)
        self._errors, self._failed = [], []
        self._run, self._cancelled, self._thread = None, False, threading.get_ident()
        self._returned = returned = asyncio.Event()
        try:
            await self._tell("start", self)
            await self._run_jobs(feed, timeout, when, catch=catch)
        finally:
            if self._run is None:
                feed.discard()
            if self._run is None or self._run.done:
                self._forget(feed)
            else:
                self._run.until_done().add_done_callback(lambda _: self._forget(feed))
            returned.set()
        return feed.jobs.divide()

    def _forget(self, feed: Feed) -> None:
        """Note that a run is over: what is still in the pool waits for the next one."""
        feed.release()
        if self._feed is feed:
            self._feed = None
            self._added = {id(job.call): job for job in self.pool if id(job.call) in self._added}
            self._room.open()

    async def _run_jobs(self, feed: Feed, timeout: float | None, when: str, *, catch: bool) -> None:
        attempt = partial(self._attempt, catch=catch)
        self._run = run = Plan(_NAME, attempt, feed, self._limit, timeout).run(Drop())
        run.start()
        if self._cancelled:
            run.stop()
        feed.start(run, paused=self._paused is not None)
        self._feed = feed
        while self.pool and feed.takes():  # what was added meanwhile, and would run later if the start had failed
            feed.add(self.pool.popleft())
        if self._block is not None and asyncio.current_task() is self._driver:
            feed.last(() if isinstance(self._limit, int) else self._limit.gates)
        async with futures.owned(run):
            await futures.until(run, feed.jobs, when=when)
            await self._tell("finish", self)
        if run.ending():  # because a `finish` listener has cancelled what was pending
            await run.join()

    async def _attempt(self, job: futures.Job, *, catch: bool) -> None:
        if self._added:
            self._added.pop(id(job.call), None)
        if job.over():
            job.discard()
            return
        if self._paused is not None:  # which it was not when this job was taken, to wait for its permit
            await self._paused.wait()
        if self._listeners:
            await self._tell("task.start", job)
        run = cast("Scheduler", self._run)
        if run.ending():
            return
        result, error = await job.run(run, _NAME, catch=catch)
        try:
            if error is not None:
                self._errors.append(error)
                self._failed.append(job)
                if self._listeners.get("task.error"):
                    job.mark_retrieved()
                await absorb_cancellation()
                await self._tell("task.error", job, error)
            elif not job.future.cancelled():
                await absorb_cancellation()
                if self._listeners:
                    await self._tell("task.finish", job, result)
        finally:
            del self, run, job, error  # a kept error refers to this frame: avoid a cycle

    def cancel(self) -> None:
        """Cancel running coroutines, and remove those that have not started. Does not wait for them to end.

        A coroutine of this executor that calls this method is cancelled at its next ``await``.
        """
        self._cancelled = True
        self._clear()
        if self._run is not None:
            self._run.cancel()

    def _clear(self) -> None:
        """Cancel what is in the pool."""
        self._claimed = None
        self._added.clear()
        while self.pool:
            self.pool.popleft().discard()
        self._room.open()

    def pause(self) -> None:
        """Start nothing more until `resume`, in this run and in later ones. What runs goes on."""
        if self._paused is None:
            self._paused = asyncio.Event()
            if self._feed is not None:
                self._feed.pause(paused=True)

    def resume(self) -> None:
        """Go on after a pause."""
        if self._paused is not None:
            self._paused.set()
            self._paused = None
            if self._feed is not None:
                self._feed.pause(paused=False)

    def reset(self) -> None:
        """Remove all added coroutines, listeners and errors.

        Raises:
            RuntimeError: The executor is running.
        """
        self._refuse_while_running()
        self.cancel()
        self._listeners.clear()
        self._errors, self._failed = [], []

    # ---- the block

    async def __aenter__(self) -> Self:
        self._block, self._thread = contextvars.copy_context(), threading.get_ident()
        self._drive_soon()
        return self

    def _drive_soon(self) -> None:
        """In a block, have a task run what is in the pool, unless `run` is called before."""
        if self._block is not None and self.pool and (self._driver is None or self._driver.done()):
            self._driver = background(self._drive(), f"paco.{_NAME} block", self._block.copy())

    async def _drive(self) -> None:
        try:
            while self._block is not None and self.pool and self.pool is not self._claimed:
                if self.is_running():
                    await self._returned.wait()
                    if self._run is not None and not self._run.done:
                        await self._run.until_done()
                else:
                    await self._run_all(self.pool, None, asyncio.ALL_COMPLETED, catch=False)
        except BaseException:
            self._clear()
            raise

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._block, driver = None, self._driver
        if self._feed is not None:
            self._feed.release()
        try:
            while error is None and (self.pool or self._is_busy()):
                await (self._ended() if self._is_busy() else self.run())
        finally:
            while self.pool or self._is_busy():
                self._end()
                await self._ended()
            self._driver, failure = None, _failure(driver)
            try:
                if failure is not None and (error is None or _came_from_inside(error)):
                    raise failure
            finally:
                del driver, failure, error

    def _is_busy(self) -> bool:
        return self.is_running() or (self._driver is not None and not self._driver.done())

    def _end(self) -> None:
        """Cancel everything, the task of the block and its listeners, too."""
        self.cancel()
        if self._driver is not None:
            self._driver.cancel()

    async def _ended(self) -> None:
        """Wait until nothing is running. A cancellation of the wait cancels everything, and is raised at the end."""
        cancelled: asyncio.CancelledError | None = None
        while self._is_busy():
            try:
                if self._driver is not None and not self._driver.done():
                    await asyncio.wait([self._driver])
                    continue
                await self._returned.wait()
                if self._run is not None:
                    await self._run.join()
            except asyncio.CancelledError as error:
                cancelled = error
                self._end()
        try:
            if cancelled is not None:
                raise cancelled
        finally:
            del cancelled


def _failure(driver: asyncio.Task[None] | None) -> BaseException | None:
    """Return the error of a task that has failed."""
    return driver.exception() if driver is not None and driver.done() and not driver.cancelled() else None


def _came_from_inside(error: BaseException) -> bool:
    """Return whether a block ends because it waited for a future of the run, which was cancelled, and not the block."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()


concurrent = ConcurrentExecutor
