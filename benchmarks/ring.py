"""Measure what people add to a run (sources, limits, timeouts, journals, stages) against the same thing by hand.

Both do the same work on the same loop and run alternately in one process, in swapped order each round. The median ratio
of their CPU times counts.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import orjson

import paco
from benchmarks.demands import Demand
from benchmarks.workloads import LIMIT, sleep_0
from paco import events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator

#: Items of a round.
COUNT = 20_000
#: A rate that never makes an item wait.
ENDLESS = 10**9
KEYS = 10


async def numbers(count: int) -> AsyncIterator[int]:
    """Yield items that are there at once."""
    for number in range(count):
        yield number


async def waited(count: int) -> AsyncIterator[int]:
    """Yield items that the source waits for, one by one."""
    for number in range(count):
        await asyncio.sleep(0)
        yield number


async def pages(count: int) -> AsyncIterator[int]:
    """Yield items that come in pages of a hundred."""
    for first in range(0, count, 100):
        await asyncio.sleep(0)
        for number in range(first, first + 100):
            yield number


# ---- by hand


async def workers(fn: Callable[[int], Awaitable[Any]], items: Iterable[int], limit: int = LIMIT) -> None:
    """Run a function over items with that many tasks that share an iterator."""
    rest = iter(items)

    async def work() -> None:
        for item in rest:
            await fn(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(work())


async def queued(source: AsyncIterator[int], *stages: Callable[[int], Awaitable[Any]]) -> None:
    """Run stages, each a pool of tasks with a queue before it."""
    queues = [asyncio.Queue[Any](LIMIT) for _ in stages]
    async with asyncio.TaskGroup() as group:
        for stage, before, after in zip(stages, queues, [*queues[1:], None], strict=True):
            group.create_task(_pool(stage, before, after))
        async for item in source:
            await queues[0].put(item)
        await _put_ends(queues[0])


async def _pool(stage: Callable[[int], Awaitable[Any]], before: asyncio.Queue[Any], after: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(LIMIT):
            group.create_task(_work(stage, before, after))
    if after is not None:
        await _put_ends(after)


async def _work(stage: Callable[[int], Awaitable[Any]], before: asyncio.Queue[Any], after: Any) -> None:
    while (item := await before.get()) is not None:
        result = await stage(item)
        if after is not None:
            await after.put(result)


async def _put_ends(queue: asyncio.Queue[Any]) -> None:
    for _ in range(LIMIT):
        await queue.put(None)


async def with_semaphore(count: int) -> None:
    semaphore = asyncio.Semaphore(LIMIT)

    async def call(item: int) -> int:
        async with semaphore:
            return await sleep_0(item)

    await workers(call, range(count))


async def with_semaphores_of_keys(count: int) -> None:
    semaphores: defaultdict[int, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(LIMIT // KEYS))

    async def call(item: int) -> int:
        async with semaphores[item % KEYS]:
            return await sleep_0(item)

    await workers(call, range(count))


async def with_timeout(count: int) -> None:
    async def call(item: int) -> int:
        async with asyncio.timeout(10):
            return await sleep_0(item)

    await workers(call, range(count))


async def with_attempts(count: int) -> None:
    outcomes: list[Any] = []

    async def call(item: int) -> None:
        for attempt in range(3):
            try:
                async with asyncio.timeout(10):
                    outcomes.append(await sleep_0(item))
            except Exception as error:
                if attempt == 2:
                    outcomes.append(error)
                continue
            return

    await workers(call, range(count))


async def with_lines(count: int) -> None:
    with tempfile.TemporaryFile() as file:

        async def call(item: int) -> None:
            file.write(orjson.dumps({"item": item, "result": await sleep_0(item)}) + b"\n")

        await workers(call, range(count))


async def gathered(count: int) -> None:
    semaphore = asyncio.Semaphore(LIMIT)

    async def call(item: int) -> int:
        async with semaphore:
            return await sleep_0(item)

    await asyncio.gather(*map(call, range(count)))


# ---- with paco


def each(fn: Callable[[int], Awaitable[Any]] = sleep_0, **how: Any) -> Callable[[int], Awaitable[None]]:
    """Return what runs a function over so many items."""
    return lambda count: paco.each(fn, range(count), **{"limit": LIMIT, **how})


async def drained(stream: Any) -> None:
    async for _ in stream:
        pass


async def listened(count: int) -> None:
    with events.listening(lambda _: None):
        await each()(count)


async def journalled(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        await drained(paco.map(sleep_0, range(count), limit=LIMIT).journal(Path(folder, "records.jsonl")))


async def executed(count: int) -> None:
    executor = paco.ConcurrentExecutor(limit=LIMIT)
    for number in range(count):
        executor.add(sleep_0, number)
    await executor.run()


async def staged(count: int) -> None:
    await drained(
        paco.map(sleep_0, numbers(count), limit=LIMIT) | paco.map(sleep_0, limit=LIMIT) | paco.map(sleep_0, limit=LIMIT)
    )


# ---- the pairs


@dataclass(frozen=True)
class Pair:
    """A feature, the same by hand, and the largest allowed ratio of their CPU times."""

    name: str
    ours: Callable[[int], Coroutine[Any, Any, Any] | Awaitable[Any]]
    by_hand: Callable[[int], Coroutine[Any, Any, Any] | Awaitable[Any]]
    most: float


PAIRS = [
    Pair(
        "an async source / a queue and workers",
        lambda count: paco.each(sleep_0, numbers(count), limit=LIMIT),
        lambda count: queued(numbers(count), sleep_0),
        1.3,
    ),
    Pair(
        "an async source that waits for each item / the same",
        lambda count: paco.each(sleep_0, waited(count), limit=LIMIT),
        lambda count: queued(waited(count), sleep_0),
        1.3,
    ),
    Pair(
        "an async source in pages / the same",
        lambda count: paco.each(sleep_0, pages(count), limit=LIMIT),
        lambda count: queued(pages(count), sleep_0),
        2.0,
    ),
    Pair(
        "a stream at limit 1 / a loop",
        lambda count: drained(paco.map(sleep_0, range(count), limit=1)),
        lambda count: workers(sleep_0, range(count), 1),
        2.5,
    ),
    Pair("Limit / workers with a semaphore", each(limit=paco.Limit(LIMIT)), with_semaphore, 1.25),
    Pair(
        "Rate / workers without a rate",
        each(limit=paco.Rate(ENDLESS)),
        lambda count: workers(sleep_0, range(count)),
        2.0,
    ),
    Pair(
        "Limit & Rate / workers with a semaphore",
        each(limit=paco.Limit(LIMIT) & paco.Rate(ENDLESS)),
        with_semaphore,
        1.9,
    ),
    Pair(
        "PerKey / a semaphore for each key",
        each(limit=paco.PerKey(lambda item: item % KEYS, lambda: paco.Limit(LIMIT // KEYS))),
        with_semaphores_of_keys,
        1.8,
    ),
    Pair(
        "Adaptive / workers with a semaphore",
        each(limit=paco.Adaptive(LIMIT, LIMIT, LIMIT)),  # the limit stays, since here it would follow noise
        with_semaphore,
        2.1,
    ),
    Pair("timeout / asyncio.timeout", each(paco.timeout(sleep_0, 10)), with_timeout, 0.75),
    Pair(
        "settle(retry(timeout(f))) / try, except, asyncio.timeout",
        each(paco.settle(paco.retry(paco.timeout(sleep_0, 10), attempts=3))),
        with_attempts,
        1.5,
    ),
    Pair("a listener / none", listened, each(), 2.0),
    Pair("journal / lines of JSON", journalled, with_lines, 3.2),
    Pair("three stages / three pools and two queues", staged, lambda n: queued(numbers(n), *[sleep_0] * 3), 1.3),
    Pair("ConcurrentExecutor / gather + Semaphore", executed, gathered, 0.65),
]


@dataclass(frozen=True)
class ProgramPair:
    """The command and a program by hand (`benchmarks.records`), and the largest allowed ratio of their CPU times."""

    name: str
    ours: list[str]
    by_hand: list[str]
    most: float


#: The items of the programs, whose start takes a tenth of a second.
LINES = 200_000
PROGRAMS = [
    ProgramPair(
        "paco map, a line / read, run, write the same record",
        [
            "paco",
            "map",
            "benchmarks.records:measure",
            "{source}",
            "-o",
            "{ours}",
            "--limit",
            "100",
            "--progress",
            "off",
        ],
        ["benchmarks.records", "map", "{source}", "{theirs}"],
        2.3,
    ),
    ProgramPair(
        "paco report / read the records",
        ["paco", "report", "{ours}", "-o", "{page}"],
        ["benchmarks.records", "report", "{ours}"],
        4.0,
    ),
]


def spent(words: list[str], places: dict[str, str]) -> float:
    """Return the CPU seconds, user and system, of a module that runs as a program."""
    Path(places["ours"] if "map" in words[:2] and words[0] == "paco" else places["theirs"]).unlink(missing_ok=True)
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", *(word.format(**places) for word in words)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)  # noqa: S603 - own command
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime


def measure_programs(rounds: int) -> Iterator[Demand]:
    """Measure each pair of programs alternately, in swapped order each round."""
    with tempfile.TemporaryDirectory() as folder:
        places = {name: str(Path(folder, name)) for name in ("source", "ours", "theirs", "page")}
        lines = "".join(f"https://example.org/pages/{number}\n" for number in range(LINES))
        Path(places["source"]).write_text(lines, "utf-8")
        for pair in PROGRAMS:
            times: list[float] = []
            for number in range(rounds):
                both = (pair.ours, pair.by_hand) if number % 2 else (pair.by_hand, pair.ours)
                found = {words[0]: spent(words, places) for words in both}
                times.append(found["paco"] / found["benchmarks.records"])
            yield shown(pair.name, sorted(times), pair.most)


async def cpu(run: Callable[[int], Awaitable[Any]]) -> float:
    """Return the CPU seconds of one run."""
    gc.collect()
    began = time.process_time()
    await run(COUNT)
    return time.process_time() - began


def measure(rounds: int, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Demand]:
    """Measure each pair, print a line for it, and yield its demand."""
    print(f"\nfeatures and the same by hand: CPU, items of sleep(0), limit {LIMIT}, median of {rounds} rounds")
    for pair in PAIRS:
        both = (pair.ours, pair.by_hand)
        times: list[float] = []
        with asyncio.Runner(loop_factory=new_loop) as runner:
            for number in range(rounds + 1):
                spent = {one: runner.run(cpu(one)) for one in (both if number % 2 else reversed(both))}
                times.append(spent[pair.ours] / spent[pair.by_hand])
        yield shown(pair.name, sorted(times[1:]), pair.most)  # the first is a warm-up
    yield from measure_programs(rounds)


def shown(name: str, times: list[float], most: float, of: str = "the CPU") -> Demand:
    """Print the line of a pair, and return its demand."""
    figures = f"{median(times):5.2f}   [{times[0]:.2f} .. {times[-1]:.2f}]   demand {most}"
    print(f"  {name:58}{figures}", flush=True)
    return Demand(f"{name}: at most {most} times {of}", f"{median(times):.2f} times", median(times) <= most)
