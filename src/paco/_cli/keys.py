"""Keys that steer a run while its lines are repainted, and the mode of the terminal that they are read from."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from paco._base import system

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from paco._cli.pace import Pacing

_HELP: Final = "keys: p pause or go on   + more at once   - fewer   q finish what runs and end"
#: The share of the limit by which a key changes it.
_STEP: Final = 0.1
#: Seconds from one look at whether this process is in the foreground to the next.
_EVERY: Final = 0.5


class Steering:
    """Does what keys ask for.

    ``say`` writes a line, ``show`` shows a word before the title, and ``drain`` starts nothing more.
    """

    def __init__(
        self, pace: Pacing, say: Callable[[str], None], show: Callable[[str], None], drain: Callable[[], None]
    ) -> None:
        self._pace = pace
        self._say = say
        self._show = show
        self._paused = False
        self._actions: dict[str, Callable[[], None]] = {
            "p": self._pause,
            "+": lambda: self._change(1),
            "=": lambda: self._change(1),  # the same key without Shift
            "-": lambda: self._change(-1),
            "q": drain,
            "?": lambda: say(_HELP),
        }

    def press(self, key: str) -> None:
        """Do what a key asks for; other keys ask for nothing."""
        self._actions.get(key, lambda: None)()

    def _pause(self) -> None:
        gate = self._pace.gate
        if gate is None or gate.closed:
            return
        self._paused = not self._paused
        (gate.pause if self._paused else gate.resume)()
        self._show("paused" if self._paused else "")

    def _change(self, direction: int) -> None:
        count = self._pace.in_flight
        if count is None:
            self._say("there is no limit to change: --limit is auto or 0")
            return
        count.limit = max(count.limit + direction * max(round(count.limit * _STEP), 1), 1)
        self._say(f"limit {count.limit:,}")


class KeyReader:
    """Reads the keys of a terminal, and calls a function for each, while this process is in its foreground."""

    def __init__(self, terminal: int, press: Callable[[str], None]) -> None:
        self._terminal = terminal
        self._press = press
        self._loop = asyncio.get_running_loop()
        self._mode: list[Any] | None = None  # that was found, while another one is set

    @contextmanager
    def read(self) -> Generator[None]:
        r"""Read keys within the block, and restore the mode of the terminal after it.

        The mode is restored while this process is stopped by Ctrl-Z, and before Ctrl-\ ends it.
        """
        handlers = {signal.SIGTSTP: self._suspend, signal.SIGQUIT: self._quit}
        before = {}
        with suppress(ValueError):  # not in the main thread
            before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            self._follow()
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._timer.cancel()
            self.restore()

    def restore(self) -> None:
        """Read no more keys, and restore the mode of the terminal."""
        mode, self._mode = self._mode, None
        if mode is None:
            return
        with suppress(RuntimeError):  # the loop was closed
            self._loop.remove_reader(self._terminal)
        if system.in_foreground(self._terminal):  # otherwise another program has set its own mode
            with suppress(Exception):  # the terminal is gone
                system.set_mode(self._terminal, mode)

    def _follow(self) -> None:
        """Read keys while this process is in the foreground. A shell that moves it there sends no signal."""
        self._timer = self._loop.call_later(_EVERY, self._follow)
        if not system.in_foreground(self._terminal):
            self.restore()
        elif self._mode is None:
            with suppress(Exception):  # the terminal is gone
                self._mode = system.pass_keys_on(self._terminal)
                self._loop.add_reader(self._terminal, self._receive)

    def _receive(self) -> None:
        keys = b""
        if system.in_foreground(self._terminal):
            with suppress(OSError):
                keys = os.read(self._terminal, 64)
        if not keys:  # the terminal is gone
            self.restore()
        for key in keys.decode(errors="replace"):
            self._press(key)

    def _suspend(self, *_: object) -> None:
        """Stop, as Ctrl-Z asks for. `_follow` reads on."""
        self.restore()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _quit(self, *_: object) -> None:
        self.restore()
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGQUIT)
