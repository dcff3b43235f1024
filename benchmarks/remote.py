"""Measure items that run on workers: in two processes of this machine, and in a Dask cluster of two on 127.0.0.1.

Run it with `./dev bench --only remote`; it takes about five minutes. The start of the processes is not measured.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import resource
import signal
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

import uvloop

import paco
from benchmarks.demands import Demand
from paco.remote import Workers
from paco.remote._feedback import Shape, Sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WORKERS = 2
#: The number of measured pairs, and of rounds with kills.
PAIRS, ROUNDS = 5, 20
NAP = 0.01
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

HEADING = f"\nremote: items in {WORKERS} processes of this machine, and in a Dask cluster of {WORKERS} on 127.0.0.1"


async def instant(item: int) -> int:
    return item


async def nap(item: int) -> int:
    await asyncio.sleep(NAP)
    return item


async def compute(item: int) -> int:
    total = 0
    for number in range(2000):
        total += number * item
    return total


def measure() -> Iterator[Demand]:
    """Measure all parts, print the figures line by line, and yield the demands."""
    print(HEADING)
    with Workers(WORKERS) as workers, cluster() as client:
        for engine in (workers, client):
            asyncio.run(_warm_up(engine))
        with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
            _floor(pool, "nap", 1000, 100)
            yield from _computing(workers, pool)
            yield from _napping({"processes": workers, "Dask": client}, pool)
        yield from _costs({"processes": workers, "Dask": client}, client)
        yield from _memory(workers)
        yield from _kills(workers)


@contextmanager
def cluster() -> Iterator[Any]:
    """Start a Dask cluster of `WORKERS` processes, and yield a client."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from distributed import Client, LocalCluster

        settings = {"host": "127.0.0.1", "dashboard_address": None, "silence_logs": 50}
        with LocalCluster(WORKERS, threads_per_worker=1, **settings) as started, Client(started) as client:
            yield client


async def _warm_up(engine: Any) -> None:
    await paco.map(instant, range(1000), limit=100).on(engine)


def _took(stream: Any, items: Iterable[int], loop: str = "asyncio") -> float:
    """Return the seconds that a run takes, and check the number of its results."""

    async def run() -> float:
        began = time.perf_counter()
        assert len(await stream) == len(list(items))
        return time.perf_counter() - began

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(run())


def _print(what: str, figure: str) -> None:
    print(f"  {what:76}{figure:>16}", flush=True)


def _demand(text: str, figure: str, met: bool) -> Demand:
    _print(text, figure)
    return Demand(f"remote: {text}", figure, met)


def _alone(kind: str, count: int, limit: int, loop: str) -> None:
    """Run ``count`` items in this process with bare tasks: the best that a worker can do."""
    fn = {"compute": compute, "nap": nap}[kind]

    async def work(items: Iterator[int]) -> None:
        for item in items:
            await fn(item)

    async def run() -> None:
        items = iter(range(count))
        await asyncio.gather(*(work(items) for _ in range(limit)))

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run())


