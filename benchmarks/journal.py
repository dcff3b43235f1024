"""Measure the cost of a journal: CPU time per item with and without one, replay, memory, delays of the event loop.

Run it with ``python -m benchmarks.journal``. The CPU time is that of the whole process, including the writer thread and
the reading of the file. The minimum of the rounds counts, because other processes only add to it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import paco
from paco._records import lines
from paco._records.keys import Index, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ITEMS = 50_000
ROUNDS = 5
LIMIT = 100


async def fetch(url: str) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"status": 200, "url": url}


async def nap(url: str) -> dict[str, Any]:
    await asyncio.sleep(0.01)
    return {"status": 200, "url": url}


def urls(count: int) -> Iterator[str]:
    return (f"https://example.org/pages/{number}" for number in range(count))


async def drain(stream: paco.Stream[Any]) -> None:
    async for _ in stream:
        pass


def cpu(make: Callable[[], paco.Stream[Any]]) -> float:
    """Return the CPU time per item in microseconds."""
    began = time.process_time()
    asyncio.run(drain(make()))
    return (time.process_time() - began) / ITEMS * 1e6


def run(path: Path | None = None, **how: Any) -> paco.Stream[Any]:
    stream: paco.Stream[Any] = paco.map(fetch, urls(ITEMS), limit=LIMIT)
    return stream if path is None else stream.journal(path, **how)


def costs(folder: Path) -> None:
    fast, found = lines.FAST, dict[str, list[float]]()
    for number in range(ROUNDS):
        found.setdefault("without a journal", []).append(cpu(run))
        for lane in ("orjson", "json") if fast is not None else ("json",):
            lines.FAST = fast if lane == "orjson" else None
            path = folder / f"{lane}{number}.jsonl"
            found.setdefault(f"recorded, {lane}", []).append(cpu(lambda path=path: run(path)))
            found.setdefault(f"replayed, {lane}", []).append(cpu(lambda path=path: run(path)))
        lines.FAST = fast
        power = folder / f"power{number}.jsonl"
        found.setdefault("recorded, power", []).append(cpu(lambda power=power: run(power, durable="power")))
    for name, spent in found.items():
        print(f"  {name:20} {min(spent):6.1f} µs of CPU per item  {1e6 / min(spent):8,.0f}/s")


async def lag(make: Callable[[], paco.Stream[Any]]) -> str:
    """Return the delay of a 1 ms timer during a run: median and 99th percentile, in milliseconds."""
    late: list[float] = []

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(1000 * (time.perf_counter() - began) - 1)

    watcher = asyncio.create_task(watch())
    began = time.perf_counter()
    await drain(make())
    took = time.perf_counter() - began
    watcher.cancel()
    cuts = quantiles(late, n=100)
    return f"p50 {cuts[49]:5.2f}  p99 {cuts[98]:5.2f} ms  at {20_000 / took:,.0f}/s"


def lags(folder: Path) -> None:
    for name in ("without a journal", "process", "power"):

        def make(name: str = name) -> paco.Stream[Any]:
            stream: paco.Stream[Any] = paco.map(nap, urls(20_000), limit=LIMIT)
            kept: Any = stream.journal
            return stream if name == "without a journal" else kept(folder / f"lag {name}", durable=name)

        print(f"  {name:20} {asyncio.run(lag(make))}")


def memory() -> None:
    for count in (100_000, 300_000, 1_000_000):
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        index = Index()
        for number in range(count):
            index.put(digest(b"%d" % number, 0, 16), number)
        used = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        print(f"  {count:9,} records  {used / count:5.1f} bytes per record")


def main() -> None:
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        print(f"items that await sleep(0), limit {LIMIT}, minimum of {ROUNDS} rounds of {ITEMS:,} items")
        costs(Path(folder))
        print("the delay of a 1 ms timer during items of 10 ms")
        lags(Path(folder))
    print("the memory of the index of records")
    memory()


if __name__ == "__main__":
    main()
