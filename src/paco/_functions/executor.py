"""`ConcurrentExecutor`: add coroutines, run them under a limit, and listen to events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, overload

from paco import limits
from paco._base import check
from paco._base.keywords import check_keywords
from paco._engine.sinks import Drop
from paco._engine.workers import absorb_cancellation
from paco._functions import futures
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
_EVENTS: Final = ("start", "finish", "task.start", "task.finish", "task.error")


class ConcurrentExecutor:
    """Run coroutines that are added one by one, at most ``limit`` at once, and call listeners on events.

    A listener may be sync or async. If it raises, the run ends with its error. The events and their arguments are:

    - ``start (executor)`` and ``finish (executor)``, before and after a run;
    - ``task.start (task)``, then ``task.finish (task, result)`` or ``task.error (task, error)``, for each coroutine.

    At the end of an ``async with`` block, the executor runs what was added and waits for it; if the block raises, the
    executor cancels everything instead. An executor belongs to one event loop at a time, and is not thread-safe.

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
    """

    def __init__(
        self,
        limit: AnyLimit | None = 10,
        loop: Loop = None,
        coros: Iterable[Any] | None = None,
        ignore_empty: bool = False,
    ) -> None:
        check.loop(_NAME, loop)
        #: The maximum number of coroutines in flight.
        self.limit: int | Limiter = limits.checked(_NAME, limit)
        check.flag(_NAME, "ignore_empty", ignore_empty)
        self.ignore_empty: bool = ignore_empty
        #: Coroutines that were added and that no run has taken.
        self.pool: deque[futures.Job] = deque()
        self._added: dict[int, futures.Job] = {}  # the jobs of awaitables in the pool, by id
        self._errors: list[Exception] = []
        self._failed: list[futures.Job] = []  # whose errors were not read
        self._listeners: dict[str, list[Listener]] = {}
        self._run: Scheduler | None = None  # the latest, once its `start` listeners have been called
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

    def __len__(self) -> int:
        return len(self.pool)

    @overload
    def add(self, coro: Callable[P, Awaitable[T]], *args: P.args, **kw: P.kwargs) -> asyncio.Future[T]: ...
    @overload
    def add(self, coro: Awaitable[T]) -> asyncio.Future[T]: ...
    def add(self, coro: Any, *args: Any, **kw: Any) -> asyncio.Future[Any]:
        """Add a coroutine object, or a coroutine function with its arguments. During a run, add it for the next run.

        Returns:
            A future of the outcome, the same one for a coroutine object that is waiting already. Cancelling it cancels
            the coroutine; it is done when the coroutine has ended.

        Raises:
            TypeError: ``coro`` is neither a coroutine object nor a function, or does not take the keyword arguments.
        """
        starts_by_call = not check.is_awaitable(coro)
        if starts_by_call and not callable(coro):
            raise TypeError(check.refusal(_NAME, "coro", "a coroutine object or function", coro))
        if (args or kw) and not starts_by_call:
            with check.discarding(coro):
                raise TypeError(f"paco.{_NAME}: a coroutine object takes no arguments; pass the function, not the call")
        if id(coro) in self._added:
            return self._added[id(coro)].future
        check_keywords(_NAME, coro, kw)
        job = futures.Job(coro, *args, **kw)
        if not starts_by_call:
            self._added[id(coro)] = job
        self.pool.append(job)
        return job.future

    submit = add

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
        return self._run_all(self.pool, timeout, when, catch=bool(return_exceptions))

    wait = run

    async def _run_all(
        self, pool: deque[futures.Job], timeout: float | None, when: str, *, catch: bool
    ) -> tuple[Futures, Futures]:
        self._refuse_while_running()
        if self.pool is not pool:
            raise RuntimeError(f"paco.{_NAME}: another run has taken the coroutines since this call; call run() again")
        jobs, self.pool, self._added = futures.Jobs(pool), deque(), {}
        self._errors, self._failed = [], []
        self._run, self._cancelled = None, False
        self._returned = returned = asyncio.Event()
        try:
            await self._tell("start", self)
            await self._run_jobs(jobs, timeout, when, catch=catch)
        finally:
            if self._run is None:
                jobs.discard()
            returned.set()
        return jobs.divide()

    async def _run_jobs(self, jobs: futures.Jobs, timeout: float | None, when: str, *, catch: bool) -> None:
        attempt = partial(self._attempt, catch=catch)
        self._run = run = Plan(_NAME, attempt, jobs, self.limit, timeout).run(Drop())
        run.start()
        if self._cancelled:
            run.stop()
        async with futures.owned(run):
            await futures.until(run, jobs, when=when)
            await self._tell("finish", self)
        if run.ending():  # because a `finish` listener has cancelled what was pending
            await run.join()

    async def _attempt(self, job: futures.Job, *, catch: bool) -> None:
        if job.over():
            job.discard()
            return
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
        self._added.clear()
        while self.pool:
            self.pool.popleft().discard()
        if self._run is not None:
            self._run.cancel()

    def reset(self) -> None:
        """Remove all added coroutines, listeners and errors.

        Raises:
            RuntimeError: The executor is running.
        """
        self._refuse_while_running()
        self.cancel()
        self._listeners.clear()
        self._errors, self._failed = [], []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            while error is None and (self.pool or self.is_running()):
                await (self._ended() if self.is_running() else self.run())
        finally:
            while self.pool or self.is_running():
                self.cancel()
                await self._ended()

    async def _ended(self) -> None:
        """Wait until nothing is running. A cancellation of the wait cancels everything, and is raised at the end."""
        cancelled: asyncio.CancelledError | None = None
        while self.is_running():
            try:
                await self._returned.wait()
                if self._run is not None:
                    await self._run.join()
            except asyncio.CancelledError as error:
                cancelled = error
                self.cancel()
        try:
            if cancelled is not None:
                raise cancelled
        finally:
            del cancelled


concurrent = ConcurrentExecutor
