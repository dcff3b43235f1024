"""How long runs may hold the event loop: they share the time of each of its turns."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

#: Runs use at most this much of a turn, in seconds, before they let the loop go round.
SLICE: Final = 0.001


class Turn(threading.local):
    """The present turn of this thread's event loop, begun by the first run that looks at the clock in it."""

    number = 0
    runs = 0
    share = SLICE
    loop: AbstractEventLoop | None = None

    def present(self, loop: AbstractEventLoop) -> int:
        """Return the number of this loop's present turn, which begins with this unless it has begun.

        It is over when the loop has gone round; as many runs as took part in the last one share its time.
        """
        if self.loop is not loop:
            self.number += 1
            self.share = SLICE / max(self.runs, 1)
            self.runs = 0
            self.loop = loop
            loop.call_soon(self.over)
        return self.number

    def over(self) -> None:
        """Let the next look at the clock begin a turn."""
        self.loop = None


turn: Final = Turn()
