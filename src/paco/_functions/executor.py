"""`ConcurrentExecutor`: add coroutines, run them under a limit, and listen to events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, overload

from paco._base import check
from paco._functions import futures
from paco._functions.block import Block, is_from_inside
from paco._functions.feed import Added
from paco._functions.room import Room
from paco._functions.session import Listeners, Session
from paco.limits._base import checked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from typing import Self

    from paco._base.types import Loop, P, T
    from paco._functions.feed import Feed
    from paco.limits import AnyLimit, Limiter

Futures: TypeAlias = set[asyncio.Future[Any]]
Listener: TypeAlias = Callable[..., object]

_NAME: Final = "ConcurrentExecutor"
#: The maximum number of coroutines that wait to start before `put` waits, whatever the limit.
_MOST_WAITING: Final = 100


class ConcurrentExecutor:
    """Run coroutines that are added one by one, at most ``limit`` at once, and call listeners on events.

    A coroutine that is added during a run joins it, and starts when a slot is free. `run` runs what has been added, and
    what is added meanwhile. An ``async with`` block is a live pool: everything starts as soon as a slot is free, and
    leaving the block waits for it. If the block raises, the executor cancels everything instead.

    A listener may be sync or async. If it raises, the run ends with its error. Events and their arguments:

    - ``start (executor)`` and ``finish (executor)``, before and after a run; a block is one run;
    - ``task.start (task)``, then ``task.finish (task, result)`` or ``task.error (task, error)``, for each coroutine.

    If the run of a block fails, because of a listener, the limit or a `deadline`, everything in it is cancelled, `add`
    and `put` raise ``RuntimeError``, and leaving the block raises the error.

    An executor belongs to one event loop at a time. From another thread: ``loop.call_soon_threadsafe(pool.add, coro)``.

    Args:
        limit: The maximum number of coroutines in flight, or a limit such as `Rate`; 0 or ``None`` for no limit. If a
            limit depends on the item, put it on the function with `limited`: here it gets an object of paco.
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
        self._limit: int | Limiter = checked(_NAME, limit)
        check.flag(_NAME, "ignore_empty", ignore_empty)
        self.ignore_empty: bool = ignore_empty
        #: Coroutines that were added and that no run has taken.
        self.pool: deque[futures.Job] = deque()
        self._added = Added()
        self._room = Room()  # the callers of `put` that wait
        self._listeners = Listeners(_NAME)
        self._session = self._new(())  # the latest run
        self._session.returned.set()
        self._paused = False
        self._block = Block(_NAME)
        self._claimed: object = None  # the pool for which `run` was called
        if coros is not None:
            check.iterable(_NAME, coros, "coros")
            self.extend(*futures.calls(_NAME, (coros,), "coros"))

    @property
    def errors(self) -> list[Exception]:
        """The exceptions of coroutines in the latest run, in order of occurrence.

        The event loop does not report those that you have read as never retrieved.
        """
        while self._session.unread:
            self._session.unread.pop().mark_retrieved()
        return self._session.errors

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
        found = checked(_NAME, limit)
        self._session.resize(self._limit, found)
        self._limit = found
        self._room.open()

    def __len__(self) -> int:
        return len(self.pool) + len(self._session.feed)

    @overload
    def add(self, coro: Callable[P, Awaitable[T]], *args: P.args, **kw: P.kwargs) -> asyncio.Future[T]: ...
    @overload
    def add(self, coro: Awaitable[T]) -> asyncio.Future[T]: ...
    def add(self, coro: Any, *args: Any, **kw: Any) -> asyncio.Future[Any]:
        """Add a coroutine object, or a coroutine function with its arguments; it joins a run that is in progress.

        It does not wait for room: see `put`. What is added while a run is ending early is for the next run.

        Returns:
            A future of the outcome, the same one for a coroutine object that is waiting already. Cancelling it cancels
            the coroutine; it is done when the coroutine has ended.

        Raises:
            TypeError: ``coro`` is neither a coroutine object nor a function, or does not take the keyword arguments.
            RuntimeError: The run of the block has failed, or this is another thread than that of the run.
        """
        self._admit(job := self._added.job(_NAME, coro, args, kw))
        return job.future

    submit = add

    @overload
    async def put(self, coro: Callable[P, Awaitable[T]], *args: P.args, **kw: P.kwargs) -> asyncio.Future[T]: ...
    @overload
    async def put(self, coro: Awaitable[T]) -> asyncio.Future[T]: ...
    async def put(self, coro: Any, *args: Any, **kw: Any) -> asyncio.Future[Any]:
        """Add a coroutine as `add` does, when there is room for it.

        There is room as long as fewer coroutines wait to start than may run at once, 100 at most.

        Returns:
            The future of the outcome, as from `add`.

        Raises:
            RuntimeError: No room will come: nothing runs, or all in flight wait for room. `add` says what else.

        Examples:
            >>> async def main():
            ...     async with paco.ConcurrentExecutor(limit=10) as pool:
            ...         for number in range(1000):
            ...             await pool.put(asyncio.sleep, 0.001)
            ...             assert len(pool) <= 10
            >>> paco.run(main())
        """
        job = self._added.job(_NAME, coro, args, kw)
        try:
            self._block.check_room(running=self.is_running())
            waits = bool(self._room)  # it does not overtake those that wait
            while (waits or self._is_full()) and not self._added.has(job):
                self._room.refuse_deadlock(self._session.run, _NAME, "use add()")
                await self._room.wait()
                self._block.check_room(running=self.is_running())
                waits = False
            self._admit(job)
        except BaseException:
            if not self._added.has(job):
                job.discard()
            raise
        finally:
            if not self._is_full():
                self._room.make()
        return job.future

    def _is_full(self) -> bool:
        most = self._limit if isinstance(self._limit, int) else self._limit.most
        return len(self) >= min(most or _MOST_WAITING, _MOST_WAITING)

    def _admit(self, job: futures.Job) -> None:
        """Give a job to the run in progress, or else to the next one."""
        feed, added = self._session.feed, self._added
        if added and added.has(job):
            return
        if feed.run is None and not self._block.was_entered:  # most often: nothing runs yet
            self.pool.append(job)
        else:
            self._block.check(job, running=self.is_running())
            if feed.takes():
                feed.add(job)
            else:
                self.pool.append(job)
                self._block.drive(self._drive)
        if job.is_awaitable:
            added[id(job.call)] = job

    def extend(self, *coros: Any) -> None:
        """Add several coroutine objects and functions without arguments.

        Raises:
            TypeError: One of ``coros`` is neither; none of them is added.
        """
        for one in futures.calls(_NAME, (coros,), "coros"):
            self.add(one)

    def on(self, event: str, fn: Listener) -> None:
        """Call ``fn``, which may be sync or async, on each ``event``."""
        self._listeners.check(event)
        if not callable(fn):
            raise TypeError(check.refusal(_NAME, "fn", "a function", fn))
        self._listeners.setdefault(event, []).append(fn)

    def off(self, event: str) -> None:
        """Remove all listeners of ``event``."""
        self._listeners.check(event)
        self._listeners.pop(event, None)

    # ---- running

    def is_running(self) -> bool:
        """Return whether a run is in progress, or coroutines that it left pending still run."""
        return self._session.is_running()

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
        self._block.is_here()
        self.pool, self._session = deque(), self._new(pool, catch=catch)
        try:
            return await self._session.go(self, timeout, when, self._started)
        finally:
            self._added.forget()

    def _new(self, jobs: Iterable[futures.Job], *, catch: bool = False) -> Session:
        return Session(_NAME, jobs, self._listeners, self._room, self._added, catch=catch)

    def _started(self, feed: Feed) -> None:
        """Let jobs join a run that has started: first those that would be for the next one if it had not."""
        while self.pool and feed.takes():
            feed.add(self.pool.popleft())
        if self._paused:
            feed.pause()
        if self._block.drives():
            feed.last()

    def cancel(self) -> None:
        """Cancel running coroutines, and remove those that have not started. Does not wait for them to end.

        A coroutine of this executor that calls this method is cancelled at its next ``await``.
        """
        self._clear()
        self._session.cancel()

    def _clear(self) -> None:
        """Cancel what is in the pool."""
        self._claimed = None
        self._added.clear()
        while self.pool:
            self.pool.popleft().discard()
        self._room.open()

    def pause(self) -> None:
        """Start nothing more until `resume`, in this run and in later ones. What runs goes on."""
        self._paused = True
        self._session.feed.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        self._paused = False
        self._session.feed.resume()

    def reset(self) -> None:
        """Remove all added coroutines, listeners and errors.

        Raises:
            RuntimeError: The executor is running.
        """
        self._refuse_while_running()
        self.cancel()
        self._listeners.clear()
        self._session.errors, self._session.unread = [], []

    # ---- the block

    async def __aenter__(self) -> Self:
        self._block.enter(self._drive if self.pool else None)
        return self

    async def _drive(self) -> None:
        """Run what is in the pool while the block is open, unless `run` was called for it."""
        try:
            while self._block.is_open() and self.pool and self.pool is not self._claimed:
                run = partial(self._run_all, self.pool, None, asyncio.ALL_COMPLETED, catch=False)
                await (self._session.over() if self.is_running() else run())
        except BaseException:
            self._clear()
            raise

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._block.leave()
        self._session.feed.release()
        try:
            if is_from_inside(error) and self._session.is_ending():
                await self._ended()  # its error may be the reason
            while error is None and (self.pool or self._is_busy()):
                await (self._ended() if self._is_busy() else self.run())
        finally:
            while self.pool or self._is_busy():
                self._block.cancel(self.cancel)
                await self._ended()
            self._block.end(error)

    def _is_busy(self) -> bool:
        return self._block.is_busy() or self.is_running()

    async def _ended(self) -> None:
        """Wait until nothing is running. A cancellation of the wait cancels everything, and is raised at the end."""
        cancelled: asyncio.CancelledError | None = None
        while self._is_busy():
            try:
                await (self._block.idle() if self._block.is_busy() else self._session.ended())
            except asyncio.CancelledError as error:
                cancelled = error
                self._block.cancel(self.cancel)
        try:
            if cancelled is not None:
                raise cancelled
        finally:
            del cancelled


concurrent = ConcurrentExecutor
