"""The rows of a timeline: the slots of a run or, if items ran on workers, as many rows per worker as it needs."""

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
        name: The name of the worker; ``None`` for this process.
        first: The number of its first row.
        rows: The number of its rows.
        items: The indexes of its items in the record, in order of their starts.
    """

    name: str | None
    first: int
    rows: int
    items: Sequence[int]


class Rows(NamedTuple):
    """The places of all items on a timeline.

    Attributes:
        lanes: One for each worker, or a single one for this process.
        row: The row of each item.
    """

    lanes: list[Lane]
    row: Sequence[int]

    @property
    def height(self) -> int:
        """The number of rows."""
        return sum(lane.rows for lane in self.lanes)


def is_elsewhere(record: ItemTable) -> bool:
    """Return whether any item ran on a worker."""
    return any(name is not None for name in record.names)


def rows(record: ItemTable) -> Rows:
    """Return the rows of a timeline, such that no two items of a row overlap.

    If items ran on workers, their slots do not tell which worker had them. Then each item takes the lowest row of its
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
    """Assign a row to each of the items, which are in order of their starts, and return the number of rows."""
    free, busy, made = list[int](), list[tuple[float, int]](), 0
    for item in items:
        while busy and busy[0][0] <= record.starts[item]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        row[item] = heapq.heappop(free) if free else first + made
        made = max(made, row[item] - first + 1)
        heapq.heappush(busy, (record.ends[item], row[item]))
    return made


class Done(NamedTuple):
    """The figures of a worker.

    Attributes:
        items: The number of items, without cancelled ones.
        failed: The number of failed items.
        busy: The seconds in which at least one item was in flight.
        seconds: The sum of the durations of all items.
    """

    items: int
    failed: int
    busy: float
    seconds: float


def done(record: ItemTable, lane: Lane) -> Done:
    """Return the figures of a worker."""
    times = [(record.starts[item], record.ends[item]) for item in lane.items]
    busy, last = 0.0, -math.inf
    for start, end in times:
        busy += max(end - max(start, last), 0.0)
        last = max(last, end)
    failed = sum(record.states[item] == FAILED for item in lane.items)
    count = sum(record.states[item] != CANCELLED for item in lane.items)
    return Done(count, failed, busy, sum(end - start for start, end in times))
