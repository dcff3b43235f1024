"""Ways to run an async function over items: paco's, the standard library's, and hand-written ones.

`libraries` has the ways of other libraries; `shapes` says which are compared.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import paco
from benchmarks.workloads import Fn

Run = Callable[[Fn, Sequence[int], int], Awaitable[list[int]]]
Opened = AbstractAsyncContextManager[AsyncIterable[int]]
Open = Callable[[Fn, Iterable[int], int], Opened]


@dataclass(frozen=True)
class Peer:
    """A way to run a function over items under a limit and get a list of results.

    Args:
        name: The name in the tables.
        run: Takes the function, the items and the limit (0 for none), and returns the results.
        count: The largest number of items per run; fewer if an item is expensive.
        ordered: Whether the results come in the order of the items.
        packages: The installed packages that it uses.
    """

    name: str
    run: Run
    count: int = 100_000
    ordered: bool = True
    packages: tuple[str, ...] = ()

    async def check(self, fn: Fn, count: int, limit: int) -> None:
        """Run ``count`` items, and check all results and, if it is ordered, their order."""
        results = await self.run(fn, list(range(count)), limit)
        right = list(range(count))
        if (results if self.ordered else sorted(results)) != right:
            raise AssertionError(f"{self.name}: results must be 0 .. {count - 1}, got {str(results)[:80]}")


@dataclass(frozen=True)
class Streamer:
    """A way to get one result at a time: ``open`` returns an async context manager of an async iterator."""

    name: str
    open: Open
    count: int = 100_000
    ordered: bool = True
    packages: tuple[str, ...] = ()

    def peer(self) -> Peer:
        """Return a peer that collects the results in a list, by the same comprehension for all."""
        return Peer(self.name, functools.partial(collect, self.open), self.count, self.ordered, self.packages)

    def slowly(self) -> Peer:
        """Return a peer whose consumer takes 10 ms for each result."""
        return Peer(self.name, functools.partial(collect_slowly, self.open), self.count, self.ordered, self.packages)


async def collect(opened: Open, fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    async with opened(fn, items, limit) as results:
        return [result async for result in results]


async def collect_slowly(opened: Open, fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    taken = []
    async with opened(fn, items, limit) as results:
        async for result in results:
            await asyncio.sleep(0.01)
            taken.append(result)
    return taken


# ---- paco


async def paco_list(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    return await paco.map(fn, items, limit)


def paco_ordered(fn: Fn, items: Iterable[int], limit: int) -> Opened:
    return paco.map(fn, items, limit)


def paco_buffered(fn: Fn, items: Iterable[int], limit: int) -> Opened:
    return paco.map(fn, items, limit).buffer(100)


def paco_as_completed(fn: Fn, items: Iterable[int], limit: int) -> Opened:
    return paco.map(fn, items, limit).as_completed()


async def paco_pipeline(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    return await (items | paco.map(fn, limit=limit) | paco.map(fn, limit=limit) | paco.map(fn, limit=limit))


def nothing(_: object) -> None:
    """Receive an event, and do nothing."""


async def paco_listened(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    with paco.listening(nothing):
        return await paco.map(fn, items, limit)


async def paco_traced(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    with paco.trace():
        return await paco.map(fn, items, limit)


async def paco_shown(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    class Bar:
        def update(self, n: int, /) -> None:
            nothing(n)

    with paco.progress(Bar()):
        return await paco.map(fn, items, limit)


# ---- lower bounds: no library can be much cheaper


async def plain_loop(fn: Fn, items: Sequence[int], limit: int) -> list[int]:  # noqa: ARG001 - runs one at a time
    return [await fn(item) for item in items]


async def bare_tasks(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    results = [0] * len(items)
    tasks = limit or len(items)

    async def share(start: int) -> None:
        for index in range(start, len(items), tasks):
            results[index] = await fn(items[index])

    await asyncio.gather(*[share(start) for start in range(tasks)])
    return results


async def worker_pool(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    results = [0] * len(items)
    todo = enumerate(items)

    async def work() -> None:
        for index, item in todo:
            results[index] = await fn(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(limit or len(items)):
            group.create_task(work())
    return results


async def nothing_but_consuming(fn: Fn, items: Sequence[int], limit: int) -> list[int]:  # noqa: ARG001 - only the consumer counts
    await fn(items[0])
    for _ in items:
        await asyncio.sleep(0.01)
    return list(items)


async def nothing_but_the_first(fn: Fn, items: Sequence[int], limit: int) -> list[int]:  # noqa: ARG001 - only one item counts
    await fn(items[0])
    return list(items)


async def queues(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    """Run three stages of workers with a bounded queue before each, as the documentation of `asyncio.Queue` shows."""
    stages: list[asyncio.Queue[tuple[int, int]]] = [asyncio.Queue(limit or len(items)) for _ in range(3)]
    results = [0] * len(items)

    async def work(inbox: asyncio.Queue[tuple[int, int]], outbox: asyncio.Queue[tuple[int, int]] | None) -> None:
        while True:
            index, item = await inbox.get()
            result = await fn(item)
            if outbox is None:
                results[index] = result
            else:
                await outbox.put((index, result))
            inbox.task_done()

    pairs = list(zip(stages, [*stages[1:], None], strict=True))
    workers = [asyncio.create_task(work(*pair)) for pair in pairs for _ in range(limit or len(items))]
    for one in enumerate(items):
        await stages[0].put(one)
    for stage in stages:
        await stage.join()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return results


# ---- the standard library


def limited(fn: Fn, limit: int) -> Fn:
    """Return the function behind a semaphore, or the function itself if there is no limit."""
    if not limit:
        return fn
    semaphore = asyncio.Semaphore(limit)

    async def guarded(item: int) -> int:
        async with semaphore:
            return await fn(item)

    return guarded


async def gather_semaphore(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    guarded = limited(fn, limit)
    return await asyncio.gather(*[guarded(item) for item in items])


async def task_group_semaphore(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    guarded = limited(fn, limit)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(guarded(item)) for item in items]
    return [task.result() for task in tasks]


async def gather_thrice(fn: Fn, items: Sequence[int], limit: int) -> list[int]:
    """Run one stage after the other."""
    for _ in range(3):
        items = await gather_semaphore(fn, items, limit)
    return list(items)
