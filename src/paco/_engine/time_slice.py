"""Time slices: how long runs may hold the event loop. They share the time of each turn of the loop."""

from __future__ import annotations

import types
import weakref
from time import perf_counter
from typing import TYPE_CHECKING, Final

from paco._base.clock import own_clock

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Generator

#: The maximum number of items between two readings of the clock: 16 µs if an item takes 0.25 µs.
_STRIDE: Final = 64
#: An item is slow if it holds the loop for more than this many seconds.
_SLOW: Final = 25e-6
#: The seconds of a turn that all runs together may use before they yield to the loop.
SLICE: Final = 0.001


@types.coroutine
def give_way() -> Generator[None, None, None]:
    """Continue in the next turn of the loop: ``asyncio.sleep(0)`` with one frame less."""
    yield


class Turn:
    """The current turn of an event loop. The first run that reads the clock in a turn begins it."""

    __slots__ = ("_count", "_runs", "now", "share")

    def __init__(self) -> None:
        #: The number of the current turn; 0 if it has not begun.
        self.now: int = 0
        #: The seconds of the turn that each run may use.
        self.share: float = SLICE
        self._count = self._runs = 0

    def begin(self, loop: AbstractEventLoop) -> int:
        """Begin the current turn and return its number. Its time is divided by the number of runs in the last turn."""
        self._count += 1
        self.now = self._count
        self.share = SLICE / max(self._runs, 1)
        self._runs = 0
        loop.call_soon(self._over)
        return self.now

    def join(self) -> None:
        """Count one more run in the current turn."""
        self._runs += 1

    def _over(self) -> None:
        self.now = 0


_turns: Final[weakref.WeakKeyDictionary[AbstractEventLoop, Turn]] = weakref.WeakKeyDictionary()


class Pace:
    """Measures how long the items of one run hold the loop, and decides how often its workers read the clock.

    Args:
        started: The number of items that count as started when the run begins.
    """

    __slots__ = ("_counted", "_looked", "_loop", "_since", "batches", "seen", "stride", "turn", "used")

    turn: Turn
    #: Whether slow items are started in batches.
    batches: bool
    _looked: float  # the time of the last reading of the clock
    _since: float  # when the current turn began for this run

    def __init__(self, started: int) -> None:
        #: The number of items between two readings of the clock; 1 if items are slow.
        self.stride: int = 2
        #: The turn of the last reading of the clock.
        self.seen: int = 0
        #: The seconds of the current turn that the run has used.
        self.used: float = 0.0
        self._counted = started  # the number of items started at the last reading of the clock

    def begin(self, loop: AbstractEventLoop, *, batches: bool) -> None:
        """Begin in a loop. If the loop has its own clock, use no batches: order must not depend on real time."""
        self._loop = loop
        self.turn = _turns.setdefault(loop, Turn())
        self.batches = batches and not own_clock(loop)

    def look(self, started: int) -> None:
        """Read the clock, and adapt the stride to the time that an item holds the loop.

        Within a turn, the difference of two readings is that time. From one turn to the next it is only an upper bound,
        because the loop may have waited.
        """
        now = perf_counter()
        number = self.turn.now or self.turn.begin(self._loop)
        begins = self.seen != number
        if begins:
            self.seen = number
            self._since = now
            self.turn.join()
        if count := started - self._counted:
            each = (now - self._looked) / count
            if each > _SLOW:
                self.stride = self.stride if begins else 1
            elif each * self.stride < SLICE / 8:
                self.stride = min(2 * self.stride, _STRIDE)
            elif each * self.stride > SLICE / 4:
                self.stride //= 2
        self._looked, self._counted = now, started
        self.used = now - self._since
