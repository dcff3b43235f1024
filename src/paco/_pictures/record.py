"""The items of a run as columns of numbers; their rows on a timeline, figures of workers, and items in flight."""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from paco._base.check import message, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from paco.events import ItemEnded, Run, RunEnded

#: The states of an item as stored in a column, and their names.
OK, RETRIED, FAILED, CANCELLED = range(4)
STATES: Final = ("ok", "retried", "failed", "cancelled")

#: The largest numbers of failed items and of slow items whose texts are kept.
_MOST_TOLD: Final = 1_000
SLOWEST: Final = 20
#: The largest number of kinds of failures that are grouped by message; further failures are grouped by type.
_MOST_KINDS: Final = 100
_LONGEST: Final = 200


class Detail(NamedTuple):
    """The texts of a failed or slow item. They come from the user, and are not escaped."""

    elapsed: float
    position: int
    item: str
    attempts: int
    error: str


class ItemTable:
    """The items of a run in the order in which they ended, with 29 bytes for each."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.starts = array("d")  # seconds on the run's clock
        self.ends = array("d")
        self.positions = array("I")
        self.slots = array("I")
        self.states = array("B")
        self.workers = array("I")  # numbers in `names`
        self.names: dict[str | None, int] = {}  # None for this process
        self.failures: dict[int, Detail] = {}  # by position
        self.kinds: Counter[str] = Counter()  # the number of failures with each error
        self.first: dict[str, Detail] = {}  # the first failure of each kind
        self.ended: RunEnded | None = None
        #: What the page says of the run in place of its limit, if that is unknown.
        self.facts: list[str] | None = None
        #: The most items in flight where the limit is unknown; 0 if this is too.
        self.most: int = 0
        self._slowest: list[Detail] = []  # a heap
        #: Items that take no longer, in seconds, are not among the slowest.
        self.quick: float = -1.0

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, event: ItemEnded) -> None:
        """Add an item that has ended."""
        _, position, slot, _, start, end, attempts, _, error, worker, _ = event
        self.put(position, slot, start, end, worker, OK if error is None and attempts == 1 else self._judge(event))
        if end - start > self.quick:
            self._keep_slow(event)

    def put(self, position: int, slot: int, start: float, end: float, worker: str | None, state: int = OK) -> None:
        """Add an item whose texts are not kept."""
        self.starts.append(start)
        self.ends.append(end)
        self.positions.append(position)
        self.slots.append(slot)
        self.workers.append(self.names.setdefault(worker, len(self.names)))
        self.states.append(state)

    def renumber(self) -> None:
        """Number the slots anew from 0 on, in their order. No more items than that were in flight."""
        rank = {slot: row for row, slot in enumerate(sorted(set(self.slots)))}
        self.slots = array("I", map(rank.__getitem__, self.slots))
        self.most = len(rank)

    def _judge(self, event: ItemEnded) -> int:
        if event.outcome == "ok":
            return RETRIED
        if event.outcome == "cancelled":
            return CANCELLED
        detail = _detail(event)
        known = detail.error in self.kinds or len(self.kinds) < _MOST_KINDS
        kind = detail.error if known else type(event.error).__name__
        self.kinds[kind] += 1
        self.first.setdefault(kind, detail)
        if len(self.failures) < _MOST_TOLD:
            self.failures[event.position] = detail
        return FAILED

    def _keep_slow(self, event: ItemEnded) -> None:
        if event.outcome == "cancelled":
            return
        heapq.heappush(self._slowest, _detail(event))
        if len(self._slowest) > SLOWEST:
            heapq.heappop(self._slowest)
        if len(self._slowest) == SLOWEST:
            self.quick = self._slowest[0].elapsed

    def slowest(self) -> list[Detail]:
        """Return the slowest items, the longest first."""
        return sorted(self._slowest, reverse=True)

    def end(self) -> float:
        """Return when the run ended, or else when its last item so far ended, in seconds of its clock."""
        return max(self.ends, default=self.run.start) if self.ended is None else self.ended.time

    def seconds(self) -> float:
        """Return the duration of the run so far, in seconds."""
        return self.end() - self.run.start

    def is_elsewhere(self) -> bool:
        """Return whether any item ran on a worker."""
        return any(name is not None for name in self.names)


def _detail(event: ItemEnded) -> Detail:
    error = event.error
    text = "" if error is None else f"{type(error).__name__}: {message(error)}".removesuffix(": ")[:_LONGEST]
    return Detail(event.elapsed, event.position, shorten(event.item), event.attempts, text)


# ---- rows


class Lane(NamedTuple):
    """The rows of one worker."""

    name: str | None  # of the worker; None for this process
    first: int  # the number of its first row
    rows: int  # how many it has
    items: Sequence[int]  # the indexes of its items in the table, in order of their starts


class Rows(NamedTuple):
    """The places of all items on a timeline."""

    lanes: list[Lane]  # one for each worker, or a single one for this process
    row: Sequence[int]  # of each item

    @property
    def height(self) -> int:
        """The number of rows."""
        return sum(lane.rows for lane in self.lanes)


def rows(record: ItemTable) -> Rows:
    """Return the rows of a timeline, such that no two items of a row overlap.

    If items ran on workers, their slots do not tell which worker had them. Then each item takes the lowest row of its
    worker that is free when it starts.
    """
    if not record.is_elsewhere():
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
    """The figures of a worker."""

    items: int  # without cancelled ones
    failed: int
    busy: float  # the seconds in which at least one item was in flight
    seconds: float  # the sum of the durations of all items


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


# ---- figures of the run


def latencies(record: ItemTable) -> list[float]:
    """Return the sorted latencies of the items in seconds, without cancelled items, which would have taken longer."""
    columns = zip(record.starts, record.ends, record.states, strict=True)
    return sorted(end - start for start, end, state in columns if state != CANCELLED)


class Curve(NamedTuple):
    """Items in flight in columns of equal time: the mean and the maximum of each."""

    start: float
    width: float
    mean: list[float]
    most: list[int]

    def points(self) -> Iterator[tuple[float, int]]:
        """Yield the time and value at each change of the maximum, and a 0 at the end."""
        before = -1
        for column, count in enumerate(self.most):
            if count != before:
                yield self.start + column * self.width, count
            before = count
        yield self.start + len(self.most) * self.width, 0


def in_flight(record: ItemTable, columns: int) -> Curve:
    """Return the items in flight from the start of the run to its end."""
    start = record.run.start
    width = record.seconds() / columns or 1.0
    area, most = [0.0] * columns, [0] * columns
    for begin, end, count in _steps(record):
        first, last = int((begin - start) / width), int((end - start) / width)
        if first == last < columns:  # most intervals are short
            area[first] += (end - begin) * count
            most[first] = max(most[first], count)
            continue
        first, last = min(first, columns - 1), min(last, columns - 1)
        for column in range(first, last + 1):
            left = start + column * width
            inside = min(end, left + width) - max(begin, left)
            if inside > 0 or column == first:
                area[column] += max(inside, 0) * count
                most[column] = max(most[column], count)
    return Curve(start, width, [one / width for one in area], most)


def peak_of(record: ItemTable) -> int:
    """Return the largest number of items in flight, at most the limit: clocks of workers differ by milliseconds."""
    if not record.is_elsewhere():
        return max(record.slots, default=-1) + 1
    peak = max((count for _, _, count in _steps(record)), default=1)
    return min(peak, record.run.limit or record.most or peak)


def _steps(record: ItemTable) -> Iterator[tuple[float, float, int]]:
    """Yield each interval with its number of items in flight, without the intervals with none."""
    starts, ends = sorted(record.starts), sorted(record.ends)
    started = 0
    for ended, (last, end) in enumerate(pairwise([-math.inf, *ends])):
        begin = last
        while started < len(starts) and starts[started] < end:  # only starts lie between two ends
            if started > ended and begin < starts[started]:
                yield begin, starts[started], started - ended
            begin = max(begin, starts[started])
            started += 1
        if started > ended:
            yield begin, end, started - ended
