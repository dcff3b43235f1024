"""Measure the CPU time and the real time per item, of paco and of a peer alternately."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from benchmarks.peers import Peer
    from benchmarks.plan import Table
    from benchmarks.workloads import Fn


@dataclass(frozen=True)
class Setting:
    """A kind of event loop, and whether it starts tasks eagerly."""

    loop: str = "asyncio"
    eager: bool = False

    @property
    def name(self) -> str:
        """Return the name in the tables."""
        return f"{self.loop}, eager tasks" if self.eager else self.loop

    @property
    def possible(self) -> bool:
        """Return whether this Python supports the setting."""
        return not self.eager or sys.version_info >= (3, 12)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new event loop of this kind."""
        if self.loop == "uvloop":
            import uvloop

            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        else:
            loop = asyncio.new_event_loop()
        if self.eager:
            loop.set_task_factory(_start_eagerly)
        return loop


def _start_eagerly(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """Start a task eagerly. Drop ``eager_start``, which uvloop 0.23 passes and factories before 3.14 do not accept."""
    options.pop("eager_start", None)
    factory: Any = vars(asyncio)["eager_task_factory"]  # new in Python 3.12
    task: asyncio.Task[Any] = factory(loop, coro, **options)
    return task


class Spent(NamedTuple):
    """Seconds per item of one run: CPU time of this process, and real time."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Comparison:
    """The cost per item with paco and with a peer, in each round."""

    workload: str
    shape: str
    limit: int
    setting: str
    peer: str
    count: int
    clock: str
    ours: list[Spent]
    theirs: list[Spent]

    @property
    def times(self) -> list[float]:
        """The ratio of the peer's cost to paco's in each round."""
        return [theirs / ours for ours, theirs in zip(*self.counted(), strict=True)]

    def counted(self) -> tuple[list[float], list[float]]:
        """Return the seconds per item by the clock that counts, for paco and for the peer."""
        ours, theirs = ([getattr(spent, self.clock) for spent in side] for side in (self.ours, self.theirs))
        return ours, theirs

    def as_json(self) -> dict[str, object]:
        """Return the figures, with their summary."""
        summary = {"median": median(self.times), "least": min(self.times), "greatest": max(self.times)}
        return {**asdict(self), "ours": self.ours, "theirs": self.theirs, "times": summary}


async def spent(peer: Peer, fn: Fn, items: list[int], limit: int) -> Spent:
    """Run once, and return the cost per item."""
    # The handle that resumed this task still refers to what the last run awaited, for gather all of its tasks. Free
    # them now, or the next run pays for it (0.5 µs per item).
    await asyncio.sleep(0)
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    await peer.run(fn, items, limit)
    return Spent((time.process_time() - cpu) / len(items), (time.perf_counter() - wall) / len(items))


async def compare(table: Table, peer: Peer, fn: Fn, count: int, rounds: int) -> Comparison:
    """Measure both alternately, in swapped order each round, after a warm-up that checks their results."""
    items = list(range(count))
    pair = [(table.shape.ours, list[Spent]()), (peer, list[Spent]())]
    for one, _ in pair:
        await one.check(fn, min(count, 10_000), table.limit)
    for number in range(rounds):
        for one, runs in pair if number % 2 else reversed(pair):
            runs.append(await spent(one, fn, items, table.limit))
    return Comparison(
        table.workload.name,
        table.shape.name,
        table.limit,
        table.setting.name,
        peer.name,
        count,
        table.workload.unit.clock,
        pair[0][1],
        pair[1][1],
    )
