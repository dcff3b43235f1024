"""Tasks that end together: the first error cancels each of the others once, and `Nursery.join` waits for all of them.

This is the only module that creates tasks. It does not use `asyncio.TaskGroup`, which raises exception groups, counts a
cancelled child as successful, and on Python 3.11 and 3.12 leaves the ``cancelling()`` count of its parent wrong
(gh-116720).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final

from paco._base.deadline import current_end
from paco._base.errors import ItemCancelled
from paco._base.item import WorkerTask
from paco._engine.failure import EXITS, Failure
from paco._engine.outcomes import RunTimeout

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from paco._base.types import Service, T
    from paco._engine.outcomes import Outcome

#: Since Python 3.14, asyncio records which task awaits which, for `asyncio.print_call_graph` and
#: ``python -m asyncio pstree``. A nursery reports this as a `TaskGroup` does.
_add_waiter: Final[Any] = getattr(asyncio, "future_add_to_awaited_by", None)
_discard_waiter: Final[Any] = getattr(asyncio, "future_discard_from_awaited_by", None)

#: Strong references to tasks and nurseries that run unattended: asyncio keeps only weak ones (gh-88831).
_alive: Final[set[object]] = set()


def background(coro: Coroutine[Any, Any, T], name: str, context: Context | None = None) -> asyncio.Task[T]:
    """Start a task in the running loop and hold a reference to it until it is done."""
    task = asyncio.Task(coro, loop=asyncio.get_running_loop(), name=name, context=context)
    _alive.add(task)
    task.add_done_callback(_alive.discard)
    return task


class Nursery(ABC):
    """Starts tasks and waits until all have ended: call `enter`, then `start_task` for each task, then `join`.

    The abstract methods are called when a task ends, when the nursery stops, and at its end.
    """

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_failure",
        "_on_done",
        "_parent",
        "_serving",
        "_timeout",
        "_timer",
        "_watchers",
        "base",
        "consumer",
        "done",
        "downstream",
        "heeds_deadline",
        "is_ending",
        "loop",
        "name",
        "noted",
        "services",
        "tasks",
        "title",
        "told",
    )

    def __init__(self, name: str, timeout: float | None, runs: str = "") -> None:
        #: The operation, for messages: ``map``.
        self.name: str = name
        #: The prefix of the names of its tasks.
        self.title: str = f"paco.{name} {runs}" if runs else f"paco.{name}"
        self._timeout = timeout
        #: The tasks that have not ended.
        self.tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._watchers: list[asyncio.Future[None]] = []
        #: Resolved when the consumer of a stream, if it waits, can take a result, or when all tasks have ended.
        self.consumer: asyncio.Future[None] | None = None
        #: The run that reads these results. It fails at once with the first error of this one.
        self.downstream: Nursery | None = None
        self._failure: Failure | None = None  # its errors, if there are any
        #: Whether it is ending: nothing more will start.
        self.is_ending: bool = False
        self._abandoned = False
        #: Whether one of its tasks has, or had, the record of an item.
        self.noted: bool = False
        #: Whether all tasks have ended.
        self.done: bool = False
        #: Whether `join` has returned or raised.
        self.told: bool = False
        #: Whether the `deadline` that is in effect at the start also ends this nursery.
        self.heeds_deadline: bool = True
        #: Work that outlives the other tasks.
        self.services: tuple[Service, ...] = ()
        self._serving: frozenset[asyncio.Task[None]] = frozenset()  # the tasks of the services

    def enter(self) -> bool:
        """Bind to the running loop and to a copy of the caller's context; return false if no time is left."""
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.base: Context = copy_context()
        self._parent = None if _add_waiter is None else asyncio.current_task(self.loop)
        self._on_done: Any = self._ended  # one bound method for all tasks: fewer objects for the garbage collector
        end, seconds, deadline = current_end.get(), self._timeout, ""
        if end is not None and self.heeds_deadline:
            seconds, deadline = end.within(seconds)
        if seconds == 0:
            self._expire(deadline)
            return False
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, self._expire, deadline, context=self.base)
        if self.services:
            self._serve()
        return True

    def _serve(self) -> None:
        for service in self.services:
            self.base.run(service.prepare, self)
        self._serving = frozenset(
            self.start_task(service.serve(), self.base.copy(), f"{self.title} {service.role}")
            for service in self.services
        )

    def start_task(self, coro: Coroutine[Any, Any, None], context: Context, name: str) -> asyncio.Task[None]:
        """Start a task in the given context; the nursery waits for it."""
        # Not loop.create_task: an eager task factory would run the first step of the new task inside the step that
        # starts it, so workers that retire would nest without bound.
        task = WorkerTask(coro, loop=self.loop, name=name, context=context)
        task.nursery, task.item = self, None
        if self._parent is not None:
            _add_waiter(task, self._parent)
        self.tasks.add(task)
        task.add_done_callback(self._on_done, context=self.base)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Account for a task that is done. This is a callback because a task can be cancelled before its first step."""
        if task not in self.tasks:  # `_caught_up` was earlier
            return
        error: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._task_failed(task, error)
        worker: Any = task  # cast() would take 40 ns
        worker.nursery = worker.item = None  # so that a reference to the task does not keep the results alive
        if self._parent is not None:
            _discard_waiter(task, self._parent)
        self.tasks.discard(task)
        if not self.tasks:
            self._finish()
            return
        self._task_left(task)
        if self.tasks <= self._serving:
            for service in self.services:
                service.finish()

    @abstractmethod
    def _task_failed(self, task: asyncio.Task[None], error: BaseException) -> None:
        """Handle a task that was cancelled or that raised an error it did not handle."""

    @abstractmethod
    def _task_left(self, task: asyncio.Task[None]) -> None:
        """Run when a task has ended and others have not."""

    # ---- ending

    def _expire(self, deadline: str) -> None:
        end = deadline or f"its timeout of {self._timeout} s, which is for the whole call; {self._remedy()}"
        self.fail(RunTimeout(f"paco.{self.name}: not finished within {end}", self.outcomes()))

    def _remedy(self) -> str:
        function = self.title.removeprefix(f"paco.{self.name}").strip() or "coro"
        return f"to time out each item, use paco.timeout({function}, {self._timeout})"

    @abstractmethod
    def outcomes(self) -> tuple[Outcome[Any, Any], ...]:
        """Return the `Ok` and `Err` results that were not delivered."""
        ...

    def fail(self, error: BaseException, note: str = "") -> None:
        """Record the first error and cancel the tasks that still run. A later error is added to the first as a note."""
        if self.is_ending:
            self.late(error, note or "the stage before it")  # which has put its own note on its error
            return
        if self._abandoned and isinstance(error, ItemCancelled):
            # asyncio.run cancels remaining tasks at its end. Nobody awaits this nursery, so there is no error to raise.
            # A second cancellation would interrupt the cleanup of the tasks.
            self._end({task for task in self.tasks if not task.cancelling()})
            return
        self._failed().first(error, note)
        self.stop()
        if self.downstream is not None:
            self.downstream.fail(error)

    def _failed(self) -> Failure:
        if self._failure is None:
            self._failure = Failure(self.name)
        return self._failure

    def late(self, error: BaseException | None, where: str) -> None:
        """Record an error that came after the first. One that ends the program is raised here and in the next stage."""
        if error is not None:
            self._failed().late(error, where)
        if self.downstream is not None and isinstance(error, EXITS):
            self.downstream.fail(error)

    def ending(self) -> bool:
        """Return whether nothing more will start."""
        return self.is_ending

    def stop(self) -> None:
        """Start nothing more, and cancel each task once except the calling one. Does not wait."""
        self._end(self.tasks - {asyncio.current_task(self.loop)})

    def cancel(self) -> None:
        """Start nothing more, and cancel each task once, including the calling one. Does not wait."""
        self._end(self.tasks.copy())

    def _end(self, tasks: set[asyncio.Task[None]]) -> None:
        if self.is_ending:
            return
        try:
            self.is_ending = True
            self._stopping()
            _alive.add(self)
            self._disarm()
            for task in tasks:
                task.cancel()
        except BaseException:
            self.is_ending = False  # a KeyboardInterrupt: the next call does the rest
            raise
        if not self.tasks:
            self.loop.call_soon(self._finish, context=self.base)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @abstractmethod
    def _stopping(self) -> None:
        """Run before the tasks are cancelled."""

    def _finish(self) -> None:
        if self.done:
            return
        self.done = self.is_ending = True
        try:
            self._disarm()
            self._finishing()
        except BaseException as error:
            self.late(error, "closing its source")
        finally:
            for watcher in (*self._watchers, self.consumer):
                if watcher is not None and not watcher.done():
                    watcher.set_result(None)
            self.services, self._serving, self._on_done = (), frozenset(), None  # break reference cycles
            self._parent = None
            _alive.discard(self)
            if self._abandoned and self._failure is not None:
                self._failure.report(self.loop, handed_on=self.downstream is not None)

    def _caught_up(self) -> bool:
        """Return whether it is done. At its end, do first what a KeyboardInterrupt has kept a callback from doing."""
        if self.is_ending and not self.done:
            for task in [task for task in self.tasks if task.done()]:
                self._ended(task)
            if not self.tasks:
                self._finish()
        return self.done

    @abstractmethod
    def _finishing(self) -> None:
        """Run when all tasks have ended. An error that it raises is reported."""

    def until_done(self) -> asyncio.Future[None]:
        """Return a new future that is resolved when all tasks have ended. The caller may resolve it earlier."""
        watcher = self.loop.create_future()
        self._watchers = [other for other in self._watchers if not other.done()]  # anyio cancels a wait in each turn
        self._watchers.append(watcher)
        return watcher

    def awaited(self) -> list[asyncio.Future[Any]]:
        """Return the futures that wait for its tasks."""
        return list(self._watchers)

    async def join(self, cancelled: asyncio.CancelledError | None = None) -> None:
        """Wait until all tasks have ended, then raise the first error.

        If the wait is cancelled, `join` cancels all tasks, and raises the cancellation when they have ended. A caller
        that has caught a cancellation before passes it as ``cancelled``, and `join` raises that one.
        """
        while not self._caught_up():
            try:
                await self.until_done()
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                self.stop()
            except GeneratorExit:
                self.abandon_soon()  # the user has closed the waiting coroutine
                raise
        self.told = True
        try:
            if self._failure is not None:
                self._failure.throw(self.loop, cancelled)
            if cancelled is not None:
                raise cancelled
        finally:
            del cancelled

    # ---- abandonment, and the run that reads the results

    def feeds(self, run: Nursery) -> None:
        """Pass the first error at once to the run that reads these results, so that it fails without delay."""
        self.downstream = run
        self.heeds_deadline = False  # that run already heeds the same deadline

    def let_go(self) -> None:
        """Continue although nothing awaits the result: drop the timeout, and report errors to the event loop."""
        self._abandoned = True
        self._disarm()
        if self._parent is not None:
            for task in self.tasks:
                _discard_waiter(task, self._parent)
            self._parent = None
        if not self.done:
            _alive.add(self)
        elif self._failure is not None:
            self._failure.report(self.loop, handed_on=self.downstream is not None)

    def was_let_go(self) -> bool:
        """Return whether nothing awaits the result. A task cancelled then is cancelled by the end of the loop."""
        return self._abandoned

    def abandon(self) -> None:
        """Stop, and report errors to the event loop, because nothing awaits the result. Does not wait."""
        self.let_go()
        self.stop()

    def abandon_soon(self) -> None:
        """Abandon from any thread: a stream can be garbage-collected anywhere, even after its loop has closed."""
        if asyncio._get_running_loop() is self.loop:  # unlike get_running_loop, returns None if no loop runs
            self.abandon()
        elif not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.abandon)

    async def close(self) -> None:
        """Abandon, and wait until all tasks have ended.

        Raises:
            RuntimeError: Called from one of its own tasks, which would wait for itself.
        """
        if asyncio.current_task(self.loop) in self.tasks:
            message = "closed from inside one of its own items, which would wait for itself; break out of it instead"
            raise RuntimeError(f"paco.{self.name}: {message}")
        self.abandon()
        await self.join()
