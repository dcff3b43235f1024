"""One run of the executor, with its listeners."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from paco._base import check
from paco._engine.sinks import Drop
from paco._engine.workers import absorb_cancellation, is_cancelling
from paco._functions import futures
from paco._functions.feed import Added, Feed
from paco._stream.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from paco._engine.run import Scheduler
    from paco._functions.executor import ConcurrentExecutor
    from paco._functions.room import Room
    from paco.limits import Limiter

_EVENTS: Final = ("start", "finish", "task.start", "task.finish", "task.error")


class Listeners(dict[str, "list[Callable[..., object]]"]):
    """The listeners of an executor, by event."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def check(self, event: object) -> None:
        """Raise ``ValueError`` if there is no such event."""
        if event not in _EVENTS:
            expected = f"event must be one of {', '.join(_EVENTS)}"
            raise ValueError(f"paco.{self._name}: {expected}, got {check.shorten(event)}")

    async def tell(self, event: str, *args: Any) -> None:
        """Call the listeners of an event one by one, and await those that are async."""
        for listener in tuple(self.get(event, ())):
            answer: object = listener(*args)
            if check.is_awaitable(answer):
                await answer


class Session:
    """A run of an executor, from before its ``start`` listeners until all of its coroutines have ended.

    Args:
        added: The jobs of awaitables. A job that begins is removed.
        catch: Whether an ``Exception`` becomes the result of its future.
    """

    def __init__(
        self,
        name: str,
        jobs: Iterable[futures.Job],
        listeners: Listeners,
        room: Room,
        added: Added,
        *,
        catch: bool,
    ) -> None:
        self._name = name
        self._listeners = listeners
        self._added = added
        self._catch = catch
        #: The jobs.
        self.feed: Feed = Feed(jobs, room)
        #: The run of the engine, once the ``start`` listeners have been called.
        self.run: Scheduler | None = None
        #: The exceptions of coroutines.
        self.errors: list[Exception] = []
        #: The jobs of these exceptions that were not read.
        self.unread: list[futures.Job] = []
        #: Set when the call that runs it has returned.
        self.returned: asyncio.Event = asyncio.Event()
        self._cancelled = False

    def is_running(self) -> bool:
        """Return whether it runs, or coroutines that it left pending do."""
        return not self.returned.is_set() or (self.run is not None and not self.run.done)

    def is_ending(self) -> bool:
        """Return whether nothing more starts."""
        return self.run is not None and self.run.ending()

    async def go(
        self,
        executor: ConcurrentExecutor,
        timeout: float | None,
        when: str,
        started: Callable[[Feed], object],
    ) -> tuple[set[asyncio.Future[Any]], set[asyncio.Future[Any]]]:
        """Run the jobs, and return the futures that are done and those that are pending.

        Call the ``start`` and ``finish`` listeners with ``executor``, and ``started`` when jobs can be added.
        """
        try:
            await self._listeners.tell("start", executor)
            limit = executor.limit
            self.run = run = Plan(self._name, self._attempt, self.feed, limit, timeout).run(Drop())
            run.start()
            if self._cancelled:
                run.stop()
            self.feed.start(run, () if isinstance(limit, int) else limit.gates)
            started(self.feed)
            async with futures.owned(run):
                await futures.until(run, self.feed.jobs, when=when)
                await self._listeners.tell("finish", executor)
            if run.ending():  # because a `finish` listener has cancelled what was pending
                await run.join()
            return self.feed.jobs.divide()
        finally:
            self._leave()

    def _leave(self) -> None:
        self.returned.set()
        if self.run is None:
            self.feed.discard()
        if self.run is None or self.run.done:
            self.feed.end()
        else:
            self.run.until_done().add_done_callback(lambda _: self.feed.end())

    async def _attempt(self, job: futures.Job) -> None:
        if self._added:
            self._added.pop(id(job.call), None)
        if job.over():
            job.discard()
            return
        if self._listeners or self.feed.paused:
            await self.feed.resumed()  # it may have been paused since this job was taken, to wait for its permit
            await self._listeners.tell("task.start", job)
        run = cast("Scheduler", self.run)
        if run.ending():
            return
        result, error = await job.run(run, self._name, catch=self._catch)
        try:
            if error is not None:
                await self._failed(job, error)
            elif (self._listeners or is_cancelling()) and not job.future.cancelled():
                await absorb_cancellation()
                await self._listeners.tell("task.finish", job, result)
        finally:
            del self, run, job, error  # a kept error refers to this frame: avoid a cycle

    async def _failed(self, job: futures.Job, error: Exception) -> None:
        self.errors.append(error)
        self.unread.append(job)
        if self._listeners.get("task.error"):
            job.mark_retrieved()
        try:
            await absorb_cancellation()
            await self._listeners.tell("task.error", job, error)
        finally:
            del self, job, error  # as above

    def resize(self, before: int | Limiter, limit: int | Limiter) -> None:
        """Change the limit of the run, if there is one."""
        run = self.run
        if run is None or run.ending() or limit is before:
            return
        if not isinstance(before, int) or not isinstance(limit, int):
            message = "limit can only change from a number to a number while it runs"
            given = f"got {check.shorten(limit)} for {check.shorten(before)}"
            raise RuntimeError(f"paco.{self._name}: {message}, {given}; change a setting of the limit object")  # noqa: TRY004 - the type is right at other times
        run.pool.resize(limit or sys.maxsize)
        if run.watch is not None:
            run.watch.resized(limit)

    def cancel(self) -> None:
        """Cancel running coroutines, and start no others. Does not wait."""
        self._cancelled = True
        if self.run is not None:
            self.run.cancel()

    async def ended(self) -> None:
        """Wait until it does not run any more, and raise the error of its run."""
        await self.returned.wait()
        if self.run is not None:
            await self.run.join()

    async def over(self) -> None:
        """Wait until it does not run any more."""
        await self.returned.wait()
        if self.run is not None and not self.run.done:
            await self.run.until_done()
