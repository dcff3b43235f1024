"""The demands on the figures, as data, and the functions that judge them."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import memory, shapes, workloads
from benchmarks.plan import limit_name
from benchmarks.workloads import LIMIT, Workload, instant, sleep_0

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Comparison
    from benchmarks.memory import Footprint
    from benchmarks.plan import Table
    from benchmarks.shapes import Shape

#: The subjects whose memory must not depend on the number of items.
STREAMS = frozenset({"paco.each", "paco, ordered stream", "paco, as completed"})


@dataclass(frozen=True)
class Demand:
    """A required figure, and the measured one."""

    text: str
    measured: str
    met: bool


@dataclass(frozen=True)
class Speed:
    """A demand on the ratio of the peer's cost to paco's; below 1 if the peer is a lower bound.

    Args:
        workload: The workload.
        shape: The form of the call.
        peer: The name of the peer.
        times: The required median ratio of the rounds.
        limit: The limit.
        tie: Whether it suffices that the rounds do not show the peer to be better: the 95% interval of the median must
            reach ``times``, and the median itself may be at most 3% below.
        quick: Whether to judge it in a quick run too.
    """

    workload: Workload
    shape: Shape
    peer: str
    times: float
    limit: int = LIMIT
    tie: bool = False
    quick: bool = False

    def covers(self, table: Table, peer: str) -> bool:
        """Return whether the demand is about this comparison."""
        asked = (self.workload, self.shape.name, self.limit, self.peer)
        return asked == (table.workload, table.shape.name, table.limit, peer)

    def judge(self, comparisons: list[Comparison]) -> Demand | None:
        """Judge the first measured setting of the comparison; return ``None`` if it was not measured."""
        wanted = (self.workload.name, self.shape.name, self.limit, self.peer)
        found = (one for one in comparisons if (one.workload, one.shape, one.limit, one.peer) == wanted)
        if not (one := next(found, None)):
            return None
        reached = median(one.times)
        met = reached >= self.times
        if self.tie:
            met = interval(one.times)[1] >= self.times and reached >= 0.97 * self.times
        where = f"({self.workload.key}) {self.shape.name}, {limit_name(self.limit)}"
        return Demand(f"{where}: {self._asked()}", self._figure(one.times), met)

    def _asked(self) -> str:
        what = "CPU" if self.workload.unit.clock == "cpu" else "time"
        if self.tie:
            return f"no slower than {self.peer}"
        if self.times < 1:
            return f"at most {1 / self.times:.3g} times the {what} of {self.peer}"
        return f"at least {self.times:g} times less {what} than {self.peer}"

    def _figure(self, times: list[float]) -> str:
        if self.tie:
            return "{:.3f} [{:.3f} .. {:.3f}]".format(median(times), *interval(times))
        return f"{1 / median(times):.3f} times" if self.times < 1 else f"{median(times):.2f} times"


def interval(values: list[float]) -> tuple[float, float]:
    """Return the 95% confidence interval of the median by the sign test; its ends are two of the values.

    See https://en.wikipedia.org/wiki/Order_statistic#Confidence_intervals_for_quantiles. With fewer than six values it
    is their range, with a confidence below 95%.
    """
    values, count = sorted(values), len(values)
    outside, rank = 0.0, 0
    while (outside := outside + 2 * comb(count, rank) / 2**count) < 0.05:
        rank += 1
    rank = max(rank - 1, 0)
    return values[rank], values[-1 - rank]


SPEED = [
    Speed(workloads.INSTANT, shapes.LIST, "gather + Semaphore", 20, quick=True),
    Speed(workloads.SLEEP_0, shapes.LIST, "gather + Semaphore", 5, quick=True),
    Speed(workloads.SLEEP_0, shapes.LIST, shapes.BARE.name, 1 / 1.25, quick=True),
    Speed(workloads.INSTANT, shapes.ORDERED, "streamable", 5, quick=True),
    Speed(workloads.SLEEP_0, shapes.ORDERED, "streamable", 2, quick=True),
    Speed(workloads.INSTANT, shapes.ORDERED, "aiostream", 40, quick=True),
    Speed(workloads.HTTP, shapes.AT_ONCE, shapes.POOL.name, 0.97),
    *(
        Speed(workloads.HTTP, shapes.AT_ONCE, peer.name, 1, tie=True)
        for peer in shapes.AT_ONCE.peers
        if peer not in shapes.FLOORS
    ),
    Speed(workloads.SLOW_CONSUMER, shapes.SLOW_CONSUMER, shapes.IDEAL_CONSUMER.name, 1 / 1.05, 10),
    Speed(workloads.SLOW_HEAD, shapes.SLOW_HEAD_BUFFERED, shapes.IDEAL_HEAD.name, 1 / 1.05, 4),
]


def footprint_demands(count: int) -> Iterator[Demand]:
    """Measure memory and timer delays, each in a separate process, and judge them."""
    for name, fn in (("(a)", instant), ("(b)", sleep_0)):
        allocated = memory.in_new_process(memory.traced, memory.PACO_STREAM, fn, count) / 1e6
        grown = memory.in_new_process(memory.resident, memory.PACO_STREAM, fn, count)[0] / 1e6
        for does, megabytes in (("allocates", allocated), ("grows the process by", grown)):
            text = f"{name}: streaming {count:,} items {does} less than 2 MB"
            yield Demand(text, f"{megabytes:.2f} MB", megabytes < 2)
    subjects = (memory.PACO_EACH, memory.PACO_STREAM)
    late = memory.in_new_process(memory.lateness, subjects, instant, count) * 1e3
    yield Demand(f"a 1 ms timer beside {count:,} instant items is at most 50 ms late", f"{late:.1f} ms", late <= 50)
    tasks, allocated = memory.in_new_process(memory.tasks_and_memory, 10**9, 10)
    text = "limit=10**9 over ten items: at most 20 tasks and 64 kB"
    yield Demand(text, f"{tasks} tasks, {allocated / 1e3:.0f} kB", tasks <= 20 and allocated < 64_000)


def growth_demands(footprints: list[Footprint]) -> Iterator[Demand]:
    """Judge whether the allocated memory depends on the number of items."""
    for subject in {one.subject: one for one in footprints if one.subject in STREAMS}:
        sizes = {one.count: one.traced / 1e3 for one in footprints if one.subject == subject}
        least, most = min(sizes), max(sizes)
        if least < most:
            text = f"{subject}: {most:,} items allocate at most 64 kB more than {least:,}"
            yield Demand(text, f"{sizes[most] - sizes[least]:+.1f} kB", sizes[most] - sizes[least] <= 64)
