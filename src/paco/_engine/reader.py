"""How an async source is read: in the name of a single task, and no further ahead than there are free slots.

Workers advance the iterator of a sync source themselves. A timeout, a task group or a context variable inside an async
generator belongs to the task that entered it, so an async source has a task of its own, with its own context. While
that task has nothing to do, a worker that wants an item executes the next step of the source on its behalf: the source
sees the task and the context of the reader, and no switch of tasks is necessary. If the step has to wait, the task of
the reader waits, and finishes it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextlib import suppress
from time import perf_counter
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, Final

from paco._base.check import discard
from paco._base.errors import trim
from paco._engine.sinks import NOTHING, InOrder
from paco._engine.source import Upstream, close, opened, upstream_of

if TYPE_CHECKING:
    import contextvars
    from asyncio import Future
    from collections.abc import AsyncIterator, Awaitable, Generator

    from paco._base.types import T
    from paco._engine.run import Scheduler

_tasks: Final[Any] = asyncio.tasks
#: Makes a task the current one of a loop, or none, in one step. An interrupt between the documented `_leave_task` and
#: `_enter_task` would leave the loop without a current task.
_set_current_task: Final[Any] = (
    _tasks._swap_current_task if sys.version_info >= (3, 12) else _tasks._current_tasks.__setitem__  # noqa: SLF001 - no other way
)

#: The maximum number of items to read ahead of an async source, whatever the limit of the run.
LEAD: Final = 64


class Reader:
    """An iterator over the items of an async source. It stops when no item is available *yet*.

    ``ended`` distinguishes the end of the source from a pause. An error of the source is raised after the items that
    precede it. Up to ``ahead`` items are read before there are slots for them.
    """

    def __init__(self, source: Any, run: Scheduler, ahead: int) -> None:
        self._source: Any = source
        self._run: Scheduler = run
        self._items: deque[Any] = deque()
        self._error: BaseException | None = None
        #: The source, if a worker may take from it without this task.
        self._upstream: Upstream | None = upstream_of(source)
        #: Whether the source must hear when the run waits for it.
        self.heeds: bool = self._upstream is not None and self._upstream.heeds
        self._ahead = ahead
        self.parked: Future[None] | None = None
        self.ended: bool = False
        self._cut = False  # whether it ends early
        self._closing = False  # whether the source is being closed
        self._task: asyncio.Task[None]
        self._context: contextvars.Context
        self._iterator: AsyncIterator[Any] | None = None  # the opened source, if a worker may execute a step of it
        self._step: SourceStep | None = None  # a step that a worker has begun

    def start(self, context: contextvars.Context) -> None:
        """Start the task that reads, in the given context."""
        self._context = context
        self._task = self._run.start_task(self.read(), context, f"{self._run.title} reader")

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> Any:
        items = self._items
        if items:
            item = items.popleft()
            if len(items) <= self._ahead // 2 and (self._ahead or self._upstream is not None):
                self.wake()
            return item
        item = self._advance() if self._upstream is None else self._upstream.take()
        if item is not NOTHING:
            return item
        error, self._error = self._error, None
        try:
            raise StopIteration if error is None else error
        finally:
            del error  # it refers to this frame: a reference cycle

    def _advance(self) -> Any:
        """Execute steps of the source on behalf of the task that reads: one, and more while there are free slots.

        Return the first item, or `NOTHING` if it has to wait.
        """
        run, iterator, self._iterator = self._run, self._iterator, None
        if iterator is None:
            return NOTHING
        loop, pool, worker = run.loop, run.pool, asyncio.current_task(run.loop)
        most = 1 if len(pool.workers) - pool.idle >= pool.limit else min(1 + pool.spare(), run.pace.stride)
        try:
            self._context.run(self._begin, iterator, loop, worker, most)
        except BaseException as error:
            _set_current_task(loop, worker)  # `_begin` may have been interrupted before it did this
            self.ended = True
            if not isinstance(error, StopAsyncIteration):
                trim(error)
                self._error = error
        if self.ended or self._step is not None:
            self.wake()
        elif not self._cut:
            self._iterator = iterator
        if not (items := self._items):
            return NOTHING
        item = items.popleft()
        if items:
            run.supplied(len(items))
        return item

    def _begin(
        self, iterator: AsyncIterator[Any], loop: asyncio.AbstractEventLoop, worker: asyncio.Task[Any] | None, most: int
    ) -> None:
        """Read up to ``most`` items, until a step of the source has to wait. It raises what the step raises."""
        items, is_generator = self._items, type(iterator) is AsyncGeneratorType
        try:
            _set_current_task(loop, self._task)
            while True:
                step: Any = iterator.__anext__() if is_generator else _next_step(iterator)
                try:
                    waits_for = step.send(None)
                except StopIteration as found:
                    items.append(found.value)
                else:
                    self._step = SourceStep(step, waits_for)
                    break
                if len(items) >= most or self._cut:
                    break
        finally:
            _set_current_task(loop, worker)

    def ready(self) -> bool:
        """Return whether the next step may return an item, raise the error, or reach the end, without waiting."""
        return (
            bool(self._items)
            or self._iterator is not None
            or self.ended
            or (self._upstream is not None and self._upstream.has_result())
        )

    def over(self) -> bool:
        """Return whether the source has ended and all of its items have been taken."""
        return self.ended and not self._items

    def waiting(self) -> int:
        """Return the number of items read but not taken. An error counts as one, because a worker must raise it."""
        return len(self._items) + (self._error is not None)

    def reads_on(self) -> bool:
        """Return whether another item is wanted."""
        return len(self._items) < max(self._run.wanted(), 0) + self._ahead

    def useful(self, workers: int) -> int:
        """Return how many more workers could have an item now; if unknown, as many as there are workers."""
        if self._iterator is not None and not self._items:
            return max(workers, 1)
        self.wake()
        return self.waiting()

    def starves(self) -> None:
        """Tell the source that the run waits for its next item and may have nothing else to do."""
        if self._upstream is not None:  # it has not ended
            self._upstream.starves()

    def wake(self) -> None:
        """Continue to read if the reader has paused: a slot may be free."""
        if self.parked is not None and not self.parked.done():
            self.parked.set_result(None)

    async def read(self) -> None:
        """Read the source to its end, never further than wanted, and close it. If the run ends, close it early."""
        run = self._run
        try:
            if not self._cut:
                await self._read(run)
        except BaseException as error:  # a worker raises it after the items before it
            if not (self._cut and isinstance(error, asyncio.CancelledError)):
                trim(error)
                self._error = _misplaced(error) if isinstance(error, StopIteration) else error
        self.ended = True
        self._upstream = self._iterator = None
        if not run.loop.is_closed():  # it is closed if this coroutine is being garbage-collected
            run.supplied()

    async def _read(self, run: Scheduler) -> None:
        given, self._source = self._source, None
        async with opened(given) as source:
            try:
                since = perf_counter()
                while self._step is not None or not (self.ended or self._cut):
                    if self._step is None and not self.reads_on():
                        await self._pause(source)
                        since = perf_counter()
                    elif not await self._read_one(source):
                        break
                    elif perf_counter() - since > run.pace.turn.share:  # a source may hold the loop, or never suspend
                        await asyncio.sleep(0)
                        since = perf_counter()
            finally:
                self._closing = True
                if self._step is not None:  # an interrupt in this module has left it unfinished
                    self._step.close()

    def end(self) -> None:
        """Read nothing more, as if the source had ended here. What has been read is run.

        A previous stage ends by itself, when everything that it has taken has passed. Any other source is cancelled in
        the next turn, so that an item that it is about to return is not lost.
        """
        if self._upstream is None or not self._upstream.end_source():
            self._cut, self._iterator = True, None
            self._run.loop.call_soon(self._cancel)

    def _cancel(self) -> None:
        if not self._closing:
            self._task.cancel()

    async def _read_one(self, source: AsyncIterator[Any]) -> bool:
        """Read an item if one is still wanted when it comes; return false at the end of the source or of the run."""
        step = self._step
        try:
            if self._upstream is not None:
                item = await self._upstream.next(self.reads_on)
            else:
                item = await (anext(source) if step is None else step)
        except StopAsyncIteration:
            return False
        self._step = None
        if self._run.is_ending:
            return False  # the source has swallowed its only cancellation, as wait_for does on 3.11 (gh-86296)
        if item is not NOTHING:
            self._items.append(item)
            self._run.supplied()
        return True

    async def _pause(self, source: AsyncIterator[Any]) -> None:
        """Wait until more items are wanted. Meanwhile, workers may execute steps of the source."""
        run = self._run
        if run.sink.room(run.started) <= run.started:
            run.hungry = True  # maybe no worker waits for room, so the consumer must wake this task
        # A step of a previous stage would wait for its next result, and take it although no slot is free by then.
        self._iterator = source if self._upstream is None else None
        self.parked = run.loop.create_future()
        try:
            await self.parked
        except asyncio.CancelledError as error:
            if self._step is None:
                raise
            self._step.cancel(error)
        finally:
            self.parked = self._iterator = None

    def close(self) -> BaseException | None:
        """Close a source that was never read, and return the error that no worker has raised."""
        close(self._source)
        discard(*self._items)
        error, self._error = self._error, None
        return error


def is_calm(run: Any) -> bool:
    """Return whether a run, and those that read its results, have nothing to do before its source has another item."""
    pool, reader, sink = run.pool, run.reader, run.sink
    taken = (0 if run.admission is None else run.admission.held) + (0 if reader is None else reader.waiting())
    if run.is_ending or taken or pool.resting or pool.idle < len(pool.workers):
        return False
    if isinstance(sink, InOrder):
        if run.consumer is None or run.consumer.done():
            return False
        if sink.holds_back(run.started):
            run.notify()
            return False
    return run.downstream is None or is_calm(run.downstream)


class SourceStep:
    """A step of a source that a worker has begun, and that has to wait. The task that reads awaits it to finish it."""

    __slots__ = ("_error", "_step", "_waits_for")

    def __init__(self, step: Any, waits_for: Any) -> None:
        self._step = step
        self._waits_for = waits_for  # a future; None for the next turn of the loop
        self._error: BaseException | None = None
        self._mark(waits_for, False)  # others may await it before the task that reads does

    @staticmethod
    def _mark(waits_for: Any, value: bool) -> None:
        """Set the mark by which a future tells its task that it was awaited, as `asyncio.Task` does."""
        if hasattr(waits_for, "_asyncio_future_blocking"):
            waits_for._asyncio_future_blocking = value  # noqa: SLF001 - the protocol of futures

    def cancel(self, error: asyncio.CancelledError) -> None:
        """Cancel what the step waits for, as a task does, or raise the cancellation in the step."""
        if self._waits_for is None or not self._waits_for.cancel(*error.args):
            self._error = error

    def close(self) -> None:
        """End the step if it has not ended, so that the source can be closed."""
        with suppress(GeneratorExit, Exception):  # RuntimeError if it has ended
            self._step.throw(GeneratorExit())  # `close` of an `asend` does nothing before Python 3.13

    def __await__(self) -> Generator[Any, None, Any]:
        step, waits_for, error, given = self._step, self._waits_for, self._error, None
        self._error = None  # it refers to frames that refer to this object: a reference cycle
        waited = waits_for is None  # for the next turn of the loop, in which the task that reads was woken
        try:
            while True:
                if error is None and not waited:
                    try:
                        self._mark(waits_for, True)
                        yield waits_for
                    except BaseException as raised:
                        error = raised
                waited = False
                if error is None:
                    waits_for = step.send(None)
                else:
                    given, error = error, None
                    waits_for = step.throw(given)
        except StopIteration as found:
            return found.value
        finally:
            del self, step, waits_for, error, given


def _misplaced(error: StopIteration) -> RuntimeError:
    """Return what Python makes of a StopIteration that a coroutine raises. It does not end an async source."""
    misplaced = RuntimeError("an async iterator raised StopIteration")
    misplaced.__cause__ = error
    return misplaced


def _next_step(iterator: AsyncIterator[Any]) -> Any:
    """Return the coroutine, or another object with its methods, that yields the next item."""
    try:
        step: Any = iterator.__anext__()
    except StopIteration as error:
        raise _misplaced(error)  # noqa: B904 - it has its cause
    return step if hasattr(step, "send") else _awaiting(step)


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable
