"""Tasks that end together: the first error cancels them all, each once, and nobody goes on before all have finished.

The only module that creates tasks. Not `asyncio.TaskGroup`: it raises groups, takes a child that ended cancelled for
one that went well, and on Python 3.11 and 3.12 leaves ``cancelling()`` of its parent wrong (gh-116720).
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Final, Protocol

from paco._base.deadline import within
from paco._base.errors import Failure, ItemCancelled
from paco._base.item import WorkerTask
from paco._engine.outcomes import RunTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from paco._base.types import T
    from paco._engine.outcomes import Outcome

#: From Python 3.14 on asyncio is told who waits for a task: `asyncio.print_call_graph` and ``python -m asyncio pstree``
#: show it. A `TaskGroup` does the same.
_add_waiter: Final[Any] = getattr(asyncio, "future_add_to_awaited_by", None)
_discard_waiter: Final[Any] = getattr(asyncio, "future_discard_from_awaited_by", None)

#: Tasks and nurseries that nobody else needs to hold: asyncio itself keeps weak references only (gh-88831).
_alive: Final[set[object]] = set()


def background(coro: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start a task in the running loop that stays alive until it is done, whoever forgets it."""
    task = asyncio.Task(coro, loop=asyncio.get_running_loop(), name=name)
    _alive.add(task)
    task.add_done_callback(_alive.discard)
    return task


class Keeper(Protocol):
    """Keeps something of what the other tasks of a nursery leave."""

    @property
    def role(self) -> str:
        """What its task does, for the name of that."""
        ...

    def prepare(self, run: Any, /) -> None:
        """Be called before there are any tasks, in the context that they will have."""
        ...

    def keep(self) -> Coroutine[Any, Any, None]:
        """Run as a task, until it is told that it is alone."""
        ...

    def alone(self) -> None:
        """Hear that the other tasks have ended."""
        ...


