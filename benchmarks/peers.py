"""Ways to run an async function over items, each as its own documentation shows, and the least that it can cost.

Each gives a list, also where it streams: one comprehension for all. Those that stream have one result at a time.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import aiometer
import aiostream
import anyio
import streamable
from aioitertools.asyncio import gather as aioitertools_gather

import paco
from benchmarks.workloads import Fn

Run = Callable[[Fn, list[int], int], Awaitable[list[int]]]


@dataclass(frozen=True)
class Peer:
    """A way to run a function over items with a limit.

    Args:
        name: As in the table.
        run: Takes the function, the items and the limit.
        count: Items per run: fewer where an item costs a lot.
        ordered: Whether the results come in the order of the items.
        packages: What it is made of, beside Python itself.
    """

    name: str
    run: Run
    count: int = 100_000
    ordered: bool = True
    packages: tuple[str, ...] = ()

    async def check(self, fn: Fn, count: int, limit: int) -> None:
        """Run it once, and see that it gives every result, in its order."""
        results = await self.run(fn, list(range(count)), limit)
        right = list(range(count))
        if (results if self.ordered else sorted(results)) != right:
            raise AssertionError(f"{self.name} gives wrong results")


# ---- ours


async def paco_list(fn: Fn, items: list[int], limit: int) -> list[int]:
    return await paco.map(fn, items, limit)


async def paco_ordered(fn: Fn, items: list[int], limit: int) -> list[int]:
    return [result async for result in paco.map(fn, items, limit)]


async def paco_as_completed(fn: Fn, items: list[int], limit: int) -> list[int]:
    return [result async for result in paco.map(fn, items, limit).as_completed()]


# ---- the floors: what no library can be much below


async def plain_loop(fn: Fn, items: list[int], limit: int) -> list[int]:  # noqa: ARG001 - one at a time
    return [await fn(item) for item in items]


async def bare_tasks(fn: Fn, items: list[int], limit: int) -> list[int]:
    results = [0] * len(items)

    async def share(start: int) -> None:
        for index in range(start, len(items), limit):
            results[index] = await fn(items[index])

    await asyncio.gather(*[share(start) for start in range(limit)])
    return results


# ---- the standard library


async def gather_semaphore(fn: Fn, items: list[int], limit: int) -> list[int]:
    semaphore = asyncio.Semaphore(limit)

    async def limited(item: int) -> int:
        async with semaphore:
            return await fn(item)

    return await asyncio.gather(*[limited(item) for item in items])


async def task_group_semaphore(fn: Fn, items: list[int], limit: int) -> list[int]:
    semaphore = asyncio.Semaphore(limit)

    async def limited(item: int) -> int:
        async with semaphore:
            return await fn(item)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(limited(item)) for item in items]
    return [task.result() for task in tasks]


# ---- libraries


async def aioitertools(fn: Fn, items: list[int], limit: int) -> list[int]:
    return await aioitertools_gather(*[fn(item) for item in items], limit=limit)


async def aiometer_run_all(fn: Fn, items: list[int], limit: int) -> list[int]:
    return await aiometer.run_all([functools.partial(fn, item) for item in items], max_at_once=limit)


async def aiometer_amap(fn: Fn, items: list[int], limit: int) -> list[int]:
    async with aiometer.amap(fn, items, max_at_once=limit) as results:
        return [result async for result in results]


async def anyio_limiter(fn: Fn, items: list[int], limit: int) -> list[int]:
    limiter = anyio.CapacityLimiter(limit)
    results = [0] * len(items)

    async def limited(index: int, item: int) -> None:
        async with limiter:
            results[index] = await fn(item)

    async with anyio.create_task_group() as group:
        for index, item in enumerate(items):
            group.start_soon(limited, index, item)
    return results


async def streamable_ordered(fn: Fn, items: list[int], limit: int) -> list[int]:
    return [result async for result in streamable.stream(items).map(fn, concurrency=limit)]


async def streamable_as_completed(fn: Fn, items: list[int], limit: int) -> list[int]:
    return [result async for result in streamable.stream(items).map(fn, concurrency=limit, as_completed=True)]


async def aiostream_list(fn: Any, items: list[int], limit: int) -> list[int]:
    results: Any = aiostream.stream.map(aiostream.stream.iterate(items), fn, task_limit=limit)
    return cast("list[int]", await aiostream.stream.list(results))


async def _aiostream(fn: Any, items: list[int], limit: int, *, ordered: bool) -> list[int]:
    source = aiostream.stream.iterate(items)
    mapped: Any = aiostream.stream.map(source, fn, ordered=ordered, task_limit=limit)
    async with mapped.stream() as results:
        return [result async for result in results]


aiostream_ordered = functools.partial(_aiostream, ordered=True)
aiostream_as_completed = functools.partial(_aiostream, ordered=False)

BARE = Peer("bare tasks, static split", bare_tasks)
GATHER = Peer("gather + Semaphore", gather_semaphore)
STREAMABLE = Peer("streamable", streamable_ordered, packages=("streamable",))
AIOSTREAM = Peer("aiostream", aiostream_ordered, 10_000, packages=("aiostream",))

#: What paco is compared with, by how it is used: ours, and the peers that do the same.
SHAPES: dict[str, tuple[Peer, list[Peer]]] = {
    "list": (
        Peer("await paco.map(...)", paco_list),
        [
            Peer("plain loop, no concurrency", plain_loop),
            BARE,
            GATHER,
            Peer("TaskGroup + Semaphore", task_group_semaphore),
            Peer("aioitertools", aioitertools, packages=("aioitertools",)),
            STREAMABLE,
            Peer("aiometer", aiometer_run_all, 10_000, packages=("aiometer",)),
            Peer("aiostream", aiostream_list, 10_000, packages=("aiostream",)),
            Peer("anyio + CapacityLimiter", anyio_limiter, 10_000, packages=("anyio",)),
        ],
    ),
    "ordered stream": (Peer("async for ... in paco.map(...)", paco_ordered), [STREAMABLE, AIOSTREAM]),
    "as completed": (
        Peer("async for ... in paco.map(...).as_completed()", paco_as_completed, ordered=False),
        [
            Peer("streamable", streamable_as_completed, ordered=False, packages=("streamable",)),
            Peer("aiometer", aiometer_amap, 10_000, ordered=False, packages=("aiometer",)),
            Peer("aiostream", aiostream_as_completed, 10_000, ordered=False, packages=("aiostream",)),
        ],
    ),
}
