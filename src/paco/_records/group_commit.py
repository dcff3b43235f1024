"""Group commit: lines are written in groups by a thread, and what waits for them is told.

What comes while a group is being written, and in the 20 ms after it, is the next group. So the cost of a write, and of
a sync, is shared by as many lines as there are, and the event loop never waits for a disk or for a slow reader.
"""

from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from paco._base.errors import ItemCancelled, trim

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._engine.run import Run
    from paco._records.file import RecordFile

T = TypeVar("T")

#: Seconds from one group to the next; a line that comes after a longer pause is written at once.
_GROUP_SECONDS: Final = 0.02
#: Bytes at which a group is written without delay, and at which nothing more starts until some have been written.
_GROUP_BYTES: Final = 1 << 20
_FULL_BYTES: Final = 4 << 20
#: Seconds for what is left to be written when the process leaves at once: its reader may never read on.
_LAST_SECONDS: Final = 0.5


def _nothing() -> None:
    """Do nothing."""


def _nothing_left() -> bool:
    """Say that nothing is left to do."""
    return False


class GroupCommit:
    """Writes the records of a run, from a task that outlives the run's other tasks.

    Args:
        file: Where the lines go; it is closed at the end.
        load: Called in the thread before anything is written: opens the file, and reads what is there.
        loaded: Called in the loop when that is done.
        committed: Called in the loop after each group, and again in the next turn as long as it returns true.
        keep_order: Whether lines are written in the order of their numbers, as far as these come without a gap.
    """

    def __init__(
        self,
        file: RecordFile,
        load: Callable[[], None] | None = None,
        loaded: Callable[[], None] = _nothing,
        committed: Callable[[], bool] = _nothing_left,
        *,
        keep_order: bool = False,
    ) -> None:
        self._file = file
        self._load = load
        self._loaded = loaded
        self._committed = committed
        self._lines: list[bytes] = []
        self._busy = threading.RLock()  # while lines are taken from the list and written
        #: Lines that were added and written, since the beginning.
        self.added: int = 0
        self.written: int = 0
        self._bytes = self._written_bytes = self._held_bytes = 0
        self._held: dict[int, bytes] | None = {} if keep_order else None  # lines whose turn has not come
        self._next = 0  # whose turn it is
        self._waiter: asyncio.Future[None] | None = None
        self._enough: float = math.inf  # bytes that end the wait
        self._room: list[asyncio.Future[None]] = []
        self._alone = False
        #: Why lines cannot be written, if they cannot.
        self.error: BaseException | None = None
        self._last = -math.inf

    # ---- what the items leave

    def add(self, line: bytes, number: int = 0) -> None:
        """Take a line; it is written within about 20 ms, in order or not. An empty one passes its turn."""
        if self.error is not None:
            return
        if self._held is None:
            self._take(line)
            return
        self._held[number] = line
        self._held_bytes += len(line)
        while self._next in self._held:
            line = self._held.pop(self._next)
            self._next += 1
            self._held_bytes -= len(line)
            self._take(line)

    def _take(self, line: bytes) -> None:
        self.added += 1
        self._bytes += len(line)
        self._lines.append(line)
        if self._bytes - self._written_bytes >= self._enough:
            self._wake()

    @property
    def full(self) -> bool:
        """Whether so much waits to be written, or for its turn, that nothing more should start."""
        return self._bytes - self._written_bytes + self._held_bytes > _FULL_BYTES

    async def room(self) -> None:
        """Wait while it is full."""
        while self.full and self.error is None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.append(future)
            await future

    def abandon(self) -> None:
        """Write what is there, from a signal handler: nothing is done after it."""

        def write() -> None:
            with suppress(OSError):  # nobody is left to be told
                self._write(len(self._lines))

        thread = threading.Thread(target=write, daemon=True)  # its reader may never read on
        thread.start()
        thread.join(_LAST_SECONDS)

    # ---- the task

    async def keep(self, run: Run) -> None:
        """Do all that is done with the file. It ends when all that the other tasks of the run have left is written."""
        self._run, self._loop = run, asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "paco-journal")  # its own: the loop's may be busy with what items wait for
        wait = True
        try:
            await self._keep(run)
        except GeneratorExit:  # the loop is gone, and this coroutine is being collected
            wait = False
            raise
        except BaseException as error:
            self.error = error
            trim(error)
            if isinstance(error, OSError):
                error.__traceback__ = None  # its frames in the thread lead back here
            run.fail(error, "its journal")
        finally:
            self._file.stopped = True
            self._thread.shutdown(wait=wait)
            self._file.close()
            # They lead back here.
            self._load, self._loaded = None, _nothing
            self._committed = _nothing_left

    async def _keep(self, run: Run) -> None:
        if self._load is None or await self._has_loaded(self._load, run):
            await self._write_all()
        await self._job(self._file.close)

    async def _has_loaded(self, load: Callable[[], None], run: Run) -> bool:
        """Read what is there, and say whether that came to its end."""
        await self._job(load)
        if not self._file.stopped:
            self._loaded()
            run.release()
            return True
        if not run.ending():
            raise ItemCancelled("somebody has cancelled the task that was reading the journal, and not the run")
        return False

    def alone(self) -> None:
        """Hear that the other tasks of the run have ended: lines that wait for a gap have it behind them."""
        for _, line in sorted((self._held or {}).items()):
            self._take(line)
        self._held, self._alone = None, True
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
            written, size = self.added, self._bytes
            await self._job(self._write, len(self._lines))
            self.written, self._written_bytes = written, size
            self._last = self._loop.time()
            self._make_room()
            while self._committed():
                await self._pause(0)

    def _write(self, count: int) -> None:
        """Write so many lines, or as many as are left. They stay in the list until then, for `abandon`."""
        with self._busy:
            group = self._lines[:count]
            del self._lines[:count]  # the list stays the same: a line may be added meanwhile
            self._file.append(group)

    async def _gather(self) -> None:
        """Wait for more lines, until 20 ms have passed since the last group, or there is no more to come."""
        while self._bytes - self._written_bytes < _GROUP_BYTES and not (self._alone or self._run.ending()):
            seconds = self._last + _GROUP_SECONDS - self._loop.time()
            if seconds <= 0:
                return
            await self._pause(seconds)

    # ---- waiting

    def _make_room(self) -> None:
        waiting, self._room = self._room, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

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