class Nursery:
    """Starts tasks and outlives them: `enter`, then `start_task` …, then `join`.

    A subclass says what is to be done when it stops (`_stopping`) and when all tasks have ended (`_finishing`).
    """

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_failure",
        "_hear",
        "_keeping",
        "_parent",
        "_timeout",
        "_timer",
        "_watchers",
        "base",
        "done",
        "downstream",
        "heeds_deadline",
        "is_ending",
        "keepers",
        "loop",
        "name",
        "tasks",
        "title",
        "told",
    )

    def __init__(self, name: str, timeout: float | None) -> None:
        #: The operation, for messages: ``map``.
        self.name: str = name
        #: How the names of its tasks begin.
        self.title: str = f"paco.{name}"
        self._timeout = timeout
        #: What runs.
        self.tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._watchers: list[asyncio.Future[None]] = []
        #: Called with a failure: the run that reads these results fails with it.
        self.downstream: Callable[[BaseException], None] | None = None
        self._failure = Failure(name)
        #: Whether nothing more will start.
        self.is_ending: bool = False
        self._abandoned = False
        #: Whether everything has ended.
        self.done: bool = False
        #: Whether somebody has been told how.
        self.told: bool = False
        #: Whether it ends with the `deadline` that it is started under.
        self.heeds_deadline: bool = True
        #: What have tasks that outlive the others, if there is such a thing.
        self.keepers: tuple[Keeper, ...] = ()
        self._keeping: frozenset[asyncio.Task[None]] = frozenset()  # these tasks

    def enter(self) -> bool:
        """Belong to the running loop, with the caller's context; false when there is no time at all."""
        self.loop = asyncio.get_running_loop()
        self.base = contextvars.copy_context()
        # Who waits for the tasks, where that is told.
        self._parent = None if _add_waiter is None else asyncio.current_task(self.loop)
        self._hear: Any = self._ended  # one for all tasks: each object more is work for the garbage collector
        seconds, deadline = within(self._timeout) if self.heeds_deadline else (self._timeout, "")
        if seconds == 0:
            self._expire(deadline)
            return False
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, self._expire, deadline, context=self.base)
        for keeper in self.keepers:
            self.base.run(keeper.prepare, self)
        self._keeping = frozenset(
            self.start_task(keeper.keep(), self.base.copy(), f"{self.title} {keeper.role}") for keeper in self.keepers
        )
        return True

    def start_task(
        self, coro: Coroutine[Any, Any, None], context: contextvars.Context, name: str
    ) -> asyncio.Task[None]:
        """Start a task that this nursery waits for, in a context of its own."""
        # Not loop.create_task: an eager task factory would run the first step of a task inside of the step that starts
        # it, so that workers which retire would nest into each other.
        task = WorkerTask(coro, loop=self.loop, name=name, context=context)
        task.nursery, task.item = self, None
        if self._parent is not None:
            _add_waiter(task, self._parent)
        self.tasks.add(task)
        task.add_done_callback(self._hear, context=self.base)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Hear that a task is done: by callback, since a task can be cancelled before its first step."""
        error: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._task_failed(task, error)
        worker: Any = task  # cast() would take 40 ns
        worker.nursery = worker.item = None  # whoever keeps the task does not keep the results
        if self._parent is not None:
            _discard_waiter(task, self._parent)
        self.tasks.discard(task)
        if not self.tasks:
            self._finish()
        elif self.tasks <= self._keeping:
            for keeper in self.keepers:
                keeper.alone()

    def _task_failed(self, task: asyncio.Task[None], error: BaseException) -> None:
        """Hear that a task ended cancelled, or with an error that it did not keep to itself."""

    # ---- ending

    def _expire(self, deadline: str) -> None:
        end = deadline or f"its timeout of {self._timeout} s"
        self.fail(RunTimeout(f"paco.{self.name}: not finished within {end}", self.outcomes()))

    def outcomes(self) -> tuple[Outcome[Any, Any], ...]:
        """Return what has been finished and nobody will be handed, as far as it has been settled."""
        return ()

    def fail(self, error: BaseException, note: str = "") -> None:
        """End with a first error; what still runs is cancelled, and waited for."""
        if self.is_ending:
            self._failure.late(error, note or "the stage before it")  # which has a note of its own on its error
            return
        if self._abandoned and isinstance(error, ItemCancelled):
            # That is how asyncio.run ends what is left over: nobody waits to be told, and tasks that it has cancelled
            # are not cancelled again, which would cut their cleanup short.
            self._end([task for task in self.tasks if not task.cancelling()])
            return
        self._failure.first(error, note)
        self.stop()
        if self.downstream is not None:
            self._failure.handed_on = True
            self.downstream(error)

    def ending(self) -> bool:
        """Say whether nothing more will start."""
        return self.is_ending

    def stop(self) -> None:
        """Start nothing more and cancel what runs, each once, but not the task that asks. Does not wait."""
        current = asyncio.current_task(self.loop)
        self._end([task for task in self.tasks if task is not current])

    def cancel(self) -> None:
        """Stop, and cancel the task that asks as well, if it is one of these. Does not wait."""
        self._end(list(self.tasks))

    def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        if self.is_ending:
            return
        self.is_ending = True
        self._stopping()
        _alive.add(self)
        self._disarm()
        for task in tasks:
            task.cancel()
        if not self.tasks:
            self.loop.call_soon(self._finish, context=self.base)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _stopping(self) -> None:
        """Do what is to be done before the tasks are cancelled."""

    def _finish(self) -> None:
        self.done = self.is_ending = True
        self.keepers, self._keeping, self._hear = (), frozenset(), None  # they lead back here
        self._parent = None
        self._disarm()
        try:
            self._finishing()
        except BaseException as error:
            self._failure.late(error, "closing its source")
        _alive.discard(self)
        if self._abandoned:
            self._failure.report(self.loop)
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)

    def _finishing(self) -> None:
        """Do what is to be done when all tasks have ended; errors are told."""

    def until_done(self) -> asyncio.Future[None]:
        """Return a future that is resolved when everything has ended, if not before by someone else."""
        watcher = self.loop.create_future()
        self._watchers.append(watcher)
        return watcher

    async def join(self, cancelled: asyncio.CancelledError | None = None) -> None:
        """Wait until everything has ended, then raise the first error.

        A cancellation meanwhile stops everything, and is what is raised in the end; as is one that the caller has
        caught and hands over.
        """
        while not self.done:
            try:
                await self.until_done()
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                self.stop()
            except GeneratorExit:
                self.abandon_soon()  # the coroutine that waits is closed by hand
                raise
        self.told = True
        try:
            if cancelled is not None:
                self._failure.throw_cancelled(cancelled)
            self._failure.throw(self.loop)
        finally:
            del cancelled

    # ---- being left, and being read by another

    def feeds(self, fail: Callable[[BaseException], None]) -> None:
        """Name the run that reads these results: it fails with this one at once, however busy it is."""
        self.downstream = fail
        self.heeds_deadline = False  # that run does, under the same one

    def let_go(self) -> None:
        """Go on without anybody who waits: there is no timeout any more, and errors are reported to the event loop."""
        self._abandoned = True
        self._disarm()
        if self._parent is not None:
            for task in self.tasks:
                _discard_waiter(task, self._parent)
            self._parent = None
        if self.done:
            self._failure.report(self.loop)
        else:
            _alive.add(self)

    def was_let_go(self) -> bool:
        """Say whether nobody waits: a task that is cancelled then is cancelled by the end of the loop."""
        return self._abandoned

    def abandon(self) -> None:
        """Stop, since nobody will ask for more. Does not wait."""
        self.let_go()
        self.stop()

    def abandon_soon(self) -> None:
        """Abandon from anywhere: a stream can be collected in any thread, and when its loop is gone."""
        if asyncio._get_running_loop() is self.loop:  # the form that answers None where none runs
            self.abandon()
        elif not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.abandon)

    async def close(self) -> None:
        """Abandon, and wait until everything has ended."""
        if asyncio.current_task(self.loop) in self.tasks:
            message = "closed from inside one of its own items, which would wait for itself; break out of it instead"
            raise RuntimeError(f"paco.{self.name}: {message}")
        self.abandon()
        await self.join()
