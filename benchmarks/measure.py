"""How time is measured: paco and a peer in turns, the CPU and the time that an item takes."""

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
    """An event loop and how it starts tasks."""

    loop: str = "asyncio"
    eager: bool = False

    @property
    def name(self) -> str:
        """Return the name that the tables use."""
        return f"{self.loop}, eager tasks" if self.eager else self.loop

    @property
    def possible(self) -> bool:
        """Say whether this Python has it."""
        return not self.eager or sys.version_info >= (3, 12)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Make such a loop."""
        if self.loop == "uvloop":
            import uvloop

            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        else:
            loop = asyncio.new_event_loop()
        if self.eager:
            loop.set_task_factory(_start_eagerly)
        return loop


def _start_eagerly(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
    """Start a task at once: uvloop 0.23 hands on an ``eager_start`` that factories before 3.14 do not know."""
    options.pop("eager_start", None)
    factory: Any = vars(asyncio)["eager_task_factory"]  # 3.12 and later
    task: asyncio.Task[Any] = factory(loop, coro, **options)
    return task


class Spent(NamedTuple):
    """Seconds per item of one run: of this process, and on the clock."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Comparison:
    """What an item takes with paco and with a peer, round by round."""

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
        """How many times what we take the peer takes, in each round."""
        return [theirs / ours for ours, theirs in zip(*self.counted(), strict=True)]

    def counted(self) -> tuple[list[float], list[float]]:
        """Return the seconds per item that count, ours and theirs."""
        ours, theirs = ([getattr(spent, self.clock) for spent in side] for side in (self.ours, self.theirs))
        return ours, theirs

    def as_json(self) -> dict[str, object]:
        """Return the figures, and what the table shows of them."""
        summary = {"median": median(self.times), "least": min(self.times), "greatest": max(self.times)}
        return {**asdict(self), "ours": self.ours, "theirs": self.theirs, "times": summary}


async def spent(peer: Peer, fn: Fn, items: list[int], limit: int) -> Spent:
    """Return what one run takes per item."""
    # The handle that this task was resumed by holds what the last run awaited, for gather all of its tasks: let them go
    # now, or freeing them is charged to the next run (0.5 us per item of it).
    await asyncio.sleep(0)
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    await peer.run(fn, items, limit)
    return Spent((time.process_time() - cpu) / len(items), (time.perf_counter() - wall) / len(items))


async def compare(table: Table, peer: Peer, fn: Fn, count: int, rounds: int) -> Comparison:
    """Measure both in turns, the order swapped each round, after a warm-up that demands the right results."""
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
