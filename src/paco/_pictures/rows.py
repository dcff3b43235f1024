"""The rows of a timeline: the slots of a run or, where its items ran elsewhere, as many for each worker as it needs."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, NamedTuple

from paco._pictures.record import CANCELLED, FAILED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from paco._pictures.record import ItemTable


class Lane(NamedTuple):
    """The rows of one worker.

    Attributes:
        name: That of the worker; ``None`` for this process.
        first: The first of its rows among all.
        rows: How many it has.
        items: Which items of the record ran there, in order of their starts.
    """

    name: str | None
    first: int
    rows: int
    items: Sequence[int]


class Rows(NamedTuple):
    """Where on a timeline the items of a record are.

    Attributes:
        lanes: One for each worker; one for all if that is this process alone.
        row: Of each item.
    """

    lanes: list[Lane]
    row: Sequence[int]

    @property
    def height(self) -> int:
        """How many there are."""
        return sum(lane.rows for lane in self.lanes)


def is_elsewhere(record: ItemTable) -> bool:
    """Say whether any of the items ran elsewhere."""
    return any(name is not None for name in record.names)


def rows(record: ItemTable) -> Rows:
    """Return the rows, on none of which two items overlap.

    Where items ran elsewhere their slots say nothing of which worker had them: each item takes the lowest row of its
    worker that is free when it starts.
    """
    if not is_elsewhere(record):
        return Rows([Lane(None, 0, max(record.slots, default=-1) + 1, range(len(record)))], record.slots)
    items: list[list[int]] = [[] for _ in record.names]
    for item in sorted(range(len(record)), key=lambda item: (record.starts[item], record.ends[item])):
        items[record.workers[item]].append(item)
    row, lanes = [0] * len(record), list[Lane]()
    for name, number in record.names.items():
        first = sum(lane.rows for lane in lanes)
        lanes.append(Lane(name, first, _fill(row, record, items[number], first), items[number]))
    return Rows(lanes, row)


def _fill(row: list[int], record: ItemTable, items: Iterable[int], first: int) -> int:
    """Give each of the items, which are in order of their starts, a row, and return how many rows that takes."""
    free, busy, made = list[int](), list[tuple[float, int]](), 0
    for item in items:
        while busy and busy[0][0] <= record.starts[item]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        row[item] = heapq.heappop(free) if free else first + made
        made = max(made, row[item] - first + 1)
        heapq.heappush(busy, (record.ends[item], row[item]))
    return made


class Done(NamedTuple):
    """What a worker has done.

    Attributes:
        items: How many.
        failed: How many of these failed.
        busy: For how many seconds it had any.
        seconds: How long the items took, together.
    """

    items: int
    failed: int
    busy: float
    seconds: float


def done(record: ItemTable, lane: Lane) -> Done:
    """Return what a worker has done."""
    times = [(record.starts[item], record.ends[item]) for item in lane.items]
    busy, last = 0.0, -math.inf
    for start, end in times:
        busy += max(end - max(start, last), 0.0)
        last = max(last, end)
    failed = sum(record.states[item] == FAILED for item in lane.items)
    count = sum(record.states[item] != CANCELLED for item in lane.items)
    return Done(count, failed, busy, sum(end - start for start, end in times))
