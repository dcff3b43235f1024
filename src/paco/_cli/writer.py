"""The one writer of the records: a thread that writes them in groups, so that a slow reader never stalls the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from paco._records.file import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that records are gathered before they are written: `kill -9` loses at most this window.
_GROUP_SECONDS = 0.02
#: Bytes waiting at which a group is written without delay, and at which the items wait for the writer.
_GROUP_BYTES = 1 << 20
_FULL_BYTES = 8 << 20


class Writer:
    """Appends lines to a file descriptor from a thread of its own.

    Made in the loop that uses it. ``failed`` is called there, once, when writing has become impossible: a full disk, or
    a pipe whose reader has gone (``BrokenPipeError``).
    """

    def __init__(self, descriptor: int, failed: Callable[[OSError], None]) -> None:
        self._descriptor = descriptor
        self._failed = failed
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._loop = asyncio.get_running_loop()
        self._lines: list[bytes] = []
        self._added = 0
        self._written = 0
        # It is rung for the first line of a group, which then waits for others, and once more to have it written now.
        # SimpleQueue.put is reentrant: a signal handler may come in the middle of it, where threading.Event would
        # deadlock.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._rung = False
        self._ending = False
        self._waiting: list[asyncio.Future[None]] = []
        self._ended: asyncio.Future[None] = self._loop.create_future()
        # A daemon: a reader that never reads must not keep the process alive after the third Ctrl-C.
        self._thread = threading.Thread(target=self._work, name="paco-writer", daemon=True)
        self._thread.start()

    def add(self, line: bytes) -> None:
        """Take a line; it is written within about 20 ms."""
        self._added += len(line)
        self._lines.append(line)
        if not self._rung:
            self._ring()
        if self._added - self._written >= _GROUP_BYTES:
            self._bell.put(None)

    def _ring(self) -> None:
        self._rung = True
        self._bell.put(None)

    @property
    def full(self) -> bool:
        """Whether more than 8 MB are waiting to be written."""
        return self._added - self._written > _FULL_BYTES

    async def room(self) -> None:
        """Wait while it is full."""
        while self.full:
            future = self._loop.create_future()
            self._waiting.append(future)
            await future

    async def aclose(self) -> None:
        """Write what is there and end the thread."""
        self._end()
        await self._ended
        self._thread.join()

    def abandon(self) -> None:
        """Do the same from a signal handler, and give up after half a second: whoever reads may never read on."""
        self._end()
        self._thread.join(0.5)

    def _end(self) -> None:
        self._ending = True
        self._bell.put(None)
        self._bell.put(None)

    def _work(self) -> None:
        going = True
        while going:
            self._bell.get()
            with contextlib.suppress(Empty):
                self._bell.get(timeout=_GROUP_SECONDS)
                while True:
                    self._bell.get_nowait()
            # Both before the lines are taken: one that comes after that rings again, and one before the end is taken.
            self._rung = False
            going = not self._ending
            group = self._lines[:]
            del self._lines[: len(group)]  # the list stays the same, to which a line may be added just now
            self._write(b"".join(group))
        self._call(self._settle)

    def _write(self, group: bytes) -> None:
        try:
            if self._descriptor >= 0:
                self._write_whole(group)
        except OSError as error:
            self._descriptor = -1
            self._call(self._failed, error)
        self._written += len(group)
        self._call(self._wake)

    def _write_whole(self, group: bytes) -> None:
        write_whole(self._descriptor, group, regular=self._regular)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended without us: nobody is left to be told
            self._loop.call_soon_threadsafe(function, *arguments)

    def _wake(self) -> None:
        """Look at what the thread has changed: without a GIL, only now is it certain that the loop sees it."""
        if self._lines and not self._rung:
            self._ring()
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _settle(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
