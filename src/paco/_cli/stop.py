"""End a run early on signals: the first starts no more items, the second cancels them, the third exits at once."""

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

#: The number of signals at which the process exits at once.
_LEAVE = 3


class Stop:
    """The request to read no more items. It wakes a reader that waits for a pipe."""

    def __init__(self) -> None:
        self.wanted = False
        self._waiting: asyncio.Future[bytes] | None = None

    def want(self) -> None:
        """Request that the items end here."""
        self.wanted = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(b"")

    def ends(self, chunk: asyncio.Future[bytes]) -> asyncio.Future[bytes]:
        """Have a stop resolve ``chunk`` with no bytes, as the end of the input does, and return it."""
        self._waiting = chunk
        if self.wanted:
            self.want()
        return chunk


class Interrupts:
    """Counts SIGINT, SIGTERM and, on Windows, SIGBREAK, and passes them on to the run.

    The handlers are set with ``signal.signal``, not with the loop: so a third Ctrl-C exits at once even if an item
    blocks the loop, and it works on Windows too. A handler raises only within ``raising``, and only once: its exception
    can come between any two bytecodes, and a second one could interrupt the handling of the first.
    """

    def __init__(self) -> None:
        self.count = 0
        #: The number of the first signal, which decides the exit code.
        self.first: int | None = None
        self._raising = False
        self._code: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._advance: Callable[[], None] | None = None
        self._last: Callable[[], None] | None = None

    @contextmanager
    def caught(self, *, for_good: bool) -> Generator[None]:
        """Handle the signals within the block; with ``for_good``, until the process ends.

        Do nothing outside the main thread, where Python allows no signal handlers.
        """
        with contextlib.ExitStack() as stack:
            for number in ENDINGS:
                with contextlib.suppress(ValueError):
                    before = signal.signal(number, self._handle)
                    if for_good:
                        # At exit Python resets every signal that has a handler to its default, but not ignored ones.
                        atexit.register(signal.signal, number, signal.SIG_IGN)
                    else:
                        stack.callback(signal.signal, number, before)
            yield

    @contextmanager
    def raising(self) -> Generator[None]:
        """Raise ``KeyboardInterrupt`` on the first signal. For blocks that may wait long, outside the event loop."""
        if self.count:
            raise KeyboardInterrupt
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def end(self, code: int) -> None:
        """Have any further signal exit at once with this code, since the process is about to end."""
        self._code = code

    @contextmanager
    def attached(self, advance: Callable[[], None], last: Callable[[], None]) -> Generator[None]:
        """Call ``advance`` in the running loop for each signal, and ``last`` before a signal exits at once."""
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
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._advance)


@contextmanager
def _waking(loop: asyncio.AbstractEventLoop) -> Generator[None]:
    """Have each signal wake the loop within the block.

    Python runs a handler between two bytecodes. A signal that comes just before the loop starts to wait would be
    handled after the wait, which may never end. asyncio does the same in ``add_signal_handler``, but closes its socket
    while signals are still written to it.
    """
    with contextlib.ExitStack() as stack:
        # NotImplementedError: on Windows the loop does this by itself. ValueError: not in the main thread.
        with contextlib.suppress(NotImplementedError, ValueError):
            receiver, sender = map(stack.enter_context, socket.socketpair())
            receiver.setblocking(False)
            sender.setblocking(False)
            # A Python function: handlers run between bytecodes, and uvloop, which is compiled, executes none itself.
            loop.add_reader(receiver, lambda: receiver.recv(4096))
            stack.callback(loop.remove_reader, receiver)
            before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
            stack.callback(signal.set_wakeup_fd, before)
        yield
