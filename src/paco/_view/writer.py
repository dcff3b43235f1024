"""Writes to a terminal or a pipe in a thread, so that the run goes on even if its reader stops reading."""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue
from typing import Final

from paco._base import system

#: The seconds that a writer waits for its thread. Until then a text is written before `Writer.write` returns, so that
#: it keeps its place among what others write.
_PATIENCE: Final = 0.1
#: The seconds without progress after which the rest is left out at the end.
_GIVE_UP: Final = 2.0
#: The most bytes that wait. Further texts are left out.
_MOST: Final = 16 << 20
#: Pipes take this many bytes without a part of another text in between.
_PIECE: Final = 4096


class Writer:
    """Writes bytes to a descriptor, which it does not close. It starts a thread when it first writes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._process = 0
        self._left_out = 0
        self._start()

    def _start(self) -> None:
        self._texts: SimpleQueue[tuple[bytes, threading.Event] | None] = SimpleQueue()
        self._last = threading.Event()  # set when the last text is written
        self._last.set()
        self._added = self._written = 0
        self._running = False

    @property
    def stuck(self) -> bool:
        """Whether a text is not written yet."""
        return not self._last.is_set()

    def write(self, data: bytes) -> None:
        """Write a text, and wait 0.1 s for it at most. While an earlier one waits, do not wait at all."""
        if self._process != os.getpid():  # a forked child has no thread
            self._start()
            self._process = os.getpid()
        if not self._running:
            self._running = True
            # A daemon that calls os.write, not a file object: at exit, a blocked write must not hold process or lock.
            threading.Thread(target=self._write_all, args=(self._texts,), name="paco-writer", daemon=True).start()
        waits = self.stuck
        if waits and self._added - self._written > _MOST:
            self._left_out += 1
            return
        if self._left_out:
            data = f"({self._left_out:,} messages are left out, since nobody read them)\n".encode() + data
            self._left_out = 0
        self._added += len(data)
        self._last = done = threading.Event()
        self._texts.put((data, done))
        if not waits:
            done.wait(_PATIENCE)

    def _write_all(self, texts: SimpleQueue[tuple[bytes, threading.Event] | None]) -> None:
        gone = False
        while (text := texts.get()) is not None:
            data, done = text
            rest = memoryview(data)
            while rest and not gone:
                try:
                    count = system.write(self._descriptor, rest[:_PIECE])
                except BlockingIOError:  # another process made the shared pipe non-blocking
                    system.wait(self._descriptor, to_write=True)
                except OSError:  # the reader is gone (`2>&1 | head`); the run goes on, since its records matter more
                    gone = True
                else:
                    rest = rest[count:]
                    self._written += count
            self._written += len(rest)
            done.set()

    def close(self) -> None:
        """Wait until all is written, or until nothing could be written for 2 s, and end the thread."""
        before = -1
        while not self._last.wait(_GIVE_UP) and before != self._written:
            before = self._written
        if self._running:
            self._running = False
            self._texts.put(None)
