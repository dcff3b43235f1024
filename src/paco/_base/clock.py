"""Which clock the times that were noted belong to."""

from __future__ import annotations

import time
import weakref
from asyncio import BaseEventLoop
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable


def own_clock(loop: AbstractEventLoop) -> bool:
    """Tell whether a loop has a clock of its own, as that of `paco.testing` does."""
    return isinstance(loop, BaseEventLoop) and type(loop).time is not BaseEventLoop.time


class Clock:
    """The clock of an event loop, for objects that note times and are used in one loop after the other."""

    __slots__ = ("_is_system_clock", "_loop")

    def __init__(self) -> None:
        self._loop: Callable[[], AbstractEventLoop | None] = lambda: None
        self._is_system_clock = False

    def is_of(self, loop: AbstractEventLoop) -> bool:
        """Tell whether this is the loop that was followed last."""
        return self._loop() is loop

    def follow(self, loop: AbstractEventLoop) -> bool:
        """Go by the clock of ``loop`` from now on; true if the times that were noted so far mean the same there.

        They do where both loops go by the system's monotonic clock, as all but those of tests.
        """
        is_system_clock = abs(loop.time() - time.monotonic()) < 1
        same = is_system_clock and self._is_system_clock
        self._loop = weakref.ref(loop)
        self._is_system_clock = is_system_clock
        return same
