"""How long runs may hold the event loop: they share the time of each of its turns."""

from __future__ import annotations

import types
import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Generator

#: Runs use at most this much of a turn, in seconds, before they let the loop go round.
SLICE: Final = 0.001


@types.coroutine
def give_way() -> Generator[None, None, None]:
    """Go on in the next turn of the loop: ``asyncio.sleep(0)`` with one frame less."""
    yield


class Turn:
    """The present turn of an event loop, begun by the first run that looks at the clock in it."""

    __slots__ = ("_count", "_runs", "now", "share")

    def __init__(self) -> None:
        #: The number of the present turn, or 0 unless it has begun.
        self.now: int = 0
        #: Seconds of it that each run may use.
        self.share: float = SLICE
        self._count = self._runs = 0

    def begin(self, loop: AbstractEventLoop) -> int:
        """Begin the present turn of the loop: as many runs as took part in the last one share its time."""
        self._count += 1
        self.now = self._count
        self.share = SLICE / max(self._runs, 1)
        self._runs = 0
        loop.call_soon(self._over)
        return self.now

    def join(self) -> None:
        """Take part in the present turn."""
        self._runs += 1

    def _over(self) -> None:
        self.now = 0


_turns: Final[weakref.WeakKeyDictionary[AbstractEventLoop, Turn]] = weakref.WeakKeyDictionary()


def turn_of(loop: AbstractEventLoop) -> Turn:
    """Return what tells the turns of a loop."""
    return _turns.setdefault(loop, Turn())
