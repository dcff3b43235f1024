"""The jobs of the executor: those that wait, and the source of a run, to which jobs may be added while it runs."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from paco._base import check
from paco._base.deadline import call_in
from paco._base.keywords import check_keywords
from paco._engine.source import Calls
from paco._functions.futures import Job, Jobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from paco._engine.run import Scheduler
    from paco._functions.room import Room
    from paco.limits import Gate

#: The minimum number of jobs at which those that have ended are forgotten.
_MANY: Final = 100


class Added(dict[int, Job]):
    """The jobs of awaitables that have been added and have not started, by the id of the awaitable."""

    def job(self, name: str, coro: Any, args: tuple[Any, ...], kw: dict[str, Any]) -> Job:
        """Check the arguments, and return the job of an awaitable that is here, or else a new one."""
        starts_by_call = not check.is_awaitable(coro)
        if starts_by_call and not callable(coro):
            raise TypeError(check.refusal(name, "coro", "a coroutine object or function", coro))
        if (args or kw) and not starts_by_call:
            with check.discarding(coro):
                raise TypeError(f"paco.{name}: a coroutine object takes no arguments; pass the function, not the call")
        if id(coro) in self:
            return self[id(coro)]
        check_keywords(name, coro, kw)
        job = Job(coro, *args, **kw)
        job.is_awaitable = not starts_by_call
        return job

    def has(self, job: Job) -> bool:
        """Return whether a job is here."""
        return self.get(id(job.call)) is job

    def forget(self) -> None:
        """Drop the jobs that will not start, because they are over."""
        for key in [key for key, job in self.items() if job.over()]:
            del self[key]


class Feed(Calls):
    """The source of a run: an iterator over jobs that may have ended, and goes on when a job is added.

    It decides together with the run whether a job can still be added: the run has not ended as long as one of its tasks
    is in it, and a job that comes when all of them are done gets a new one.
    """

    def __init__(self, jobs: Iterable[Job], room: Room) -> None:
        super().__init__()
        #: The jobs. In a block, those that have ended are forgotten after a while.
        self.jobs: Jobs = Jobs(jobs)
        #: The jobs that no worker has taken.
        self.waiting: deque[Job] = deque(self.jobs)
        #: The run, once it has been started.
        self.run: Scheduler | None = None
        self._room = room
        #: Whether no job starts.
        self.paused: bool = False
        self._resumed: list[asyncio.Future[None]] = []  # of those that wait for the end of the pause
        self._lasts = False  # whether the run goes on although it has nothing to do
        self._gates: tuple[Gate, ...] = ()
        self._key = object()  # under which the gates know this feed
        self._held: asyncio.Future[None] | None = None  # that of a task which keeps the run from ending
        self._forgets_at = 0  # the number of jobs at which those that have ended are forgotten; 0 for never

    # ---- the source

    def __len__(self) -> int:
        return len(self.waiting)

    def __iter__(self) -> Iterator[Job]:
        return self

    def __next__(self) -> Job:
        if not self.waiting or self.paused:
            raise StopIteration
        job = self.waiting.popleft()
        if self._room:
            self._room.make()
        return job

    def discard(self) -> None:
        """Cancel the jobs that have not started."""
        self.waiting.clear()
        self.jobs.discard()
        self._room.open()

    # ---- adding

    def takes(self) -> bool:
        """Return whether an added job would run."""
        run = self.run
        return run is not None and not run.is_ending and run.left is None

    def add(self, job: Job) -> None:
        """Have the run run a job, too."""
        if 0 < self._forgets_at <= len(self.jobs):
            self.jobs[:] = [one for one in self.jobs if not one.future.done()]
            self._forgets_at = 2 * len(self.jobs) + _MANY
        self.jobs.add(job)
        self.waiting.append(job)
        if self.run is not None and self.run.watch is not None:
            self.run.watch.grows()
        self._go_on()
        self._hold_or_release()

    # ---- pauses, and the end

    def start(self, run: Scheduler, gates: tuple[Gate, ...]) -> None:
        """Note that a run of these jobs has started, under a limit with these gates."""
        self.run, self._gates = run, gates
        self._hold_or_release()

    def last(self) -> None:
        """Keep the run, which has started, from ending until `release`, or until one of its gates is closed."""
        self._lasts, self._forgets_at = True, _MANY
        for gate in self._gates:
            gate.join(self._key, partial(call_in, asyncio.get_running_loop(), self.release))
        self._hold_or_release()

    def end(self) -> None:
        """Forget the jobs of a run that is over, and wake those who wait for room."""
        self.release()
        self.run = None
        self.jobs.clear()
        self._room.open()

    def release(self) -> None:
        """Let the run end when it has nothing to do."""
        self._lasts = False
        for gate in self._gates:
            gate.leave(self._key)
        self._hold_or_release()

    def pause(self) -> None:
        """Start nothing more."""
        self.paused = True
        self._hold_or_release()

    def resume(self) -> None:
        """Go on after a pause."""
        self.paused = False
        for waiter in self._resumed:
            if not waiter.done():
                waiter.set_result(None)
        if self.waiting and self.takes():
            self._go_on()
        self._hold_or_release()

    async def resumed(self) -> None:
        """Wait for the end of the pause."""
        while self.paused:
            waiter = asyncio.get_running_loop().create_future()
            self._resumed.append(waiter)
            try:
                await waiter
            finally:
                self._resumed.remove(waiter)

    def _go_on(self) -> None:
        """Have workers take what is waiting, unless that is paused."""
        run = self.run
        if run is None or self.paused:
            return
        run.exhausted = False
        if all(task.done() for task in run.pool.workers):
            run.pool.spawn()  # at once: before the run hears that its last worker is done, and ends
        run.pool.grow_soon()

    def _hold_or_release(self) -> None:
        """Keep the run from ending with a task, or end that task."""
        run, held = self.run, self._held
        if run is None or run.is_ending:
            return
        if self.takes() and (self._lasts or (self.paused and self.waiting)):
            if held is None or held.done():
                self._held = held = run.loop.create_future()
                run.start_task(_until(held), run.base.copy(), f"{run.title} hold")
        elif held is not None and not held.done():
            held.set_result(None)


async def _until(future: asyncio.Future[None]) -> None:
    await future
