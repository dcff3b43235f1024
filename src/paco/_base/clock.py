"""Tell whether times recorded on one event loop are valid on another."""

from __future__ import annotations

import weakref
from asyncio import BaseEventLoop
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable


def own_clock(loop: AbstractEventLoop) -> bool:
    """Return whether a loop has a clock of its own: by its class, as in `paco.testing`, or by a replaced method."""
    return isinstance(loop, BaseEventLoop) and getattr(loop.time, "__func__", None) is not BaseEventLoop.time


class Clock:
    """Remembers the event loop on whose clock an object has recorded times."""

    __slots__ = ("_is_system_clock", "_loop")

    def __init__(self) -> None:
        self._loop: Callable[[], AbstractEventLoop | None] = lambda: None
        self._is_system_clock = False

    def is_of(self, loop: AbstractEventLoop) -> bool:
        """Return whether ``loop`` is the loop last passed to `follow`."""
        return self._loop() is loop

    def follow(self, loop: AbstractEventLoop) -> bool:
        """Use the clock of ``loop`` from now on, and return whether times recorded so far are valid on it.

        They are valid if both loops use the system's monotonic clock, as all loops outside tests do.
        """
        is_system_clock = not own_clock(loop)
        same = is_system_clock and self._is_system_clock
        self._loop = weakref.ref(loop)
        self._is_system_clock = is_system_clock
        return same
