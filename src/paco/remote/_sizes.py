"""The sizes of chunks: adapted to the previous chunks, so that each takes about a quarter of a second.

The invariant: the limits of all chunks in flight add up to at most the limit of the run. A chunk holds its share of the
limit from its start to its end, although its last items use only part of it. Two shapes keep this waste small. If items
are fast or keep the CPU busy, there are as many chunks as processes, each with many more items than its limit. If items
are slow, there are as many chunks as the engine accepts, each with a small limit, down to 1, which wastes nothing.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

#: The target duration of a chunk, in seconds.
SECONDS: Final = 0.25
#: Items are fast if this many fit into `SECONDS`, one after another.
_FAST: Final = 16
#: The minimum number of rounds in a chunk that cannot have a limit of 1: see `Sizes._rounds`.
_ROUNDS: Final = 4
#: At the end of a run, a chunk shrinks to no less than 1/8 of its normal size, because each chunk has a cost.
_LEAST_PART: Final = 8
#: A chunk is at most this many times as large as the largest one so far.
_GROWTH: Final = 16
#: The approximate maximum of chunks per second if each item must start at once.
_PER_SECOND: Final = 1000
#: The approximate maximum size of a chunk, and of its results, in bytes.
_BYTES: Final = 1_000_000
#: The fraction of busy time of a loop above which a larger limit does not increase throughput.
_BUSY: Final = 0.7
#: The fraction of its time that a chunk may wait for its last items. Above it, some items take much longer than others,
#: and from then on all items are sent like slow ones.
_WASTE: Final = 0.5


class Shape(NamedTuple):
    """The shape of a chunk.

    Attributes:
        items: The number of items.
        limit: The maximum number of items in flight.
        seconds: The seconds after which no further item starts.
    """

    items: int
    limit: int
    seconds: float


class Sizes:
    """Measures the items of a run, and sets the shapes of its chunks.

    Args:
        limit: The limit of the run.
        lead: The approximate maximum of items that wait at the workers, in addition to those in flight.
        paced: Whether each item must start as soon as it is available. Available items are then sent in as many chunks
            as possible, so that few items wait for another one to come back, and every worker gets its share.
    """

    def __init__(self, limit: int, lead: int, *, paced: bool = False) -> None:
        self._paced = paced
        self._limit = limit
        self._lead = lead
        self._count = 0  # started items of the largest chunk so far
        self._each = 0.0  # seconds of a chunk per item
        self._latency = 0.0  # seconds from the start of an item to its end
        self._busy = False
        self._bytes = 0.0  # the size of an item or of its result, whichever is larger
        self._waste = 0.0  # the fraction of its time that a chunk only waited for its last items

    def spread(self, slots: int, processes: int) -> int:
        """Return the number of chunks that should be in flight."""
        fast = self._busy or (self._latency * _FAST <= SECONDS and self._waste < _WASTE)
        fast = fast and self._count > 0 and not self._paced
        return max(min(processes if fast else slots, slots, self._limit), 1)

    def is_full(self, spread: int, flights: int, free: int) -> bool:
        """Return whether there is no room for one more chunk.

        Chunks that wait for their last items do not delay others: more than ``spread`` chunks may be in flight. But
        then a new chunk must get at least half a regular share, so that the limit is not split into ever smaller parts.

        Args:
            spread: The number of chunks that should be in flight.
            flights: The number of chunks in flight.
            free: The unused part of the limit.
        """
        return not free or (flights >= spread and 2 * free < self._limit // spread)

    def ahead(self, spread: int) -> int:
        """Return how many items may wait for the consumer, in addition to the limit: those of a few chunks."""
        return min(max(self._limit, 2 * spread * self._most(spread)), self._lead)

    def shape(self, spread: int, free: int) -> Shape:
        """Return the shape of the next chunk.

        Args:
            spread: The number of chunks that should be in flight.
            free: The unused part of the limit.
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
        """Return the number of items for a chunk of this shape: its share of the items left.

        So the last chunks are small, and end at about the same time. This is guided self-scheduling (Polychronopoulos
        and Kuck, 1987), with the limits of the chunks in place of processors. Items that must start at once are divided
        evenly, but into at most about a thousand chunks per second.

        Args:
            shape: The shape of the chunk.
            left: The number of items left, including those of this chunk.
            chunks: The number of chunks that can be sent now, including this one.
            used: The number of items in flight.
        """
        if self._paced:
            part = max(left / chunks, self._flow(used + left) / _PER_SECOND, 1)
        else:
            part = max(left * shape.limit / self._limit, shape.limit, shape.items / _LEAST_PART)
        return math.ceil(min(part, shape.items))

    def _flow(self, items: float) -> float:
        """Return how many items end per second if this many are in flight; 0 before any has ended."""
        if not self._count:
            return 0
        return items / self._latency if self._latency else math.inf

    def _rounds(self, spread: int) -> float:
        """Return the number of rounds of a chunk: how many items run one after another in each slot."""
        if not self._latency:
            return self._lead
        least = _ROUNDS if spread < self._limit and not self._busy else 1
        return max(SECONDS / self._latency, least)

    def _most(self, spread: int) -> int:
        most = 1 + self._lead // spread
        return max(min(most, int(_BYTES / self._bytes)), 1) if self._bytes else most

    def learn(self, shape: Shape, started: int, seconds: float, busy: float, tail: float, size: int) -> None:
        """Adapt to the measurements of a finished chunk.

        Args:
            shape: Its shape.
            started: The number of items that were started.
            seconds: The seconds that it took.
            busy: The CPU time that it used, in seconds.
            tail: The seconds during which it only waited for its last items.
            size: The size of its items or of its results in bytes, whichever is larger.
        """
        each = seconds / started
        latency = each * min(shape.limit, started)
        share = started / (started + self._limit) if self._count else 1  # a moving average over about `limit` items
        self._each += share * (each - self._each)
        self._latency += share * (latency - self._latency)
        self._bytes = max(size / started, self._bytes * 0.9)
        self._busy = busy > _BUSY * seconds and seconds > SECONDS / 100
        if started > shape.limit > 1 and seconds:
            self._waste = (self._waste + tail / seconds) / 2
        self._count = max(self._count, started)
