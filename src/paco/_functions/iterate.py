"""`iterate`: iterate a stream from sync code, with its event loop in another thread."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import AsyncIterable, Iterator
from contextlib import AbstractContextManager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, cast

from paco._base import check, system
from paco._base.errors import add_note
from paco._base.types import T
from paco._engine.source import close, opened

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

#: A result, or how the iteration has ended: with an error, or with ``None``.
_Answer = tuple[bool, Any]


def iterate(stream: AsyncIterable[T]) -> AbstractContextManager[Iterator[T]]:
    """Iterate a stream, or any async iterable, with a plain ``for``: return a ``with`` block for sync code.

    The event loop runs in a thread of its own until the block ends. Leaving the block, by its end, ``break``, an error
    or Ctrl-C, cancels what is running, waits until it has finished, and ends the thread. Results are asked for one by
    one, so a stream runs ahead of the ``for`` as far as it does for an ``async for``. Each takes about 0.1 ms for two
    changes of the thread. The stream sees the context variables of the block's start. Several threads may share the
    results.

    Args:
        stream: A stream or another async iterable, such as an async generator.

    Returns:
        A context manager that returns an iterator. It can be used once.

    Raises:
        TypeError: ``stream`` is not an async iterable.
        RuntimeError: An event loop is already running in this thread; write ``async for`` there.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> with paco.iterate(paco.map(double, range(3), limit=2)) as results:
        ...     for number in results:
        ...         print(number)
        0
        2
        4
    """
    if not isinstance(cast("object", stream), AsyncIterable):
        remedy = "; iterate what is not async with a plain `for`"
        raise TypeError(check.refusal("iterate", "stream", "a stream or another async iterable", stream) + remedy)
    if asyncio._get_running_loop() is not None:
        check.discard(stream)
        raise RuntimeError("paco.iterate: an event loop is already running in this thread; write `async for` there")
    return _Iteration[T](stream)


class _Iteration(Iterator[T], AbstractContextManager[Iterator[T]]):
    """A thread that runs an event loop, reads an async iterable there, and answers each request with its next item."""

    _loop: asyncio.AbstractEventLoop
    _thread: threading.Thread

    def __init__(self, source: AsyncIterable[T]) -> None:
        self._source: Any = source
        self._state = "not entered"
        self._answers: SimpleQueue[_Answer] = SimpleQueue()
        self._lock = threading.Lock()  # whose holder waits for the answer
        self._requested = False  # whether an answer is still to come, after an interrupted wait
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ending = False  # whether the thread must end
        self._failed: BaseException | None = None  # what it has ended with

    # ---- in the thread of the caller

    def __enter__(self) -> Self:
        if self._state != "not entered":
            raise RuntimeError(f"paco.iterate: a `with` block can be used once, and this one is {self._state}")
        # With a factory it does not become the current loop of this thread. It copies the context here.
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = runner.get_loop()
        self._thread = threading.Thread(target=self._run, args=(runner,), name="paco-iterate", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            runner.close()
            raise
        atexit.register(self._end)  # not for a thread that is no daemon: Python waits for those before
        self._state = "open"
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._lock:
            if self._state == "at its end":
                raise StopIteration
            if self._state != "open":
                raise RuntimeError(f"paco.iterate: iterate inside the `with` block, which is {self._state}")
            if not self._requested:
                self._requested = True
                self._call(self._wanted.set)
            is_result, value = self._answer()
            self._requested = False
            if is_result:
                return cast("T", value)
            self._state = "at its end"
        try:
            if value is not None:
                raise value
            raise StopIteration
        finally:
            del value  # its traceback refers to this frame

    def _answer(self) -> _Answer:
        while True:
            with suppress(Empty):
                return self._answers.get(timeout=system.LONGEST_WAIT)

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()
        atexit.unregister(self._end)
        told, self._state = self._state == "at its end", "closed"
        failed, self._failed = self._failed, None
        try:
            if failed is not None and not told:
                if error is None:
                    raise failed
                add_note(error, f"paco.iterate: closing the stream failed with {check.shorten(failed)}")
        finally:
            del failed  # its traceback refers to this frame

    def _end(self) -> None:
        """End the thread, and wait until it has ended."""
        self._ending = True
        self._call(self._cancel)
        while self._thread.is_alive():
            self._thread.join(system.LONGEST_WAIT)

    def _call(self, fn: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: the thread has ended, or is about to
            self._loop.call_soon_threadsafe(fn)

    # ---- in its own thread

    def _run(self, runner: asyncio.Runner) -> None:
        try:
            with runner:
                runner.run(self._serve())
        except BaseException as error:  # the caller raises it
            if not (self._ending and isinstance(error, asyncio.CancelledError)):
                self._failed = error
        self._answers.put((False, self._failed))

    async def _serve(self) -> None:
        self._task = asyncio.current_task()
        source, self._source = self._source, None
        if self._ending:
            close(source)
            return
        async with opened(source) as items:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
                self._answers.put((True, item))
                del item
                if self._ending:  # pragma: no cover - a source has swallowed its only cancellation
                    return

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
