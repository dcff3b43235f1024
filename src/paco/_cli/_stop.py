"""Ending early: nothing more is started, then what runs is cancelled, then the process leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

#: The count of signals that leaves at once.
_LEAVE = 3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """The wish that nothing more is read; a reader that waits for a pipe is woken by it."""

    def __init__(self) -> None:
        self.wanted = False
        self._waiting: asyncio.Future[bytes] | None = None

    def want(self) -> None:
        """Let the items end here."""
        self.wanted = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(b"")

    def ends(self, chunk: asyncio.Future[bytes]) -> asyncio.Future[bytes]:
        """Return ``chunk``, which a stop resolves as the end of its input would."""
        self._waiting = chunk
        if self.wanted:
            self.want()
        return chunk


class Interrupts:
    """Counts SIGINT and SIGTERM and passes them on to the run.

    By ``signal.signal`` and not by callbacks of the loop: so a third Ctrl-C leaves at once even where an item blocks
    the loop, and Windows is served too.
    """

    def __init__(self) -> None:
        self.count = 0
        #: The first signal that came: it decides the exit code.
        self.first: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._advance: Callable[[], None] | None = None
        self._last: Callable[[], None] | None = None

    @contextmanager
    def caught(self) -> Generator[None]:
        """Catch the signals within the block; outside of the main thread, where that is impossible, do nothing."""
        with contextlib.ExitStack() as stack:
            for number in _SIGNALS:
                with contextlib.suppress(ValueError):
                    stack.callback(signal.signal, number, signal.signal(number, self._handle))
            yield

    def attach(self, advance: Callable[[], None], last: Callable[[], None]) -> None:
        """Call ``advance`` in the running loop for each signal from now on, and ``last`` before leaving at once."""
        self._loop = loop = asyncio.get_running_loop()
        self._advance = advance
        self._last = last
        for number in _SIGNALS:
            # The loop is told only so that it lets a signal wake it up (set_wakeup_fd): one that comes just before it
            # begins to wait would else be seen when the wait ends, which may be never. Windows does so by itself.
            with contextlib.suppress(NotImplementedError, RuntimeError):
                loop.add_signal_handler(number, int)
                signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: object) -> None:
        self.count += 1
        self.first = self.first or number
        if self._loop is None or self._advance is None or self._last is None:
            raise KeyboardInterrupt
        if self.count >= _LEAVE:
            self._last()
            os._exit(128 + self.first)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._advance)
