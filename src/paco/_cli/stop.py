"""Ending early: nothing more is started, then what runs is cancelled, then the process leaves."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from paco._base.system import ENDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

#: The count of signals that leaves at once.
_LEAVE = 3


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
    """Counts SIGINT, SIGTERM and the SIGBREAK of Windows, and passes them on to the run.

    By ``signal.signal`` and not by callbacks of the loop: so a third Ctrl-C leaves at once even where an item blocks
    the loop, and Windows is served too. Nothing is raised but within ``raising``, and there once: an exception can come
    between any two bytecodes, and a second one amid what the first has set off.
    """

    def __init__(self) -> None:
        self.count = 0
        #: The first signal that came: it decides the exit code.
        self.first: int | None = None
        self._raising = False
        self._code: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._advance: Callable[[], None] | None = None
        self._last: Callable[[], None] | None = None

    @contextmanager
    def caught(self, *, for_good: bool) -> Generator[None]:
        """Catch the signals within the block, or until the process ends.

        Outside of the main thread, where that is impossible, do nothing.
        """
        with contextlib.ExitStack() as stack:
            for number in ENDINGS:
                with contextlib.suppress(ValueError):
                    before = signal.signal(number, self._handle)
                    if for_good:
                        # Python resets its handlers while it ends; only one that ignores is left as it is.
                        atexit.register(signal.signal, number, signal.SIG_IGN)
                    else:
                        stack.callback(signal.signal, number, before)
            yield

    @contextmanager
    def raising(self) -> Generator[None]:
        """Turn the first signal into a ``KeyboardInterrupt``: in the block, something may wait for long."""
        if self.count:
            raise KeyboardInterrupt
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def end(self, code: int) -> None:
        """Let a signal do nothing more than cut the end of the process short."""
        self._code = code

    @contextmanager
    def attached(self, advance: Callable[[], None], last: Callable[[], None]) -> Generator[None]:
        """Call ``advance`` in the running loop for each signal from now on, and ``last`` before leaving at once."""
        self._loop = asyncio.get_running_loop()
        self._advance = advance
        self._last = last
        if self.count:
            self._loop.call_soon(advance)
        with _waking(self._loop):
            yield

    def _handle(self, number: int, _frame: object) -> None:
        self.count += 1
        self.first = self.first or number
        if self._code is not None:
            os._exit(self._code)
        if self.count == _LEAVE:
            if self._last is not None:
                self._last()
            os._exit(128 + self.first)
        if self._raising and self.count == 1:
            raise KeyboardInterrupt
        if self._loop is not None and self._advance is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._advance)


@contextmanager
def _waking(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Let each signal wake the loop up.

    Python runs a handler between two bytecodes. A signal that comes just before the loop begins to wait would be
    handled when the wait ends, which may be never. asyncio does the same for ``add_signal_handler``; but its loop
    closes the socket while signals are still written to it.
    """
    with contextlib.ExitStack() as stack:
        # NotImplementedError: on Windows the loop does this by itself. ValueError: not in the main thread.
        with contextlib.suppress(NotImplementedError, ValueError):
            receiver, sender = map(stack.enter_context, socket.socketpair())
            receiver.setblocking(False)
            sender.setblocking(False)
            # By way of a function in Python: uvloop is compiled, and would go round without a bytecode.
            loop.add_reader(receiver, lambda: receiver.recv(4096))
            stack.callback(loop.remove_reader, receiver)
            before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
            stack.callback(signal.set_wakeup_fd, before)
        yield
