"""Results that wait for their records: a task of the run that has groups of lines written, and then hands on.

Group commit: what comes while a group is being written, and in the 20 ms after it, is the next group. So the cost of a
write, and of a sync, is shared by as many results as there are, and the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from paco._base.errors import ItemCancelled, trim

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._engine.run import Run
    from paco._engine.sinks import InOrder
    from paco._records.file import RecordFile

T = TypeVar("T")

#: Seconds from one group to the next; a line that comes after a longer pause is written at once.
_GROUP_SECONDS: Final = 0.02
#: Bytes at which a group is written without delay, and at which nothing more starts until some have been written.
_GROUP_BYTES: Final = 1 << 20
_FULL_BYTES: Final = 4 << 20
#: Results that are handed on in one turn of the loop, at most: a millisecond of work, and what the consumer does.
_BATCH: Final = 1000


def _nothing() -> None:
    """Do nothing."""


class Keeper:
    """Keeps the journal of a run, and is the store of its results.

    Args:
        file: Where the lines go.
        load: Opens the file and reads it, in a thread.
        loaded: Called when that is done, in the loop.
        sink: Where a result goes when the lines that there were when it came have been written.
    """

    def __init__(self, file: RecordFile, load: Callable[[], None], loaded: Callable[[], None], sink: InOrder) -> None:
        self._file = file
        self._load = load
        self._loaded = loaded
        self._sink = sink
        self._window, sink.window = sink.window, 0  # nothing starts before the journal has been read
        sink.store = self
        self._lines: list[bytes] = []
        self._added = self._written = 0  # lines, since the beginning
        self._waiting = self._writing = 0  # bytes of those that are to be written, and of those that are being written
        self._held: deque[tuple[int, int, Any]] = deque()  # results, each with its index, after the lines it waits for
        self._waiter: asyncio.Future[None] | None = None
        self._enough: float = math.inf  # bytes of lines that end the wait
        self._alone = self._failed = False
        self._last = -math.inf

    # ---- what the items leave

    def add(self, line: bytes) -> None:
        """Take a line; it is written within about 20 ms."""
        if self._failed:
            return
        self._lines.append(line)
        self._added += 1
        self._waiting += len(line)
        if self._waiting >= self._enough:
            self._wake()

    def __setitem__(self, index: int, result: Any, /) -> None:
        """Take a result; it is handed on when all lines that there are now have been written."""
        if self._run.ending():
            return  # it comes after the outcome of the run
        if self._written == self._added and not self._held:
            self._sink.results[index] = result
        else:
            self._held.append((self._added, index, result))
            self._widen()

    def _widen(self) -> None:
        """Do not count what waits for its record as what waits for the consumer, unless too much does."""
        full = self._waiting + self._writing >= _FULL_BYTES
        self._sink.window = 0 if full else self._window + len(self._held)

    # ---- the task

    async def keep(self, run: Run) -> None:
        """Do all that is done with the file. It ends when all that the other tasks of the run have left is written."""
        self._run, self._loop = run, asyncio.get_running_loop()  # a weak proxy of it, as `Recorder` has one
        self._thread = ThreadPoolExecutor(1, "paco-journal")  # its own: the loop's may be busy with what items wait for
        wait = True
        try:
            await self._keep(run)
        except GeneratorExit:  # the loop is gone, and this coroutine is being collected
            wait = False
            raise
        except BaseException as error:
            self._failed = True
            trim(error)
            run.fail(error, "its journal")
        finally:
            self._file.stopped = True
            self._thread.shutdown(wait=wait)
            self._file.close()
            # They lead back here.
            self._load = self._loaded = _nothing
            self._sink.store = self._sink.results

    async def _keep(self, run: Run) -> None:
        await self._job(self._load)
        if not self._file.stopped:
            self._loaded()
            self._widen()
            run.release()
            await self._write_all()
        elif not run.ending():
            raise ItemCancelled("somebody has cancelled the task that was reading the journal, and not the run")
        await self._job(self._file.close)

    def alone(self) -> None:
        """Hear that the other tasks of the run have ended."""
        self._alone = True
        self._wake()

    async def _write_all(self) -> None:
        while True:
            self._enough = 1
            while not (self._lines or self._alone):
                await self._pause()
            if not self._lines:
                return
            self._enough = _GROUP_BYTES
            await self._gather()
            self._enough = math.inf
            lines, self._lines = self._lines, []
            added = self._added
            self._writing, self._waiting = self._waiting, 0
            await self._job(self._file.append, lines)
            self._writing = 0
            self._written = added
            self._last = self._loop.time()
            await self._hand_on()

    async def _gather(self) -> None:
        """Wait for more lines, until 20 ms have passed since the last group, or there is no more to come."""
        while self._waiting < _GROUP_BYTES and not (self._alone or self._run.ending()):
            seconds = self._last + _GROUP_SECONDS - self._loop.time()
            if seconds <= 0:
                return
            await self._pause(seconds)

    async def _hand_on(self) -> None:
        held = self._held
        while True:
            for _ in range(min(_BATCH, len(held))):
                if held[0][0] > self._written:
                    break
                _, index, result = held.popleft()
                self._sink.results[index] = result
            self._widen()
            self._run.release()
            if not held or held[0][0] > self._written:
                return
            await self._pause(0)

    # ---- waiting

    async def _job(self, do: Callable[..., T], *arguments: object) -> T:
        """Have something done in the thread, and wait for it."""
        job = self._loop.run_in_executor(self._thread, do, *arguments)
        job.add_done_callback(lambda _: self._wake())
        while not job.done():
            await self._pause()
        return job.result()

    async def _pause(self, seconds: float | None = None) -> None:
        """Wait to be woken, or for some seconds.

        A cancellation only ends the wait: it is for the items, and nothing that they have finished may be lost.
        """
        self._waiter = waiter = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, self._wake)
        try:
            await waiter
        except asyncio.CancelledError:
            self._file.stopped = True  # if it is still being read
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
