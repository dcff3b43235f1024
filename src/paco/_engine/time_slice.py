"""How long runs may hold the event loop: they share the time of each of its turns."""

from __future__ import annotations

import types
import weakref
from time import perf_counter
from typing import TYPE_CHECKING, Final

from paco._base.clock import own_clock

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Generator

#: Items between two looks at the clock, at most: 16 us of items that take 0.25 us.
_STRIDE: Final = 64
#: Seconds that an item holds the loop, at least, to be a slow one.
_SLOW: Final = 25e-6
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


class Pace:
    """How long the items of one run hold the loop, and when its workers are to look at the clock again.

    Args:
        started: How many items count as started when the run begins.
    """

    __slots__ = ("_counted", "_looked", "_loop", "_since", "batches", "seen", "stride", "turn", "used")

    turn: Turn
    #: Whether slow items are started in batches.
    batches: bool
    _looked: float  # the time of the last look at the clock
    _since: float  # when the present turn began for this run

    def __init__(self, started: int) -> None:
        #: Items between two looks at the clock: 1 where they have turned out to be slow.
        self.stride: int = 2
        #: The turn of the last look at the clock.
        self.seen: int = 0
        #: Seconds of the present turn that the run has used.
        self.used: float = 0.0
        self._counted = started  # how many items had been started at the last look at the clock

    def begin(self, loop: AbstractEventLoop, *, batches: bool) -> None:
        """Begin in a loop. On a clock of its own, order must not depend on real time: there are no batches."""
        self._loop = loop
        self.turn = _turns.setdefault(loop, Turn())
        self.batches = batches and not own_clock(loop)

    def look(self, started: int) -> None:
        """Look at the clock: from one look to the next in a turn, it tells how long an item holds the loop.

        From one turn to the next it tells how long at most: the loop may have waited.
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
