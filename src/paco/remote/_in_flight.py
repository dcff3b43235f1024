"""What is in flight, and how much of the limit it uses: a chunk, and the one that waits for its slots.

A chunk that follows another has only what nobody else has of the limit. In its process it starts items in the slots
that the other one needs no more; here it gets that part when the other one is back. So the limit holds at every
moment, and no slot is idle while a report travels back and the next chunk is made.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paco._base.types import Future
    from paco._base.worker_info import Ran
    from paco.remote._sizes import Shape
    from paco.remote._worker_stats import Roster

_numbers: Final = itertools.count(1)


class Flight:
    """A chunk that is with a worker.

    Args:
        entries: Its items.
        shape: Its shape.
        size: The bytes of the items.
        alone: Whether it is in its process alone, because that was made sure of.
    """

    __slots__ = (
        "alone",
        "entries",
        "future",
        "heir",
        "number",
        "ran",
        "shape",
        "single",
        "size",
        "used",
        "waits",
        "worker",
    )

    def __init__(self, entries: list[tuple[Any, Any]], shape: Shape, size: int, *, alone: bool) -> None:
        self.number = next(_numbers)
        self.entries = entries
        self.shape = shape
        self.size = size
        self.alone = alone
        self.single = False  # whether it has been the only one in flight
        self.used = 0  # of the limit
        self.waits = False  # for the slots of another one
        self.heir: Flight | None = None  # which waits for those of this one
        self.future: Future | None = None
        self.worker = ""  # which has it, if that is known
        self.ran: dict[int, Ran] = {}  # where and when its items ran, if that was wanted

    @property
    def can_lead(self) -> bool:
        """Whether another one could wait for its slots."""
        return not self.waits and self.heir is None


class Flights:
    """The chunks that are in flight.

    Args:
        limit: Of the run.
        roster: Of the workers.
    """

    def __init__(self, limit: int, roster: Roster) -> None:
        self._limit = limit
        self._roster = roster
        self._all: dict[Flight, None] = {}  # in the order in which they were sent
        #: How much of the limit is used.
        self.used: int = 0
        #: How many chunks use it.
        self.running: int = 0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._all)

    @property
    def free(self) -> int:
        """How much of the limit is not used."""
        return self._limit - self.used

    def add(self, flight: Flight, future: Future, before: Flight | None) -> None:
        """Have one more in flight, which has its limit at once, or waits for that of another one."""
        flight.future = future
        flight.worker = getattr(future, "worker", "")
        flight.single = not self._all
        for other in self._all:
            other.single = False
        self._all[flight] = None
        if before is None:
            self.running += 1
            self._use(flight, flight.shape.limit)
        else:
            flight.waits, before.heir = True, flight
            self._use(flight, max(flight.shape.limit - before.shape.limit, 0))

    def remove(self, flight: Flight) -> None:
        """Have one less: its part of the limit is for the one that has waited for it, or free."""
        del self._all[flight]
        flight.future = None  # it leads back here, and a cluster keeps the result for as long as it lives
        self._use(flight, 0)
        if flight.waits:  # back before the one whose slots it had, which another can have now
            leader = next(other for other in self._all if other.heir is flight)
            leader.heir = None
            return
        heir, flight.heir = flight.heir, None
        if heir is None:
            self.running -= 1
        else:
            heir.waits = False
            self._use(heir, heir.shape.limit)

    def _use(self, flight: Flight, limit: int) -> None:
        more, flight.used = limit - flight.used, limit
        self.used += more
        self._roster.sent(flight.worker, more)
