"""How large the next chunk is: by what the last ones took, so that each is about a quarter of a second of work.

The one invariant: the limits of all chunks in flight are together at most the limit of the run. A chunk has its part
of that from its start to its end, whose last items leave much of it unused. Two shapes keep this small. Where items
are fast, or busy, there are as many chunks as processes, each many times its limit. Where they are slow, there are as
many chunks as the engine takes, each with a small limit, down to 1, where nothing is left unused. And where the
engine can have a chunk follow another one, it does (see `_in_flight.py`): then the last items leave nothing unused
either.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

#: Seconds that a chunk is to take.
SECONDS: Final = 0.25
#: Items that fit so often into a chunk, one after the other, are fast.
_FAST: Final = 16
#: The least rounds of a chunk where it cannot have a limit of 1: see `Sizes.rounds`.
_ROUNDS: Final = 4
#: At the end of a run a chunk is no smaller than this part of what it would be: each has its cost.
_LEAST_PART: Final = 8
#: A chunk is at most so many times the last.
_GROWTH: Final = 16
#: Chunks that are sent in a second, about and at most, where each item is to start at once.
_PER_SECOND: Final = 1000
#: Bytes of a chunk, and of its results, about and at most.
_BYTES: Final = 1_000_000
#: The part of its time that a loop is busy from which on more items at once get no more done.
_BUSY: Final = 0.7
#: The part of its time that a chunk may only wait for its last items. Beyond it, there are some that take much longer
#: than the others: from then on all travel as slow ones do.
_WASTE: Final = 0.5


class Shape(NamedTuple):
    """What the next chunk is to be.

    Attributes:
        items: So many.
        limit: Those in flight at most.
        seconds: After which nothing new starts.
    """

    items: int
    limit: int
    seconds: float


class Sizes:
    """What is known of the items of a run.

    Args:
        limit: Of the run.
        lead: Items that may be with the workers beside those in flight, about.
        paced: Whether each item is to start as soon as it is there. Then the items that are there travel in as many
            chunks as there can be, so that few wait for another to come back, and every worker has its part.
        follow: Whether a chunk can wait where another one is, for the slots that become free there.
    """

    def __init__(self, limit: int, lead: int, *, paced: bool = False, follow: bool = False) -> None:
        self._paced = paced
        self._follow = follow
        self._limit = limit
        self._lead = lead
        self._count = 0  # items of the largest chunk so far
        self._each = 0.0  # seconds of an item, the time that it shares with others divided by their number
        self._latency = 0.0  # seconds from its start to its end
        self._busy = False
        self._bytes = 0.0  # of an item or its result, whichever is more
        self._waste = 0.0  # the part of its time that a chunk has only waited for its last items

    def spread(self, slots: int, processes: int) -> int:
        """Return how many chunks are to be in flight."""
        fast = self._busy or (self._latency * _FAST <= SECONDS and self._waste < _WASTE)
        fast = fast and self._count > 0 and not self._paced
        return max(min(processes if fast else slots, slots, self._limit), 1)

    def is_full(self, spread: int, flights: int, free: int) -> bool:
        """Say whether there is no room for one more chunk.

        A few chunks that wait for their last items do not hold up the others, but what a chunk has given back of the
        limit is not cut into ever smaller pieces either.

        Args:
            spread: How many are to be in flight.
            flights: How many are.
            free: What is left of the limit.
        """
        return not free or (flights >= spread and 2 * free < self._limit // spread)

    def leads(self, shape: Shape, items: int, left: float, spread: int) -> bool:
        """Say whether another chunk may wait for the slots of one, which has several rounds in them.

        Not at the end of a run: what waits for one worker is kept from those that are done before it.

        Args:
            shape: Its shape.
            items: How many it has.
            left: Items that are left.
            spread: How many chunks are to be in flight.
        """
        return self._follow and items > shape.limit and left >= 2 * spread * items

    def ahead(self, spread: int) -> int:
        """Return how many items may wait for the consumer, beside the limit: what a few chunks have."""
        return min(max(self._limit, 2 * spread * self._most(spread)), self._lead)

    def shape(self, spread: int, free: int) -> Shape:
        """Return the shape of the next chunk.

        Args:
            spread: How many are to be in flight.
            free: What is left of the limit.
        """
        limit = min(-(-self._limit // spread), free)
        if self._paced:
            return Shape(self._most(spread), limit, math.inf)
        if not self._count:
            return Shape(min(limit, 1 + self._lead // spread), limit, 2 * SECONDS)
        rounds = self._rounds(spread)
        count = SECONDS / self._each if self._busy and self._each else limit * rounds
        most = min(self._most(spread), _GROWTH * self._count)
        return Shape(max(int(min(count, most)), 1), limit, max(2 * SECONDS, rounds * self._latency))

    def fair(self, shape: Shape, left: float, chunks: int, used: int) -> int:
        """Return how many items a chunk of this shape is to have: its part of those that are left.

        So the last chunks are small, and end at about the same time. It is guided self-scheduling (Polychronopoulos and
        Kuck, 1987), with the limits of the chunks in the place of the processors. What is to start at once is divided
        evenly, but not into more than a thousand chunks a second.

        Args:
            shape: What it would be.
            left: Items that are left, those of this chunk among them.
            chunks: How many more can be sent now, with this one.
            used: How many items are in flight.
        """
        if self._paced:
            part = max(left / chunks, self._flow(used + left) / _PER_SECOND, 1)
        else:
            part = max(left * shape.limit / self._limit, shape.limit, shape.items / _LEAST_PART)
        return math.ceil(min(part, shape.items))

    def _flow(self, items: float) -> float:
        """Return how many of so many items at once end in a second; 0 before any has."""
        if not self._count:
            return 0
        return items / self._latency if self._latency else math.inf

    def _rounds(self, spread: int) -> float:
        """Return how many items are to run one after the other in a chunk."""
        if not self._latency:
            return self._lead
        least = _ROUNDS if spread < self._limit and not self._busy else 1
        return max(SECONDS / self._latency, least)

    def _most(self, spread: int) -> int:
        most = 1 + self._lead // (spread * (1 + self._follow))
        return max(min(most, int(_BYTES / self._bytes)), 1) if self._bytes else most

    def learn(self, shape: Shape, started: int, seconds: float, busy: float, tail: float, size: int) -> None:
        """Learn of a chunk.

        Args:
            shape: Its shape.
            started: How many items were started.
            seconds: How long it took.
            busy: How many of these it had something to do.
            tail: How many it has only waited for its last items.
            size: The bytes of its items or of its results, whichever are more.
        """
        each = seconds / started
        latency = each * min(shape.limit, started)
        share = started / (started + self._limit) if self._count else 1  # an average over as many as are in flight
        self._each += share * (each - self._each)
        self._latency += share * (latency - self._latency)
        self._bytes = max(size / started, self._bytes * 0.9)
        self._busy = busy > _BUSY * seconds and seconds > SECONDS / 100
        if started > shape.limit > 1 and seconds:
            self._waste = (self._waste + tail / seconds) / 2
        self._count = max(self._count, started)
