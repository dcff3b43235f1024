"""How it is measured: CPU in turns with a peer, memory in a process of its own, and how late a timer is beside it."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

import paco
from benchmarks.workloads import LIMIT, Fn, Workload, lazily

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers import Peer

T = TypeVar("T")


# ---- CPU


@dataclass(frozen=True)
class Comparison:
    """CPU seconds per item of paco and of a peer, round by round."""

    workload: str
    shape: str
    peer: str
    count: int
    ours: list[float]
    theirs: list[float]

    @property
    def times(self) -> list[float]:
        """How many times our CPU the peer takes, in each round."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def as_json(self) -> dict[str, object]:
        """Return the figures, and what the table shows of them."""
        summary = {"median": median(self.times), "least": min(self.times), "greatest": max(self.times)}
        return {**vars(self), "times": summary}


async def cpu(peer: Peer, fn: Fn, items: list[int]) -> float:
    """Return the CPU seconds per item of one run: of this process, whatever else the machine does."""
    # The handle that this task was resumed by holds what the last run awaited, for gather all of its tasks: let them go
    # now, or freeing them is charged to the next run (0.5 us per item of it).
    await asyncio.sleep(0)
    gc.collect()
    begin = time.process_time()
    await peer.run(fn, items, LIMIT)
    return (time.process_time() - begin) / len(items)


async def compare(shape: str, ours: Peer, peer: Peer, workload: Workload, count: int, rounds: int) -> Comparison:
    """Measure both in turns, the order swapped each round, after a warm-up that demands the right results."""
    items = list(range(count))
    pair = [(ours, list[float]()), (peer, list[float]())]
    for one, _ in pair:
        await one.check(workload.fn, count, LIMIT)
    for number in range(rounds):
        for one, spent in pair if number % 2 else reversed(pair):
            spent.append(await cpu(one, workload.fn, items))
    return Comparison(workload.name, shape, peer.name, count, pair[0][1], pair[1][1])


# ---- memory


def apart(measure: Callable[..., T], *args: object) -> T:
    """Return what a function measures in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *args).result()


async def _stream(fn: Fn, count: int, every: int = 0, look: Callable[[], None] = lambda: None) -> None:
    """Stream results from a generator and drop them; ``look`` each time that so many have been taken."""
    async with paco.map(fn, lazily(count), LIMIT) as results:
        async for result in results:
            if every and result % every == 0:
                look()


def traced_growth(fn: Fn, count: int) -> int:
    """Return by how many bytes the peak of what Python has allocated grows in a stream of ``count`` items."""
    with asyncio.Runner() as runner:
        runner.run(_stream(fn, 1000))
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        runner.run(_stream(fn, count))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak - before


def resident_growth(fn: Fn, count: int) -> int:
    """Return by how many bytes this process grows in a stream of ``count`` items, at the most."""
    process = psutil.Process(os.getpid())
    sizes: list[int] = []
    with asyncio.Runner() as runner:
        runner.run(_stream(fn, 1000))
        sizes.append(process.memory_info().rss)
        runner.run(_stream(fn, count, 5000, lambda: sizes.append(process.memory_info().rss)))
    return max(sizes) - sizes[0]


def tasks_and_memory(limit: int, count: int) -> tuple[int, int]:
    """Return the most tasks alive at once, and the bytes at the peak, of a few items under whatever limit."""
    tasks: list[int] = []

    async def fn(item: int) -> int:
        await asyncio.sleep(0)
        tasks.append(len(asyncio.all_tasks()))
        return item

    async def run(limit: int) -> None:
        assert await paco.map(fn, range(count), limit) == list(range(count))

    with asyncio.Runner() as runner:
        runner.run(run(2))
        tasks.clear()
        tracemalloc.start()
        runner.run(run(limit))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return max(tasks), peak


# ---- timers


async def _lateness(fn: Fn, count: int) -> float:
    nap = 0.001
    worst = 0.0

    async def sleeper() -> None:
        nonlocal worst
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(nap)
            worst = max(worst, time.perf_counter() - begin - nap)

    napping = asyncio.create_task(sleeper())
    await asyncio.sleep(2 * nap)
    await paco.each(fn, lazily(count), LIMIT)
    await _stream(fn, count)
    napping.cancel()
    return worst


def lateness(fn: Fn, count: int) -> float:
    """Return how many seconds too late a task of 1 ms naps woke, at the worst, beside so many items and a stream."""
    return asyncio.run(_lateness(fn, count))
