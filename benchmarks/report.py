"""What is said of it: the tables, and whether what is demanded holds."""

from __future__ import annotations

import datetime as dt
import platform
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import paco
from benchmarks import measure
from benchmarks.peers import AIOSTREAM, BARE, GATHER, SHAPES, STREAMABLE, Peer
from benchmarks.workloads import INSTANT, SLEEP_0, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measure import Comparison


@dataclass(frozen=True)
class Demand:
    """A figure that has to be reached, and what came out."""

    text: str
    measured: str
    met: bool


def machine(loop: str) -> dict[str, str]:
    """Return what the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text("utf-8")) if cpuinfo.exists() else None
    packages = sorted({name for _, peers in SHAPES.values() for peer in peers for name in peer.packages})
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "loop": loop if loop == "asyncio" else f"{loop} {version(loop)}",
        "cpu": model[1] if model else platform.processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "paco": paco.__version__,
        **{name: version(name) for name in packages},
    }


def row(one: Comparison) -> str:
    """Return a line of the table: a peer, the least CPU of both, and the ratios of the rounds."""
    ours, theirs = (f"{min(spent) * 1e9:8,.0f}" for spent in (one.ours, one.theirs))
    times = sorted(one.times)
    return f"  {one.peer:28}{ours}{theirs:>10}{median(times):10.2f}   [{times[0]:.2f} .. {times[-1]:.2f}]"


def heading(workload: Workload, shape: str) -> str:
    """Return the heading of a table."""
    columns = f"  {'peer':28}{'paco ns':>8}{'peer ns':>10}{'peer/paco':>10}   [least .. greatest]"
    return f"\n{workload.name}: {shape}, {SHAPES[shape][0].name}\n{columns}"


# ---- the demands


@dataclass(frozen=True)
class SpeedDemand:
    """How many times less CPU than a peer we are to take: below 1 where the peer is a floor."""

    workload: Workload
    shape: str
    peer: Peer
    times: float

    def covers(self, workload: Workload, shape: str, peer: Peer) -> bool:
        """Say whether this comparison is the one that is asked for."""
        return (self.workload, self.shape, self.peer) == (workload, shape, peer)

    def judge(self, comparisons: list[Comparison]) -> Demand:
        """Judge by the median."""
        wanted = (self.workload.name, self.shape, self.peer.name)
        one = next(one for one in comparisons if (one.workload, one.shape, one.peer) == wanted)
        reached = median(one.times)
        where = f"{self.workload.name}: {self.shape}"
        if self.times < 1:
            text, figure = f"at most {1 / self.times:g} times the CPU of {self.peer.name}", 1 / reached
        else:
            text, figure = f"at least {self.times:g} times less CPU than {self.peer.name}", reached
        return Demand(f"{where}: {text}", f"{figure:.2f} times", reached >= self.times)


SPEED_DEMANDS = [
    SpeedDemand(INSTANT, "list", GATHER, 20),
    SpeedDemand(SLEEP_0, "list", GATHER, 5),
    SpeedDemand(SLEEP_0, "list", BARE, 1 / 1.25),
    SpeedDemand(INSTANT, "ordered stream", STREAMABLE, 5),
    SpeedDemand(SLEEP_0, "ordered stream", STREAMABLE, 2),
    SpeedDemand(INSTANT, "ordered stream", AIOSTREAM, 40),
]


def footprint_demands(count: int) -> Iterator[Demand]:
    """Measure memory and timers, each in a process of its own, and judge."""
    growths: list[tuple[str, Callable[..., int]]] = [
        ("allocates", measure.traced_growth),
        ("grows the process by", measure.resident_growth),
    ]
    for workload in (INSTANT, SLEEP_0):
        for does, growth in growths:
            megabytes = measure.apart(growth, workload.fn, count) / 1e6
            text = f"{workload.name}: streaming {count:,} items {does} less than 2 MB"
            yield Demand(text, f"{megabytes:.2f} MB", megabytes < 2)
    late = measure.apart(measure.lateness, INSTANT.fn, count) * 1e3
    yield Demand(f"a 1 ms timer beside {count:,} instant items is at most 50 ms late", f"{late:.1f} ms", late <= 50)
    tasks, allocated = measure.apart(measure.tasks_and_memory, 10**9, 10)
    text = "limit=10**9 over ten items: at most 20 tasks and 64 kB"
    yield Demand(text, f"{tasks} tasks, {allocated / 1e3:.0f} kB", tasks <= 20 and allocated < 64_000)


def verdict(demand: Demand) -> str:
    """Return a line of the table of demands."""
    return f"  {demand.text:88}{demand.measured:>18}   {'yes' if demand.met else 'NO'}"
