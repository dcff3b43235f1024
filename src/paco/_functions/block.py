"""The ``async with`` block of the executor: a task runs what is added, as soon as something is."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

from paco._engine.nursery import background

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from paco._functions.futures import Job


class Block:
    """A block of an executor, and its task."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._context: contextvars.Context | None = None  # in which the task runs, while the block is open
        self._task: asyncio.Task[None] | None = None
        self._thread = 0
        #: Whether the block has ever been entered.
        self.was_entered: bool = False

    # ---- the block

    def enter(self, work: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
        """Open the block, and start its task if there is work."""
        self.is_here()
        self.was_entered = True
        self._context = contextvars.copy_context()
        if work is not None:
            self.drive(work)

    def leave(self) -> None:
        """Close the block. Its task ends with what it does."""
        self._context = None

    def is_open(self) -> bool:
        """Return whether the block has been entered and not left."""
        return self._context is not None

    def is_here(self) -> None:
        """Note that the executor is used in this thread."""
        self._thread = threading.get_ident()

    def check(self, job: Job, *, running: bool) -> None:
        """Raise ``RuntimeError`` if nothing can be added here and now, and discard the job."""
        failure = self.failure()
        if failure is not None:
            job.discard()
            remedy = "leave the block, which raises its error"
            raise RuntimeError(f"paco.{self._name}: the run of this block has failed; {remedy}") from failure
        if (running or self.is_open()) and threading.get_ident() != self._thread:
            job.discard()
            remedy = "use loop.call_soon_threadsafe(executor.add, coro)"
            raise RuntimeError(f"paco.{self._name}: it runs in another thread, and is not thread-safe; {remedy}")

    def check_room(self, *, running: bool) -> None:
        """Raise ``RuntimeError`` if there may never be room, because nothing runs."""
        if not (running or self.is_open()):
            message = "put() outside of a run, which would make room; call it inside of `async with`, or use add()"
            raise RuntimeError(f"paco.{self._name}: {message}")

    # ---- its task

    def drive(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """In an open block, start the task, unless it works already."""
        if self._context is not None and not self.is_busy():
            self._task = background(work(), f"paco.{self._name} block", self._context.copy())

    def drives(self) -> bool:
        """Return whether the current task is the one of the open block."""
        return self.is_open() and asyncio.current_task() is self._task

    def is_busy(self) -> bool:
        """Return whether the task works."""
        return self._task is not None and not self._task.done()

    def cancel(self, cancel: Callable[[], object]) -> None:
        """Cancel what the executor runs, by calling ``cancel``, and the task. Does not wait."""
        cancel()
        if self._task is not None:
            self._task.cancel()

    async def idle(self) -> None:
        """Wait until the task does not work; its errors are not raised."""
        await asyncio.wait([] if self._task is None else [self._task])

    def failure(self) -> BaseException | None:
        """Return the error with which the task has failed."""
        task = self._task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    def end(self, error: BaseException | None) -> None:
        """Forget the task, and raise its error, unless the block ends with an ``error`` of its own."""
        failure, self._task = self.failure(), None
        try:
            if failure is not None and (error is None or is_from_inside(error)):
                raise failure
        finally:
            del failure, error


def is_from_inside(error: BaseException | None) -> bool:
    """Return whether a block ends because it has waited for a future that was cancelled, and not its task."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()