def _floor(pool: ProcessPoolExecutor, kind: str, count: int, limit: int, loop: str = "asyncio") -> float:
    """Return the seconds that `WORKERS` processes need for the items without any communication."""
    began = time.perf_counter()
    share = (kind, count // WORKERS, limit // WORKERS, loop)
    for done in [pool.submit(_alone, *share) for _ in range(WORKERS)]:
        done.result()
    return time.perf_counter() - began


def _computing(workers: Workers, pool: ProcessPoolExecutor) -> Iterator[Demand]:
    items, ratios, floors = range(10_000), [], []
    for _ in range(PAIRS):
        here = _took(paco.map(compute, items, limit=WORKERS), items)
        ratios.append(here / _took(paco.map(compute, items, limit=WORKERS).on(workers), items))
        floors.append(here / _floor(pool, "compute", len(items), WORKERS))
    _print(f"10,000 items that compute, bare tasks in {WORKERS} processes against one", f"{median(floors):.2f}")
    text = f"10,000 items that compute, {WORKERS} processes against one, median of {PAIRS} pairs: at least 1.7 times"
    yield _demand(text, f"{median(ratios):.2f}", median(ratios) >= 1.7)


def _napping(engines: dict[str, Any], pool: ProcessPoolExecutor) -> Iterator[Demand]:
    for name, engine in engines.items():
        items = range(60_000)
        rate = len(items) / min(_took(paco.map(nap, items, limit=200).on(engine), items) for _ in range(2))
        text = f"sleep(10 ms), limit 200, {name}: at least 15,000 items/s (bound 20,000)"
        yield _demand(text, f"{rate:,.0f}", rate >= 15_000)
    items = range(120_000)
    ideal = len(items) * NAP / 400
    for loop in LOOPS:
        with Workers(WORKERS) as workers:
            _took(paco.map(nap, items[:1000], limit=400).on(workers), items[:1000], loop)
            runs = [_took(paco.map(nap, items, limit=400).on(workers), items, loop) for _ in range(3)]
        share = ideal / min(runs)
        bare = ideal / min(_floor(pool, "nap", len(items), 400, loop) for _ in runs)
        what = f"sleep(10 ms), limit 400, processes on {loop}"
        _print(f"{what}, bare tasks", f"{bare:.1%}")
        if loop == "uvloop":
            yield _demand(f"{what}: at least 90% of the ideal", f"{share:.1%}", share >= 0.9)
        else:  # asyncio's timers are about 1 ms late, so bare tasks are the reference
            yield _demand(f"{what}: at least 95% of bare tasks", f"{share:.1%}", share >= 0.95 * bare)


def _costs(engines: dict[str, Any], client: Any) -> Iterator[Demand]:
    items, least = range(100_000), {"processes": 5.0, "Dask": 10.0}
    found: dict[str, float] = {}
    for name, engine in engines.items():
        for size in (1, 10, 100, 1000):
            some = items[: min(1000 * size, len(items)) if name == "processes" else min(200 * size, len(items))]
            with _fixed(size):
                each = 1e6 * _took(paco.map(instant, some, limit=100).on(engine), some) / len(some)
            _print(f"returns at once, {name}, chunks of {size:,}", f"{each:,.1f} µs")
        found[name] = (
            1e6 * median(_took(paco.map(instant, items, limit=100).on(engine), items) for _ in range(5)) / len(items)
        )
        text = f"returns at once, {name}, adaptive chunks: at most {least[name]:g} µs per item"
        yield _demand(text, f"{found[name]:.2f} µs", found[name] <= least[name])
    began, some = time.perf_counter(), items[:1000]
    assert client.gather(client.map(instant, some, pure=False)) == list(some)
    each = 1e6 * (time.perf_counter() - began) / len(some)
    times = each / found["Dask"]
    _print("returns at once, client.map of Dask", f"{each:,.0f} µs")
    yield _demand("client.map of Dask takes at least 100 times as long", f"{times:,.0f}", times >= 100)


@contextmanager
def _fixed(size: int) -> Iterator[None]:
    """Make all chunks of one size inside the block."""
    shape = Sizes.next

    def fixed(sizes: Sizes, chunks: int, used: int, left: float) -> Shape | None:
        found = shape(sizes, chunks, used, left)
        return None if found is None else found._replace(items=size)

    vars_of: Any = Sizes
    vars_of.next = fixed
    try:
        yield
    finally:
        vars_of.next = shape


def _memory(workers: Workers) -> Iterator[Demand]:
    async def stream(count: int) -> None:
        async for _ in paco.map(instant, range(count), limit=100).on(workers):
            pass

    asyncio.run(stream(200_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    asyncio.run(stream(1_000_000))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    yield _demand(
        "streaming 1,000,000 items, after 200,000, grows this process by less than 5 MB", f"{grown:.1f} MB", grown < 5
    )


def _kills(workers: Workers) -> Iterator[Demand]:
    good, kills = 0, 0
    for _ in range(ROUNDS):
        right, killed = asyncio.run(_killed(workers))
        good, kills = good + right, kills + killed
    text = f"50,000 items, a process killed every second, each result once and in order: {ROUNDS} rounds of {ROUNDS}"
    yield _demand(text, f"{good} ({kills} kills)", good == ROUNDS)


async def _killed(workers: Workers) -> tuple[bool, int]:
    dice, kills = random.Random(), 0  # noqa: S311 - no secrets

    async def kill() -> None:
        nonlocal kills
        while True:
            await asyncio.sleep(dice.uniform(0.5, 1.5))
            os.kill(dice.choice(workers.pids), signal.SIGKILL)
            kills += 1

    killing = asyncio.ensure_future(kill())
    found = [item async for item in paco.map(nap, range(50_000), limit=200).on(workers)]
    killing.cancel()
    return found == list(range(50_000)), kills
