"""Measure memory and timer delays of runs, each in a new process."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

import paco
from benchmarks.peers import Peer, Streamer
from benchmarks.shapes import AIOSTREAM, GATHER, LIST, PACO_AS_COMPLETED, PACO_ORDERED, STREAMABLE, UNORDERED
from benchmarks.workloads import LIMIT, Fn, instant, sleep_0

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")

COUNTS = (10_000, 100_000, 1_000_000)

#: Peers without a stream, which hold a task or a coroutine for each item at once.
HOLD_ALL = frozenset({GATHER.name, "TaskGroup + Semaphore", "aioitertools", "anyio + CapacityLimiter"})


def in_new_process(measure: Callable[..., T], *args: object) -> T:
    """Call a function in a new process, and return its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *args).result()


# ---- subjects: runs without kept results, where the library has such a form


@dataclass(frozen=True)
class Subject:
    """A way to run items. ``most`` is the largest number of items before a run needs gigabytes or minutes."""

    name: str
    way: Streamer | Peer | None
    most: int = COUNTS[-1]

    async def run(self, fn: Fn, count: int) -> None:
        """Run ``count`` items, and drop the results."""
        if self.way is None:
            await paco.each(fn, range(count), LIMIT)
        elif isinstance(self.way, Peer):
            await self.way.run(fn, range(count), LIMIT)
        else:
            async with self.way.open(fn, range(count), LIMIT) as results:
                async for _ in results:
                    pass


def _most(peer: Peer | Streamer) -> int:
    """Return the largest number of items: fewer if a library holds all of them or needs a minute for a million."""
    return COUNTS[-1] if peer.name == "streamable" else COUNTS[1]


PACO_EACH = Subject("paco.each", None)
PACO_STREAM = Subject("paco, ordered stream", PACO_ORDERED)
SUBJECTS = [
    PACO_EACH,
    PACO_STREAM,
    Subject("paco, as completed", PACO_AS_COMPLETED),
    Subject("paco, list", LIST.ours),
    *(Subject(f"{one.name}, ordered stream", one, _most(one)) for one in (STREAMABLE, AIOSTREAM)),
    *(Subject(f"{one.name}, as completed", one, _most(one)) for one in UNORDERED),
    *(Subject(f"{one.name}, list", one, COUNTS[1]) for one in LIST.peers if one.name in HOLD_ALL),
]


# ---- memory


def traced(subject: Subject, fn: Fn, count: int) -> int:
    """Return the growth of the peak memory allocated by Python, in bytes, in a run of ``count`` items."""
    with asyncio.Runner() as runner:
        runner.run(subject.run(fn, 1000))
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        runner.run(subject.run(fn, count))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak - before


def resident(subject: Subject, fn: Fn, count: int) -> tuple[int, float]:
    """Return the peak growth of this process in bytes in a run of ``count`` items, and its CPU seconds per item."""
    process = psutil.Process(os.getpid())
    sizes: list[int] = []

    async def watched(item: int) -> int:
        if item % 5000 == 0:
            sizes.append(process.memory_info().rss)
        return await fn(item)

    with asyncio.Runner() as runner:
        runner.run(subject.run(watched, 1000))
        before = process.memory_info().rss
        begin = time.process_time()
        runner.run(subject.run(watched, count))
        cpu = time.process_time() - begin
    return max(sizes) - before, cpu / count


def tasks_and_memory(limit: int, count: int) -> tuple[int, int]:
    """Return the largest number of tasks alive at once, and the peak bytes, of ``count`` items under ``limit``."""
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


async def _lateness(subjects: tuple[Subject, ...], fn: Fn, count: int) -> float:
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
    for subject in subjects:
        await subject.run(fn, count)
        await asyncio.sleep(2 * nap)  # also measures the delay of a run that never yields to the loop
    napping.cancel()
    return worst


def lateness(subjects: tuple[Subject, ...], fn: Fn, count: int) -> float:
    """Return the largest delay, in seconds, of a 1 ms timer during runs of ``count`` items."""
    return asyncio.run(_lateness(subjects, fn, count))


# ---- all of it


@dataclass(frozen=True)
class Footprint:
    """The memory and CPU time of a subject with items that await ``sleep(0)``; timer delays with instant items."""

    subject: str
    count: int
    traced: int
    resident: int
    cpu: float
    late: float

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        return dict(vars(self))


def footprint(subject: Subject, count: int) -> Footprint:
    """Measure a subject in three processes."""
    grown, cpu = in_new_process(resident, subject, sleep_0, count)
    late = in_new_process(lateness, (subject,), instant, count)
    return Footprint(subject.name, count, in_new_process(traced, subject, sleep_0, count), grown, cpu, late)
