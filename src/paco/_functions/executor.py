"""`ConcurrentExecutor`: add coroutines, watch them by events, run them under a limit."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, overload

from paco import limits
from paco._base import check
from paco._engine.plan import Plan
from paco._engine.sinks import Drop
from paco._functions import futures

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from typing import Self

    from paco._base.types import Loop, P, T
    from paco._engine.run import Run
    from paco.limits import AnyLimit, Limiter

Futures: TypeAlias = set[asyncio.Future[Any]]
Listener: TypeAlias = Callable[..., object]

_NAME: Final = "ConcurrentExecutor"
_EVENTS: Final = ("start", "finish", "task.start", "task.finish", "task.error")


class ConcurrentExecutor:
    """Runs the coroutines added to it, at most ``limit`` at once, and tells listeners what happens.

    Events, each with what its listeners get. They may be sync or async; one that raises ends the run with its error.

    - ``start (executor)``, ``finish (executor)``: around a run,
    - ``task.start (task)``, ``task.finish (task, result)``, ``task.error (task, error)``: around each coroutine.

    As ``async with``: leaving the block runs what was added and waits for it; an error in the block cancels it. Belongs
    to one loop at a time, and is not thread safe.

    Args:
        limit: Coroutines in flight at most; 0 for no limit.
        loop: ``None`` or the running loop.
        coros: Coroutine objects and functions to begin with.
        ignore_empty: A run without coroutines returns two empty sets instead of raising ``ValueError``.

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
        self, limit: AnyLimit = 10, loop: Loop = None, coros: Iterable[Any] | None = None, ignore_empty: bool = False
    ) -> None:
        check.loop(_NAME, loop)
        #: In flight at most.
        self.limit: int | Limiter = limits.checked(_NAME, limit)
        self.ignore_empty: bool = ignore_empty
        #: What was added and has not been taken by a run.
        self.pool: deque[futures.Job] = deque()
        #: The exceptions of the latest run's coroutines, in the order in which they came.
        self.errors: list[Exception] = []
        self._listeners: dict[str, list[Listener]] = {}
        self._run: Run | None = None  # the latest, from when its `start` listeners have been told
        self._cancelled = False  # whether everything was cancelled since they began to be told
        self._returned = asyncio.Event()  # whether the latest call of `run` has returned
        self._returned.set()
        if coros is not None:
            self._extend((coros,))

    def __len__(self) -> int:
        return len(self.pool)

    @overload
    def add(self, coro: Callable[P, Awaitable[T]], *args: P.args, **kw: P.kwargs) -> asyncio.Future[T]: ...
    @overload
    def add(self, coro: Awaitable[T]) -> asyncio.Future[T]: ...
    def add(self, coro: Any, *args: Any, **kw: Any) -> asyncio.Future[Any]:
        """Add a coroutine object, or a coroutine function with its arguments; during a run, for the next one.

        Returns:
            A future with the outcome. To cancel it is to cancel the coroutine; it is done when that has ended.

        Raises:
            TypeError: Neither a coroutine nor a function, or a coroutine object with arguments.
        """
        if not (callable(coro) or inspect.isawaitable(coro)):
            raise TypeError(f"paco.{_NAME}: coro must be a coroutine object or function, got {check.shorten(coro)}")
        if inspect.isawaitable(coro) and (args or kw):
            with check.discarding(coro):
                raise TypeError(f"paco.{_NAME}: a coroutine object takes no arguments; pass the function, not the call")
        job = futures.Job(coro, *args, **kw)
        self.pool.append(job)
        return job.future

    submit = add

    def extend(self, *coros: Any) -> None:
        """Add several coroutine objects and functions without arguments.

        Raises:
            TypeError: One is neither; then none is added.
        """
        self._extend((coros,))

    def _extend(self, coros: tuple[Any]) -> None:
        check.iterable(_NAME, coros[0], "coros")
        for one in futures.calls(_NAME, coros, "coros"):
            self.add(one)

    # ---- events

    def on(self, event: str, fn: Listener) -> None:
        """Call ``fn``, sync or async, whenever ``event`` happens."""
        self._check_event(event)
        if not callable(fn):
            raise TypeError(f"paco.{_NAME}: fn must be a function, got {check.shorten(fn)}")
        self._listeners.setdefault(event, []).append(fn)

    def off(self, event: str) -> None:
        """Remove the listeners of ``event``."""
        self._check_event(event)
        self._listeners.pop(event, None)

    def _check_event(self, event: object) -> None:
        if event not in _EVENTS:
            raise ValueError(f"paco.{_NAME}: event must be one of {', '.join(_EVENTS)}, got {check.shorten(event)}")

    async def _tell(self, event: str, *args: Any) -> None:
        for listener in tuple(self._listeners.get(event, ())):
            answer = listener(*args)
            if inspect.isawaitable(answer):
                await answer

    # ---- running

    def is_running(self) -> bool:
        """Say whether coroutines of this executor are running."""
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
        """Run what was added, and wait for it.

        An exception of a coroutine is kept in its future, told to ``task.error`` and listed in `errors`.

        Args:
            timeout: Seconds for the run; ``None`` for no limit.
            return_exceptions: An ``Exception`` becomes the *result* of its future.
            return_when: ``"ALL_COMPLETED"``, ``"FIRST_COMPLETED"`` or ``"FIRST_EXCEPTION"``: what is pending when the
                call returns goes on under the limit.
            ignore_empty: As of the executor, for this run.

        Returns:
            Two sets of futures, done and pending.

        Raises:
            ValueError: Nothing was added.
            RuntimeError: The executor is running, or another run has taken what was there at the call.
            TimeoutError: The timeout has passed, and everything has been cancelled and has finished.
        """
        timeout = check.timeout(_NAME, timeout)
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
            raise RuntimeError(f"paco.{_NAME}: another run has taken what was there at the call; call run() again")
        jobs, self.pool = futures.Jobs(pool), deque()
        self.errors = []
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
        if run.ending():  # since a `finish` listener has cancelled what was pending
            await run.join()

    async def _attempt(self, job: futures.Job, *, catch: bool) -> None:
        if job.over():
            job.discard()
            return
        await self._tell("task.start", job)
        run = cast("Run", self._run)
        if run.ending():
            return
        result, error = await job.run(run, _NAME, catch=catch)
        try:
            if error is not None:
                self.errors.append(error)
                if self._listeners.get("task.error"):
                    job.heard()
                await job.calm()
                await self._tell("task.error", job, error)
            elif not job.future.cancelled():
                await job.calm()
                await self._tell("task.finish", job, result)
        finally:
            del self, job, error  # the frames of an error that is kept lead back here

    def cancel(self) -> None:
        """Cancel everything: what was added is not started, what runs is cancelled and ends in its time.

        A coroutine that calls this is cancelled at its next ``await``.
        """
        self._cancelled = True
        while self.pool:
            self.pool.popleft().discard()
        if self._run is not None:
            self._run.cancel()

    def reset(self) -> None:
        """Forget what was added, the listeners and the errors.

        Raises:
            RuntimeError: The executor is running.
        """
        self._refuse_while_running()
        self.cancel()
        self._listeners.clear()
        self.errors = []

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
        """Wait until nothing runs; a cancellation meanwhile cancels everything, and is raised in the end."""
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
