"""Group commit: a thread writes lines in groups, and results wait until their lines are written.

Lines that arrive while a group is written, or within 20 ms after that, form the next group. So many lines share the
cost of one write and one sync, and the event loop does not wait for a disk or a slow reader. Nor do the lines wait for
a busy event loop: what it has not asked the thread to write within 20 ms, the thread writes on its own. A loop that is
so busy waits up to 5 ms in 25 for the thread, which could otherwise wait long for the GIL. An idle loop never does.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
import warnings
import weakref
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from paco._base.errors import ItemCancelled, trim
from paco._engine.sinks import InOrder
from paco._records.delivery import Delivery, Drain
from paco._records.file import JournalError
from paco._records.lines import line as line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from paco._engine.run import Scheduler
    from paco._engine.sinks import Drop
    from paco._records.file import RecordFile
    from paco._records.lines import Row

T = TypeVar("T")

#: Seconds from one group to the next. A line that arrives after a longer pause is written at once.
_GROUP_SECONDS: Final = 0.02
#: Seconds after which the thread writes by itself: 5 ms after the loop should have asked for that.
_LATE_SECONDS: Final = 0.025
#: The most seconds that a busy loop waits for the thread.
_HANDOVER_SECONDS: Final = 0.005
#: The bytes at which a group is written without delay, and those above which no item starts until some are written.
_GROUP_BYTES: Final = 1 << 20
_FULL_BYTES: Final = 4 << 20
#: Seconds that a process that exits at once allows for the last write: the reader may have stopped reading.
_LAST_SECONDS: Final = 0.5
#: The bytes of a record besides its item and its result, roughly.
_REST: Final = 160


def lines_of(rows: Iterable[bytes | Row]) -> list[bytes]:
    """Return the lines of a group, some of which are made already."""
    return [one if isinstance(one, bytes) else line_of(*one) for one in rows]


class GroupCommit:
    """Writes the records of a run: a service of the run, whose task ends after the other tasks.

    Args:
        file: Receives the lines. It is closed at the end.
        load: Called in the thread before the first write, to open the file and read the records in it. It returns the
            text of a warning, or an empty text.
        sink: The sink of the run if each of its results must wait for its line; see `Delivery`.
        keep_order: Whether lines are written in the order of their numbers. A line waits for those with lower numbers.
        make: Makes the lines of what was added, in the thread.
        tell: Called in the loop with what the user must know, such as the loss of the file, which fails the run later.
    """

    def __init__(
        self,
        file: RecordFile,
        load: Callable[[], str] | None = None,
        sink: InOrder | Drop | None = None,
        *,
        keep_order: bool = False,
        make: Callable[[list[Any]], list[bytes]] = lines_of,
        tell: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.role = "journal"
        self._file = file
        self._load = load
        self._make = make
        self._tell = tell
        self._lost = ""  # what to tell about the loss of the file
        self._told = False  # whether that was told
        self._delivery: Delivery | Drain | None = None
        if sink is not None:
            self._delivery = Delivery(sink, self) if isinstance(sink, InOrder) else Drain(sink, self)
        self._lines: list[Any] = []
        self._busy = threading.RLock()  # held while lines are taken from the list and written
        self._thread = ThreadPoolExecutor(1, "paco-journal")  # not the loop's executor, which the items may keep busy
        # While the thread watches whether the loop asks for a write in time, what it waits for. A future, not an event:
        # a `VirtualLoop` does not wait for a thread that waits for one, so no virtual time costs real time.
        self._asked: Future[None] | None = None
        self._due = self._cpu = 0.0  # when the thread writes by itself (`time.monotonic`); `thread_time` of the loop
        #: The bytes of all lines that were added, and of those that were written.
        self.added: int = 0
        self.written: int = 0
        self._held: dict[int, bytes | Row] | None = {} if keep_order else None  # lines that wait for lower numbers
        self._held_bytes = 0
        self._next = 0  # the number of the next line to write
        self._waiter: asyncio.Future[None] | None = None
        self._enough: int = _FULL_BYTES  # bytes that end the wait
        self._has_room = asyncio.Event()
        self._others_ended = False
        #: The error that stopped writing, if there was one.
        self.error: BaseException | None = None
        self._last = -math.inf  # when the last group was begun

    # ---- lines

    def add(self, line: bytes | Row, number: int = 0) -> None:
        """Add a line. It is written within about 20 ms, unless it waits for lower numbers.

        This holds even while the event loop is busy: then the thread writes the line by itself, up to 5 ms later, or
        when the next line is added.

        After an error the line is dropped.

        Args:
            line: The line with its end, or the arguments of `lines.line`, which makes it when it is written: that takes
                half the time. With ``keep_order``, an item that has no line adds an empty one.
            number: With ``keep_order``, the position of the line: each number from 0 on is added once.
        """
        if self._held is None:
            self.take(line, _size(line))
            return
        self._held[number] = line
        self._held_bytes += _size(line)
        while self._next in self._held:
            line = self._held.pop(self._next)
            self._next += 1
            self._held_bytes -= _size(line)
            self.take(line, _size(line))

    def take(self, line: Any, size: int) -> None:
        """Add a line of about so many bytes, or what ``make`` makes one of, as `add` does without ``keep_order``."""
        if self.error is not None:
            return
        self.added = added = self.added + size
        self._lines.append(line)
        if self._asked is None or time.monotonic() >= self._due:  # after the append: the thread resets it, then writes
            self._watch(self._asked)
        if added - self.written >= self._enough:
            if self._delivery is not None:
                self.run.attention = -1  # before a worker takes an item, it looks whether there is room
            self.wake()

    def stored(self) -> None:
        """Deliver a result that is stored next, and whose item adds no line, when no line waits to be written."""
        if self.added == self.written:
            self.wake()

    def _watch(self, asked: Future[None] | None) -> None:
        """Have the thread watch whether the loop asks for a write in time; if it is late, let the thread run."""
        # The thread waits for the disk, or, if the loop has been busy, for the GIL. A thread gets the GIL after 5 ms,
        # but its wait begins anew whenever the loop releases the GIL for a moment, as in a system call. So a busy loop
        # hands it over.
        if asked is not None and time.thread_time() - self._cpu > _GROUP_SECONDS / 2:
            with suppress(CancelledError, TimeoutError):
                asked.result(_HANDOVER_SECONDS)
        self._due, self._cpu = time.monotonic() + _LATE_SECONDS, time.thread_time()
        if asked is None:
            self._asked = asked = Future()  # `Future[None]()` takes twice as long
            self._thread.submit(self._write_late, asked, self._due)

    @property
    def full(self) -> bool:
        """Whether so many bytes wait, to be written or for lower numbers, that no more items should start."""
        return self.added - self.written + self._held_bytes > _FULL_BYTES

    async def room(self) -> None:
        """Wait while `full` is true. After an error, return at once."""
        while self.full and self.error is None:
            self._has_room.clear()
            await self._has_room.wait()

    def abandon(self) -> None:
        """Write the lines that are left, for at most 0.5 s. A signal handler calls this before the process exits."""
        # A daemon, since the write may block, and must not keep the process. It has no way left to report an error.
        thread = threading.Thread(target=self._write, args=(len(self._lines),), daemon=True)
        thread.start()
        thread.join(_LAST_SECONDS)

    # ---- the service

    def prepare(self, run: Scheduler) -> None:
        """Set the run, which calls this before it creates tasks."""
        # A weak reference, so that the keys of a million items are freed with the run, not by a later collection.
        self.run: Scheduler = weakref.proxy(run)

    async def serve(self) -> None:
        """Load the file, write all lines, and close it. Return when all lines of the run's other tasks are written.

        If that fails, the run fails with the error.
        """
        self._loop = asyncio.get_running_loop()
        wait = True
        try:
            if self._load is not None:
                await self._load_file(self._load)
            await self._write_all()
            await self._close()
        except GeneratorExit as error:  # the loop was closed, and this coroutine is being garbage-collected
            self.error = error
            wait = False
            raise
        except BaseException as error:
            self.error = error
            trim(error)
            if isinstance(error, OSError):
                error.__traceback__ = None  # its frames in the thread refer to this object: a cycle
            self.run.fail(error, "its journal")
        finally:
            self._file.stopped = True
            self._answer()
            self._thread.shutdown(wait=wait)
            if self._delivery is not None:
                self._delivery.end()
            if self.error is not None:
                self._file.close()
            self._load = self._delivery = None  # they refer to this object: break the cycle

    async def _close(self) -> None:
        if lost := await self._job(self._file.close) or self._lost:
            raise JournalError(lost)

    async def _load_file(self, load: Callable[[], str]) -> None:
        """Load the file, which stops early if the run ends."""
        warning = await self._job(load)
        if self._file.stopped and not self.run.is_ending:
            raise ItemCancelled("the task that was reading the journal was cancelled, but the run was not")
        if warning and not self._file.stopped:
            self._tell(warning)

    def finish(self) -> None:
        """Record that the other tasks of the run have ended: no missing line will come, so write all that wait."""
        held, self._held, self._others_ended = self._held, None, True
        for _, line in sorted((held or {}).items()):
            self.take(line, _size(line))
        self.wake()

    async def _write_all(self) -> None:
        """Write groups until the run has ended: each 20 ms after the last one, or once it is large."""
        while True:
            await self._deliver()
            self._enough = 1
            while not (self._others_ended or self.added > self.written or self._delivers()):
                await self._pause()
            if self.added == self.written:
                if self._delivers():
                    continue
                return
            await self._group()
            added = self.added
            self._answer()
            await self._job(self._write, len(self._lines))
            if self.error is not None:
                raise self.error
            self.written = added
            if self._lost and not self._told:  # a late write may have found it
                self._told = True
                self._tell(self._lost)
            self._has_room.set()

    async def _deliver(self) -> None:
        """Deliver the results whose lines are written, some in each turn of the loop."""
        delivery = self._delivery
        while delivery is not None and delivery.deliver() and (delivery.left or not self._others_ended):
            await self._pause(0)  # so that the consumer can take them

    def _delivers(self) -> bool:
        return self._delivery is not None and self._delivery.has_results()

    async def _group(self) -> None:
        """Wait until the next group is to be written, and begin it."""
        self._enough = _GROUP_BYTES
        while self.added - self.written < _GROUP_BYTES and not (self._others_ended or self.run.is_ending):
            seconds = self._last + _GROUP_SECONDS - self._loop.time()
            if seconds <= 0:
                break
            await self._pause(seconds)
        self._enough, self._last = _FULL_BYTES, self._loop.time()
        if self._delivery is not None:
            self._delivery.group()

    def _answer(self) -> None:
        """Ask for a write, for which the thread may be waiting."""
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def _write_late(self, asked: Future[None], due: float) -> None:
        """Write the lines that the loop does not ask for in time, as it is busy. The loop still asks later."""
        with suppress(CancelledError):
            try:
                asked.result(max(due - time.monotonic(), 0))
            except TimeoutError:
                self._asked = None if self._asked is asked else self._asked
                asked.cancel()
                self._write(len(self._lines))

    def _write(self, count: int) -> None:
        """Write the first ``count`` lines that are left. They are taken only now, so that `abandon` can write them.

        If that fails, keep the error and write nothing more.
        """
        with self._busy:
            group = self._lines[:count]
            del self._lines[:count]  # in place, since the loop may add a line meanwhile
            try:
                if self.error is None:
                    self._lost = self._file.append(self._make(group)) or self._lost
            except BaseException as error:
                self.error = error

    # ---- waiting

    async def _job(self, do: Callable[..., T], *arguments: object) -> T:
        """Call ``do`` in the thread and return its result."""
        job = self._loop.run_in_executor(self._thread, do, *arguments)
        job.add_done_callback(lambda _: self.wake())
        while not job.done():
            await self._pause()
        return job.result()

    async def _pause(self, seconds: float | None = None) -> None:
        """Wait until `wake` is called, or for some seconds.

        A cancellation only ends the wait. It is meant for the items, and no finished item may be lost.
        """
        self._waiter = waiter = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, self.wake)
        try:
            await waiter
        except asyncio.CancelledError:
            self._file.stopped = True  # ends `read`, if the file is still being read
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Have the task that writes look again at what there is to do."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _size(line: bytes | Row) -> int:
    """Return the bytes of a line, estimated if it is not made yet."""
    return len(line) if isinstance(line, bytes) else len(line[0]) + len(line[1]) + _REST
